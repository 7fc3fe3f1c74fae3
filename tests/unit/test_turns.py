"""Rounds in turn, on doubles of servers that only note what they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from samples import ask

from sglperf.plan import Load, Plan, make_plan
from sglperf.turns import each, take_turns
from sglperf.workload.shapes import Decode
from sglperf.workload.traced import DecodeTrace

PLAN = make_plan([ask()], launches=1, rounds=3, warmup_rounds=1, seed=0)


def load(streams: int, *, timed: bool = True) -> Load:
    shape = Decode(streams, 8, 4)
    return Load(shape, shape.plan(seed=0, vocab_size=100), "", timed)


@dataclass
class Noted:
    """Stands for a server; ``fails`` names the round in which it goes away."""

    label: str
    notes: list[str]
    fails: int | None = None
    launch: int = 0
    said: list[str] = field(default_factory=list)

    @property
    def job(self) -> Any:
        return SimpleNamespace(
            config=SimpleNamespace(label=self.label),
            launch=self.launch,
            plan=cast("Plan", PLAN),
            attempt=self._attempt,
            says=self._says,
        )

    def _attempt(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except RuntimeError:
            return False
        return True

    def _says(self, text: str, *, done: bool = False) -> None:
        self.said.append(text if done else "")

    def warm_up(self, load: Load) -> None:
        self.notes.append(f"warm {self.label}{load.workload.streams}")

    def round(self, load: Load, index: int) -> None:
        if index == self.fails:
            raise RuntimeError
        self.notes.append(f"{index} {self.label}{load.workload.streams}")


def test_rounds_are_turned() -> None:
    """One after the other in the first round, the other way round in the second: a drift touches both alike."""
    notes: list[str] = []
    one, two = load(1), load(2)
    up = [Noted("a", notes), Noted("b", notes)]
    take_turns(up, {"a": [one, two], "b": [one, two]})
    assert notes == [
        "warm a1", "warm b1", "warm a2", "warm b2",
        "0 a1", "0 b1", "0 a2", "0 b2",
        "1 b2", "1 a2", "1 b1", "1 a1",
        "2 a1", "2 b1", "2 a2", "2 b2",
    ]  # fmt: skip
    assert up[0].said == ["3 rounds of 2 workloads"]


def test_each_gets_what_is_its_own() -> None:
    """A workload goes to those for which it was selected; a count is taken once and not warmed up."""
    notes: list[str] = []
    timed, counted = load(1), load(2, timed=False)
    take_turns([Noted("a", notes), Noted("b", notes)], {"a": [timed], "b": [timed, counted]})
    assert notes == ["warm a1", "warm b1", "0 a1", "0 b1", "0 b2", "1 b1", "1 a1", "2 a1", "2 b1"]


def test_one_that_fails_is_out() -> None:
    """The others go on."""
    notes: list[str] = []
    up = [Noted("a", notes, fails=1), Noted("b", notes)]
    take_turns(up, {"a": [load(1)], "b": [load(1)]})
    assert [one.label for one in up] == ["b"]
    assert notes[2:] == ["0 a1", "0 b1", "1 b1", "2 b1"]


def test_nobody_is_up() -> None:
    """Where nothing came up there is nothing to do."""
    take_turns([], {"a": [load(1)]})


def test_each_of_some() -> None:
    """Only those that are meant are asked."""
    notes: list[str] = []
    each([Noted("a", notes), Noted("b", notes)], lambda one: one.warm_up(load(1)), of={"b"})
    assert notes == ["warm b1"]


def traced(streams: int) -> Load:
    shape = DecodeTrace(streams, 8, 4)
    return Load(shape, shape.plan(seed=0, vocab_size=100), "", False)


def test_traces_come_last() -> None:
    """The profiler may end a server, so everything else is measured by then; each launch begins with another trace."""
    notes: list[str] = []
    loads = {"a": [traced(5), load(1), traced(6)]}
    take_turns([Noted("a", notes)], loads)
    assert notes == ["warm a5", "warm a1", "warm a6", "0 a1", "1 a1", "2 a1", "0 a5", "0 a6"]
    again: list[str] = []
    take_turns([Noted("a", again, launch=1)], loads)
    assert again[-2:] == ["0 a6", "0 a5"]


def test_traces_alone() -> None:
    """Where nothing else is asked for, a trace is all."""
    notes: list[str] = []
    take_turns([Noted("a", notes)], {"a": [traced(5)]})
    assert notes == ["warm a5", "0 a5"]
