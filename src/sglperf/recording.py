"""What becomes of a run's measurements: baselines, at once or by ``sglperf baseline accept``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from sglperf.core.baseline import Baseline
from sglperf.core.catalogue import METRICS
from sglperf.core.fingerprint import Fingerprint
from sglperf.core.verdict import Status, Verdict
from sglperf.evidence import Measured, to_baseline
from sglperf.settings import Settings
from sglperf.store import BaselineFolder

# What is written to the baseline. Neither a change for the worse nor one for the better extends it: it holds runs of
# what was accepted, and shows how far such runs differ.
_ACCEPTED = {
    "off": frozenset[Status](),
    "compare": frozenset({Status.NEW}),
    "extend": frozenset({Status.NEW, Status.UNCHANGED, Status.INCONCLUSIVE}),
    "record": frozenset(Status) - {Status.INVALID},
}


def offer(verdicts: Mapping[str, Verdict], settings: Settings, folder: Path) -> Iterator[str]:
    """What became better is never taken by itself: the next run would be judged by it."""
    better = sum(verdict.status is Status.IMPROVED for verdict in verdicts.values())
    if better and settings.baseline in ("compare", "extend"):
        yield (
            f"the baseline stays as it was: sglperf baseline accept {folder} takes what improved ({better})"
        )


def results(
    measured: Measured, verdicts: Mapping[str, Verdict], fingerprints: Mapping[str, Fingerprint], run: str
) -> tuple[Baseline, ...]:
    """All that could be accepted, one for each machine and area: what is neither invalid nor predicted."""
    names = {
        ask.name
        for ask in measured.plan.asks
        if not ask.predicted and (ask.name not in verdicts or verdicts[ask.name].status is not Status.INVALID)
    }
    recorded = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    files: dict[tuple[str, str], Baseline] = {}
    for place in dict.fromkeys(ask.place for ask in measured.plan.asks):
        fingerprint = fingerprints[place[0]]
        one = to_baseline(measured, place, names, fingerprint, run=run, recorded=recorded)
        key = (fingerprint.id, place[1])
        files[key] = files[key].merged(one) if key in files else one
    return tuple(one for one in files.values() if one.cases)


def record(
    measured: Measured,
    verdicts: Mapping[str, Verdict],
    settings: Settings,
    fingerprints: Mapping[str, Fingerprint],
    run: str,
) -> tuple[str, ...]:
    """Keep what is new; what else ``--baseline`` allows. An accepted case is else never touched."""
    accepted = _ACCEPTED[settings.baseline]
    if not accepted:
        return ()
    predicted = {ask.name for ask in measured.plan.asks if ask.predicted}
    names = {name for name, verdict in verdicts.items() if verdict.status in accepted} - predicted
    points = {ask.point for ask in measured.plan.asks if ask.name in names}
    # A figure that carries no verdict of its own is kept beside those that do.
    names |= {
        ask.name for ask in measured.plan.asks if not METRICS[ask.metric].judged and ask.point in points
    }
    recorded = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    files = {}
    for place in dict.fromkeys(ask.place for ask in measured.plan.asks if ask.name in names):
        fingerprint = fingerprints[place[0]]
        fresh = to_baseline(measured, place, names, fingerprint, run=run, recorded=recorded)

        def merge(known: Baseline | None, fresh: Baseline = fresh) -> Baseline:
            return fresh if known is None else known.merged(fresh, extend=settings.baseline == "extend")

        files[str(BaselineFolder(settings.baseline_dir, fingerprint.id).update(place[1], merge))] = True
    return tuple(files)
