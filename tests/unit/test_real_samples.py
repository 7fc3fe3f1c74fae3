"""The verdicts on real launches: fourteen of one SGLang on a CPU, kept by benchmarks/verdicts/samples.py.

Made by ``pytest -m "decode or prefill" --profile cpu --launches=14 --baseline=off``. The data do not change and splits
are drawn by a fixed seed, so these rates are figures, not chances.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sglperf.core.calibration import Calibration, calibrate, judged_splits
from sglperf.core.catalogue import METRICS
from sglperf.core.verdict import Policy, Status

DATA = json.loads((Path(__file__).parents[1] / "data" / "aa_cpu.json").read_text())
SAMPLES = {name: (METRICS[case["metric"]], case["launches"]) for name, case in DATA["cases"].items()}
POLICY = Policy(alpha=DATA["alpha"], min_effect=DATA["min_effect"])
SIDE = 5  # as in the CPU profile


@pytest.fixture(scope="module")
def learnt() -> Calibration:
    return calibrate(SAMPLES, POLICY, n_base=SIDE, n_head=SIDE, splits=2000, splits_of_a_metric=40)


def test_the_data_set_is_what_it_says():
    """Twelve or more launches of several rounds, of every timing of two areas."""
    shapes = {(len(launches), len(launches[0])) for _, launches in SAMPLES.values()}

    assert shapes == {(14, 5)}
    assert {name.split("/")[2].split("-")[0] for name in SAMPLES} == {"decode", "prefill"}
    assert len(SAMPLES) == 21


def test_one_build_alarms_no_more_often_than_stated(learnt):
    """Of all splits, at most alpha call any of the 21 timings regressed.

    Every split has a mirror image, in which regressed is improved, so the mean of both is the better estimate.
    """
    assert (learnt.regressed + learnt.improved) / 2 <= POLICY.alpha


@pytest.mark.parametrize("worse", [0.03, 0.05, 0.10, 0.20])
def test_a_seeded_slowdown_is_found_as_often_as_its_size_allows(learnt, worse):
    """Where the slowdown is no smaller than what is detectable it is found in four splits of five; where it is less than
    half of that, it is not claimed that it is."""
    sizes = {name: noise.detectable_effect for name, noise in learnt.noise.items()}
    for name, detectable in list(sizes.items())[::3]:
        found = share_found(name, worse)
        if worse >= detectable:
            assert found >= 0.8, name
        if worse < detectable / 2:
            assert found < 0.8, name


def test_what_is_said_to_be_detectable_is_found(learnt):
    """A metric made worse by its own detectable effect is called regressed in four other splits of five, made worse by
    half of that it is not."""
    some = list(learnt.noise.items())[1::3]

    assert np.mean([share_found(name, noise.detectable_effect) for name, noise in some]) >= 0.8
    assert np.mean([share_found(name, noise.detectable_effect / 2) for name, noise in some]) < 0.5


def share_found(name: str, worse: float) -> float:
    """Share of splits in which a metric whose head was made worse is called regressed."""
    outcomes = judged_splits(
        SAMPLES, POLICY, n_base=SIDE, n_head=SIDE, splits=50, seed=2, slower={name: 1 + worse}
    )
    return float(np.mean([one[name].status is Status.REGRESSED for one in outcomes]))
