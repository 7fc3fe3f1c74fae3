"""The build that is slower on purpose, made from the installed SGLang."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "gpu"))
from slower import FILE, ONCE, TWICE, slower_build

SPEC = importlib.util.find_spec("sglang")
pytestmark = pytest.mark.skipif(SPEC is None, reason="needs SGLang in this environment")


def test_it_differs_in_one_place(tmp_path: Path) -> None:
    """A checkout in which the logits are computed twice, and the installed package as it was."""
    assert SPEC is not None
    assert SPEC.origin is not None
    installed = Path(SPEC.origin).parent
    before = (installed / FILE).read_text()
    slower_build(tmp_path / "build")
    package = tmp_path / "build" / "python" / "sglang"
    changed = (package / FILE).read_text()
    assert (installed / FILE).read_text() == before
    assert changed.replace(TWICE, "") == before
    assert changed.count(TWICE + ONCE) == 1
    compile(changed, FILE, "exec")
    assert (package / "srt" / "server_args.py").read_text() == (
        installed / "srt" / "server_args.py"
    ).read_text()
    slower_build(tmp_path / "build")  # once made, it stays
    assert (package / FILE).read_text() == changed
