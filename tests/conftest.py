"""What holds for every test."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
from in_two_parts import TOGETHER

# A property is judged by its outcome, never by how long an example took.
settings.register_profile("sglperf", deadline=None)
settings.load_profile("sglperf")

# A shell ignores Ctrl-C for what it runs in the background, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A pytest that a test starts is no worker of this one, though it inherits the environment of one: pytest-benchmark,
# for instance, would write no file.
for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
    del os.environ[name]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """``--numprocesses=auto``: two for each processor, since many tests wait; more than eight only collect."""
    return min(2 * len(os.sched_getaffinity(0)), 8)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Test by test to whichever process is free, apart from files that stay together.

    xdist's own mark for this, ``xdist_group``, does nothing under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file in TOGETHER else nodeid

    return Scheduling(config, log)
