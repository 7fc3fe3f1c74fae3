"""Small git repositories for tests: commits from dictionaries of files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_IDENTITY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "A. Uthor"), ("EMAIL", "a@example.org"), ("DATE", "2026-11-25T12:00:00Z"))
}


def git(where: Path, *arguments: str) -> str:
    """Run git there, and return what it says."""
    done = subprocess.run(
        ["git", "-C", str(where), "-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false", *arguments],
        env={**os.environ, **_IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def commit(repository: Path, subject: str, files: Mapping[str, str]) -> str:
    """Write the files and commit them; the repository is made by the first."""
    if not (repository / ".git").exists():
        repository.mkdir(parents=True, exist_ok=True)
        git(repository, "init", "-q")
    for name, text in files.items():
        file = repository / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "--allow-empty", "-m", subject)
    return git(repository, "rev-parse", "HEAD")
