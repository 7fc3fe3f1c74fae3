"""What an interpreter has installed is asked of the interpreter, and nothing of it is imported."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from pathlib import Path

import pytest

from sglperf.errors import TargetError
from sglperf.probes.versions import read_installation, read_versions


def test_this_interpreter():
    """The versions of this interpreter are those that importlib.metadata reads here; the absent stay absent."""
    versions = read_versions(Path(sys.executable))

    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == metadata.version("numpy")
    assert "no-such-distribution" not in versions


def test_nothing_answers_in_the_place_of_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither PYTHONPATH nor the current directory can pretend that a distribution is installed."""
    fake = tmp_path / "sgl_kernel-99.0.dist-info"
    fake.mkdir()
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: sgl-kernel\nVersion: 99.0\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    assert read_versions(Path(sys.executable)).get("sgl-kernel") != "99.0"


def script(folder: Path, text: str) -> Path:
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def test_a_talkative_start_is_read_past(tmp_path: Path):
    """What an environment's start-up hooks print before the answer does not spoil it."""
    noisy = script(tmp_path, f'echo "welcome {{}}"\nexec "{sys.executable}" "$@"')

    assert read_versions(noisy) == read_versions(Path(sys.executable))
    assert read_installation(noisy).interpreter == str(noisy)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("echo hello", "not JSON"), ("true", "not JSON"), ("exit 3", "exit status 3"), (None, "No such file")],
)
def test_what_is_no_interpreter_is_named(tmp_path: Path, text: str | None, reason: str):
    """A path that is not a Python interpreter gives one line with the path, the reason and the next action."""
    file = tmp_path / "python" if text is None else script(tmp_path, text)

    with pytest.raises(TargetError) as caught:
        read_versions(file)
    message = str(caught.value)
    assert str(file) in message
    assert reason in message
    assert "name the python of the environment that holds SGLang" in message
    assert "\n" not in message
