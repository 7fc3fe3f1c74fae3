"""From measurements and baselines to the questions that are judged, and back to a baseline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from sglperf.core.answers import compare_answers
from sglperf.core.baseline import (
    Baseline,
    BaselineCase,
    BaselineContext,
    BaselineMetric,
    BaselineRecord,
    context_key,
)
from sglperf.core.catalogue import DIVERGING, METRICS
from sglperf.core.equivalence import Work, context_differences
from sglperf.core.fingerprint import Fingerprint
from sglperf.core.gates import NO_TRACE, Gate
from sglperf.core.judgement import Evidence, Question
from sglperf.core.launches import Launches
from sglperf.core.machine import short_names
from sglperf.core.prediction import PREDICTED
from sglperf.errors import TargetError
from sglperf.measurements import Measurements, Round
from sglperf.plan import Ask, Place, Plan
from sglperf.target.adapter import adapter_for

_AGREEMENT = {
    **dict.fromkeys(PREDICTED, "every request as the cache model predicts"),
    DIVERGING: "the same tokens, but where rounding decides",
}
# Raised whenever the client times differently, so that no ratio spans the change.
CLIENT = "1"


@dataclass(frozen=True)
class Measured:
    """Everything measured, looked up by case.

    Attributes:
        plan, measurements: of the run.
        versions: side → package versions of its target.
    """

    plan: Plan
    measurements: Measurements
    versions: Mapping[str, Mapping[str, str]]

    def evidence(self, side: str, ask: Ask) -> Evidence:
        """What ``side`` has to show for one case."""
        return self._evidence(side, ask, self._good(side, ask))

    def pair(self, ask: Ask) -> tuple[Evidence, Evidence]:
        """What base and head have to show, launch i of one measured beside launch i of the other.

        A launch whose partner yielded nothing is left out: it would be compared with another's partner.
        """
        base, head = self._good("base", ask), self._good("head", ask)
        both = {round_.launch for round_ in base} & {round_.launch for round_ in head}
        return (
            self._evidence("base", ask, [round_ for round_ in base if round_.launch in both]),
            self._evidence("head", ask, [round_ for round_ in head if round_.launch in both]),
        )

    def beside(self, side: str, one: Ask, other: Ask) -> tuple[Launches, Launches]:
        """Rounds of two servers of one side, launch i of one beside launch i of the other."""
        first, second = self._good(side, one), self._good(side, other)
        both = sorted({round_.launch for round_ in first} & {round_.launch for round_ in second})
        left, right = (
            [[r.values[ask.metric] for r in good if r.launch == launch] for launch in both]
            for ask, good in ((one, first), (other, second))
        )
        return left, right

    def _evidence(self, side: str, ask: Ask, good: list[Round]) -> Evidence:
        if ask.metric == DIVERGING:
            good = [
                compared for round_ in good if (compared := self._compared(side, ask, round_)) is not None
            ]
        launches: dict[int, list[float]] = {round_.launch: [] for round_ in good}
        for round_ in good:
            launches[round_.launch].append(round_.values[ask.metric])
        rounds = [tuple(values) for _, values in sorted(launches.items())]
        departures = (round_.departures.get(ask.metric) for round_ in good)
        context = self.context(side, ask)
        return Evidence(
            tuple(rounds),
            self._work(side, ask, good),
            self._failure(side, ask),
            departure=next((one for one in departures if one is not None), None),
            gpus=frozenset() if context is None else frozenset({context.gpus}) - {()},
        )

    def _compared(self, side: str, ask: Ask, round_: Round) -> Round | None:
        """The round with how many of its answers part from the reference's; None where that has not answered."""
        first = self.plan.first_of(ask.config)
        reference = round_
        if first.label != ask.config.label:
            answered = self.rounds(side, replace(ask, config=first))
            found = next((one for one in answered if one.answers), None)
            if found is None:
                return None
            reference = found
        count, departure = compare_answers(reference.answers, round_.answers, first.name_in_group)
        departures = {} if departure is None else {DIVERGING: departure}
        return replace(round_, values={**round_.values, DIVERGING: float(count)}, departures=departures)

    def predicted(self, ask: Ask) -> Evidence | None:
        """What must be seen of a case, in the place of a base; None where no round could be compared."""
        if ask.metric == DIVERGING:
            return Evidence(((0.0,),))
        values = (round_.predicted.get(ask.metric) for round_ in self._good("head", ask))
        value = next((one for one in values if one is not None), None)
        return None if value is None else Evidence(((value,),))

    def context(self, side: str, ask: Ask) -> BaselineContext | None:
        """Versions and resolved arguments of a side's servers, or workers, for this case; None where none came up."""
        for launch in self.measurements.launches:
            if (launch.side, launch.config, launch.worker) == (side, ask.config.label, ask.workload.worker):
                return BaselineContext(
                    versions=dict(self.versions[side]), resolved=dict(launch.resolved), gpus=launch.gpus
                )
        return None

    def rounds(self, side: str, ask: Ask) -> Iterator[Round]:
        """Every round of the case's workload, believable or not."""
        key = (side, ask.config.label, ask.workload.label)
        return (r for r in self.measurements.rounds if (r.side, r.config, r.workload) == key)

    def _good(self, side: str, ask: Ask) -> list[Round]:
        """Rounds that yielded the metric: what a gate made unbelievable is not among their values."""
        if ask.metric == DIVERGING:
            return [round_ for round_ in self.rounds(side, ask) if round_.answers]
        return [round_ for round_ in self.rounds(side, ask) if ask.metric in round_.values]

    def _failure(self, side: str, ask: Ask) -> Gate | None:
        """A dead server outranks a failed gate; a round that no retry could save invalidates its case."""
        died = self.measurements.failures.get((side, ask.config.label))
        if died is not None:
            return died
        last = {(round_.launch, round_.index): round_ for round_ in self.rounds(side, ask)}
        failed = [gate for round_ in last.values() for gate in round_.gates if gate.spoils(ask.metric)]
        if self._good(side, ask):  # the profiler ends servers: the traces of other launches make up for it
            failed = [gate for gate in failed if gate.code != NO_TRACE]
        return next(iter(failed), None)

    def _work(self, side: str, ask: Ask, good: list[Round]) -> Work | None:
        context = self.context(side, ask)
        if not good or context is None:
            return None
        load = next(load for load in self.plan.loads(ask.config) if load.workload.label == ask.workload.label)
        cached = good[0].values.get("cached_tokens")
        return Work(
            workload_hash=load.hash,
            client=CLIENT,
            finish_reasons=good[0].finish_reasons,
            cached_tokens=None if cached is None else int(cached),
            resolved=context.resolved,
            meaning=meaning(context, ask.metric, ask.config.page_size),
            method=good[0].method,
        )


