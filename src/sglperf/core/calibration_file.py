"""Calibration files: the noise of one area on one machine, beside its baseline, as JSON for a reviewer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sglperf.core.calibration import Calibration, Noise
from sglperf.core.validation import first_problem
from sglperf.errors import BaselineError

SCHEMA_VERSION: Literal[1] = 1
Share = Annotated[float, Field(ge=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoiseEntry(_Frozen):
    """`Noise`; a detectable effect of None means that no size would be called."""

    launch_spread: Annotated[float, Field(ge=0)]
    round_spread: Annotated[float, Field(ge=0)]
    false_alarms: Share
    detectable_effect: Annotated[float, Field(ge=0)] | None


class CalibrationFile(_Frozen):
    """One file: an area on a fingerprint.

    Attributes:
        recorded: ISO 8601, UTC.
        run: the run whose launches it was learned from.
        versions: package versions of the build.
        launches, n_base, n_head, splits, regressed, improved, alpha: see `Calibration`; the rates are of the
            whole run's family.
        cases: case name → noise.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    fingerprint_id: str
    area: str
    recorded: str
    run: str
    versions: dict[str, str]
    launches: int
    n_base: int
    n_head: int
    splits: int
    regressed: Share
    improved: Share
    alpha: Share
    cases: dict[str, NoiseEntry]

    def quote(self, name: str) -> str:
        """What a verdict says of its metric's noise; empty where the case was not calibrated."""
        noise = self.cases.get(name)
        if noise is None:
            return ""
        seen = "" if noise.detectable_effect is None else f", {noise.detectable_effect:.1%} is detectable"
        return (
            f"calibrated on {self.launches} launches of one build: they spread {noise.launch_spread:.1%}{seen}, "
            f"{noise.false_alarms:.1%} false alarms"
        )


def calibration_file(
    calibration: Calibration,
    names: set[str],
    *,
    fingerprint_id: str,
    area: str,
    recorded: str,
    run: str,
    versions: Mapping[str, str],
) -> CalibrationFile:
    """The part of a calibration that belongs to one area on one machine."""
    figures = asdict(calibration)
    del figures["noise"]
    cases = {name: _entry(noise) for name, noise in calibration.noise.items() if name in names}
    return CalibrationFile(
        fingerprint_id=fingerprint_id,
        area=area,
        recorded=recorded,
        run=run,
        versions=dict(versions),
        cases=cases,
        **figures,
    )


def _entry(noise: Noise) -> NoiseEntry:
    finite = noise.detectable_effect != float("inf")
    return NoiseEntry(
        launch_spread=_rounded(noise.launch_spread),
        round_spread=_rounded(noise.round_spread),
        false_alarms=noise.false_alarms,
        detectable_effect=_rounded(noise.detectable_effect) if finite else None,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def dump_calibration(file: CalibrationFile) -> str:
    """The file's text: sorted and indented."""
    return json.dumps(file.model_dump(mode="json"), sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def parse_calibration(text: str, origin: str) -> CalibrationFile:
    """Read a file's text.

    Raises:
        BaselineError: corrupt, truncated or from another schema.
    """
    try:
        return CalibrationFile.model_validate_json(text)
    except ValidationError as error:
        mend = "restore it from git, or delete it and run sglperf calibrate again"
        raise BaselineError(f"{origin}: {first_problem(error)}: {mend}") from None
