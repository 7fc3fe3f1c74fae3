"""The spine: one short function tells the whole story of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from sglperf.config import Settings
from sglperf.contrasting import checked_claims, contrasts, figures
from sglperf.core.baseline import Baseline
from sglperf.core.calibration_file import CalibrationFile
from sglperf.core.catalogue import METRICS
from sglperf.core.claim import Checked, Claim
from sglperf.core.contrast import Contrast
from sglperf.core.explanation import Explanation
from sglperf.core.figure import Figure
from sglperf.core.fingerprint import Fingerprint
from sglperf.core.footprint import fit_together
from sglperf.core.judgement import Question
from sglperf.core.machine import Machine
from sglperf.core.sequential import Looks
from sglperf.core.server_config import ServerConfig
from sglperf.core.verdict import Policy, Status, Verdict
from sglperf.deeper import Look, check_looks, look_deeper
from sglperf.errors import MeasurementError, SglperfError, UsageError
from sglperf.evidence import ContextChange, Measured, context_changes, to_baseline
from sglperf.explaining import Findings, explain
from sglperf.judging import Judging
from sglperf.machine_note import machine_note
from sglperf.measure import execute
from sglperf.measurements import Measurements, Progress
from sglperf.plan import Place, Plan
from sglperf.predicting import check_predictable
from sglperf.report.document import run_document
from sglperf.reporting import keep_report
from sglperf.server.arguments import refused_arguments
from sglperf.store import BaselineFolder, RunFolder
from sglperf.target.build import Target


@dataclass(frozen=True)
class Site:
    """Where the run takes place.

    Attributes:
        machine: the host and its GPUs, for the record.
        fingerprints: server config's label → what must match for its timings to be comparable. Configs on
            GPU sets with different links have different ones.
        notes: what a person should know of the sets that were chosen.
    """

    machine: Machine
    fingerprints: Mapping[str, Fingerprint]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        questions, verdicts: by case name, in plan order.
        changes: config label → how head's context differs from its base's.
        explanations: config label → why its verdicts are what they are, where one changed.
        contrasts: servers of the run that are compared with one another.
        figures: everything measured that such a statement may be about.
        claims: what the run says of statements about SGLang.
        looks_deeper: what Nsight's tools saw, where they were asked for.
        recorded: baseline files written.
        results: everything measured that a baseline could hold, each file as it would be: what `sglperf baseline
            accept` takes from, and what the history keeps.
        looks: launch counts at which the run was to be judged.
        run: the run's folder name.
        seconds: where the wall time went.
        notes: what a person should be told besides.
    """

    plan: Plan
    measured: Measured
    questions: Mapping[str, Question]
    verdicts: Mapping[str, Verdict]
    changes: Mapping[str, ContextChange]
    recorded: tuple[str, ...]
    looks: Looks
    run: str
    folder: str
    seconds: Mapping[str, float]
    notes: tuple[str, ...] = ()
    explanations: Mapping[str, Explanation] = field(default_factory=dict)
    contrasts: tuple[Contrast, ...] = ()
    figures: tuple[Figure, ...] = ()
    claims: tuple[Checked, ...] = ()
    looks_deeper: tuple[Look, ...] = ()
    results: tuple[Baseline, ...] = ()


