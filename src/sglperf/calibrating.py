"""From a run of one and the same build to what is known of this machine's noise, beside its baselines."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sglperf.core.calibration import Calibration, calibrate
from sglperf.core.calibration_file import CalibrationFile, calibration_file
from sglperf.core.catalogue import METRICS
from sglperf.core.launches import Launches
from sglperf.core.metric import Kind, Metric
from sglperf.core.verdict import Policy, Verdict
from sglperf.errors import UsageError
from sglperf.plan import Place, Plan
from sglperf.store import BaselineFolder


@dataclass(frozen=True)
class Calibrated:
    """What a run taught.

    Attributes:
        family: the noise of all timings of the run, judged together.
        files: its parts, one for each area and machine.
        left_out: cases that could not be measured.
    """

    family: Calibration
    files: tuple[CalibrationFile, ...]
    left_out: tuple[str, ...]


def learn(run: Mapping[str, Any], launches_a_side: int | None = None) -> Calibrated:
    """Calibrate all timings of a run as one family.

    Args:
        run: a run of one target, `read_run`.
        launches_a_side: of the comparisons that are to be made; default a third of the run's launches.

    Raises:
        UsageError: the run compared two builds.
        SampleError: it has too few launches.
    """
    if set(run["targets"]) != {"head"}:
        raise UsageError(f"run {run['run']} compares two builds: calibrate on a run of one")
    samples, left_out = timings(run["cases"])
    launches = min((len(rounds) for _, rounds in samples.values()), default=0)
    side = launches_a_side or max(launches // 3, 2)
    policy = Policy(alpha=run["settings"]["alpha"], min_effect=run["settings"]["min_effect"])
    family = calibrate(samples, policy, n_base=side, n_head=side)
    return Calibrated(family, tuple(_files(run, family)), left_out)


def timings(
    cases: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, tuple[Metric, Launches]], tuple[str, ...]]:
    """Case name → metric and its launches, for all judged timings; and the names of those that are invalid."""
    timed = {name: case for name, case in cases.items() if case["metric"]["kind"] == Kind.TIMING}
    invalid = tuple(name for name, case in timed.items() if case["status"] == "invalid")
    samples = {
        name: (METRICS[case["metric"]["name"]], case["head"])
        for name, case in timed.items()
        if name not in invalid
    }
    return samples, invalid


def _files(run: Mapping[str, Any], family: Calibration) -> list[CalibrationFile]:
    places: dict[tuple[str, str], set[str]] = {}
    for name, case in run["cases"].items():
        if name in family.noise:
            fingerprint = run["fingerprints"][case["config"]]["id"]
            places.setdefault((fingerprint, case["area"]), set()).add(name)
    recorded = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return [
        calibration_file(
            family,
            names,
            fingerprint_id=fingerprint,
            area=area,
            recorded=recorded,
            run=run["run"],
            versions=run["targets"]["head"]["packages"],
        )
        for (fingerprint, area), names in places.items()
    ]


def keep(calibrated: Calibrated, baseline_dir: Path) -> list[Path]:
    """Write each part beside its baseline.

    Raises:
        StoreError: a file cannot be written.
    """
    return [
        BaselineFolder(baseline_dir, file.fingerprint_id).write_calibration(file) for file in calibrated.files
    ]


def quoting(
    plan: Plan, verdicts: Mapping[str, Verdict], noise: Mapping[Place, CalibrationFile | None]
) -> dict[str, Verdict]:
    """Verdicts that rest on statistics, each with what this machine's calibration says of its metric."""
    quoted = dict(verdicts)
    for ask in plan.asks:
        known, verdict = noise[ask.place], verdicts.get(ask.name)
        if known is None or verdict is None or verdict.comparison is None:
            continue
        said = known.quote(ask.name)
        quoted[ask.name] = replace(verdict, sentence=f"{verdict.sentence}; {said}") if said else verdict
    return quoted
