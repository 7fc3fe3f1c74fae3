"""One measured quantity with its interval, and where it was measured: what a claim is checked against."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator


def _or(unbounded: float) -> BeforeValidator:
    """An end of an interval that reaches to infinity, which JSON can only leave out."""
    return BeforeValidator(lambda end: unbounded if end is None else end)


@dataclass(frozen=True)
class Figure:
    """Something that was measured.

    Attributes:
        model: name of the model.
        config: label of the server configuration.
        page_size: of its KV cache, tokens.
        server: what sets the server apart; ``over`` is the one that it was compared with, or None.
        per_gpu: whether it is a scaling efficiency: that, divided by how many times as many GPUs it has.
        workload, metric: what was measured.
        value, low, high: with the ends of its interval, in the metric's unit; of a comparison, how many times better.
        launches: that it rests on; of a comparison, pairs.
        machine: id of the fingerprint.
        gpu: product name of the GPUs; None for a CPU.
        tp_size: number of ranks.
        links: class of links between them (`sglperf.core.topology.LinkClass`); ``cpu`` for ranks on a CPU.
        sglang: version that was measured.
        run: name of the run.
    """

    model: str
    config: str
    page_size: int
    server: str
    over: str | None
    workload: str
    metric: str
    value: float
    low: Annotated[float, _or(-math.inf)]
    high: Annotated[float, _or(math.inf)]
    launches: int
    machine: str
    gpu: str | None
    tp_size: int
    links: str
    sglang: str
    run: str
    per_gpu: bool = False

    @property
    def bounded(self) -> bool:
        """Whether its launches tell an interval; a single one does not."""
        return math.isfinite(self.high)

    @property
    def case(self) -> tuple[object, ...]:
        """What two figures share of which one is the other measured again."""
        server = self.machine, self.model, self.config, self.server, self.over, self.per_gpu
        return *server, self.workload, self.metric


def newest(figures: Iterable[Figure]) -> tuple[Figure, ...]:
    """Of each case the figure of the latest run; one without an interval only where no run tells one.

    Not the one with the narrowest interval: figures that are chosen by how they came out are no evidence.
    """
    latest: dict[tuple[object, ...], Figure] = {}
    for one in sorted(figures, key=lambda one: one.run):
        known = latest.get(one.case)
        if known is None or one.bounded or not known.bounded:
            latest[one.case] = one
    return tuple(latest.values())
