"""Statements about SGLang's speed that can be checked, and what measured figures say of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sglperf.core.catalogue import METRICS
from sglperf.core.figure import Figure
from sglperf.core.topology import LinkClass

A_CPU = "a CPU"
Bound = Annotated[float, Field(gt=0)] | None


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Conditions(_Frozen):
    """What a claim speaks of.

    Attributes:
        gpu: regular expression that finds the GPU's product name; empty for a claim about any machine.
        models: names in ``config/models``; empty for a claim about any model.
        links: classes of links between the GPUs of the TP set; empty for a claim about any set.
        tp_size: number of GPUs of the set; None for any.
    """

    gpu: str = ""
    models: tuple[str, ...] = ()
    links: tuple[LinkClass, ...] = ()
    tp_size: Annotated[int, Field(ge=1)] | None = None

    @field_validator("gpu")
    @classmethod
    def _expression(cls, text: str) -> str:
        return _compiled(text)


class Wanted(_Frozen):
    """Which figures a claim is about.

    Attributes:
        metric: its name.
        workload: regular expression for the whole of the workload's label.
        server, over: where the figure is how many times better one server is than another, their names.
        per_gpu: whether that is divided by how many times as many GPUs it has: a scaling efficiency.
    """

    metric: str
    workload: str
    server: str | None = None
    over: str | None = None
    per_gpu: bool = False

    @model_validator(mode="after")
    def _compared(self) -> Wanted:
        if self.per_gpu and self.over is None:
            raise ValueError("per_gpu is of one server over another: give over, as over: single")
        return self

    @field_validator("metric")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in METRICS:
            raise ValueError(f"unknown metric {name!r}")
        return name

    @field_validator("workload")
    @classmethod
    def _expression(cls, text: str) -> str:
        return _compiled(text)


def _compiled(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from None
    return text


class Claim(_Frozen):
    """A statement of ``config/claims``.

    Attributes:
        statement: in words.
        source: who says so.
        area: of the tests that measure it.
        where: what it speaks of.
        figures: those it is about; it holds if it holds for each of them.
        least, most: between which they are; None where it sets no such bound.
    """

    statement: str
    source: str
    area: str
    where: Conditions = Conditions()
    figures: Annotated[tuple[Wanted, ...], Field(min_length=1)]
    least: Bound = None
    most: Bound = None

    @model_validator(mode="after")
    def _bounded(self) -> Claim:
        if self.least is None and self.most is None:
            raise ValueError("sets no bound: give least, most or both")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least is {self.least}, more than most, {self.most}")
        return self


class Standing(StrEnum):
    """What figures say of a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    OPEN = "cannot be told"
    NOT_MEASURED = "not measured here"


@dataclass(frozen=True)
class Checked:
    """A claim and what was found.

    Attributes:
        name: of its file.
        figures: those it is about, each with what it says by itself.
        reason: why they do not count, or nothing was measured; empty where they do.
    """

    name: str
    claim: Claim
    standing: Standing
    figures: tuple[tuple[Figure, Standing], ...]
    reason: str = ""


def check(name: str, claim: Claim, figures: Sequence[Figure]) -> Checked:
    """What these figures say of a claim. Of another machine or model than it names they say nothing."""
    mine = [one for one in figures if any(_wanted(one, wanted) for wanted in claim.figures)]
    if not mine:
        return Checked(name, claim, Standing.NOT_MEASURED, (), "nothing of it was measured")
    meant = mine
    for condition in _conditions(claim.where):
        others, meant = meant, [one for one in meant if condition.met_by(condition.of(one))]
        if not meant:
            here = ", ".join(sorted({condition.of(one) for one in others}))
            said = f"it speaks of {condition.wanted}, this is {here}"
            return Checked(name, claim, Standing.NOT_MEASURED, _each(mine, claim), said)
    told = _each(meant, claim)
    standings = [standing for _, standing in told]
    lacking = [want for want in claim.figures if not any(_wanted(one, want) for one in meant)]
    if lacking and Standing.FAILS not in standings:
        names = ", ".join(dict.fromkeys(want.metric for want in lacking))
        return Checked(name, claim, Standing.NOT_MEASURED, told, f"nothing of {names} was measured")
    worst = next((one for one in (Standing.FAILS, Standing.OPEN) if one in standings), Standing.HOLDS)
    return Checked(name, claim, worst, told)


def _each(figures: Sequence[Figure], claim: Claim) -> tuple[tuple[Figure, Standing], ...]:
    return tuple((one, _told(one, claim)) for one in figures)


@dataclass(frozen=True)
class _Condition:
    """What a figure must be of.

    Attributes:
        wanted: in words.
        of: what a figure is of, in words.
        met_by: whether that is what is wanted.
    """

    wanted: str
    of: Callable[[Figure], str]
    met_by: Callable[[str], bool]


def _conditions(where: Conditions) -> Iterator[_Condition]:
    """Those that the claim sets."""
    if where.gpu:
        # As a word of its own: H200 is not in GH200.
        word = re.compile(rf"\b(?:{where.gpu})\b")
        yield _Condition(
            where.gpu, lambda one: one.gpu or A_CPU, lambda gpu: gpu != A_CPU and bool(word.search(gpu))
        )
    if where.models:
        yield _Condition(", ".join(where.models), lambda one: one.model, lambda model: model in where.models)
    if where.links:
        yield _Condition(", ".join(where.links), lambda one: one.links, lambda links: links in where.links)
    if where.tp_size is not None:
        wanted = f"TP {where.tp_size}"
        yield _Condition(wanted, lambda one: f"TP {one.tp_size}", lambda size: size == wanted)


def _wanted(figure: Figure, wanted: Wanted) -> bool:
    return (
        figure.metric == wanted.metric
        and figure.over == wanted.over
        and figure.per_gpu == wanted.per_gpu
        and wanted.server in (None, figure.server)
        and re.fullmatch(wanted.workload, figure.workload) is not None
    )


def _told(figure: Figure, claim: Claim) -> Standing:
    least = -math.inf if claim.least is None else claim.least
    most = math.inf if claim.most is None else claim.most
    if least <= figure.low and figure.high <= most:
        return Standing.HOLDS
    return Standing.FAILS if figure.high < least or figure.low > most else Standing.OPEN