def run(
    plan: Plan,
    settings: Settings,
    targets: Mapping[str, Target],
    site: Site,
    folder: RunFolder,
    progress: Progress,
    claims: Mapping[str, Claim],
) -> Outcome:
    """Measure the plan, judge it as one family, keep everything.

    Args:
        claims: statements to be checked, by name.
        targets: side → build; ``head`` alone is compared with baselines, ``base`` and ``head`` with each other.

    Raises:
        SglperfError: nothing could be measured at all, or a baseline or the results folder is unusable.
    """
    begin = time.monotonic()
    _check(plan, settings, targets)
    check_looks(plan, settings)
    paired = "base" in targets
    beside = _beside(plan, targets, site)
    stored = {} if paired or settings.baseline == "off" else _read_baselines(plan, settings, site)
    noise = _read_calibrations(plan, settings, site)
    folder.append("run", {"settings": settings, "targets": targets, "fingerprints": site.fingerprints})
    measurements = Measurements()
    measured = Measured(plan, measurements, {side: target.packages for side, target in targets.items()})
    judging = Judging(measured, stored, paired, policy(plan, settings))
    try:
        execute(plan, settings, targets, folder, progress, measurements, judging.still_open, beside)
    except BaseException as error:
        folder.append("interrupted", {"by": type(error).__name__, "seconds": measurements.seconds})
        raise
    _require_something(measurements)
    progress("judging")
    verdicts = _quoting(plan, judging.verdicts(), noise)
    changes = context_changes(measured, stored, paired=paired)
    compared = contrasts(measured, _links(site), alpha=settings.alpha)
    known = figures(measured, compared, site.fingerprints, alpha=settings.alpha, run=folder.name)
    outcome = Outcome(
        plan=plan,
        measured=measured,
        questions=judging.questions(),
        verdicts=verdicts,
        changes=changes,
        recorded=() if paired else _record(measured, verdicts, settings, site, folder.name),
        looks=judging.looks,
        run=folder.name,
        folder=str(folder.path),
        seconds={**measurements.seconds, "total": time.monotonic() - begin},
        contrasts=compared,
        figures=known,
        claims=checked_claims(claims, plan, known),
        results=_results(measured, verdicts, site, folder.name),
        notes=tuple(
            dict.fromkeys(
                [
                    *site.notes,
                    *machine_note(plan, verdicts),
                    *_offer(verdicts, settings, folder, paired=paired),
                    *_target_notes(targets),
                    *measurements.notes,
                ]
            )
        ),
    )
    folder.append("end", {"verdicts": {name: verdict.status for name, verdict in verdicts.items()}})
    kept = folder.write_json("run.json", run_document(outcome, settings, targets, site))
    outcome = replace(outcome, notes=(*outcome.notes, *_remembered(kept, settings)))
    # Kept by now, whatever becomes of the search for a cause, and of a deeper look.
    looks = look_deeper(measured, settings, targets, folder, progress)
    if looks:
        outcome = replace(outcome, looks_deeper=looks)
        folder.write_json("run.json", run_document(outcome, settings, targets, site))
    found = explain(Findings(measured, verdicts, changes, beside), settings, targets, folder, progress)
    if found:
        seconds = {**measurements.seconds, "total": time.monotonic() - begin}
        outcome = replace(outcome, explanations=found, seconds=seconds)
        folder.write_json("run.json", run_document(outcome, settings, targets, site))
    progress("writing the report")
    notes = keep_report(folder.path, page=settings.html_report)
    return replace(outcome, notes=(*outcome.notes, *notes))


def _links(site: Site) -> dict[str, str]:
    """Class of links of each server's TP set."""
    return {label: found.links for label, found in site.fingerprints.items()}


def _target_notes(targets: Mapping[str, Target]) -> Iterator[str]:
    return (note for target in targets.values() for note in target.notes)


def _check(plan: Plan, settings: Settings, targets: Mapping[str, Target]) -> None:
    """Before anything starts: what one side lacks would else be found after the other was measured."""
    _check_backends(plan, targets)
    _check_arguments(plan, settings, targets)
    _check_predictions(plan, targets)


def _check_backends(plan: Plan, targets: Mapping[str, Target]) -> None:
    for target in targets.values():
        known = target.adapter.attention_backends
        for config in plan.configs:
            if target.adapter.exact and config.attention_backend not in known:
                raise UsageError(
                    f"unknown attention backend {config.attention_backend!r}: {target.label} has {', '.join(sorted(known))}"
                )
            here = target.adapter.cpu_backends
            if config.device == "cpu" and config.attention_backend not in here:
                raise UsageError(
                    f"attention backend {config.attention_backend!r} needs a GPU: on a CPU there are "
                    f"{', '.join(sorted(here))} (triton through its interpreter). Choose with --attention-backend"
                )


def _check_arguments(plan: Plan, settings: Settings, targets: Mapping[str, Target]) -> None:
    """A server argument that a build does not take would end its start."""
    refused = {
        (target.label, flag): None
        for target, config in product(targets.values(), plan.configs)
        for flag in refused_arguments(target, config)
    }
    if refused:
        listed = "; ".join(f"{label} does not take {flag}" for label, flag in refused)
        raise UsageError(
            f"{listed}. Change server_arguments ({settings.origin('server_arguments')}), or give other targets"
        )


def _check_predictions(plan: Plan, targets: Mapping[str, Target]) -> None:
    """Rounds of which the cache model can say nothing, and policies that a side lacks."""
    for target, config in product(targets.values(), plan.configs):
        policies = target.adapter.eviction_policies
        if target.adapter.exact and config.eviction_policy not in (None, *policies):
            raise UsageError(
                f"unknown eviction policy {config.eviction_policy!r}: {target.label} has {', '.join(policies)}"
            )
        for load in plan.loads(config):
            if load.workload.predicted:
                check_predictable(config, target.adapter, load.round)


