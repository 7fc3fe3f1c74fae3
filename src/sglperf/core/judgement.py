"""From evidence to verdicts, in the order in which trust is earned: gates, equivalence, numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from sglperf.core.equivalence import Work, work_differences
from sglperf.core.gates import Gate
from sglperf.core.machine import short_names
from sglperf.core.metric import Kind, Metric
from sglperf.core.prediction import Departure
from sglperf.core.verdict import Case, Policy, Status, Verdict, judge_family

OTHER_GPU_EFFECT = 0.1
"""What two GPUs of one product may differ by, more or less: under its power cap each has clocks of its own. H100s of one
cloud were up to 9 % apart in prefill, 1 % in decode (docs/results-h100.md); Sinha et al., "Not All GPUs Are Created Equal"
(SC 2022, arXiv 2208.11035), found 8 % on average among the GPUs of a cluster, and 22 % at most."""

FEWEST_RUNS = 4
"""Runs in a baseline from which on a run is the unit: their means have the three degrees of freedom of a verdict."""


@dataclass(frozen=True)
class Evidence:
    """What one side has to show for one case.

    Attributes:
        launches: the metric's value for each round of each launch, in its own unit.
        work: what was done, or None where nothing was.
        failure: why this side cannot be believed, or None.
        unit: of the values, as stored; None where it is the metric's by construction.
        runs: how many of the launches come from each run; None for launches of one run.
        departure: where the first round that does departs from what is predicted of it, or None.
        gpus: sets of GPUs, by UUID, that it was measured on; an empty set of them where a run's are not known.
    """

    launches: Sequence[Sequence[float]]
    work: Work | None = None
    failure: Gate | None = None
    unit: str | None = None
    runs: tuple[int, ...] | None = None
    departure: Departure | None = None
    gpus: frozenset[tuple[str, ...]] = frozenset()

    @property
    def run_is_unit(self) -> bool:
        """Whether there are runs enough to see how much one differs from the next."""
        return self.runs is not None and len(self.runs) >= FEWEST_RUNS


@dataclass(frozen=True)
class Question:
    """One case to be judged. ``base`` is None where there is nothing to compare with.

    Attributes:
        agreement: where ``base`` is not what another build did but what the head must do by a model, or by another
            server's answers: what is said of a head that does; else empty.
    """

    metric: Metric
    head: Evidence
    base: Evidence | None
    paired: bool = False
    agreement: str = ""


def judge(questions: Mapping[str, Question], policy: Policy) -> dict[str, Verdict]:
    """One verdict per question, in the same order.

    What a gate or a difference in work settles is settled without statistics; it still counts in the
    family, whose size ``policy.family_size`` gives.
    """
    settled = {name: verdict for name, question in questions.items() if (verdict := _settled(question))}
    cases = {name: _case(question) for name, question in questions.items() if name not in settled}
    judged = judge_family(cases, policy)
    return {name: settled.get(name) or _told(question, judged[name]) for name, question in questions.items()}


def with_doubts(questions: Mapping[str, Question], verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """Verdicts in which a change that another GPU may have made is not laid to the build.

    Further launches would not help, so this comes after the last look.
    """
    return {name: _doubted(questions[name], verdict) for name, verdict in verdicts.items()}


def _doubted(question: Question, verdict: Verdict) -> Verdict:
    found, base = verdict.comparison, question.base
    if (
        verdict.status not in (Status.REGRESSED, Status.IMPROVED)
        or question.metric.kind is not Kind.TIMING
        or found is None
        or base is None
        or not on_another_gpu(question.head.gpus, base.gpus)
        or max(found.low, 1 / found.high) >= 1 + OTHER_GPU_EFFECT
    ):
        return verdict
    (here,), there = question.head.gpus, sorted(base.gpus)
    return replace(
        verdict,
        status=Status.INCONCLUSIVE,
        code="another-gpu",
        sentence=f"{verdict.sentence}; but on {short_names(here)}, its baseline on {' and '.join(map(short_names, there))}: "
        f"one such GPU may differ from another by {OTHER_GPU_EFFECT:.0%}. Compare two builds on this one (--base --head), or "
        "extend the baseline on it (--baseline=extend)",
    )


def on_another_gpu(head: frozenset[tuple[str, ...]], base: frozenset[tuple[str, ...]]) -> bool:
    """Whether what was measured on these GPUs is judged by others, too few to tell how far GPUs differ.

    Sets of four, or more, do tell: a baseline of so many runs is compared run by run.
    """
    return bool(head) and bool(base) and () not in base and not head & base and len(base) < FEWEST_RUNS


def _told(question: Question, verdict: Verdict) -> Verdict:
    """The verdict on a predicted metric, in terms of the requests that make it up: their sum may hide a difference."""
    departure = question.head.departure
    before = None if question.base is None else question.base.departure
    if departure is not None and departure != before:
        status = Status.REGRESSED if departure.worse else Status.IMPROVED
        return replace(verdict, status=status, code=departure.code, sentence=departure.sentence)
    if question.agreement and verdict.status is Status.UNCHANGED:
        return replace(verdict, code="as-predicted", sentence=question.agreement)
    return verdict


def _case(question: Question) -> Case:
    """Launches against launches; against a baseline of several runs, this run as a whole against those.

    Launches of one run share its day, so a dozen of them say no more about other days than one does.
    """
    base, head = question.base, question.head.launches
    stored = None if base is None else base.launches
    if base is not None and base.run_is_unit and question.metric.kind is Kind.TIMING:
        assert base.runs is not None
        stored, head = by_run(base.launches, base.runs), by_run(head, (len(head),))
    unit = None if base is None else base.unit
    return Case(base=stored, head=head, metric=question.metric, paired=question.paired, base_unit=unit)


def by_run(launches: Sequence[Sequence[float]], runs: Sequence[int]) -> list[list[float]]:
    """The rounds of each run's launches in one row; ``runs`` counts the launches of each."""
    following = iter(launches)
    return [[value for launch in islice(following, count) for value in launch] for count in runs]


def _settled(question: Question) -> Verdict | None:
    for side, evidence in (("head", question.head), ("base", question.base)):
        if evidence is None:
            continue
        if evidence.failure is not None:
            prefix = "" if question.base is None or side == "head" else "base: "
            return _invalid(evidence.failure.code, prefix + evidence.failure.sentence)
        if not any(evidence.launches):
            return _invalid("no-samples", f"no round of the {side} yielded {question.metric.name}")
    if question.base is None or question.base.work is None or question.head.work is None:
        return None
    differences = _differences(question.metric, question.base.work, question.head.work)
    if not differences:
        return None
    return Verdict(Status.INCOMPARABLE, "work-differs", f"not the same work: {'; '.join(differences)}", None)


def _differences(metric: Metric, base: Work, head: Work) -> tuple[str, ...]:
    """For a count, only the workload and what is counted must be the same: else it shows what differs."""
    if metric.kind is Kind.EXACT:
        same = Work(base.workload_hash, "", {}, None, meaning=base.meaning)
        return work_differences(same, replace(same, workload_hash=head.workload_hash, meaning=head.meaning))
    return work_differences(base, head)


def _invalid(code: str, sentence: str) -> Verdict:
    return Verdict(Status.INVALID, code, sentence, None)
