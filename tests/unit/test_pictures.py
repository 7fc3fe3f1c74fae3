"""The tutorial's pictures: of the commands that stand beside them, small, and asking for nothing."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
TUTORIAL = (FOLDER.parent / "tutorial.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make"] = module  # where its dataclass looks
    spec.loader.exec_module(module)
    return module


def test_each_stands_beside_its_command(make):
    """What the tutorial says to type is what was typed, in the same order; no picture is there without."""
    shown = re.findall(r"\(pictures/([\w-]+)\.(?:svg|png)\)", TUTORIAL)
    typed = re.findall(r"^((?:pytest|sglperf) .*?)(?: +#.*)?$", TUTORIAL, re.M)
    commands = [re.sub(r"\{\w+\}", "RUN", one.command) for one in make.PICTURES]

    assert [name for name in shown if name not in make.REPORTS] == [one.name for one in make.PICTURES]
    assert set(make.REPORTS) <= set(shown)
    assert [*typed, "sglperf baseline diff"] == commands
    assert all(line in TUTORIAL for line in make.SLOWER)


def test_each_shows_what_was_printed(make):
    """Its text is a part of what was kept, and begins with the command."""
    for one in make.PICTURES:
        lines = (FOLDER / f"{one.name}.ansi").read_text(encoding="utf-8").splitlines()
        assert re.fullmatch(re.sub(r"\\\{\w+\\\}", "[\\\\w-]+", re.escape(f"$ {one.command}")), lines[0])
        kept = [line for line in make.cut(lines, one) if line != "…"]
        rest = iter(lines)
        assert all(line in rest for line in kept)
        assert len(kept) > 5


def test_what_is_left_out_is_marked(make):
    """Before, within and after what is shown."""
    picture = make.Picture("a", "c", begin="^b", end="^f", but=("^d", "^d"))
    assert make.cut(["$ c", "a", "b", "d", "e", "f", "g"], picture) == ["$ c", "…", "b", "…", "e", "f", "…"]
    assert make.cut(["$ c", "a", "b"], make.Picture("a", "c")) == ["$ c", "a", "b"]


def test_each_is_small_and_asks_for_nothing(make):
    """No font, no script, no address but that of the format's name; and nobody's home folder."""
    files = [*FOLDER.glob("*.svg"), *FOLDER.glob("*.png")]
    assert {file.stem for file in files} == {one.name for one in make.PICTURES} | set(make.REPORTS)
    for file in files:
        assert file.stat().st_size < 300_000
    for file in FOLDER.glob("*.svg"):
        text = file.read_text(encoding="utf-8")
        assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
        assert "@font-face" not in text
    for file in FOLDER.glob("*.ansi"):
        assert not re.search(r"(?<![~\w])/(?:home|root|tmp)/", file.read_text(encoding="utf-8"))