def _beside(plan: Plan, targets: Mapping[str, Target], site: Site) -> frozenset[str]:
    """Neighbourhoods of GPU configs whose servers, of all builds, fit on their GPUs at once."""
    memory = {gpu.index: gpu.memory_bytes for gpu in site.machine.gpus.usable}
    groups: dict[str, list[ServerConfig]] = {}
    for config in plan.configs:
        if config.device == "cuda":
            groups.setdefault(config.neighbourhood, []).extend([config] * len(targets))
    return frozenset(
        name
        for name, configs in groups.items()
        if len(configs) > 1
        and fit_together(configs, min((memory.get(index) or 0 for index in configs[0].tp_set), default=0))
    )


def _require_something(measurements: Measurements) -> None:
    """Where every launch failed there is nothing to judge: one message says it, not one per case."""
    if measurements.failures and not any(round_.values for round_ in measurements.rounds):
        reasons = list(dict.fromkeys(gate.sentence for gate in measurements.failures.values()))
        raise MeasurementError("\n".join(reasons))


def policy(plan: Plan, settings: Settings) -> Policy:
    """How the plan's family is judged; its size is the planned one, whatever was measured of it."""
    return Policy(alpha=settings.alpha, min_effect=settings.min_effect, family_size=plan.family_size)


def _read_baselines(plan: Plan, settings: Settings, site: Site) -> dict[Place, Baseline | None]:
    """Before anything starts, so that an unusable file costs no measurement."""
    return {
        place: BaselineFolder(settings.baseline_dir, site.fingerprints[place[0]].id).read(place[1])
        for place in dict.fromkeys(ask.place for ask in plan.asks)
    }


def _read_calibrations(plan: Plan, settings: Settings, site: Site) -> dict[Place, CalibrationFile | None]:
    """What is known of the noise, from earlier launches of one build."""
    return {
        place: BaselineFolder(settings.baseline_dir, site.fingerprints[place[0]].id).read_calibration(
            place[1]
        )
        for place in dict.fromkeys(ask.place for ask in plan.asks)
    }


def _quoting(
    plan: Plan, verdicts: Mapping[str, Verdict], noise: Mapping[Place, CalibrationFile | None]
) -> dict[str, Verdict]:
    """Verdicts that rest on statistics, each with what this machine's calibration says of its metric."""
    quoted = dict(verdicts)
    for ask in plan.asks:
        known, verdict = noise[ask.place], verdicts.get(ask.name)
        if known is None or verdict is None or verdict.comparison is None:
            continue
        said = known.quote(ask.name)
        quoted[ask.name] = replace(verdict, sentence=f"{verdict.sentence}; {said}") if said else verdict
    return quoted


# What is written to the baseline. Neither a change for the worse nor one for the better extends it: it holds runs of
# what was accepted, and shows how far such runs differ.
_ACCEPTED = {
    "off": frozenset[Status](),
    "compare": frozenset({Status.NEW}),
    "extend": frozenset({Status.NEW, Status.UNCHANGED, Status.INCONCLUSIVE}),
    "record": frozenset(Status) - {Status.INVALID},
}


def _remembered(kept: Path, settings: Settings) -> Iterator[str]:
    """Add the run to the history. It is safe on disk already, so a database that fails costs a note."""
    if settings.history_url is None:
        return
    from sglperf.history.database import History
    from sglperf.remembering import read_run, remember

    try:
        history = History(settings.history_url)
        try:
            remember(history, read_run(kept), kept)
        finally:
            history.close()
    except SglperfError as error:
        yield f"kept, but not in the history: {error}. Add it later: sglperf history add {kept.parent}"


def _offer(
    verdicts: Mapping[str, Verdict], settings: Settings, folder: RunFolder, *, paired: bool
) -> Iterator[str]:
    """What became better is never taken by itself: the next run would be judged by it."""
    better = sum(verdict.status is Status.IMPROVED for verdict in verdicts.values())
    if better and not paired and settings.baseline in ("compare", "extend"):
        yield (
            f"the baseline stays as it was: sglperf baseline accept {folder.path} takes what improved ({better})"
        )


def _results(
    measured: Measured, verdicts: Mapping[str, Verdict], site: Site, run: str
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
        fingerprint = site.fingerprints[place[0]]
        one = to_baseline(measured, place, names, fingerprint, run=run, recorded=recorded)
        key = (fingerprint.id, place[1])
        files[key] = files[key].merged(one) if key in files else one
    return tuple(one for one in files.values() if one.cases)


def _record(
    measured: Measured, verdicts: Mapping[str, Verdict], settings: Settings, site: Site, run: str
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
        fingerprint = site.fingerprints[place[0]]
        fresh = to_baseline(measured, place, names, fingerprint, run=run, recorded=recorded)

        def merge(known: Baseline | None, fresh: Baseline = fresh) -> Baseline:
            return fresh if known is None else known.merged(fresh, extend=settings.baseline == "extend")

        files[str(BaselineFolder(settings.baseline_dir, fingerprint.id).update(place[1], merge))] = True
    return tuple(files)
