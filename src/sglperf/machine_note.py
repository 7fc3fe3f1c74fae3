"""What must be said beside regressions where the machine itself became slower."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sglperf.core.catalogue import MACHINE, METRICS
from sglperf.core.metric import Kind
from sglperf.core.verdict import Status, Verdict
from sglperf.plan import Plan


def machine_note(plan: Plan, verdicts: Mapping[str, Verdict]) -> Iterator[str]:
    """A sentence where timings of SGLang regressed, and what the machine does without SGLang did too."""
    timings = [ask for ask in plan.asks if METRICS[ask.metric].kind is Kind.TIMING]
    regressed = [
        ask for ask in timings if ask.name in verdicts and verdicts[ask.name].status is Status.REGRESSED
    ]
    slower = [ask for ask in regressed if ask.metric in MACHINE]
    if not slower or len(slower) == len(regressed):
        return
    said = ", ".join(
        f"{ask.metric} {found.ratio:.2f} of what it was ({found.low:.2f} … {found.high:.2f})"
        for ask in slower
        if (found := verdicts[ask.name].comparison) is not None
    )
    yield f"this machine is slower without SGLang, too: {said}. What else regressed may come from that"
