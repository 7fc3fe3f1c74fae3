"""What each area is for: faults that it sees and the others miss, in one build beside one without them.

No two of the faults touch the same work, so that one pair of builds shows them all: server starts are what this costs.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "shell"))
from faults import faulty
from suite import Ended, Suite

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sglang") is None, reason="needs SGLang in this environment"
)

SMALL = {
    "launches": 3,
    "rounds": 3,
    "workloads": {
        "decode": {"prompt_tokens": 32, "new_tokens": 24},
        "lifecycle": {"prompt_tokens": 32, "new_tokens": 128, "requests": 2},
    },
    "sweeps": {"streams": [1]},
}
BEGIN = '        """Run a batch."""\n'
# While one request decodes: 1.6 ms whatever its length, and as much on average over 32 to 160 tokens.
ONE_DECODES = (
    f"{BEGIN}        if batch.forward_mode.is_decode() and len(batch.reqs) == 1:\n            time.sleep("
)
FLAT = f"{ONE_DECODES}0.0016)\n"
BY_LENGTH = f"{ONE_DECODES}0.0032 * (batch.reqs[0].seqlen - 32) / 128)\n"
WAITS = f"{BY_LENGTH}        torch.ones(1).sum().item()\n"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The build with all faults beside the one without."""
    folder = tmp_path_factory.mktemp("areas")
    file = "srt/managers/scheduler.py"
    base = faulty(folder / "base", (file, BEGIN, FLAT)).removeprefix("--target=")
    head = faulty(folder / "head", (file, BEGIN, WAITS)).removeprefix("--target=")
    suite = Suite(folder / "suite", SMALL)
    chosen = "test_tokens or (test_step and overlapped)"
    return suite.run(
        "-m",
        "lifecycle or overlap",
        "-k",
        chosen,
        f"--base={base}",
        f"--head={head}",
        "--why=off",
        timeout=900,
    )


def test_latency_that_grows_with_the_cache(ended: Ended) -> None:
    """The slope says so. The median does not: it is as it was."""
    assert ended.code == 1, ended.output
    assert ended.status("lifecycle", "inter_token_latency_growth") == "regressed", ended.output
    assert ended.status("lifecycle", "inter_token_latency") in ("unchanged", "inconclusive"), ended.output


def test_one_more_wait_in_each_step(ended: Ended) -> None:
    """Counted, in a step of eight requests, where the device is waited for once more than it was."""
    assert ended.status("trace-decode", "step_syncs") == "regressed", ended.output
    assert ended.status("trace-decode", "step_operators") == "regressed"
    (syncs,) = [case for case in ended.run["cases"].values() if case["metric"]["name"] == "step_syncs"]
    (before,), (after,) = syncs["base"], syncs["head"]
    assert after[0] == before[0] + 1
