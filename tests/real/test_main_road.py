"""The main road on real SGLang, through its CPU engine: record, compare, and catch seeded faults.

Each fault is a copy of the installed SGLang with one line changed, given as ``--target``. Server starts
are what these tests cost, so they share baselines and ask for few.
"""

from __future__ import annotations

import importlib.util
import shutil
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
    "html_report": True,
    "launches": 3,
    "rounds": 3,
    "workloads": {
        "decode": {"prompt_tokens": 32, "new_tokens": 24},
        "prefill": {"requests": 2},
        "repeat": {"prompt_tokens": 300},
    },
    "sweeps": {"streams": [1, 8], "prompt_tokens": [128]},
}
EXACT_ONLY = ("-m", "prefill and exact", "--launches=1", "--rounds=1")

SLEEPS = (
    "srt/managers/scheduler.py",
    '        """Run a batch."""\n',
    '        """Run a batch."""\n        time.sleep(0.03)\n',
)
OTHER_DEFAULT = (
    "srt/arg_groups/fields/schedule.py",
    'Use a larger value if you see requests being retracted frequently.",\n    ] = 1.0',
    'Use a larger value if you see requests being retracted frequently.",\n    ] = 0.9',
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """A suite with baselines of the installed SGLang."""
    suite = Suite(tmp_path_factory.mktemp("road") / "suite", SMALL)
    first = suite.run("-m", "decode or prefill", timeout=900)
    assert first.code == 0, first.output
    assert set(first.statuses().values()) == {"new"}
    assert "recorded as baseline" in first.output
    assert first.folder is not None
    drawn = (first.folder / "report.html").read_text(encoding="utf-8")
    assert all(
        f'<section id="{name}"' in drawn for name in ("series", "distributions", "curves", "environment")
    )
    assert set(suite.baselines()) == {"decode", "prefill"}
    return suite


def timings(ended: Ended) -> dict[str, str]:
    cases = ended.run["cases"]
    return {name: case["status"] for name, case in cases.items() if case["metric"]["kind"] == "timing"}


def test_same_target_again(recorded: Suite) -> None:
    """The same build raises nothing: exact metrics are equal, and no timing is called regressed.

    One run in twenty may call one, by the error rate that the verdicts are made for; two in a row, one in
    four hundred. So a first alarm is asked about once more.
    """
    for _ in range(2):
        ended = recorded.run("-m", "decode", timeout=900)
        exact = {name: status for name, status in ended.statuses().items() if name not in timings(ended)}
        assert set(exact.values()) == {"unchanged"}, ended.output
        assert set(timings(ended).values()) <= {"unchanged", "inconclusive", "improved", "regressed"}
        assert "3 server starts (1 configuration × 3 launches)" in ended.output
        if "regressed" not in timings(ended).values():
            assert ended.code == 0, ended.output
            return
    raise AssertionError(ended.output)


def test_sleeping_scheduler(recorded: Suite, tmp_path: Path) -> None:
    """A scheduler that sleeps before each batch is regressed on decode latency, and the test fails.

    The build has another default, too, which is named with both values.
    """
    ended = recorded.run("-m", "decode", faulty(tmp_path / "sglang", SLEEPS, OTHER_DEFAULT), timeout=900)
    assert ended.code == 1, ended.output
    assert ended.status("decode-p32-n24-s1", "inter_token_latency") == "regressed"
    assert ended.status("decode-p32-n24-s1", "decode_throughput") == "regressed"
    assert ended.status("decode-p32-n24-s1", "completion_tokens") == "unchanged"
    assert "schedule_conservativeness 1.0 → 0.9" in " ".join(ended.output.split())


@pytest.mark.nightly
def test_pages(recorded: Suite) -> None:
    """Pages of 1 and 64 tokens start and serve, and the cached tokens of a repeated prompt are exact."""
    ended = recorded.run(*EXACT_ONLY, "-k", "reuse", "--page-size=1,64", "--baseline=off")
    assert ended.code == 0, ended.output
    cached = {
        case["config"]: case["head"]
        for case in ended.run["cases"].values()
        if case["metric"]["name"] == "cached_tokens"
    }
    assert cached == {"torch_native-page1-tp0": [[299.0]], "torch_native-page64-tp0": [[256.0]]}


@pytest.mark.skipif(
    shutil.which("g++") is None,
    reason="two ranks on a CPU compile C++ for their first request, and there is no g++",
)
def test_two_ranks(recorded: Suite) -> None:
    """Two CPU ranks start, do the work of one, are compared with it, and their all-reduce is checked and timed."""
    chosen = "(test_work or test_decode) and streams1- or test_allreduce and message8-"
    quick = ("--launches=1", "--rounds=1", "--baseline=off")
    ended = recorded.run("-m", "tp", "-k", chosen, *quick, SGLPERF_FOREIGN_CPU_SHARE="1.0")
    assert ended.code == 0, ended.output
    servers = [launch["resolved"]["tp_size"] for launch in ended.run["launches"] if not launch["worker"]]
    assert sorted(servers) == [1, 2]
    counts = {
        (case["config"].split("-")[2], case["metric"]["name"]): case["head"]
        for case in ended.run["cases"].values()
        if case["metric"]["kind"] == "exact"
    }
    for metric in ("completion_tokens", "prefill_tokens", "decode_tokens"):
        assert counts["tp0", metric] == counts["tp0.1", metric]
    contrast = next(one for one in ended.run["contrasts"] if one["metric"] == "decode_throughput")
    assert (contrast["reference"], contrast["other"], contrast["links"]) == ("single", "cpu-2", "cpu")
    assert contrast["efficiency"][0] == pytest.approx(contrast["speedup"][0] / 2)
    assert ended.status("allreduce-n2-t8", "allreduce_time") == "new"
    said = " ".join(ended.output.split())
    assert "scaling-nvlink-pair – not measured here: it speaks of A100, this is a CPU" in said
