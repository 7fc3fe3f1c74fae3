"""Servers of one run that are compared with one another, and the claims that this bears on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sglperf.core.catalogue import METRICS
from sglperf.core.claim import Checked, Claim, Figure, check
from sglperf.core.contrast import Contrast, contrast_launches, estimate
from sglperf.core.metric import Kind
from sglperf.evidence import Measured
from sglperf.plan import Ask


def contrasts(measured: Measured, *, alpha: float) -> tuple[Contrast, ...]:
    """Each of the head's servers of a comparison against its first one, case by case."""
    return tuple(_contrasts(measured, alpha))


def _contrasts(measured: Measured, alpha: float) -> Iterator[Contrast]:
    plan = measured.plan
    asks = {(ask.config.label, ask.workload.label, ask.metric): ask for ask in plan.asks}
    for ask in plan.asks:
        metric = METRICS[ask.metric]
        first = plan.first_of(ask.config)
        base = asks.get((first.label, ask.workload.label, ask.metric))
        if base is None or base is ask or metric.kind is Kind.EXACT or not metric.judged:
            continue
        pairs = measured.beside("head", base, ask)
        found = contrast_launches(*pairs, metric, alpha=alpha)
        if found is not None:
            config = ask.config
            names = (config.model.name, config.group, first.name_in_group, config.name_in_group)
            yield Contrast(*names, ask.workload.label, ask.metric, found)


def figures(measured: Measured, found: tuple[Contrast, ...], *, alpha: float) -> tuple[Figure, ...]:
    """Everything measured that a claim may be about."""
    plain = (figure for ask in measured.plan.asks if (figure := _figure(measured, ask, alpha)) is not None)
    compared = (
        Figure(one.model, one.other, one.reference, one.workload, one.metric, *one.speedup) for one in found
    )
    return (*plain, *compared)


def _figure(measured: Measured, ask: Ask, alpha: float) -> Figure | None:
    launches = measured.evidence("head", ask).launches
    usable = [launch for launch in launches if all(value > 0 for value in launch)]
    if METRICS[ask.metric].kind is Kind.EXACT or not usable:
        return None
    found = estimate(usable, alpha=alpha)
    assert found is not None
    config = ask.config
    return Figure(config.model.name, config.name_in_group, None, ask.workload.label, ask.metric, *found)


def checked_claims(
    claims: Mapping[str, Claim],
    measured: Measured,
    found: tuple[Contrast, ...],
    *,
    alpha: float,
    gpu: str | None,
) -> tuple[Checked, ...]:
    """What the run says of each claim that its tests are about."""
    areas = {ask.area for ask in measured.plan.asks}
    known = figures(measured, found, alpha=alpha)
    return tuple(check(name, claim, known, gpu) for name, claim in claims.items() if claim.area in areas)
