"""One search for the rate at which a server saturates: a closed loop, then open ones at rates that close in on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sglperf.core.gates import Gate
from sglperf.core.knee import Probe, Search
from sglperf.core.observation import RoundObservation
from sglperf.core.served import good_share
from sglperf.plan import Load
from sglperf.workload.traffic import Saturation


@dataclass(frozen=True)
class Searched:
    """What a search came to.

    Attributes:
        observations: of the closed loop, and of each probe.
        probes: in the order of trial.
        gates: why it was given up, or found nothing.
        rate: what was sought, requests per second; None where gates say why.
    """

    observations: tuple[RoundObservation, ...]
    probes: tuple[Probe, ...]
    gates: tuple[Gate, ...] = ()
    rate: float | None = None


def search(
    load: Load,
    *,
    seed: int,
    observe: Callable[[Load], RoundObservation],
    failed: Callable[[Load, RoundObservation], tuple[Gate, ...]],
) -> Searched:
    """Play the load's closed loop and as many probes as it has; the first that fails a gate ends the search.

    Args:
        seed: of the pattern of arrivals, which is the same at each rate.
    """
    workload, how = load.workload, load.workload.search
    assert isinstance(workload, Saturation)
    assert how is not None
    observations = [observe(load)]
    probes: list[Probe] = []
    gates = failed(load, observations[0])
    bound = 0.0 if gates else answered_rate(observations[0])
    while not gates and (rate := how.next_rate(bound, probes)) is not None:
        probe = replace(load, round=workload.at_rate(load.round, rate, seed=seed))
        observations.append(observe(probe))
        gates = failed(probe, observations[-1])
        if not gates:
            probes.append(Probe(rate, good_share(observations[-1], workload.objective)))
    found = None if gates else how.rate(probes)
    if not gates and found is None:
        gates = (_not_found(workload, how, probes),)
    return Searched(tuple(observations), tuple(probes), gates, found)


def answered_rate(observation: RoundObservation) -> float:
    """Requests per second of a whole round, from the first one sent to the last token."""
    begin = min(request.sent for request in observation.requests)
    end = max(request.arrivals[-1] for request in observation.requests)
    return len(observation.requests) / (end - begin)


def _not_found(workload: Saturation, how: Search, probes: list[Probe]) -> Gate:
    tried = ", ".join(f"{probe.share:.0%} at {probe.rate:.3g}/s" for probe in probes)
    kept = all(probe.share >= how.share for probe in probes)
    remedy = "give it more requests, or a stricter one" if kept else "give it a milder one"
    return Gate(
        "knee-not-found",
        f"{'every' if kept else 'no'} rate that was tried keeps the objective ({tried}): {remedy} (under "
        f"workloads.{workload.kind} in the profile)",
        timing_only=True,
    )
