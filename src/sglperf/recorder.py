"""pytest-benchmark as the recorder: samples measured elsewhere reach it through its public fixture.

pytest-benchmark times a function with a clock that a marker may replace. Here the clock stands still until
the function is called and then advances by exactly the duration that was measured, so its table, JSON,
histogram and compare work on this suite's numbers. A throughput is recorded as seconds per token or request,
whose ``ops`` is tokens or requests per second.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sglperf.core.metric import Kind, Metric

if TYPE_CHECKING:
    from sglperf.outcome import Outcome


class ReplayTimer:
    """A clock, in seconds, that moves only when told to."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self._now += seconds


def durations(metric: Metric, values: tuple[float, ...]) -> tuple[float, ...]:
    """The values as seconds, or nothing where the metric is no duration."""
    if metric.kind is Kind.EXACT:
        return ()
    if metric.unit == "s":
        return values
    return tuple(1 / value for value in values) if metric.unit in ("tok/s", "req/s") else ()


def record(request: pytest.FixtureRequest, outcome: Outcome, name: str) -> None:
    """Replay a case's rounds, launch after launch, into the test's ``benchmark`` fixture."""
    question, verdict = outcome.questions[name], outcome.verdicts[name]
    seconds = [
        value for launch in question.head.launches for value in durations(question.metric, tuple(launch))
    ]
    recorder = request.config.pluginmanager.get_plugin("pytest-benchmark")
    if not seconds or recorder is None:
        return
    if not recorder.json:  # unless the user named a file of their own
        recorder.json = str(Path(outcome.folder) / "benchmark.json")
    timer = ReplayTimer()
    request.node.add_marker(pytest.mark.benchmark(timer=timer, group=question.metric.name))
    benchmark = request.getfixturevalue("benchmark")
    benchmark.extra_info.update(
        case=name,
        unit=question.metric.unit,
        launches=[list(launch) for launch in question.head.launches],
        verdict=verdict.status.value,
        code=verdict.code,
        sentence=verdict.sentence,
    )
    replay = iter(seconds)
    benchmark.pedantic(lambda: timer.advance(next(replay)), rounds=len(seconds), iterations=1)
