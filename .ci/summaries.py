"""Summaries of runs, cut to what GitHub takes."""

from pathlib import Path

END = "\n\nCut here; the rest is in the artifacts.\n"
FOLD, UNFOLD = "<details>", "</details>"


def summaries(folder: Path) -> list[str]:
    """Of all runs below a folder, the newest first; one that says so where there is none."""
    files = sorted(folder.rglob("summary.md"), key=lambda file: file.parent.name, reverse=True)
    return [file.read_text(encoding="utf-8") for file in files] or [
        f"No run was kept in `{folder.name}`: the job's log says why.\n"
    ]


def fitted(text: str, limit: int) -> str:
    """No longer than ``limit`` bytes: cut at the end of a line, a table that was folded closed, and said."""
    if len(text.encode()) <= limit:
        return text
    room = limit - len(f"\n\n{UNFOLD}{END}")
    lines = text.encode()[:room].decode(errors="ignore")
    kept = lines[: lines.rfind("\n")]
    return kept + (f"\n\n{UNFOLD}" if kept.count(FOLD) > kept.count(UNFOLD) else "") + END
