"""What each SGLang version calls things: the one place that knows.

Read from the packages 0.5.16 to 0.5.23 (their argument parsers, endpoints, collectors and request
statistics). A newer version is taken to behave like the newest known one, which is said in a note; an
older one is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from sglperf.core.cache_model import CacheRules
from sglperf.errors import TargetError

OLDEST = Version("0.5.16")
NEWEST = Version("0.5.23")

_BACKENDS = (
    "triton",
    "torch_native",
    "flex_attention",
    "dsa",
    "nsa",
    "dsv4",
    "compressed",
    "fa3",
    "fa4",
    "flashinfer",
    "flashmla",
    "trtllm_mla",
    "cutedsl_mla",
    "tokenspeed_mla",
    "trtllm_mha",
    "aiter",
    "wave",
    "intel_amx",
    "ascend",
    "intel_xpu",
)
# Backend → first version that knows it, first that no longer does.
_CHANGED_BACKENDS = {
    "cutlass_mla": (None, "0.5.20"),
    "dual_chunk_flash_attn": (None, "0.5.20"),
    "hpc_ops": ("0.5.17", None),
    "minicpm_flashattn": ("0.5.19", None),
    "minicpm_flashinfer": ("0.5.19", None),
    "qsa": ("0.5.20", None),
    "llada2_cfg_flashinfer": ("0.5.22", None),
}


@dataclass(frozen=True)
class Adapter:
    """Names and habits of one SGLang version.

    Attributes:
        version: the known release whose names these are.
        attention_backends: values of ``--attention-backend``.
        eviction_policies: values of ``--radix-eviction-policy``.
        old_graph_flags: whether ``--cuda-graph-max-bs`` and ``--cuda-graph-bs`` still exist beside
            ``--cuda-graph-max-bs-decode`` and ``--cuda-graph-bs-decode``, which every version has.
        get_load: whether ``/get_load`` still exists beside ``/v1/loads``, which every version has.
        freezes_garbage: whether the server freezes its garbage collector after its warm-up.
        stage_seconds: whether ``scheduler_stage_seconds_total`` and its kin are counted.
        first_token_latency: whether ``meta_info`` has it.
        queue_time_sums_waits: whether ``queue_time`` adds up every wait of a retracted request; before, it was
            the first scheduling less the last arrival in the queue, which for a retracted one is negative.
        unified_radix_cache: whether a server's prefix cache is the unified one; else it is the older class.
        cache_rules: how its prefix cache differs from the newest one's.
        counts_whole_pages: whether a prefill's computed tokens are counted up to the end of its last page.
        counts_every_rank: whether each tensor-parallel rank adds its evicted tokens to one counter without a
            label of its own, so that it shows their sum.
        pages_on_cpu: whether the paged allocator runs on a CPU without Triton's interpreter.
        exact: whether the target's version is a known one; if not, the above is a guess.
        notes: what a reader of results should know.
    """

    version: Version
    attention_backends: frozenset[str]
    eviction_policies: tuple[str, ...]
    old_graph_flags: bool
    get_load: bool
    freezes_garbage: bool
    stage_seconds: bool
    first_token_latency: bool
    queue_time_sums_waits: bool
    unified_radix_cache: bool
    cache_rules: CacheRules
    counts_whole_pages: bool
    counts_every_rank: bool
    pages_on_cpu: bool
    exact: bool
    notes: tuple[str, ...] = ()

    # The same in every supported version; `/server_info` has the deprecated alias `/get_server_info`.
    server_info = "/server_info"
    loads = "/v1/loads"
    flush_cache = "/flush_cache"
    freeze_gc = "/freeze_gc"
    metrics = "/metrics"
    generate = "/generate"
    start_profile = "/start_profile"
    stop_profile = "/stop_profile"
    incremental_output = "--incremental-streaming-output"
    sleep_on_idle = "--sleep-on-idle"
    eviction_policy = "--radix-eviction-policy"
    graph_batch_limit = "--cuda-graph-max-bs-decode"
    graph_batches = "--cuda-graph-bs-decode"
    no_graphs = "--disable-cuda-graph"
    one_batch_module = "sglang.benchmark.one_batch"
    cpu_backends = frozenset({"torch_native", "flex_attention", "triton", "intel_amx"})

    @property
    def request_timings(self) -> tuple[str, ...]:
        """Fields of ``meta_info`` that hold durations, seconds."""
        always = ("queue_time", "e2e_latency")
        return (*always, "first_token_latency") if self.first_token_latency else always

    def meaning(self, metric: str, page_size: int) -> str:
        """What the metric counts in this version, where versions differ in that; else empty.

        Two targets are comparable in it only if this agrees. A count that differs because the server does
        something else is no other meaning: from 0.5.22 on the overlapping scheduler no longer decodes one token
        more than was asked for, and ``decode_tokens`` says so.
        """
        if metric == "prefill_tokens" and page_size > 1:
            return "whole pages" if self.counts_whole_pages else "tokens"
        return ""


def adapter_for(version: str) -> Adapter:
    """The adapter of a version as SGLang itself writes it (``0.5.23``, ``0.5.23.post1+gabc``).

    Raises:
        TargetError: older than the oldest supported version, or not a version at all.
    """
    try:
        release = Version(Version(version).base_version)
    except InvalidVersion as error:
        raise TargetError(f"{version!r} is not a version of SGLang; check sglang/version.py there") from error
    if release < OLDEST:
        raise TargetError(
            f"SGLang {version} is older than {OLDEST}, the oldest supported. Use a newer target"
        )
    known = min(release, NEWEST)
    newer = f"SGLang {version} is newer than {NEWEST}, the newest known here, and taken to behave like it"
    return _adapter(known, release == known, () if release == known else (newer,))


def _adapter(version: Version, exact: bool, notes: tuple[str, ...]) -> Adapter:
    def since(first: str) -> bool:
        return version >= Version(first)

    changed = {
        name
        for name, (first, last) in _CHANGED_BACKENDS.items()
        if (first is None or since(first)) and (last is None or not since(last))
    }
    return Adapter(
        version=version,
        attention_backends=frozenset({*_BACKENDS, *changed}),
        eviction_policies=("lru", "lfu", "slru", "priority", *(("tlru",) if since("0.5.21") else ())),
        old_graph_flags=not since("0.5.20"),
        get_load=not since("0.5.21"),
        freezes_garbage=since("0.5.18"),
        stage_seconds=since("0.5.20"),
        first_token_latency=since("0.5.21"),
        queue_time_sums_waits=since("0.5.21"),
        unified_radix_cache=since("0.5.19"),
        # Read from each package's memory cache and scheduler; 0.5.23's were also seen (tests/real/test_differential.py).
        cache_rules=CacheRules(
            splits_answers=since("0.5.20"),
            stores_last_token=not since("0.5.22"),
            counts_stores=not since("0.5.22"),
            evicts_demand=not since("0.5.17"),
        ),
        counts_whole_pages=not since("0.5.20"),
        counts_every_rank=not since("0.5.21"),
        pages_on_cpu=since("0.5.22"),
        exact=exact,
        notes=notes,
    )