def meaning(context: BaselineContext, metric: str, page_size: int) -> str:
    """What the version that was measured counts under the metric's name."""
    try:
        adapter = adapter_for(context.versions.get("sglang", ""))
    except TargetError:  # measured by a version that is no longer, or not yet, known
        return ""
    return adapter.meaning(metric, page_size)


def questions(
    measured: Measured, stored: Mapping[Place, Baseline | None], *, paired: bool
) -> dict[str, Question]:
    """One question per judged case of the plan, with its base from the other target or from the baselines."""
    found = {}
    for ask in measured.plan.asks:
        metric = METRICS[ask.metric]
        if metric.judged and paired:
            base, head = measured.pair(ask)
            found[ask.name] = Question(metric, head, base, paired)
        elif metric.judged and ask.predicted:
            model = measured.predicted(ask)
            found[ask.name] = Question(
                metric, measured.evidence("head", ask), model, agreement=_AGREEMENT[ask.metric]
            )
        elif metric.judged:
            stored_base = stored_evidence(stored.get(ask.place), ask)
            found[ask.name] = Question(metric, measured.evidence("head", ask), stored_base, paired)
    return found


def stored_evidence(baseline: Baseline | None, ask: Ask) -> Evidence | None:
    """What the baseline holds for a case, or None."""
    context = _stored_context(baseline, ask)
    if baseline is None or context is None:
        return None
    case = baseline.cases[ask.point]
    stored = case.metrics[ask.metric]
    gpus = frozenset(baseline.contexts[case.records[run].context].gpus for run in stored.samples)
    work = replace(
        baseline.work(ask.point, ask.metric), meaning=meaning(context, ask.metric, ask.config.page_size)
    )
    return Evidence(stored.launches, work, unit=stored.unit, runs=stored.runs, gpus=gpus)


