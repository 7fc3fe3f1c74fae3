"""Everything that decides what a run does, as one frozen value, and how its entries are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from sglperf.core.sharding import Shard
from sglperf.errors import ConfigError

TpSet = tuple[int, ...]
AUTO = "auto"
Positive = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Everything that decides what a run does. Frozen; ``origins`` tells who set each entry.

    Attributes are named like their option, with underscores; units are tokens, seconds and shares.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str
    description: str = ""
    device: Literal["cpu", "cuda"]
    matches: str = ""

    target: str | None = None
    base: str | None = None
    head: str | None = None
    sglang_repo: Path | None = None
    target_mode: Literal["auto", "overlay", "venv"] = "auto"

    model: str
    attention_backends: tuple[str, ...] = Field(min_length=1)
    page_sizes: tuple[Positive, ...] = Field(min_length=1)
    tp_sets: tuple[TpSet, ...]  # empty: those that the host has, see sglperf.tensor_parallel
    fewest_gpus: Positive = 1
    max_total_tokens: Positive
    max_running_requests: Positive
    mem_fraction_static: Annotated[float, Field(gt=0, lt=1)]
    prefix_cache: bool = True
    eviction_policy: str | None = None
    chunked_prefill_tokens: Positive | None = None
    side_by_side: bool = False
    compare_tp_sets: bool = False
    variants: dict[str, tuple[str, ...]] = {}
    server_arguments: tuple[str, ...] = ()
    server_environment: dict[str, str] = {}

    launches: int | tuple[int, int]
    rounds: Positive
    warmup_rounds: Positive = 1
    round_retries: Annotated[int, Field(ge=0)] = 2
    seed: int = 0
    start_timeout: Annotated[float, Field(gt=0)] = 600
    round_timeout: Annotated[float, Field(gt=0)] = 300
    kernel_seconds: Annotated[float, Field(gt=0)] = 0.1
    time_limit: Annotated[float, Field(gt=0)] | None = None

    servers: dict[str, dict[str, Any]] = {}
    workloads: dict[str, dict[str, int]] = {}
    sweeps: dict[str, tuple[int, ...]] = {}

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    min_effect: Annotated[float, Field(gt=0, lt=1)] = 0.03
    client_lag_share: Annotated[float, Field(gt=0)] = 0.5
    foreign_cpu_share: Annotated[float, Field(gt=0)] = 0.25

    ncu: str | None = None
    nsys: bool = False
    why: Literal["auto", "always", "off"] = "auto"
    baseline: Literal["compare", "extend", "record", "off"] = "compare"
    baseline_dir: Path = Path("baselines")
    results_dir: Path = Path("results")
    html_report: bool = True
    shard: Shard | None = None
    merge_shards: str | None = None
    split: Annotated[str, Field(max_length=80)] = ""
    history: str | None = None
    tag: Annotated[str, Field(max_length=40)] = ""
    strict: bool = False

    origins: dict[str, str] = {}

    @field_validator("tp_sets", mode="before")
    @classmethod
    def _given_or_found(cls, sets: object) -> object:
        if sets in ((), []):
            raise ValueError(f"expected at least 1 item, or {AUTO}")
        return () if sets == AUTO else sets

    @field_validator("tp_sets")
    @classmethod
    def _each_gpu_once(cls, sets: tuple[TpSet, ...]) -> tuple[TpSet, ...]:
        for one in sets:
            if not one or len(set(one)) != len(one) or min(one) < 0:
                raise ValueError(f"a TP set names each GPU once, by its index from 0; got {list(one)}")
        return sets

    @field_validator("history", mode="before")
    @classmethod
    def _database(cls, given: object) -> object:
        given = (
            "off" if given is False else given or None
        )  # YAML reads off as false; an empty variable says nothing
        scheme = given.partition("://")[0] if isinstance(given, str) and "://" in given else "sqlite"
        if scheme not in ("sqlite", "postgresql", "postgresql+psycopg"):
            raise ValueError("give a file, sqlite:///FILE, postgresql://USER@HOST/NAME, or off")
        return given

    @field_serializer("history")
    def _without_password(self, history: str | None) -> str | None:
        return None if history is None else without_password(history)

    @field_validator("shard", mode="before")
    @classmethod
    def _part(cls, given: object) -> object:
        return Shard.parse(given) if isinstance(given, str) else given

    @field_validator("merge_shards")
    @classmethod
    def _one_or_the_other(cls, place: str | None, info: ValidationInfo) -> str | None:
        if place is not None and info.data.get("shard") is not None:
            raise ValueError(
                "one run measures a part (--shard) or merges what the parts measured: give one of them"
            )
        return place

    @field_validator("compare_tp_sets")
    @classmethod
    def _in_one_respect(cls, compare: bool, info: ValidationInfo) -> bool:
        if compare and info.data.get("side_by_side"):
            raise ValueError("servers are compared in one respect: give this or side_by_side")
        return compare

    @field_validator("launches", mode="before")
    @classmethod
    def _number_or_range(cls, given: object) -> object:
        return parse_launches(given)

    @field_validator("chunked_prefill_tokens")
    @classmethod
    def _whole_pages(cls, chunk: int | None, info: ValidationInfo) -> int | None:
        for page in info.data.get("page_sizes", ()):
            if chunk is not None and chunk % page:
                raise ValueError(
                    f"not a multiple of the page of {page} tokens: a chunk ends at a page's end, so give sizes that divide"
                )
        return chunk

    @property
    def fewest_launches(self) -> int:
        """Server starts of each configuration, whatever the first ones show."""
        return self.launches if isinstance(self.launches, int) else self.launches[0]

    @property
    def most_launches(self) -> int:
        """Server starts of each configuration, however open its verdicts are."""
        return self.launches if isinstance(self.launches, int) else self.launches[1]

    @property
    def shares(self) -> bool:
        """Whether a database is named that other machines may write to, and not just the results folder's own."""
        return self.history not in (None, "off")

    @property
    def history_url(self) -> str | None:
        """Of the database that runs are added to; None for none."""
        if self.history == "off":
            return None
        place = str(self.results_dir / "history.sqlite") if self.history is None else self.history
        return place if "://" in place else f"sqlite:///{place}"

    def origin(self, name: str) -> str:
        """Where the entry's value came from, in words a person can act on."""
        return self.origins.get(name, "built-in default")


