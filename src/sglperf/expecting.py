"""A perf test while it runs: the plan has been executed, and the same call reads the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sglperf.errors import InconclusiveWarning
from sglperf.plan import Ask
from sglperf.suite import Suite, whole_workload
from sglperf.workload.shapes import Workload

if TYPE_CHECKING:
    from sglperf.outcome import Outcome


class Expectation:
    """``measure`` while running: turns this item's verdict into the test's outcome."""

    def __init__(self, request: pytest.FixtureRequest, suite: Suite, outcome: Outcome, ask: Ask) -> None:
        self._request, self._suite, self._outcome, self._ask = request, suite, outcome, ask
        self._verdict = outcome.verdicts[ask.name]
        self._workload: Workload | None = None

    def __call__(self, workload: Workload) -> Expectation:
        self._workload = whole_workload(self._suite.settings_for(self._request.node), workload)
        return self

    def refuse_invalid(self) -> None:
        """A measurement that failed a gate is an error of the set-up, not a failure of SGLang."""
        verdict = self._verdict
        self._request.node.user_properties.extend(
            [("verdict", verdict.status.value), ("code", verdict.code), ("sentence", verdict.sentence)]
        )
        if verdict.status.value == "invalid":
            # The summary says the rest once; a dead server would repeat its log under every case.
            pytest.fail(f"invalid: {verdict.sentence.partition(chr(10))[0]}", pytrace=False)

    def expect(self, *metrics: str) -> None:
        """Read the verdict of this item's metric if it is among ``metrics``.

        Raises:
            pytest.fail.Exception: regressed; or new or incomparable under ``--strict``.
        """
        if self._ask.metric not in metrics or self._workload != self._ask.workload:
            return
        from sglperf.recorder import record

        record(self._request, self._outcome, self._ask.name)
        status, said = self._verdict.status.value, f"{self._ask.metric}: {self._verdict.sentence}"
        if status == "regressed" or (self._suite.settings.strict and status in ("new", "incomparable")):
            pytest.fail(f"{status}: {said}", pytrace=False)
        if status == "inconclusive":
            self._request.node.warn(InconclusiveWarning(said))
