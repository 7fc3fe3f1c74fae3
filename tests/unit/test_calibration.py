"""What launches of one build teach about noise, and how it is kept."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sglperf.calibrating import learn, timings
from sglperf.core.calibration import Calibration, calibrate, judged_splits
from sglperf.core.calibration_file import calibration_file, dump_calibration, parse_calibration
from sglperf.core.catalogue import METRICS
from sglperf.core.verdict import Policy, Status
from sglperf.errors import BaselineError, SampleError, UsageError
from sglperf.kept_run import read_run
from sglperf.report.calibration import calibration_text

LATENCY, THROUGHPUT = METRICS["inter_token_latency"], METRICS["decode_throughput"]
POLICY = Policy(alpha=0.05, min_effect=0.03)


def launches(count: int, spread: float, within: float = 0.01, seed: int = 0, centre: float = 0.01) -> Any:
    """``count`` launches of ten rounds: log-normal, as a server's are."""
    random = np.random.default_rng(seed)
    centres = np.log(centre) + spread * random.standard_normal(count)
    return np.exp(centres[:, None] + within * random.standard_normal((count, 10))).tolist()


def family(count: int = 12, spread: float = 0.02) -> dict[str, Any]:
    return {
        f"point/{metric.name}{seed}": (metric, launches(count, spread, seed=seed))
        for seed, metric in enumerate([LATENCY, THROUGHPUT] * 3)
    }


def test_spreads_are_found():
    """The spread from launch to launch, and of rounds inside one, are those the launches were drawn with."""
    learnt = calibrate({"a/b": (LATENCY, launches(200, 0.04, 0.02))}, POLICY, n_base=4, n_head=4, splits=2)

    assert learnt.noise["a/b"].launch_spread == pytest.approx(0.04, rel=0.15)
    assert learnt.noise["a/b"].round_spread == pytest.approx(0.02, rel=0.05)


def test_one_build_rarely_alarms():
    """Splits of launches of one build are called regressed no more often than the policy's alpha."""
    learnt = calibrate(family(), POLICY, n_base=4, n_head=4, splits=200)

    assert learnt.regressed <= 0.05
    assert learnt.improved <= 0.05
    assert all(noise.false_alarms <= 0.05 for noise in learnt.noise.values())


@pytest.mark.parametrize("name", ["point/inter_token_latency0", "point/decode_throughput1"])
def test_a_seeded_slowdown_of_the_detectable_size_is_found(name):
    """A metric made worse by what is said to be detectable is called regressed in most splits, the others are not."""
    samples = family()
    detectable = calibrate(samples, POLICY, n_base=4, n_head=4, splits=50).noise[name].detectable_effect
    found = list(
        judged_splits(samples, POLICY, n_base=4, n_head=4, splits=100, slower={name: 1 + 1.5 * detectable})
    )

    assert np.mean([one[name].status is Status.REGRESSED for one in found]) > 0.8
    others = [verdict for one in found for other, verdict in one.items() if other != name]
    assert np.mean([verdict.status is Status.REGRESSED for verdict in others]) < 0.02


@pytest.mark.parametrize(("count", "a_side"), [(3, 1), (7, 4), (0, 2)])
def test_too_few_launches_are_refused(count, a_side):
    """What cannot be split says how many launches it takes."""
    samples = {"a/b": (LATENCY, launches(count, 0.01))} if count else {}
    with pytest.raises(SampleError, match=r"cannot be split .* or more"):
        calibrate(samples, POLICY, n_base=a_side, n_head=a_side)


def test_bad_values_are_refused_and_named():
    """A clock that stood still spoils no table in silence."""
    with pytest.raises(SampleError, match="a/b: a sample is 0"):
        calibrate({"a/b": (LATENCY, [[0.0]] * 8)}, POLICY, n_base=4, n_head=4)


def test_the_same_launches_teach_the_same():
    """Splits are drawn by a fixed seed."""
    once, again = (calibrate(family(), POLICY, n_base=4, n_head=4, splits=20) for _ in range(2))

    assert once == again


