"""Rounds of continuous load on the double: what is sent, kept and said; nothing is measured here."""

from __future__ import annotations

from itertools import pairwise

import pytest
from double import make_target
from suite import SMALL, Ended, Suite

LENGTHS = {"prompt_tokens": 8, "new_tokens": 4, "ttft_objective_ms": 2000, "tpot_objective_ms": 1000}
LOADED = {
    **SMALL,
    "launches": 1,
    "rounds": 1,
    "round_retries": 0,
    "client_lag_share": 50,
    "workloads": {
        "closed-loop": {"requests": 60, **LENGTHS},
        "open-loop": {"requests": 60, "seconds": 1, **LENGTHS},
        "saturation": {"requests": 24, "concurrency": 4, **LENGTHS},
    },
    "sweeps": {"concurrency": [4]},
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A run of the area on a double that has no batch, so that it never saturates."""
    folder = tmp_path_factory.mktemp("load")
    suite = Suite(folder / "suite", LOADED)
    return suite.run("-m", "serving", f"--target={make_target(folder / 'sglang')}", "--baseline=off")


def rounds(ended: Ended, kind: str) -> list[dict]:
    return [one for one in ended.run["rounds"] if one["workload"].startswith(kind)]


@pytest.mark.parametrize("kind", ["closed", "poisson", "bursty", "ramp"])
def test_rounds_of_load_pass_their_gates(ended: Ended, kind: str) -> None:
    """Each is kept with its figures, and with its batch over time."""
    (one,) = rounds(ended, kind)

    assert one["gates"] == [], ended.output
    assert {"goodput", "request_throughput", "output_throughput", "queue_time", "time_to_first_token_p90"} <= set(one["values"])  # fmt: skip
    assert len(one["batch_sizes"]) == 24
    assert one["values"]["retractions"] == 0


def test_a_server_without_a_knee_is_said_to_have_none(ended: Ended) -> None:
    """Every rate that was tried is in run.json, each probe is in the journal, and no figure is made up."""
    (one,) = rounds(ended, "saturation")
    (kept,) = [
        line["observation"]
        for line in ended.journal
        if line["kind"] == "round" and line["round"]["workload"].startswith("saturation")
    ]

    assert ended.code == 3, ended.output
    assert [gate["code"] for gate in one["gates"]] == ["knee-not-found"]
    assert one["values"] == {}
    tried = [probe["rate"] for probe in one["probes"]]
    assert len(tried) == 4
    assert [later / earlier for earlier, later in pairwise(tried)] == pytest.approx([1.5] * 3)
    assert len(kept) == 5
    assert {len(probe["requests"]) for probe in kept} == {24}
    assert "every rate that was tried keeps the objective" in " ".join(ended.output.split())


def test_a_person_sees_the_batch_over_time(ended: Ended) -> None:
    """A line for each load, below the verdicts."""
    assert "under load on tiny-llama · torch_native-page16-tp0" in ended.output
    assert "closed-c4-p8-n4-r60" in ended.output.partition("under load on")[2]
