"""The spine: one short function tells the whole story of a run."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sglperf.calibrating import quoting
from sglperf.clock import Clock
from sglperf.contrasting import checked_claims, contrasts, figures
from sglperf.core.baseline import Baseline
from sglperf.core.calibration_file import CalibrationFile
from sglperf.core.footprint import fit_together
from sglperf.core.server_config import ServerConfig
from sglperf.core.verdict import Verdict
from sglperf.deeper import look_deeper
from sglperf.errors import MeasurementError
from sglperf.evidence import ContextChange, Measured, context_changes
from sglperf.explaining import Findings, carry_over, explain
from sglperf.judging import Judging
from sglperf.machine_note import machine_note
from sglperf.measure import execute
from sglperf.measurements import Measurements
from sglperf.merging import Shards
from sglperf.outcome import Assignment, Outcome, Site
from sglperf.plan import Place, Plan
from sglperf.preflight import preflight
from sglperf.recording import offer, record, results
from sglperf.replaying import replay
from sglperf.report.document import run_document
from sglperf.reporting import keep_report
from sglperf.sharding import Split
from sglperf.store import BaselineFolder
from sglperf.target.build import Target


def run(given: Assignment) -> Outcome:
    """Measure the plan, judge it as one family, keep everything, and only then look for causes.

    Raises:
        SglperfError: nothing could be measured at all, or a baseline or the results folder is unusable.
    """
    begin = time.monotonic()
    if given.shards is None:
        preflight(given.plan if given.piece is None else given.piece.whole, given.settings, given.targets)
    beside = _beside(given.plan, given.targets, given.site)
    # Before anything starts, so that an unusable file costs no measurement.
    stored, noise = _stored(given), _noise(given)
    clock = Clock(given.settings.time_limit)
    measured, judging = _measure(given, stored, beside, clock)
    given.progress("judging")
    verdicts = quoting(given.plan, judging.verdicts(), noise)
    changes = context_changes(measured, stored, paired=given.paired)
    outcome = _concluded(given, judging, measured, verdicts, changes, begin)
    given.folder.append("end", {"verdicts": {name: verdict.status for name, verdict in verdicts.items()}})
    document = _keep(outcome, given)
    outcome = replace(outcome, notes=(*outcome.notes, *_remembered(document, given)))
    # Kept by now, whatever becomes of a deeper look, and of the search for a cause.
    findings = Findings(measured, verdicts, changes, beside)
    if given.shards is None:
        outcome = _looked_into(outcome, given, findings, begin, clock)
    else:
        outcome = _looked_into_elsewhere(outcome, given, findings, given.shards)
    if given.piece is not None:
        outcome = replace(outcome, notes=(*outcome.notes, *_shared(document, given)))
    given.progress("writing the report")
    notes = keep_report(given.folder.path, page=given.settings.html_report)
    return replace(outcome, notes=(*outcome.notes, *notes))


def _measure(
    given: Assignment, stored: Mapping[Place, Baseline | None], beside: Collection[str], clock: Clock
) -> tuple[Measured, Judging]:
    """Launches, as many as it takes until every verdict is decided, or as were planned.

    A shard makes all of them: which are looked at is decided when all shards are there.
    """
    given.folder.append(
        "run",
        {"settings": given.settings, "targets": given.targets, "fingerprints": given.site.fingerprints},
    )
    measurements = Measurements()
    versions = {side: target.packages for side, target in given.targets.items()}
    measured = Measured(given.plan, measurements, versions)
    judging = Judging(measured, stored, given.paired, given.policy)
    try:
        if given.shards is not None:
            replay(
                given.plan,
                tuple(given.targets),
                given.shards,
                measurements,
                judging.still_open,
                given.folder.copy,
            )
        else:
            execute(
                given.plan,
                given.settings,
                given.targets,
                given.folder,
                given.progress,
                measurements,
                judging.still_open if given.piece is None else judging.looked_at,
                clock,
                beside,
            )
    except BaseException as error:
        given.folder.append("interrupted", {"by": type(error).__name__, "seconds": measurements.seconds})
        raise
    if given.piece is None:  # that all of a shard's servers died is to be told beside the others'
        _require_something(measurements)
    return measured, judging


def _concluded(
    given: Assignment,
    judging: Judging,
    measured: Measured,
    verdicts: Mapping[str, Verdict],
    changes: Mapping[str, ContextChange],
    begin: float,
) -> Outcome:
    """What was measured and judged, as one value; baselines are recorded."""
    plan, settings, site, name = given.plan, given.settings, given.site, given.folder.name
    compared = contrasts(measured, _links(site), alpha=settings.alpha)
    known = figures(measured, compared, site.fingerprints, alpha=settings.alpha, run=name)
    alone = given.paired or given.piece is not None
    recorded = () if alone else record(measured, verdicts, settings, site.fingerprints, name)
    notes = (
        *site.notes,
        *machine_note(plan, verdicts),
        *(() if alone else offer(verdicts, settings, given.folder.path)),
        *(note for target in given.targets.values() for note in target.notes),
        *measured.measurements.notes,
    )
    return Outcome(
        plan=plan,
        measured=measured,
        questions=judging.questions(),
        verdicts=verdicts,
        changes=changes,
        recorded=recorded,
        looks=judging.looks,
        run=name,
        folder=str(given.folder.path),
        seconds=_seconds(measured, begin),
        contrasts=compared,
        figures=known,
        claims=checked_claims(given.claims, plan, known),
        results=results(measured, verdicts, site.fingerprints, name),
        notes=tuple(dict.fromkeys(notes)),
        shard=_place(given, measured.measurements),
        shards=() if given.shards is None else tuple(given.shards.document()),
    )


def _place(given: Assignment, measurements: Measurements) -> dict[str, Any] | None:
    """What a shard keeps, so that it can be merged."""
    if given.piece is None:
        return None
    return {
        **given.piece.document(),
        "made": measurements.made,
        "notes": list(measurements.notes),
        "installation": given.installation,
    }


def _looked_into(
    outcome: Outcome, given: Assignment, findings: Findings, begin: float, clock: Clock
) -> Outcome:
    """With what a deeper look saw and what may have caused the verdicts, each kept as soon as it is known."""
    settings, targets, folder, progress = given.settings, given.targets, given.folder, given.progress
    for look in look_deeper(findings.measured, settings, targets, folder, progress, clock):
        outcome = replace(outcome, looks_deeper=(*outcome.looks_deeper, look))
        _keep(outcome, given)
    found = explain(findings, settings, targets, folder, progress, clock)
    if found:
        outcome = replace(outcome, explanations=found, seconds=_seconds(findings.measured, begin))
        _keep(outcome, given)
    return outcome


def _looked_into_elsewhere(
    outcome: Outcome, given: Assignment, findings: Findings, shards: Shards
) -> Outcome:
    """With what the shards saw of the servers whose verdicts changed."""
    found = carry_over(findings, given.settings, shards.explanations)
    if found or shards.looks:
        outcome = replace(outcome, explanations=found, looks_deeper=shards.looks)
        _keep(outcome, given)
    return outcome


def _keep(outcome: Outcome, given: Assignment) -> Path:
    document = run_document(outcome, given.settings, given.targets, given.site)
    return given.folder.write_json("run.json", document)


def _remembered(document: Path, given: Assignment) -> tuple[str, ...]:
    """Add a whole run to the history, in the place of its shards."""
    url, shards = given.settings.history_url, given.shards
    if url is None or given.piece is not None:
        return ()
    from sglperf.remembering import remembered  # half a second to import, and only here

    split = None if shards is None or not given.settings.shares else Split(shards.split, shards.taken)
    return tuple(remembered(document, url, split))


def _shared(document: Path, given: Assignment) -> tuple[str, ...]:
    """Put a shard's run where the others' are, once it is explained."""
    url, piece = given.settings.history_url, given.piece
    if url is None or piece is None or not given.settings.shares:
        return ()
    from sglperf.remembering import shared

    return tuple(shared(document, url))


def _seconds(measured: Measured, begin: float) -> dict[str, float]:
    """Where it went; of a merged run, on all hosts together."""
    seconds = dict(measured.measurements.seconds)
    elsewhere = seconds.pop("elsewhere", 0.0)
    return {**seconds, "total": elsewhere + time.monotonic() - begin}


def _links(site: Site) -> dict[str, str]:
    """Class of links of each server's TP set."""
    return {label: found.links for label, found in site.fingerprints.items()}


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


def _stored(given: Assignment) -> dict[Place, Baseline | None]:
    """What was accepted of each place; nothing where two builds are compared."""
    if given.paired or given.settings.baseline == "off":
        return {}
    return {place: folder.read(place[1]) for place, folder in _baseline_folders(given)}


def _noise(given: Assignment) -> dict[Place, CalibrationFile | None]:
    """What is known of each place's noise, from earlier launches of one build."""
    return {place: folder.read_calibration(place[1]) for place, folder in _baseline_folders(given)}


def _baseline_folders(given: Assignment) -> Iterator[tuple[Place, BaselineFolder]]:
    for place in dict.fromkeys(ask.place for ask in given.plan.asks):
        yield place, BaselineFolder(given.settings.baseline_dir, given.site.fingerprints[place[0]].id)
