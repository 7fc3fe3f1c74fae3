"""From evidence to verdicts, in the order in which trust is earned: gates, equivalence, numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sglperf.core.equivalence import Work, work_differences
from sglperf.core.gates import Gate
from sglperf.core.metric import Kind, Metric
from sglperf.core.verdict import Case, Policy, Status, Verdict, judge_family


@dataclass(frozen=True)
class Evidence:
    """What one side has to show for one case.

    Attributes:
        launches: the metric's value for each round of each launch, in its own unit.
        work: what was done, or None where nothing was.
        failure: why this side cannot be believed, or None.
        unit: of the values, as stored; None where it is the metric's by construction.
    """

    launches: Sequence[Sequence[float]]
    work: Work | None = None
    failure: Gate | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Question:
    """One case to be judged. ``base`` is None where there is nothing to compare with."""

    metric: Metric
    head: Evidence
    base: Evidence | None
    paired: bool = False


def judge(questions: Mapping[str, Question], policy: Policy) -> dict[str, Verdict]:
    """One verdict per question, in the same order.

    What a gate or a difference in work settles is settled without statistics; it still counts in the
    family, whose size ``policy.family_size`` gives.
    """
    settled = {name: verdict for name, question in questions.items() if (verdict := _settled(question))}
    cases = {
        name: Case(
            base=None if question.base is None else question.base.launches,
            head=question.head.launches,
            metric=question.metric,
            paired=question.paired,
            base_unit=None if question.base is None else question.base.unit,
        )
        for name, question in questions.items()
        if name not in settled
    }
    judged = judge_family(cases, policy)
    return {name: settled.get(name) or judged[name] for name in questions}


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
    """For a count, only the workload must be the same: every other difference is what the count is there to show."""
    if metric.kind is Kind.EXACT:
        same = Work(base.workload_hash, "", {}, None)
        return work_differences(same, replace(same, workload_hash=head.workload_hash))
    return work_differences(base, head)


def _invalid(code: str, sentence: str) -> Verdict:
    return Verdict(Status.INVALID, code, sentence, None)
