#!/usr/bin/env python3
"""One issue for each area that regressed: .ci/file_issues.py [--dry-run] FOLDER

Asks gh which issues with our label are open, `sglperf issues` what the runs below FOLDER mean for them, and does it.

    LINK      address of what measured, if any
    GH_TOKEN, GH_REPO   as gh wants them

Exit code 0: done, or nothing to do; 1: gh, or a run that could not be read, left something undone, which is said.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# Only who may write to the repository can give a label, so nobody else's issue is taken for one of ours.
LABEL = "performance-regression"


class Failed(Exception):
    """A command that did not do what it should; the message is its own."""


def command(*words: str, stdin: str | None = None) -> str:
    """What a command prints.

    Raises:
        Failed: it is not there, or ended with another code than 0.
    """
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Failed(f"{words[0]}: {error.strerror}") from error
    if done.returncode:
        raise Failed(f"{' '.join(words[:4])} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def open_issues() -> str:
    """Numbers and bodies, as JSON."""
    return command(
        "gh", "issue", "list", f"--label={LABEL}", "--state=open", "--limit=1000", "--json=number,body"
    )


def planned(folder: Path, known: str) -> Any:
    """What `sglperf issues` says."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(known)
        file.flush()
        link = [f"--link={os.environ['LINK']}"] if os.environ.get("LINK") else []
        return json.loads(command("sglperf", "issues", f"--open={file.name}", "--json=-", *link, str(folder)))


def do(step: dict[str, Any]) -> None:
    """Open, rewrite, comment or close."""
    if step["action"] == "open":
        # Before the first issue there is no such label; --force leaves one that is there as it should be.
        command("gh", "label", "create", LABEL, "--force", "--color=B60205", "--description=Kept by sglperf")
        command(
            "gh",
            "issue",
            "create",
            f"--title={step['title']}",
            f"--label={LABEL}",
            "--body-file=-",
            stdin=step["body"],
        )
        return
    number = str(step["number"])
    # First what is remembered: a comment that fails then is missing, and none is written twice.
    if step["body"] is not None:
        command("gh", "issue", "edit", number, "--body-file=-", stdin=step["body"])
    if step["comment"] is not None:
        command("gh", "issue", "comment", number, "--body-file=-", stdin=step["comment"])
    if step["action"] == "close":
        command("gh", "issue", "close", number, "--reason=completed")


def main(arguments: list[str]) -> int:
    """Exit code."""
    dry = "--dry-run" in arguments
    folders = [one for one in arguments if one != "--dry-run"]
    if len(folders) != 1:
        sys.stderr.write("usage: .ci/file_issues.py [--dry-run] FOLDER\n")
        return 2
    folder = Path(folders[0])
    if not any(folder.rglob("run.json")):
        print(f"no run was kept below {folder}: nothing is known, so nothing is opened or closed")
        return 0
    try:
        plan = planned(folder, open_issues())
    except Failed as error:
        sys.stderr.write(f".ci/file_issues.py: {error}\n")
        return 1
    undone = [f"left out: {file}: {reason}" for file, reason in plan["left_out"].items()]
    for step in plan["steps"]:
        number = "" if step["number"] is None else f" #{step['number']}"
        print(f"{step['action']}{number}: {step['area']}, {step['regressed']} of {step['judged']} regressed")
        try:
            if not dry:
                do(step)
        except Failed as error:
            undone.append(f"{step['area']}: {error}")
    for line in undone:
        sys.stderr.write(f".ci/file_issues.py: {line}\n")
    return 1 if undone else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
