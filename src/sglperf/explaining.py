"""After the verdicts: what may have caused what they say, looked for on both sides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sglperf.clock import Clock
from sglperf.core.catalogue import METRICS
from sglperf.core.explanation import Explanation, StageChange, compare_stages
from sglperf.core.metric import Kind
from sglperf.core.server_config import ServerConfig
from sglperf.core.trace import compare_profiles
from sglperf.core.verdict import Status, Verdict
from sglperf.evidence import ContextChange, Measured
from sglperf.job import Job
from sglperf.measure import at_once
from sglperf.measurements import Measurements, Progress, Round
from sglperf.plan import Ask
from sglperf.profiling import full_batch, profile
from sglperf.settings import Settings
from sglperf.store import RunFolder
from sglperf.target.build import Target
from sglperf.target.revision import changed_files
from sglperf.workload.client import StreamingClient

_CHANGED = (Status.REGRESSED, Status.IMPROVED)
# The phase that a metric times; the others are about the whole round.
_PREFILL = ("time_to_first_token", "prefill_throughput", "prefix_cache_speedup")


@dataclass(frozen=True)
class Findings:
    """What the run has found out so far.

    Attributes:
        changes: server config's label → how its context differs.
        beside: neighbourhoods of GPU configs of which two servers fit on their GPUs.
    """

    measured: Measured
    verdicts: Mapping[str, Verdict]
    changes: Mapping[str, ContextChange]
    beside: Collection[str] = ()


def explain(
    findings: Findings,
    settings: Settings,
    targets: Mapping[str, Target],
    folder: RunFolder,
    progress: Progress,
    clock: Clock,
) -> dict[str, Explanation]:
    """Server config's label → why its verdicts are what they are, where one changed or ``why`` is ``always``.

    Two builds are profiled beside each other, which takes a start of both. Interrupted there, or out of time, the run
    goes on without: it has measured and judged everything.
    """
    asked = _all_asked(findings, settings)
    files = _files(settings, targets) if asked else ()
    found = {label: _without_profile(findings, label, asks, files) for label, asks in asked.items()}
    if "base" not in targets or settings.why == "off":
        return found
    try:
        for config in findings.measured.plan.configs:
            worst = _worst(findings, asked.get(config.label, []))
            if worst is None:
                continue
            one = found[config.label]
            if clock.fits():
                found[config.label] = _profiled(one, worst, findings, settings, targets, folder, progress)
            else:
                found[config.label] = replace(one, notes=(f"no profile: it would not fit in {clock.limit}",))
    except KeyboardInterrupt:
        progress("interrupted: the verdicts stand, without a profile of what is left", done=True)
    return found


def carry_over(
    findings: Findings, settings: Settings, known: Mapping[str, Explanation]
) -> dict[str, Explanation]:
    """`explain` where nothing can be started: with what shards saw of the same servers, each by its own verdicts.

    Args:
        known: server config's label → what its shard explained.
    """
    found = {}
    for label, asks in _all_asked(findings, settings).items():
        seen = known.get(label)
        one = _without_profile(findings, label, asks, () if seen is None else seen.files)
        if seen is not None and (seen.workload == one.workload or seen.profiles):
            # What was profiled is told with the workload that it was profiled on.
            one = replace(seen, arguments=one.arguments, versions=one.versions, changed=one.changed)
        elif settings.why != "off" and settings.base is not None and one.workload is not None:
            one = replace(one, notes=("no profile: the shard that measured it called nothing changed",))
        found[label] = one
    return found


def _all_asked(findings: Findings, settings: Settings) -> dict[str, list[Ask]]:
    """Server config's label → its cases that are to be explained, where there are any."""
    configs = findings.measured.plan.configs
    return {config.label: asks for config in configs if (asks := _asked(findings, config, settings))}