def without_password(url: str) -> str:
    """``postgresql://me:secret@host/name`` → ``postgresql://me:***@host/name``; a query's password likewise."""
    hidden = re.sub(r"(?<=://)([^:/@]*):.*@", r"\1:***@", url)
    return re.sub(r"(?i)(password=)[^&]*", r"\1***", hidden)


def parse_launches(given: object) -> int | tuple[int, int]:
    """``4`` → 4; ``"4..8"`` → (4, 8).

    Raises:
        ValueError: neither, or numbers that make no sense.
    """
    words: Sequence[Any] = [given]
    if isinstance(given, str):
        words = given.split("..")
    elif isinstance(given, list | tuple):
        words = given
    try:
        numbers = [int(word) for word in words]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (1, 2) or any(isinstance(word, float | bool) for word in words):
        raise ValueError("expected a number of server starts, or MIN..MAX")
    if numbers[0] < 1 or numbers[0] > numbers[-1]:
        raise ValueError("expected at least 1, and MIN no greater than MAX")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def parse_list(text: str) -> tuple[str, ...]:
    """``a,b`` → ``("a", "b")``."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_tp_sets(text: str) -> tuple[TpSet, ...] | str:
    """``0;0,1;0,1,2,3`` → ``((0,), (0, 1), (0, 1, 2, 3))``; ``auto`` stays what it is.

    Raises:
        ConfigError: something other than GPU indices.
    """
    if text.strip() == AUTO:
        return AUTO
    try:
        return tuple(tuple(int(gpu) for gpu in one.split(",")) for one in text.split(";") if one.strip())
    except ValueError:
        raise ConfigError(
            f"--tp-gpus {text!r}: give GPU indices, sets separated by ';', as in '0;0,1;0,1,2,3', or {AUTO}"
        ) from None
