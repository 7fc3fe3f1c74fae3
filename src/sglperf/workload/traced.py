"""Loads that are played under the server's own profiler: what a forward pass consists of, not how fast it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sglperf.workload.shapes import Decode, Prefill


@dataclass(frozen=True)
class DecodeTrace(Decode):
    """Decoding, of which a run of steps is traced."""

    traced: ClassVar[bool] = True

    @property
    def label(self) -> str:
        return f"trace-{super().label}"


@dataclass(frozen=True)
class PrefillTrace(Prefill):
    """Prompts one after another, the prefill of each traced."""

    traced: ClassVar[bool] = True

    @property
    def label(self) -> str:
        return f"trace-{super().label}"
