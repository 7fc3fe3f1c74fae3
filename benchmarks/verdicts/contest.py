"""Power of every tool's rule on the same arrays, at its nominal setting and at one false-alarm rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from peers import PEERS, Peer
from rows import POLICY, SEED, Row
from scenarios import NOISE, Run, Scenario, draw

from sglperf.core.statistics import Comparison
from sglperf.core.verdict import judge_family

RATE = 0.025  # of false "slower" on one metric
EFFECTS = (0.03, 0.05)
NULLS = 2  # metrics of each same-build family on which settings are calibrated
FIELD: dict[str, tuple[Scenario, str]] = {
    "iid, rounds 5 %": (NOISE["iid: rounds 5 %, no launch effect"], "within 2 points of the best"),
    "launch spread 2 %": (Scenario(), "the best"),
    "launch spread 2 %, metrics unlike": (replace(Scenario(), unlike=0.5), "the best"),
    "launch spread 2 %, drift 3 %": (NOISE["drift 3 %, order in pairs random"], "the best"),
}


@dataclass(frozen=True)
class Scores:
    """Scores of one rule: on same-build arrays, and on arrays slower by each of `EFFECTS`."""

    null: list[float]
    slower: tuple[list[float], ...]

    def at(self, threshold: float) -> list[float]:
        """False-alarm rate, then power for each effect, flagged at or above ``threshold``."""
        return [float(np.mean(np.array(scores) >= threshold)) for scores in (self.null, *self.slower)]

    def calibrated(self) -> list[float]:
        """Power for each effect, flagged above the threshold that false alarms pass at most at `RATE`."""
        ranked = sorted(self.null, reverse=True)
        threshold = ranked[int(RATE * len(ranked))]
        return [float(np.mean(np.array(scores) > threshold)) for scores in self.slower]


def contest(families: int) -> Iterator[Row]:
    """One row for each tool in each scenario."""
    for name, (scenario, target) in FIELD.items():
        peers = [peer for peer in PEERS if not peer.missing]
        scored = play(scenario, families, peers)
        powers = {tool: scores.calibrated() for tool, scores in scored.items()}
        best = [max(power[effect] for tool, power in powers.items() if tool != "") for effect in (0, 1)]
        slack = 0.02 if target.startswith("within") else 0.0
        met = all(mine >= other - slack for mine, other in zip(powers[""], best, strict=True))
        claim = f"at 2.5 % false alarms per metric: {name}"
        yield Row(f"{claim}: sglperf", target, _figure(scored[""], -math.log10(2 * RATE)), families, met)
        for peer in PEERS:
            figure = (
                f"not run: {peer.missing}" if peer.missing else _figure(scored[peer.name], peer.threshold)
            )
            yield Row(f"– {peer.name}", "", figure, families)


def play(scenario: Scenario, families: int, peers: Sequence[Peer]) -> dict[str, Scores]:
    """Scores of every rule on the same arrays; ours under the empty name."""
    scored = {name: Scores([], tuple([] for _ in EFFECTS)) for name in ("", *(peer.name for peer in peers))}
    for family in range(families):
        for effect in (0.0, *EFFECTS):
            run = draw(scenario, np.random.default_rng((SEED, family, round(1000 * effect))), {0: effect})
            metrics = range(NULLS) if not effect else range(1)
            for tool, scores in _scores(run, metrics, peers).items():
                into = scored[tool].null if not effect else scored[tool].slower[EFFECTS.index(effect)]
                into.extend(scores)
    return scored


def _scores(run: Run, metrics: range, peers: Sequence[Peer]) -> dict[str, list[float]]:
    verdicts = judge_family(run.cases(), POLICY)
    ours = [_evidence(verdicts[f"m{metric}"].comparison) for metric in metrics]
    theirs = {
        peer.name: [peer.score(run.base[metric], run.head[metric]) for metric in metrics] for peer in peers
    }
    return {"": ours, **theirs}


def _evidence(found: Comparison | None) -> float:
    """- log10 of the metric's own p, negative for a change for the better."""
    assert found is not None
    size = -math.log10(max(found.p_value, 1e-300))
    return size if found.worse else -size


def _figure(scores: Scores, threshold: float) -> str:
    false, *nominal = (f"{100 * rate:.1f}" for rate in scores.at(threshold))
    matched = " / ".join(f"{100 * power:.1f}" for power in scores.calibrated())
    return f"+3 / +5 %: {matched} % (nominal: {' / '.join(nominal)} %, false alarms {false} %)"
