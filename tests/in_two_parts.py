"""All tests in two parts: those that mostly wait side by side, then real SGLang's, which have the machine to themselves.

    python tests/in_two_parts.py [ARGUMENTS OF PYTEST]

Both parts get the arguments. Where these name files of tests, it is those alone, one after another.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ExitCode = pytest.ExitCode
TESTS = Path(__file__).parent
SIDE_BY_SIDE = ("tests/unit", "tests/shell", "tests/test_house.py", "--numprocesses=auto")
# Each of these in one process: its tests share what takes long to make, or what one of them leaves to the next.
TOGETHER = ("tests/unit/test_real_samples.py", "tests/shell/test_client.py")
ALONE = ("tests/real",)
WENT_THROUGH = (ExitCode.OK, ExitCode.TESTS_FAILED, ExitCode.NO_TESTS_COLLECTED)


def pytest_process(*arguments: str) -> int:
    """pytest's exit code, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], cwd=TESTS.parent, check=False
    ).returncode


def run(arguments: Sequence[str], run_part: Callable[..., int] = pytest_process) -> int:
    """All tests with these arguments; the exit code. What was interrupted, or could not begin, goes no further."""
    codes: list[int] = []
    for part in [()] if any(map(_names_tests, arguments)) else [SIDE_BY_SIDE, ALONE]:
        codes.append(run_part(*part, *arguments))
        if codes[-1] not in WENT_THROUGH:
            break
    # A selection may leave nothing of one part, but not of both.
    ran = [code for code in codes if code != ExitCode.NO_TESTS_COLLECTED]
    return next(filter(None, ran), int(ExitCode.OK)) if ran else int(ExitCode.NO_TESTS_COLLECTED)


def _names_tests(argument: str) -> bool:
    file = argument.partition("::")[0]
    return file.startswith("tests/") and (TESTS.parent / file).exists()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is pytest's to handle
    sys.exit(run(sys.argv[1:]))
