"""One shard's run read back from what it kept: its place in the split, the build, the host, and what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ValidationError, model_validator

from sglperf.core.explanation import Explanation
from sglperf.core.fingerprint import Fingerprint
from sglperf.core.machine import Installation, Machine
from sglperf.core.sharding import Shard
from sglperf.core.validation import first_problem
from sglperf.deeper import Look
from sglperf.errors import UsageError
from sglperf.measurements import Failure, Launch, Round
from sglperf.target.build import Target


class Place(BaseModel):
    """What a shard's run keeps of its split; `sglperf.sharding.Piece` writes it.

    Attributes:
        plan: digest of the whole plan.
        servers: labels of the server configs of each shard.
        work: case of the whole plan → what is measured for it.
        made: launches that there was time for.
        notes: how it went.
        installation: of the build that is judged.
    """

    index: int
    of: int
    split: str
    plan: str
    servers: tuple[tuple[str, ...], ...]
    work: dict[str, str]
    made: int
    notes: tuple[str, ...]
    installation: Installation

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if not 1 <= self.index <= len(self.servers):
            raise ValueError(f"there is no shard {self.index} among {len(self.servers)}")
        return self


class Failed(BaseModel):
    """A server config of one side whose launches ended."""

    side: str
    config: str
    code: str
    sentence: str
    launch: int


class Contents(BaseModel):
    """What is taken from a shard's document."""

    run: str
    sglperf: str
    shard: Place
    settings: dict[str, Any]
    fingerprints: dict[str, dict[str, Any]]
    machine: Machine
    targets: dict[str, Target]
    seconds: dict[str, float]
    launches: tuple[Launch, ...]
    rounds: tuple[Round, ...]
    failures: tuple[Failed, ...]
    explanations: dict[str, Explanation]
    nsight: tuple[Look, ...]


@dataclass(frozen=True)
class ShardRun:
    """A shard's run.

    Attributes:
        origin: the folder or the database that it comes from.
        journal: its journal's file; None where it comes from a database.
    """

    origin: str
    kept: Contents
    journal: Path | None = None

    @property
    def shard(self) -> Shard:
        """Which part it is."""
        return Shard(self.kept.shard.index, self.kept.shard.of)

    @property
    def servers(self) -> tuple[str, ...]:
        """Labels of the server configs that are its part; none where there was nothing to do."""
        return self.kept.shard.servers[self.kept.shard.index - 1]

    @cached_property
    def failures(self) -> dict[tuple[str, str], Failure]:
        """(side, config) → why its launches ended, and in which."""
        return {
            (one.side, one.config): Failure(one.code, one.sentence, launch=one.launch)
            for one in self.kept.failures
        }

    @cached_property
    def fingerprints(self) -> dict[str, Fingerprint]:
        """Server config's label → what must match."""
        return {
            label: Fingerprint.from_dict({name: value for name, value in plain.items() if name != "id"})
            for label, plain in self.kept.fingerprints.items()
        }


def read_shard(document: Mapping[str, Any], origin: str, journal: Path | None = None) -> ShardRun:
    """A shard's run from its document.

    Args:
        origin: the folder or the database that it comes from.

    Raises:
        UsageError: it is no shard's, or damaged.
    """
    if "shard" not in document:
        raise UsageError(
            f"{origin}: run {document.get('run')} is no shard: name a folder that holds nothing but the shards of one run "
            "(give them a --results-dir of their own)"
        )
    try:
        rounds = [_finite(one) for one in document["rounds"]]
        return ShardRun(origin, Contents.model_validate({**document, "rounds": rounds}), journal)
    except (ValidationError, KeyError, TypeError) as error:
        said = first_problem(error) if isinstance(error, ValidationError) else repr(error)
        raise UsageError(
            f"{origin}: not a shard that this sglperf can read ({said}): measure it anew"
        ) from None


def _finite(round_: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what it holds instead is none, and no verdict takes it for a number."""
    values = {name: math.nan if value is None else value for name, value in round_["values"].items()}
    return {**round_, "values": values}
