"""A copy of the suite that tests run as a person would: in a process of its own, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).parents[2]
# Of the profile for runs on the double.
SMALL = {
    # Nothing is measured here, so neighbours may do as they like, the client be late, and all of it take its time.
    "foreign_cpu_share": 1.0,
    "client_lag_share": 1000.0,
    "launches": 2,
    "rounds": 2,
    "start_timeout": 120,
    "round_timeout": 60,
    "workloads": {
        "decode": {"prompt_tokens": 64, "new_tokens": 12},
        "prefill": {"requests": 2},
        "lifecycle": {"prompt_tokens": 64, "new_tokens": 12, "requests": 2},
        "repeat": {"prompt_tokens": 300},
    },
    "sweeps": {"streams": [1, 4], "prompt_tokens": [64]},
}

# Where one of these is set, pytest shortens nothing in its summary.
_OF_CI = ("CI", "BUILD_NUMBER")

# The double remembers prompts, but has no pool that could be full, no tree, no batch and no ranks.
NOT_DOUBLED = (
    "test_attention_backends.py",
    "test_environment.py",
    "test_kernels.py",
    "test_overlap_scheduling.py",
    "test_radix_cache.py",
    "test_serving.py",
    "test_tensor_parallel.py",
)


# Plugins of our own tests: whoever measures does not have them, and loading them takes a third of a short run.
WITHOUT_OURS = " ".join(f"-p no:{name}" for name in ("hypothesispytest", "timeout", "xdist"))


@dataclass(frozen=True)
class Ended:
    """How a pytest process ended, and what it left in the suite's results folder."""

    code: int
    output: str
    folder: Path | None

    @property
    def run(self) -> dict[str, Any]:
        """``run.json``."""
        assert self.folder is not None, self.output
        document: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
        return document

    @property
    def journal(self) -> list[dict[str, Any]]:
        """The journal's lines."""
        assert self.folder is not None, self.output
        return [json.loads(line) for line in (self.folder / "journal.jsonl").read_text().splitlines()]

    def statuses(self) -> dict[str, str]:
        """Case name → status."""
        return {name: case["status"] for name, case in self.run["cases"].items()}

    def status(self, workload: str, metric: str) -> str:
        """The status of the one case whose workload begins so."""
        (found,) = [
            case["status"]
            for case in self.run["cases"].values()
            if case["workload"].startswith(workload) and case["metric"]["name"] == metric
        ]
        return str(found)


class Suite:
    """``perf_tests``, ``config`` and ``conftest.py`` in a folder where a test may break them."""

    def __init__(
        self,
        folder: Path,
        profile: Mapping[str, Any],
        *,
        without: Sequence[str] = (),
        python: Path = Path(sys.executable),
    ) -> None:
        """``without``: perf tests that are left out; ``python``: what runs it, and checkouts and revisions."""
        self.folder, self.python = folder, python
        folder.mkdir(parents=True)
        for name in ("perf_tests", "config"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in without:
            (folder / "perf_tests" / name).unlink()
        for name in ("conftest.py", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        # Drawing the report costs seconds a run: tests of it ask for it.
        base = {**yaml.safe_load((ROOT / "config/profiles/cpu.yaml").read_text()), "html_report": False}
        (folder / "config/profiles/small.yaml").write_text(yaml.safe_dump({**base, **profile}))

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Begin a run."""
        return self.begin("-m", "pytest", "--profile=small", *arguments, **environment)

    def command(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Begin ``sglperf`` with these arguments."""
        return self.begin("-c", "from sglperf.cli import main; main()", *arguments, **environment)

    def begin(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Begin a Python in the suite's folder, as a person at a terminal would."""
        return subprocess.Popen(
            [self.python, *arguments],
            cwd=self.folder,
            env={
                **{name: value for name, value in os.environ.items() if name not in _OF_CI},
                "COLUMNS": "100",
                "PYTEST_ADDOPTS": WITHOUT_OURS,
                "SGLPERF_HISTORY": "off",  # whoever is about the history gives another
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], timeout: float = 560) -> Ended:
        """Wait for its end."""
        output, _ = process.communicate(timeout=timeout)
        made = sorted((self.folder / "results").glob(f"*-{process.pid}"))
        return Ended(process.returncode, output, made[-1] if made else None)

    def run(self, *arguments: str, timeout: float = 560, **environment: str) -> Ended:
        """A whole run."""
        return self.finish(self.start(*arguments, **environment), timeout)

    def baselines(self) -> dict[str, Path]:
        """Area → its baseline file."""
        return {file.stem: file for file in (self.folder / "baselines").glob("*/*.json")}


def alive(started: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run."""

    def runs(one: psutil.Process) -> bool:
        try:
            return one.is_running() and one.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [one for one in started if runs(one)]


def gone(left: Callable[[], list[psutil.Process]], seconds: float = 5.0) -> bool:
    """Whether nothing is left within ``seconds``: what has lost its harness sees that a moment later."""
    end = time.monotonic() + seconds
    while left() and time.monotonic() < end:
        time.sleep(0.05)
    return not left()


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C, as a terminal sends it to pytest."""
    process.send_signal(signal.SIGINT)