def to_baseline(
    measured: Measured, place: Place, names: set[str], fingerprint: Fingerprint, *, run: str, recorded: str
) -> Baseline:
    """The head's samples of the named cases of one server config and area, as a baseline."""
    contexts: dict[str, BaselineContext] = {}
    cases: dict[str, BaselineCase] = {}
    for ask in measured.plan.asks:
        context = measured.context("head", ask)
        evidence = measured.evidence("head", ask)
        if ask.place != place or ask.name not in names or context is None or evidence.work is None:
            continue
        contexts[context_key(context)] = context
        case = BaselineCase(
            records={run: _record(evidence.work, context, recorded)},
            metrics={
                ask.metric: BaselineMetric(
                    unit=METRICS[ask.metric].unit, samples={run: tuple(map(tuple, evidence.launches))}
                )
            },
        )
        cases[ask.point] = cases[ask.point].merged(case) if ask.point in cases else case
    return Baseline(
        fingerprint_id=fingerprint.id,
        fingerprint=fingerprint.to_dict(),
        area=place[1],
        contexts=contexts,
        cases=cases,
    )


def _record(work: Work, context: BaselineContext, recorded: str) -> BaselineRecord:
    return BaselineRecord(
        recorded=recorded,
        client=work.client,
        workload_hash=work.workload_hash,
        finish_reasons=dict(work.finish_reasons),
        cached_tokens=work.cached_tokens,
        context=context_key(context),
        method=work.method,
    )


@dataclass(frozen=True)
class ContextChange:
    """How head's context differs from its base's, each entry as ``name before → after``."""

    versions: tuple[str, ...]
    arguments: tuple[str, ...]

    @property
    def every(self) -> tuple[str, ...]:
        """All entries, by name."""
        return tuple(sorted((*self.versions, *self.arguments)))


def context_changes(
    measured: Measured, stored: Mapping[Place, Baseline | None], *, paired: bool
) -> dict[str, ContextChange]:
    """Server config's label → how head's versions and resolved arguments differ from its base's.

    Cases of one server may have been accepted at different times; what changed since any of them is named.
    """
    versions: defaultdict[str, dict[str, None]] = defaultdict(dict)
    arguments: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for ask in measured.plan.asks:
        head = measured.context("head", ask)
        base = measured.context("base", ask) if paired else _stored_context(stored.get(ask.place), ask)
        if head is not None and base is not None:
            label = ask.config.label
            versions[label] |= dict.fromkeys(context_differences(base.versions, head.versions))
            arguments[label] |= dict.fromkeys(context_differences(base.resolved, head.resolved))
            arguments[label] |= dict.fromkeys(_other_gpus(base, head))
    changes = {label: ContextChange(tuple(versions[label]), tuple(arguments[label])) for label in versions}
    return {label: change for label, change in changes.items() if change.every}


def _other_gpus(base: BaselineContext, head: BaselineContext) -> Iterator[str]:
    if base.gpus and head.gpus and base.gpus != head.gpus:
        yield f"gpus {short_names(base.gpus)} → {short_names(head.gpus)}"


def _stored_context(baseline: Baseline | None, ask: Ask) -> BaselineContext | None:
    case = None if baseline is None else baseline.cases.get(ask.point)
    if baseline is None or case is None or ask.metric not in case.metrics:
        return None
    return baseline.contexts[case.record(ask.metric).context]
