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

    Attributes:
        profile: file of ``config/profiles`` that the run is of; ``auto`` looks at the GPUs
        description: what a profile is for, in words
        device: what SGLang runs on, its CPU engine or CUDA GPUs
        matches: of a profile, regular expression for the product name of every GPU here; ``auto`` goes by it
        target: SGLang under test: ``sglang==X``, an interpreter, a checkout or a revision; without one, as importable here
        base: build that ``head`` is compared with, instead of a stored baseline
        head: build that is judged against ``base``
        sglang_repo: repository in which revisions are looked up
        target_mode: how a release or a revision is run: over the installed packages, in an environment of its own, or
            whichever is right
        model: shape of ``config/models``, checkpoint folder, or hub name
        attention_backends: attention backends; servers are started for each
        page_sizes: page sizes of the KV cache, tokens; servers are started for each
        tp_sets: GPUs of each server, by index, ranks on a CPU; ``auto`` takes one set of each size and class of links here
        fewest_gpus: of an entry of ``servers``, TP sets of fewer GPUs are left out
        max_total_tokens: size of the KV cache, tokens
        max_running_requests: requests in a batch, at most
        mem_fraction_static: share of the memory for weights and KV cache
        prefix_cache: whether the prefix cache is on
        eviction_policy: what the prefix cache gives up first, as ``lru``; none leaves it to SGLang
        chunked_prefill_tokens: tokens of a prefill chunk, a multiple of every page size; none leaves it to SGLang
        side_by_side: whether servers that differ in one setting are up together and compared
        compare_tp_sets: whether servers on different TP sets are compared
        variants: name of a variant → further server arguments; servers are started for each
        server_arguments: further arguments of every server, as SGLang's command line takes them
        server_environment: further environment variables of every server
        launches: server starts of each configuration; of a range, more only while a verdict is open
        rounds: rounds of each workload in a launch
        warmup_rounds: rounds before them that are not looked at
        round_retries: how often a round that failed a gate is repeated
        seed: of prompts, arrivals and the order of builds
        start_timeout: a server that is not up within it failed, seconds
        round_timeout: a round that has not ended within it failed, seconds
        kernel_seconds: time for which one kernel is called again and again, seconds
        time_limit: begin no launch that would not end within it, seconds
        servers: name that a test's mark ``server`` gives → settings of its servers
        workloads: kind of a workload → lengths that tests leave open, tokens and numbers of requests
        sweeps: name that a test's mark ``sweep`` gives → its values
        alpha: chance that a run of one and the same build shows any ``regressed``
        min_effect: smallest relative change that matters
        client_lag_share: share of the latency that the client may be late, at the 99th percentile
        foreign_cpu_share: share of the processors that others may use during a round
        ncu: kernel that Nsight Compute looks at, with ``-m kernel`` on a GPU
        nsys: whether Nsight Systems keeps a trace of a pass, with ``-m kernel`` on a GPU
        why: when both builds are profiled: once a timing changed, in any case, or never
        baseline: ``compare`` records only what is new, ``extend`` also adds this run where it is unchanged or inconclusive,
            ``record`` replaces, ``off`` neither reads nor writes
        baseline_dir: folder of the baselines; beside pytest's configuration file unless it is given
        results_dir: folder in which each run is kept; likewise
        html_report: whether a run draws its ``report.html``
        shard: which of so many parts of the plan is measured
        merge_shards: folder below which shards were measured, or the history's address: judge these, and start nothing
        split: what the shards of a run are called in the history; none takes GitHub's run and the profile
        history: database that the run is added to; none is ``history.sqlite`` in ``results_dir``
        tag: what the history calls the run, as ``release``
        strict: whether what is new or incomparable fails
        origins: setting → who set it; found, not given
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
