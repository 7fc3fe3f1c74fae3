"""``sglperf`` through its entry point, in this process: what a user types, without a process's start."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from sglperf.cli import main


class Ended(NamedTuple):
    """How the command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


class Entry:
    """The command line of one test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def run(self, folder: Path, *arguments: str) -> Ended:
        """``sglperf ARGUMENTS`` in a folder: its exit code and what it said."""
        self._monkeypatch.chdir(folder)
        self._monkeypatch.setattr(sys, "argv", ["sglperf", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err)
