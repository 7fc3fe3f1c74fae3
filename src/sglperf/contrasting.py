"""Servers of one run that are compared with one another, and the claims that this bears on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sglperf.core.catalogue import METRICS
from sglperf.core.claim import Checked, Claim, check
from sglperf.core.contrast import Contrast, contrast_launches
from sglperf.core.estimate import Estimate, estimate
from sglperf.core.figure import Figure
from sglperf.core.fingerprint import Fingerprint
from sglperf.core.launches import Launches
from sglperf.core.metric import Kind, Metric
from sglperf.evidence import Measured
from sglperf.plan import Ask, Plan

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
    measured: Measured,
    found: tuple[Contrast, ...],
    fingerprints: Mapping[str, Fingerprint],
    *,
    alpha: float,
    run: str,
) -> tuple[Figure, ...]:
    """Everything measured that a claim may be about. What could not be measured to the end is not among it.

    Args:
        found: the run's `contrasts`.
        fingerprints: server config's label → machine and GPUs that it was measured on.
        run: its name.
    """
    version = measured.versions["head"].get("sglang", "unknown")

    def figure(ask: Ask, estimated: Estimate, launches: int, **compared: Any) -> Figure:
        return _figure(ask, estimated, launches, fingerprints[ask.config.label], version, run, **compared)

    sound: dict[tuple[str, str, str, str], Ask] = {}
    known = []
    for ask in measured.plan.asks:
        evidence = measured.evidence("head", ask)
        if evidence.failure is not None:
            continue
        sound[ask.config.group, ask.config.name_in_group, ask.workload.label, ask.metric] = ask
        usable = _usable(evidence.launches, METRICS[ask.metric])
        estimated = estimate(usable, METRICS[ask.metric], alpha=alpha)
        if estimated is not None:
            known.append(figure(ask, estimated, len(usable)))
    for one in found:
        other = sound.get((one.group, one.other, one.workload, one.metric))
        if other is None or (one.group, one.reference, one.workload, one.metric) not in sound:
            continue
        pairs = one.comparison.n_head
        known.append(figure(other, one.speedup, pairs, over=one.reference))
        if one.efficiency is not None:
            known.append(figure(other, one.efficiency, pairs, over=one.reference, per_gpu=True))
    return tuple(known)


def _usable(launches: Launches, metric: Metric) -> Launches:
    if metric.kind is Kind.EXACT:
        return ()
    return [launch for launch in launches if metric.signed or all(value > 0 for value in launch)]


def _figure(
    ask: Ask,
    estimated: Estimate,
    launches: int,
    place: Fingerprint,
    sglang: str,
    run: str,
    *,
    over: str | None = None,
    per_gpu: bool = False,
) -> Figure:
    value, low, high = estimated
    return Figure(
        model=ask.config.model.name,
        config=ask.config.label,
        page_size=ask.config.page_size,
        server=ask.config.name_in_group,
        over=over,
        per_gpu=per_gpu,
        workload=ask.workload.label,
        metric=ask.metric,
        value=value,
        low=low,
        high=high,
        launches=launches,
        machine=place.id,
        gpu=place.accelerator,
        tp_size=ask.config.tp_size,
        links=place.links,
        sglang=sglang,
        run=run,
    )


def checked_claims(claims: Mapping[str, Claim], plan: Plan, known: tuple[Figure, ...]) -> tuple[Checked, ...]:
    """What the run's figures say of each claim that its tests are about."""
    areas = {ask.area for ask in plan.asks}
    return tuple(check(name, claim, known) for name, claim in claims.items() if claim.area in areas)
