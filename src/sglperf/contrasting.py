"""Servers of one run that are compared with one another, and the claims that this bears on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sglperf.core.catalogue import METRICS
from sglperf.core.claim import Checked, Claim, Figure, check
from sglperf.core.contrast import Contrast, contrast_launches, estimate
from sglperf.core.metric import Kind
from sglperf.evidence import Measured
from sglperf.plan import Ask

Links = Mapping[str, str]
"""Server config's label → class of links of its TP set."""


def contrasts(measured: Measured, links: Links, *, alpha: float) -> tuple[Contrast, ...]:
    """Each of the head's servers of a comparison against the first one that was asked the same, case by case."""
    return tuple(_contrasts(measured, links, alpha))


def _contrasts(measured: Measured, links: Links, alpha: float) -> Iterator[Contrast]:
    first: dict[tuple[str, str, str], Ask] = {}
    for ask in measured.plan.asks:
        metric, config = METRICS[ask.metric], ask.config
        base = first.setdefault((config.group, ask.workload.label, ask.metric), ask)
        if base is ask or metric.kind is Kind.EXACT or not metric.judged:
            continue
        pairs = measured.beside("head", base, ask)
        found = contrast_launches(*pairs, metric, alpha=alpha)
        if found is not None:
            yield Contrast(
                config.model.name,
                config.group,
                base.config.name_in_group,
                config.name_in_group,
                ask.workload.label,
                ask.metric,
                found,
                reference_ranks=base.config.tp_size,
                ranks=config.tp_size,
                links=links[config.label],
                rate=metric.unit == "tok/s",
            )


def figures(
    measured: Measured, found: tuple[Contrast, ...], links: Links, *, alpha: float
) -> tuple[Figure, ...]:
    """Everything measured that a claim may be about."""
    plain = (_figure(measured, ask, links, alpha) for ask in measured.plan.asks)
    return (*filter(None, plain), *(figure for one in found for figure in _compared(one)))


def _compared(one: Contrast) -> Iterator[Figure]:
    servers, measured = (one.model, one.other, one.reference), (one.workload, one.metric)
    yield Figure(*servers, *measured, *one.speedup, one.links, one.ranks)
    if one.efficiency is not None:
        yield Figure(*servers, *measured, *one.efficiency, one.links, one.ranks, per_gpu=True)


def _figure(measured: Measured, ask: Ask, links: Links, alpha: float) -> Figure | None:
    launches = measured.evidence("head", ask).launches
    usable = [launch for launch in launches if all(value > 0 for value in launch)]
    if METRICS[ask.metric].kind is Kind.EXACT or not usable:
        return None
    found = estimate(usable, alpha=alpha)
    assert found is not None
    config = ask.config
    server = (config.model.name, config.name_in_group, None)
    return Figure(*server, ask.workload.label, ask.metric, *found, links[config.label], config.tp_size)


def checked_claims(
    claims: Mapping[str, Claim],
    measured: Measured,
    found: tuple[Contrast, ...],
    links: Links,
    *,
    alpha: float,
    gpu: str | None,
) -> tuple[Checked, ...]:
    """What the run says of each claim that its tests are about."""
    areas = {ask.area for ask in measured.plan.asks}
    known = figures(measured, found, links, alpha=alpha)
    return tuple(check(name, claim, known, gpu) for name, claim in claims.items() if claim.area in areas)
