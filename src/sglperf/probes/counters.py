"""The server's Prometheus counters, and its prefix cache.

In every supported version the schedulers write their counters on each iteration to files that
``/metrics`` reads when asked. So a counter never waits for a log interval; it can only lag by the
iteration that is just ending, and a flush is taken only after that one.
"""

from __future__ import annotations

import atexit
import functools
import time
from collections.abc import Callable, Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

from sglperf.errors import ServerDied, WorkloadError

_PREFIX = "sglang:"
# Labels that say what was counted. The others name who counted (model, engine, process) and are summed over.
_KINDS = ("mode", "category", "stage", "phase", "component", "cache_source")
# Ranks of one tensor-parallel group do the same work, and some counters come from each of them.
_RANKS = ("tp_rank", "pp_rank", "moe_ep_rank")


def read_counters(base_url: str, timeout: float = 10.0) -> dict[str, float]:
    """Every counter, and every histogram's ``_sum`` and ``_count``, without the ``sglang:`` prefix.

    Each name holds the sum over all labels; of ranks that share one job, the first one's count. Where a label says what was counted, the parts are there
    too: ``realtime_tokens_total`` and ``realtime_tokens_total{mode=decode}``.

    Raises:
        ServerDied: the server does not answer.
    """
    return parse_counters(_get(base_url, "/metrics", timeout))


def read_gauges(base_url: str, timeout: float = 10.0) -> dict[str, float]:
    """Every gauge, in the same form."""
    return parse_gauges(_get(base_url, "/metrics", timeout))


def parse_counters(text: str) -> dict[str, float]:
    """`read_counters` of an exposition in Prometheus' text format."""
    return _summed(text, {"counter", "histogram", "summary"}, "_created")


def parse_gauges(text: str) -> dict[str, float]:
    """`read_gauges` of an exposition in Prometheus' text format."""
    return _summed(text, {"gauge"})


def _summed(text: str, types: set[str], without: str = "\0") -> dict[str, float]:
    # Most lines are histogram buckets, which nobody asked for and the parser is slow on.
    lines = "\n".join(line for line in text.splitlines() if "_bucket{" not in line)
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(lines):
        if family.type not in types:
            continue
        for sample in family.samples:
            if sample.name.endswith(without) or not _first_rank(sample.labels):
                continue
            for name in _names(sample.name.removeprefix(_PREFIX), sample.labels):
                sums[name] = sums.get(name, 0.0) + sample.value
    return sums


def _names(name: str, labels: Mapping[str, str]) -> list[str]:
    return [name, *(f"{name}{{{kind}={labels[kind]}}}" for kind in _KINDS if kind in labels)]


def _first_rank(labels: Mapping[str, str]) -> bool:
    return all(labels.get(rank, "0") == "0" for rank in _RANKS)


def delta(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """After minus before; a counter that did not exist before started at zero."""
    return {name: value - before.get(name, 0.0) for name, value in after.items()}


def flush_cache(
    base_url: str,
    deadline: float = 10.0,
    path: str = "/flush_cache",
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Empty the prefix cache. SGLang refuses while any request is running, so this asks until idle.

    Raises:
        WorkloadError: it still refuses after ``deadline`` seconds.
        ServerDied: the server does not answer.
    """
    end = clock() + deadline
    pause = 0.01
    while True:
        response = _request("POST", base_url, path, deadline)
        if response.status_code == 200:
            return
        if clock() > end:
            said = response.text.strip().splitlines()
            raise WorkloadError(
                f"the prefix cache of {base_url} could not be flushed within {deadline:g} s: "
                f"{said[0] if said else response.status_code}. A request is still running there"
            )
        sleep(pause)
        pause = min(2 * pause, 0.25)


def _get(base_url: str, path: str, timeout: float) -> str:
    response = _request("GET", base_url, path, timeout)
    if response.status_code != 200:
        raise ServerDied(
            f"{base_url}{path} answers {response.status_code}. Was the server started with --enable-metrics?"
        )
    return response.text


@functools.cache
def _client() -> httpx.Client:
    """One for all requests. Without ``verify=False`` it would load certificates that loopback has no use for.

    A connection idle for longer is not used again: uvicorn closes them after five seconds.
    """
    client = httpx.Client(trust_env=False, verify=False, limits=httpx.Limits(keepalive_expiry=2.0))
    # Else what it has open at the end of the process is complained of, below the results.
    atexit.register(client.close)
    return client


def _request(method: str, base_url: str, path: str, timeout: float) -> httpx.Response:
    try:
        return _client().request(method, base_url + path, timeout=timeout)
    except httpx.HTTPError as error:
        raise ServerDied(f"{base_url}{path} does not answer: {error!r}. Look at the server's log") from error
