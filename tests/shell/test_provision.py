"""Environments made on demand. A script stands in for uv, so that nothing is downloaded; the real one is tried in tests/real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sglperf.errors import TargetError
from sglperf.report.cache import cache_json, cache_text
from sglperf.target import provision
from sglperf.target.provision import provide, provided, prune

UV = """#!{python}
import os, sys, time
from pathlib import Path
with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:3]) + "\\n")
if sys.argv[1] == "venv":
    Path(sys.argv[-1], "bin").mkdir(parents=True)
    Path(sys.argv[-1], "bin", "python").symlink_to(sys.executable)
elif "--target" in sys.argv:
    Path(sys.argv[sys.argv.index("--target") + 1]).mkdir()
elif sys.argv[-1].endswith("9.9.9"):
    sys.exit("  x No solution found: there is no version of sglang==9.9.9")
elif sys.argv[-1].endswith("0.0.1"):
    os._exit(77)
elif sys.argv[-1].endswith("0.0.2"):
    Path(sys.argv[sys.argv.index("--python") + 1]).parent.joinpath("half").write_text("half")
    sys.exit("error: failed to write to file: No space left on device (os error 28)")
elif sys.argv[-1].endswith("0.0.3"):
    Path({log!r} + ".pid").write_text(str(os.getpid()))
    time.sleep(60)
time.sleep(0.3)
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the script was asked to do, a line each."""
    script, log = tmp_path / "uv", tmp_path / "log"
    log.touch()
    script.write_text(UV.format(python=sys.executable, log=str(log)))
    script.chmod(0o755)
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(script))
    return log


def made(tmp_path: Path, requirement: str = "sglang==0.5.22") -> provision.Provisioned:
    return provide((requirement,), Path(sys.executable), "3.11.2", tmp_path / "cache")


def test_made_once(tmp_path: Path, log: Path) -> None:
    """The first who asks makes it, the next takes it; another requirement is another environment."""
    first, again, other = made(tmp_path), made(tmp_path), made(tmp_path, "sglang==0.5.21")
    assert first.folder == again.folder != other.folder
    assert first.interpreter.exists()
    assert log.read_text().splitlines() == ["venv --quiet", "pip install"] * 2


def test_two_runs_at_once(tmp_path: Path, log: Path) -> None:
    """Two processes that want the same environment make it once, and both get it."""
    program = (
        "import sys, uv\nfrom pathlib import Path\nfrom sglperf.target.provision import provide\n"
        f"uv.find_uv_bin = lambda: {str(tmp_path / 'uv')!r}\n"
        f"print(provide(('sglang==0.5.22',), Path(sys.executable), '3.11.2', Path({str(tmp_path / 'cache')!r})).folder)\n"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    folders = {run.communicate(timeout=60)[0] for run in runs}
    assert len(folders) == 1
    assert [run.returncode for run in runs] == [0, 0]
    assert log.read_text().splitlines() == ["venv --quiet", "pip install"]


def test_overlay(tmp_path: Path, log: Path) -> None:
    """An overlay is the package alone, without an environment around it, and not mistaken for one."""
    made(tmp_path)
    overlay = provide(("sglang==0.5.22",), Path(sys.executable), "3.11.2", tmp_path / "cache", overlay=True)
    assert overlay.requirement == "sglang==0.5.22 (overlay)"
    assert log.read_text().splitlines() == ["venv --quiet", "pip install", "pip install"]
    assert len(provided(tmp_path / "cache")) == 2


@pytest.mark.parametrize(
    ("requirement", "said"),
    [
        ("sglang==9.9.9", "there is no version of sglang==9.9.9"),
        ("sglang==0.0.1", "nothing"),
        ("sglang==0.0.2", "No space left on device"),
    ],
)
def test_what_cannot_be_made(tmp_path: Path, log: Path, requirement: str, said: str) -> None:
    """A failure names the command and uv's last words, and leaves nothing behind."""
    with pytest.raises(TargetError, match=f"pip install(.|\n)*failed(.|\n)*{said}(.|\n)*Check the version"):
        made(tmp_path, requirement)
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_interrupted(tmp_path: Path, log: Path) -> None:
    """Ctrl-C while one is made: uv ends, and nothing of the environment is left."""
    program = (
        "import sys, uv\nfrom pathlib import Path\nfrom sglperf.target.provision import provide\n"
        f"uv.find_uv_bin = lambda: {str(tmp_path / 'uv')!r}\n"
        f"provide(('sglang==0.0.3',), Path(sys.executable), '3.11.2', Path({str(tmp_path / 'cache')!r}))\n"
    )
    run = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    pid = log.with_name("log.pid")
    end = time.monotonic() + 30
    while not pid.exists() or not pid.read_text():
        assert time.monotonic() < end
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)  # to it alone: a terminal would also send it to uv
    run.wait(timeout=30)
    assert not psutil.pid_exists(int(pid.read_text()))
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_half_made(tmp_path: Path, log: Path) -> None:
    """What a killed run left half made is not taken for an environment."""
    folder = made(tmp_path).folder
    (folder / "sglperf.json").unlink()
    (folder / "rubbish").touch()
    assert provided(tmp_path / "cache") == []
    made(tmp_path)
    assert not (folder / "rubbish").exists()


def test_prune(tmp_path: Path, log: Path) -> None:
    """What is old and unused goes; what a live run uses stays, however old it is; a dead run's use is none."""
    cache = tmp_path / "cache"
    mine, old, new = (made(tmp_path, f"sglang==0.5.{minor}").folder for minor in (20, 21, 22))
    (use,) = (old / "sglperf-uses").iterdir()
    use.rename(use.with_name(f"{os.getpid()}-1"))  # a process of that number that has ended
    for folder in (mine, old):
        os.utime(folder / "sglperf.json", (time.time() - 9 * 86400,) * 2)
    assert [one.requirement for one in prune(7 * 86400, cache)] == ["sglang==0.5.21"]
    assert {one.folder for one in provided(cache)} == {mine, new}


def test_listed(tmp_path: Path, log: Path) -> None:
    """The list says what is there, how large it is, when it was used, and by whom it is."""
    found = [made(tmp_path)]
    text = cache_text(found, tmp_path / "cache")
    assert text.startswith("sglang==0.5.22       Python 3.11.2")
    assert "in use" in text
    assert cache_text([], tmp_path).startswith("no environments\n")
    assert '"requirement": "sglang==0.5.22"' in cache_json(found)
