#!/usr/bin/env python3
"""Put the summary of the newest run below a folder on an issue or a pull request: .ci/comment.py FOLDER

    NUMBER    of the issue or pull request
    LINK      address of what measured, if any
    GH_TOKEN, GH_REPO   as gh wants them

Nobody is notified by what a build, a branch or a file is called: mentions and references are broken.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from summaries import fitted, summaries

LIMIT = 65_536  # GitHub's, in characters; held in bytes, which are never fewer


def comment(folder: Path, link: str) -> str:
    """What is said."""
    head = f"[Measured here]({link}), with all that was kept.\n\n" if link else ""
    return fitted(head + harmless(summaries(folder)[0]), LIMIT)


def harmless(text: str) -> str:
    """No mention (@name), no reference (#12, GH-12), no tag but those of a folded table."""
    broken = re.sub(r"(@|#(?=\d)|\bGH-(?=\d))", "\\1\u200b", text, flags=re.IGNORECASE)
    return re.sub(r"(?<!\\)<(?!/?(details|summary)>)", "&lt;", broken)


def main(arguments: list[str]) -> int:
    """Exit code: 0, 2 for a bad argument, or gh's."""
    number = os.environ.get("NUMBER", "")
    if len(arguments) != 1 or not re.fullmatch(r"[1-9][0-9]{0,9}", number):
        sys.stderr.write(f"usage: NUMBER=12 .ci/comment.py FOLDER; NUMBER is {number!r}\n")
        return 2
    text = comment(Path(arguments[0]), os.environ.get("LINK", ""))
    # Issues and pull requests share their numbers and comments.
    place = f"repos/{{owner}}/{{repo}}/issues/{number}/comments"
    words = ["gh", "api", "--silent", "--method=POST", place, "--field=body=@-"]
    return subprocess.run(words, input=text.encode(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
