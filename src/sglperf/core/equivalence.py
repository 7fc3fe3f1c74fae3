"""Whether two sides did the same work, and how their contexts differ.

Two different lists. A difference in *work* forbids a ratio: the comparison is ``incomparable``. A
difference in *context* (versions, defaults) is what a regression may come from: it is named beside the
verdict, and never hides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

JSON = object
_ABSENT = object()
_SHOWN, _LEAD = 40, 12  # characters of a value that are shown, and of those before the first that differs

# Resolved server arguments that decide what work a request is, in SGLang 0.5.16 … 0.5.23. Whatever else
# differs (a chunk size, a scheduling default) is a candidate cause, so it is context.
WORK_ARGUMENTS = (
    "attention_backend",
    "device",
    "disable_radix_cache",
    "dp_size",
    "dtype",
    "enable_deterministic_inference",
    "kv_cache_dtype",
    "load_format",
    "max_running_requests",
    "max_total_tokens",
    "page_size",
    "pp_size",
    "quantization",
    "speculative_algorithm",
    "tp_size",
)


@dataclass(frozen=True)
class Work:
    """What one side did, as far as it must be the same on both.

    Attributes:
        workload_hash: identity of prompts, lengths and arrivals.
        client: version of the measuring client.
        finish_reasons: reason → how many requests of a round ended so.
        cached_tokens: prompt tokens of a round served by the prefix cache.
        resolved: the server's resolved arguments.
        meaning: what the metric counts there, where versions differ in that; else empty.
        method: how it was timed, where there is a choice; else empty.
    """

    workload_hash: str
    client: str
    finish_reasons: Mapping[str, int]
    cached_tokens: int | None
    resolved: Mapping[str, JSON] = field(default_factory=dict)
    meaning: str = ""
    method: str = ""


def work_differences(base: Work, head: Work) -> tuple[str, ...]:
    """Why no timing of the two sides may be compared, culprits first; empty where they did the same."""
    differences = []
    if base.workload_hash != head.workload_hash:
        differences.append("the workload itself differs")
    if base.client != head.client:
        differences.append(f"measured by another client ({base.client} → {head.client})")
    if base.meaning != head.meaning:
        differences.append(f"it counts something else ({base.meaning} → {head.meaning})")
    if base.method != head.method:
        differences.append(
            f"timed by another method ({base.method or 'unknown'} → {head.method or 'unknown'})"
        )
    for name in WORK_ARGUMENTS:
        before, after = base.resolved.get(name), head.resolved.get(name)
        if before != after:
            differences.append(f"{name} {_change(before, after)}")
    if dict(base.finish_reasons) != dict(head.finish_reasons):
        differences.append(f"finish reasons {_change(dict(base.finish_reasons), dict(head.finish_reasons))}")
    if base.cached_tokens != head.cached_tokens:
        differences.append(f"cached tokens {base.cached_tokens} → {head.cached_tokens}")
    return tuple(differences)


def context_differences(base: Mapping[str, JSON], head: Mapping[str, JSON]) -> tuple[str, ...]:
    """Every entry that differs between two flat contexts, as ``name before → after``, sorted by name."""
    sides = ((name, base.get(name, _ABSENT), head.get(name, _ABSENT)) for name in sorted({*base, *head}))
    return tuple(f"{name} {_change(before, after)}" for name, before, after in sides if before != after)


def _change(before: JSON, after: JSON) -> str:
    """``before → after``; a long value is cut to the place where the two begin to differ."""
    left, right = _text(before), _text(after)
    long = max(len(left), len(right)) > _SHOWN
    begin = max(0, _first_difference(left, right) - _LEAD) if long else 0
    return f"{_cut(left, begin)} → {_cut(right, begin)}"


def _first_difference(left: str, right: str) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))


def _text(value: JSON) -> str:
    return "absent" if value is _ABSENT else "none" if value is None else str(value)


def _cut(text: str, begin: int) -> str:
    rest = text[begin:]
    return ("…" if begin else "") + (rest if len(rest) <= _SHOWN else rest[: _SHOWN - 1] + "…")
