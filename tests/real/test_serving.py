"""Serving on real SGLang: what only a large batch shows is caught under load, and nowhere else."""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "shell"))
from faults import SLEEPS_IN_LARGE_BATCHES, faulty
from suite import Ended, Suite

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sglang") is None, reason="needs SGLang in this environment"
)
LENGTHS = {"prompt_tokens": 32, "new_tokens": 16, "ttft_objective_ms": 200, "tpot_objective_ms": 20}
SMALL = {
    "launches": 4,  # the fewest that a verdict on pairs takes
    "rounds": 1,
    "workloads": {
        "decode": {"prompt_tokens": 32, "new_tokens": 48},
        "closed-loop": {"requests": 80, **LENGTHS},
    },
    "sweeps": {"streams": [1], "concurrency": [16]},
}
# One stream, and sixteen requests in flight.
ASKED = "(test_decode and (test_inter_token_latency or test_work)) or (test_serving and (closed_loop or test_work))"


def judged(ended: Ended, workload: str) -> dict[str, str]:
    """Metric → status."""
    return {
        case["metric"]["name"]: case["status"]
        for case in ended.run["cases"].values()
        if case["workload"].startswith(workload)
    }


@pytest.mark.nightly
def test_a_scheduler_that_sleeps_in_large_batches(tmp_path: Path) -> None:
    """It sleeps from eight sequences on: throughput under load is regressed, a single stream is not, the work is the same."""
    suite = Suite(tmp_path / "suite", SMALL)
    base = f"--base=sglang=={version('sglang')}"
    head = faulty(tmp_path / "sglang", SLEEPS_IN_LARGE_BATCHES).replace("--target", "--head")
    ended = suite.run("-m", "serving or decode", "-k", ASKED, base, head, "--why=off", timeout=560)

    assert ended.code == 1, ended.output
    loaded, single = judged(ended, "closed-c16"), judged(ended, "decode-p32-n48-s1")
    assert loaded["output_throughput"] == "regressed"
    assert "regressed" not in single.values(), ended.output
    counted = ("prompt_tokens", "completion_tokens", "cached_tokens", "prefill_tokens", "decode_tokens")
    assert {loaded[name] for name in (*counted, "retractions")} == {"unchanged"}
    assert {single[name] for name in counted} == {"unchanged"}
