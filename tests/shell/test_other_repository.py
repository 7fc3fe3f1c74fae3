"""sglperf in somebody else's repository: a folder made by ``sglperf init``, the suite's tests from the package, theirs left alone.

On a double of SGLang.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from double import make_home, sources
from suite import _OF_CI, ROOT, WITHOUT_OURS

QUICK = {
    "SGLPERF_CLIENT_LAG_SHARE": "1000",
    "SGLPERF_FOREIGN_CPU_SHARE": "1",
    "SGLPERF_HISTORY": "off",
    "SGLPERF_HTML_REPORT": "false",
    "SGLPERF_LAUNCHES": "2",
    "SGLPERF_PROFILE": "cpu",
    "SGLPERF_ROUNDS": "2",
}


def typed(
    python: Path, folder: Path, *arguments: str, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """``python ARGUMENTS`` in a folder, as at a terminal."""
    kept = {name: value for name, value in os.environ.items() if name not in _OF_CI}
    return subprocess.run(
        [python, *arguments],
        cwd=folder,
        env={**kept, "COLUMNS": "100", "PYTEST_ADDOPTS": WITHOUT_OURS, **QUICK},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def sglperf(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return typed(python, folder, "-c", "from sglperf.cli import main; main()", *arguments)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the shape of SGLang's, with tests of its own and a folder for ours."""
    root = tmp_path_factory.mktemp("sglang")
    for name, text in sources().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    theirs = root / "test" / "registered" / "test_theirs.py"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("def test_theirs():\n    pass\n")
    made = sglperf(Path(sys.executable), root, "init", "test/perf")
    assert made.returncode == 0, made.stdout
    assert made.stdout.splitlines()[0] == "test/perf/pytest.ini"
    return root


@pytest.fixture(scope="module")
def python(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with everything, in which that checkout is installed as ``pip install -e python`` does it."""
    home = tmp_path_factory.mktemp("home")
    python = make_home(home)
    site = next(home.glob("lib/python*/site-packages"))
    for file in (site / "sglang").iterdir():
        file.unlink()
    (site / "sglang").rmdir()
    (site / "__editable__.sglang.pth").write_text(f"{checkout / 'python'}\n")
    return python


def collected(python: Path, folder: Path, *arguments: str) -> list[str]:
    """Tests that would be run, each once: ``test_decode.py::test_work``."""
    ended = typed(python, folder, "-m", "pytest", "--collect-only", "-q", *arguments)
    assert ended.returncode == 0, ended.stdout
    lines = [line.partition("[")[0] for line in ended.stdout.splitlines() if "::" in line]
    return sorted({f"{Path(line.partition('::')[0]).name}::{line.partition('::')[2]}" for line in lines})


def test_the_edited_checkout_is_what_is_measured(checkout: Path, python: Path) -> None:
    """Without an option: the sources that are installed in place, with their own tests of it, and the files beside them."""
    folder = checkout / "test" / "perf"
    ended = typed(
        python, folder, "-m", "pytest", "-m", "decode", "-k", "long_answers or (streams1- and work)"
    )
    assert ended.returncode == 0, ended.stdout
    assert "1 test" not in ended.stdout.splitlines()[-1]
    assert "decode-p32-n128-s1" in ended.stdout
    assert "decode-p64-n64-s1" in ended.stdout
    assert (next(folder.glob("results/*/run.json"))).is_file()
    assert next(folder.glob("baselines/*/decode.json")).is_file()
    assert f'"origin": "{checkout}' in next(folder.glob("results/*/journal.jsonl")).read_text().replace(
        '":"', '": "'
    )


def test_theirs_and_ours_are_kept_apart(checkout: Path, python: Path) -> None:
    """The suite's tests and the folder's own where pytest is begun for the folder; a file that is named, alone; elsewhere, none."""
    folder = checkout / "test" / "perf"
    mine = "test_example.py::test_long_answers"
    there = collected(python, folder)
    assert mine in there
    assert {"test_decode.py::test_work", "test_tensor_parallel.py::test_allreduce"} <= set(there)
    assert collected(python, checkout, "test/perf") == there
    assert collected(python, folder, "test_example.py") == [mine]
    assert collected(python, checkout, "test") == ["test_theirs.py::test_theirs"]


def test_nothing_is_overwritten(checkout: Path) -> None:
    """A folder that has one of the files is refused by name, and nothing is written."""
    (checkout / "other").mkdir()
    (checkout / "other" / "conftest.py").write_text("# mine\n")
    ended = sglperf(Path(sys.executable), checkout, "init", "other")
    assert ended.returncode == 2
    assert ended.stdout == "sglperf: other/conftest.py is there: name another folder, or remove it first\n"
    assert [file.name for file in (checkout / "other").iterdir()] == ["conftest.py"]


def test_a_profile_of_their_own(checkout: Path, python: Path) -> None:
    """``--config`` brings the configuration, and what is changed in it holds."""
    assert sglperf(python, checkout, "init", "tuned", "--config").returncode == 0
    profile = checkout / "tuned" / "config" / "profiles" / "ours.yaml"
    profile.write_text("extends: cpu\npage_sizes: [64]\n")
    ended = typed(
        python,
        checkout / "tuned",
        "-m",
        "pytest",
        "--profile=ours",
        "--collect-only",
        "-q",
        "-k",
        "long_answers",
    )
    assert "test_long_answers[torch_native-page64-tp0-inter_token_latency]" in ended.stdout


def test_a_wheel_is_enough(tmp_path: Path) -> None:
    """What is built and installed brings tests, configuration and commands; the repository is not looked at."""
    built = subprocess.run(
        [sys.executable, "-m", "uv", "build", "--wheel", "--quiet", "--out-dir", str(tmp_path / "dist"), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    python = make_home(tmp_path / "home")
    site = next((tmp_path / "home").glob("lib/python*/site-packages"))
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)],
        check=True,
    )  # fmt: skip
    where = typed(python, tmp_path, "-c", "import sglperf, sglperf.stock; print(sglperf.stock.stock_tests())")
    assert where.stdout.strip() == str(site / "sglperf" / "_perf_tests")
    assert sglperf(python, tmp_path, "init", "perf").returncode == 0
    ended = typed(python, tmp_path / "perf", "-m", "pytest", "-m", "prefill and exact", "-k", "reuse")
    assert ended.returncode == 0, ended.stdout
    assert "repeat" in ended.stdout
    assert not [place for place in ("src", "perf_tests", "config") if str(ROOT / place) in ended.stdout]
    ended = sglperf(python, tmp_path / "perf", "compare", "a", "b", "--collect-only", "-q", "-k", "reuse")
    assert ended.returncode == 0, ended.stdout
    assert "test_prefix_reuse" in ended.stdout
    assert "arning" not in ended.stdout
