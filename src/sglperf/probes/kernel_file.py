"""The kernel's files under ``/proc`` and ``/sys``, any of which a machine may lack or hide."""

from __future__ import annotations

from pathlib import Path


def kernel_text(file: Path) -> str:
    """A kernel file's content without surrounding blanks; empty where it is absent or closed to us."""
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