def _asked(findings: Findings, config: ServerConfig, settings: Settings) -> list[Ask]:
    """Cases of the config that are to be explained."""
    mine = [ask for ask in findings.measured.plan.asks if ask.config.label == config.label]
    changed = [
        ask
        for ask in mine
        if (verdict := findings.verdicts.get(ask.name)) is not None and verdict.status in _CHANGED
    ]
    return changed or (mine if settings.why == "always" else [])


def _worst(findings: Findings, asks: list[Ask]) -> Ask | None:
    """The timing that changed most; only a server has a profiler."""
    sizes = {
        ask.name: abs(math.log(comparison.ratio))
        for ask in asks
        if (verdict := findings.verdicts.get(ask.name)) is not None
        and (comparison := verdict.comparison) is not None
        and METRICS[ask.metric].kind is Kind.TIMING
        and ask.workload.worker is None
    }
    return max((ask for ask in asks if ask.name in sizes), key=lambda ask: sizes[ask.name], default=None)


def _without_profile(findings: Findings, label: str, asks: list[Ask], files: tuple[str, ...]) -> Explanation:
    change = findings.changes.get(label, ContextChange((), ()))
    worst = _worst(findings, asks)
    explanation = Explanation(
        label,
        arguments=change.arguments,
        versions=change.versions,
        files=files,
        changed=any(
            findings.verdicts[ask.name].status in _CHANGED for ask in asks if ask.name in findings.verdicts
        ),
    )
    if worst is None:
        return explanation
    comparison = findings.verdicts[worst.name].comparison
    assert comparison is not None
    return replace(
        explanation,
        workload=worst.workload.label,
        worse=comparison.worse,
        phase="prefill" if worst.metric.startswith(_PREFILL) else "decode",
        stages=_stages(findings.measured, worst),
    )


def _files(settings: Settings, targets: Mapping[str, Target]) -> tuple[str, ...]:
    """What differs between two revisions of one repository."""
    commits = [targets[side].commit for side in ("base", "head") if side in targets]
    if settings.sglang_repo is None or len(commits) < 2 or None in commits or commits[0] == commits[1]:
        return ()
    return changed_files(settings.sglang_repo, *map(str, commits))


def _stages(measured: Measured, ask: Ask) -> tuple[StageChange, ...]:
    base, head = (_stage_means(list(measured.rounds(side, ask))) for side in ("base", "head"))
    return compare_stages(base, head) if base and head else ()


def _stage_means(rounds: Sequence[Round]) -> dict[str, float]:
    """Seconds of each stage in a round, over all rounds of a workload."""
    totals: Counter[str] = Counter()
    for one in rounds:
        totals.update(one.stages)
    return {name: seconds / len(rounds) for name, seconds in totals.items()}


def _profiled(
    explanation: Explanation,
    worst: Ask,
    findings: Findings,
    settings: Settings,
    targets: Mapping[str, Target],
    folder: RunFolder,
    progress: Progress,
) -> Explanation:
    """The explanation with a profile of both sides, or with the reason why there is none."""
    plan = findings.measured.plan
    load = next(load for load in plan.loads(worst.config) if load.workload.label == worst.workload.label)
    config = replace(worst.config, environment={**full_batch(worst.workload), **worst.config.environment})
    own = Measurements()
    jobs = [
        Job(plan, settings, side, target, config, plan.launches, folder, progress, own, f"profile: {side} {config.label}")
        for side, target in targets.items()
    ]  # fmt: skip
    with StreamingClient() as client, findings.measured.measurements.timed("profile"):
        traced = profile(list(at_once(jobs, findings.beside)), load, client)
    notes = tuple(f"no profile of {side}: {gate.sentence}" for (side, _), gate in own.failures.items())
    changes = tuple(compare_profiles(traced.get("base", []), traced.get("head", [])))
    if not changes and not notes:
        notes = ("no profile: the traces of the two sides have no phase in common",)
    progress(f"profile: {config.label}: {load.workload.label}", done=True)
    return replace(explanation, profiles=changes, notes=notes)