# Files


def run_document(**changes: Any) -> dict[str, Any]:
    def case(area: str, metric: str, status: str = "new") -> dict[str, Any]:
        kind = METRICS[metric].kind.value
        head = launches(8, 0.02)
        return {
            "area": area, "config": "c", "status": status, "head": head, "metric": {"name": metric, "kind": kind},
        }  # fmt: skip

    return {
        "schema_version": 1,
        "run": "a-run",
        "targets": {"head": {"packages": {"sglang": "0.5.23"}}},
        "settings": {"alpha": 0.05, "min_effect": 0.03},
        "fingerprints": {"c": {"id": "cpu-x"}},
        "cases": {
            "m/c/decode/inter_token_latency": case("decode", "inter_token_latency"),
            "m/c/decode/cached_tokens": case("decode", "cached_tokens"),
            "m/c/prefill/time_to_first_token": case("prefill", "time_to_first_token"),
            "m/c/prefill/prefill_throughput": case("prefill", "prefill_throughput", "invalid"),
        },
        **changes,
    }


def test_a_run_is_learnt_from_area_by_area():
    """Timings make one family; each area gets a file of its own; what is invalid is left out and named."""
    learnt = learn(run_document(), 3)

    assert {(file.fingerprint_id, file.area): set(file.cases) for file in learnt.files} == {
        ("cpu-x", "decode"): {"m/c/decode/inter_token_latency"},
        ("cpu-x", "prefill"): {"m/c/prefill/time_to_first_token"},
    }
    assert learnt.left_out == ("m/c/prefill/prefill_throughput",)
    assert (learnt.family.n_base, learnt.family.launches) == (3, 8)


def test_counts_have_no_noise_to_learn():
    """Exact metrics are not calibrated."""
    samples, _ = timings(run_document()["cases"])

    assert "m/c/decode/cached_tokens" not in samples


def test_two_builds_are_no_calibration():
    """Launches of two builds differ by more than noise."""
    both = {"base": {}, "head": {}}
    with pytest.raises(UsageError, match="compares two builds"):
        learn(run_document(targets=both))


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": 99}'])
def test_a_file_that_is_no_run_is_refused(tmp_path, text):
    """It is named, and where runs are."""
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError, match="run.json"):
        read_run(tmp_path)


def kept(calibration: Calibration) -> str:
    return dump_calibration(
        calibration_file(
            calibration,
            set(calibration.noise),
            fingerprint_id="cpu-x",
            area="decode",
            recorded="2026-01-02T03:04:05Z",
            run="a-run",
            versions={"sglang": "0.5.23"},
        )
    )


def test_a_file_comes_back_as_it_was():
    """Written and read, it quotes the same figures; no size that would do is null, which JSON has."""
    calibration = calibrate({"a/b": (LATENCY, launches(8, 0.02))}, POLICY, n_base=2, n_head=1, splits=5)
    assert math.isinf(calibration.noise["a/b"].detectable_effect)
    file = parse_calibration(kept(calibration), "here")

    assert dump_calibration(file) == kept(calibration)
    assert file.quote("a/b").startswith("calibrated on 8 launches of one build: they spread ")
    assert "detectable" not in file.quote("a/b")
    assert file.quote("c/d") == ""


@pytest.mark.parametrize("cut", [10, -40])
def test_a_broken_file_is_named(cut):
    """With what to do about it."""
    text = kept(calibrate({"a/b": (LATENCY, launches(8, 0.02))}, POLICY, n_base=4, n_head=4, splits=5))
    with pytest.raises(BaselineError, match=r"here: .*sglperf calibrate"):
        parse_calibration(text[:cut], "here")


def test_the_table_fits_a_terminal():
    """100 columns, each metric under its server and workload, the family's alarms below."""
    text = calibration_text(calibrate(family(), POLICY, n_base=4, n_head=4, splits=5), ("m/x",))

    assert max(map(len, text.splitlines())) <= 100
    assert "12 launches of one build, 5 splits into 4 and 4" in text
    assert "left out, not measured: m/x" in text
