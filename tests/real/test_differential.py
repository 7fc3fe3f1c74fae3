"""Two independent answers to one question: the cache model, and real SGLang, on sequences nobody thought of."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "shell"))
from sequences import Step, round_plan, steps

from sglperf.config import load_settings
from sglperf.config_folder import ConfigFolder
from sglperf.configurations import server_configs
from sglperf.core.prediction import departures, predict
from sglperf.core.server_config import ServerConfig
from sglperf.models import load_model
from sglperf.predicting import cache_shape, sent_waves
from sglperf.probes.counters import delta, flush_cache, read_counters
from sglperf.report.reproduction import reproduction
from sglperf.server.launch import Server, start_server
from sglperf.target.build import Target
from sglperf.target.resolve import resolve_target
from sglperf.workload.client import StreamingClient
from sglperf.workload.rounds import play

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sglang") is None and "SGLPERF_TARGET" not in os.environ,
    reason="needs SGLang in this environment",
)
ROOT = Path(__file__).parents[2]
# Page, pool, policy, chunk of prefill, and whether it waits for the night. A pool holds a few of the longest prompts.
SERVERS = [
    (1, 700, "lru", None, False),
    (16, 912, "lru", 64, False),
    (64, 1920, "lru", None, False),
    (1, 410, "lru", None, True),
    (16, 608, "lru", None, True),
    (16, 912, "lfu", 64, True),
    (16, 912, "slru", None, True),
    (16, 912, "priority", None, True),
    (64, 1344, "lfu", 128, True),
]


@dataclass(frozen=True)
class Bench:
    """A server, and what measures it."""

    target: Target
    config: ServerConfig
    server: Server
    client: StreamingClient


@contextlib.contextmanager
def bench(folder: Path, page: int, pool: int, policy: str, chunk: int | None) -> Iterator[Bench]:
    """A server with this cache, for as long as the block runs."""
    config_folder = ConfigFolder(ROOT / "config")
    base = load_settings(config_folder, {"profile": "cpu", "page_sizes": (page,)}, {}, [])
    (config,) = server_configs(base, load_model(config_folder, "tiny-llama"))
    config = replace(
        config,
        max_total_tokens=pool,
        eviction_policy=policy,
        chunked_prefill_tokens=chunk,
        # One scheduling pass in 32 would else look at whole prompts, not at all but their last token, which may cut
        # an edge one page further on. Which pass that is cannot be told from outside.
        environment={"SGLANG_ENABLE_WAITING_PREFIX_REFRESH": "0"},
    )
    target = resolve_target(os.environ.get("SGLPERF_TARGET"))
    with start_server(target, config, log_path=folder / "server.log") as server, StreamingClient() as client:
        yield Bench(target, config, server, client)


def disagreement(on: Bench, sequence: list[Step]) -> str | None:
    """A script that shows where server and model disagree about a sequence; None where they agree."""
    url, shape = on.server.base_url, cache_shape(on.config, on.target.adapter)
    # A request is admitted only where the whole of it fits beside a page of slack.
    longest = on.config.max_total_tokens - 2 * on.config.page_size - 40
    plan = round_plan(sequence, longest=longest, priorities=shape.eviction == "priority")
    flush_cache(url)
    before = read_counters(url)
    played = play(on.client, url, plan, timeout=120, flush=lambda: flush_cache(url))
    assert not [request.error for request in played.requests if request.error]
    flush_cache(url)
    evicted = delta(before, read_counters(url)).get("evicted_tokens_total", 0.0)
    outputs = [request.output_ids for request in played.requests]
    prediction = predict(shape, sent_waves(plan, played.prompts, outputs))
    cached = [request.cached_tokens or 0 for request in played.requests]
    found = departures(prediction, cached, evicted)
    if not found:
        return None
    return reproduction(plan, shape, prediction, cached, found, shlex.join(on.server.command))


@pytest.mark.parametrize(
    ("page", "pool", "policy", "chunk", "sequences"),
    [
        pytest.param(*server, 45 if night else 12, marks=pytest.mark.nightly if night else ())
        for *server, night in SERVERS
    ],
)
def test_model_and_server_agree(
    tmp_path: Path, page: int, pool: int, policy: str, chunk: int | None, sequences: int
) -> None:
    """On every sequence, each request is served as many cached tokens, and as many are evicted, as the model says."""
    with bench(tmp_path, page, pool, policy, chunk) as on:

        @settings(
            max_examples=sequences,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(steps(page))
        def agree(sequence: list[Step]) -> None:
            script = disagreement(on, sequence)
            if script is not None:
                note(script)
                pytest.fail(
                    "server and model disagree; the note below is a script that shows it", pytrace=False
                )

        agree()
