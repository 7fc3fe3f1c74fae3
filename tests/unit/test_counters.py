"""The server's counters, its account of itself, and flushing its cache."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from sglperf.errors import ServerDied, WorkloadError
from sglperf.probes import counters
from sglperf.probes.counters import (
    delta,
    flush_cache,
    parse_counters,
    parse_gauges,
    read_counters,
)
from sglperf.probes.server_info import parse_server_info

EXPOSITION = """\
# HELP sglang:realtime_tokens_total Tokens
# TYPE sglang:realtime_tokens_total counter
sglang:realtime_tokens_total{engine_type="unified",mode="prefill_compute",model_name="m",tp_rank="0"} 295.0
sglang:realtime_tokens_total{engine_type="unified",mode="decode",model_name="m",tp_rank="0"} 15.0
# TYPE sglang:cuda_graph_passes_total counter
sglang:cuda_graph_passes_total{mode="decode_none",tp_rank="0"} 15.0
sglang:cuda_graph_passes_total{mode="decode_none",tp_rank="1"} 15.0
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{is_streaming="false",model_name="m"} 3.0
sglang:prompt_tokens_total{is_streaming="true",model_name="m"} 5.0
# TYPE sglang:inter_token_latency_seconds histogram
sglang:inter_token_latency_seconds_sum{model_name="m"} 0.5
sglang:inter_token_latency_seconds_bucket{le="0.1",model_name="m"} 3.0
sglang:inter_token_latency_seconds_bucket{le="+Inf",model_name="m"} 4.0
sglang:inter_token_latency_seconds_count{model_name="m"} 4.0
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{tp_rank="0"} 2.0
"""


def test_counters_are_summed_and_split_by_what_they_count() -> None:
    """Labels that say who counted are summed over, those that say what was counted are kept beside the sum."""
    assert parse_counters(EXPOSITION) == {
        "realtime_tokens_total": 310.0,
        "realtime_tokens_total{mode=prefill_compute}": 295.0,
        "realtime_tokens_total{mode=decode}": 15.0,
        "cuda_graph_passes_total": 15.0,
        "cuda_graph_passes_total{mode=decode_none}": 15.0,
        "prompt_tokens_total": 8.0,
        "inter_token_latency_seconds_sum": 0.5,
        "inter_token_latency_seconds_count": 4.0,
    }


def test_gauges_are_apart() -> None:
    """Gauges, which have no meaningful difference, are read on their own."""
    assert parse_gauges(EXPOSITION) == {"num_running_reqs": 2.0}


def test_delta_starts_new_counters_at_zero() -> None:
    """A counter that appeared in between counts from zero; one that is gone is left out."""
    assert delta({"a": 1.0, "gone": 5.0}, {"a": 4.0, "b": 2.0}) == {"a": 3.0, "b": 2.0}


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def answers(monkeypatch: pytest.MonkeyPatch, *responses: httpx.Response | Exception) -> list[str]:
    """Answers with each response in turn, the last one for ever; what was asked."""
    asked: list[str] = []
    pending = list(responses)

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        response = pending.pop(0) if len(pending) > 1 else pending[0]
        if isinstance(response, Exception):
            raise response
        return httpx.Response(response.status_code, text=response.text)

    client = httpx.Client(transport=httpx.MockTransport(handle))
    monkeypatch.setattr(counters, "_client", lambda: client)
    return asked


def test_flush_asks_until_the_server_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that refuses to flush while busy is asked again."""
    busy, done = httpx.Response(400, text="busy"), httpx.Response(200)
    asked = answers(monkeypatch, busy, busy, done)
    clock = Clock()
    flush_cache("http://x", clock=clock, sleep=clock.sleep)
    assert asked == ["POST /flush_cache"] * 3


def test_flush_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never becomes idle is an error that repeats what it said."""
    answers(monkeypatch, httpx.Response(400, text="Flush cache failed: 1 running\n"))
    clock = Clock()
    with pytest.raises(WorkloadError, match="within 3 s: Flush cache failed: 1 running"):
        flush_cache("http://x", 3.0, clock=clock, sleep=clock.sleep)
    assert 3.0 <= clock.now < 3.5


@pytest.mark.parametrize("ask", [read_counters, flush_cache])
def test_silent_server_has_died(monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], object]) -> None:
    """A server that does not answer is reported as gone."""
    answers(monkeypatch, httpx.ConnectError("refused"))
    with pytest.raises(ServerDied, match=r"does not answer.*refused"):
        ask("http://x")


def test_server_without_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server started without metrics is told apart from one that is gone."""
    answers(monkeypatch, httpx.Response(404))
    with pytest.raises(ServerDied, match=r"answers 404.*--enable-metrics"):
        read_counters("http://x")


ANSWER = {
    "version": "0.5.23",
    "page_size": 16,
    "port": 31000,
    "nccl_port": None,
    "api_key": "secret",
    "model_path": "/cache/tiny",
    "served_model_name": "sglperf-1",
    "launch_command": "--port 31000",
    "startup_time": {"load_weight": 0.1},
    "cuda_graph_config": {"decode": {"backend": "full", "bs": [1, 2]}, "prefill": {}},
    "max_total_num_tokens": 4096,
    "internal_states": [{"memory_usage": {"token_capacity": 4000}, "last_gen_throughput": 1.5, "port": 9}],
}


def test_server_info_keeps_only_what_identifies_the_configuration() -> None:
    """Ports, paths, names, secrets and state are apart from the resolved arguments, which are flat and sorted."""
    info = parse_server_info(ANSWER)
    assert dict(info.resolved) == {
        "cuda_graph_config.decode.backend": "full",
        "cuda_graph_config.decode.bs": [1, 2],
        "cuda_graph_config.prefill": {},
        "max_total_num_tokens": 4096,
        "page_size": 16,
    }
    assert list(info.resolved) == sorted(info.resolved)
    assert info.varying["served_model_name"] == "sglperf-1"
    assert info.version == "0.5.23"
    assert info.kv_capacity_tokens == 4096
    assert info.internal_state["last_gen_throughput"] == 1.5


def test_server_info_without_state() -> None:
    """A server that tells little is taken as it is; its capacity may come from the scheduler's state."""
    assert parse_server_info({"version": "1"}).kv_capacity_tokens is None
    states = [{"memory_usage": {"token_capacity": 4000}}]
    assert parse_server_info({"version": "1", "internal_states": states}).kv_capacity_tokens == 4000
