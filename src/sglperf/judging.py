"""A run judged look by look, so that launches are added only where a verdict is open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sglperf.core.baseline import Baseline
from sglperf.core.catalogue import METRICS
from sglperf.core.judgement import Evidence, Question, judge, with_doubts
from sglperf.core.metric import Kind
from sglperf.core.sequential import Looks, combine, open_cases
from sglperf.core.verdict import Policy, Verdict
from sglperf.evidence import Measured, questions, stored_evidence
from sglperf.plan import Place, Plan


class Judging:
    """The run's verdicts, look by look: launches are added only where one is open (`sglperf.core.sequential`)."""

    def __init__(
        self, measured: Measured, stored: Mapping[Place, Baseline | None], paired: bool, policy: Policy
    ) -> None:
        self._measured, self._stored, self._paired, self._policy = measured, stored, paired, policy
        self._verdicts: dict[str, Verdict] = {}
        plan = measured.plan
        bases = [None] if paired else [len(base.launches) for base in self._bases(plan)]
        self.looks = Looks.planned(plan.fewest_launches, plan.launches, bases, policy)

    def _bases(self, plan: Plan) -> Iterator[Evidence]:
        for ask in plan.asks:
            base = stored_evidence(self._stored.get(ask.place), ask)
            timing = METRICS[ask.metric].kind is Kind.TIMING
            if base is not None and timing and not base.run_is_unit:
                yield base

    def questions(self) -> dict[str, Question]:
        """What is asked, with all that has been measured so far."""
        return questions(self._measured, self._stored, paired=self._paired)

    def still_open(self, count: int) -> frozenset[str]:
        """Labels of the server configs that need another launch, once each that runs has made ``count``."""
        plan = self._measured.plan
        if count not in self.looks.counts:
            return frozenset(config.label for config in plan.configs)
        self._look(count)
        undecided = open_cases(self._verdicts)
        return frozenset(ask.config.label for ask in plan.asks if ask.name in undecided)

    def looked_at(self, count: int) -> frozenset[str]:
        """`still_open` where all launches are made, whatever the looks decide."""
        self.still_open(count)
        return frozenset(config.label for config in self._measured.plan.configs)

    def verdicts(self) -> dict[str, Verdict]:
        """What was decided; a run whose servers all failed before the first look is looked at once."""
        if not self._verdicts:
            self._look(self.looks.fewest)
        return with_doubts(self.questions(), self._verdicts)

    def _look(self, count: int) -> None:
        latest = judge(self.questions(), self.looks.policy(self._policy, count))
        self._verdicts = combine(self._verdicts, latest)
