"""The server room with real SGLang on its CPU engine: one server for all but the last two tests.

The last ones each need a start of their own, since killing things is what they are about.
"""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from packaging.version import Version

from sglperf.core.server_config import Model, ServerConfig
from sglperf.errors import LaunchError
from sglperf.probes.counters import delta, flush_cache, read_counters
from sglperf.server.launch import Server, start_server
from sglperf.target.build import Target
from sglperf.target.resolve import resolve_target

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sglang") is None, reason="needs SGLang in this environment"
)

SHAPE = yaml.safe_load((Path(__file__).parents[2] / "config" / "models" / "tiny-llama.yaml").read_text())[
    "config"
]
MODEL = Model("tiny-llama", SHAPE["vocab_size"], SHAPE["max_position_embeddings"], SHAPE)
CONFIG = ServerConfig(MODEL, "cpu", "torch_native", 16, (0,), 8192, 32, 0.3)
PROMPT = list(range(5, 305))


@pytest.fixture(scope="module")
def target() -> Target:
    return resolve_target(None)


@pytest.fixture(scope="module")
def server(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A tiny Llama with pages of 16 tokens."""
    log = tmp_path_factory.mktemp("server") / "server.log"
    with start_server(target, CONFIG, log_path=log, timeout=300.0) as server:
        yield server


def generate(server: Server, tokens: int, prompt: list[int] = PROMPT) -> dict[str, object]:
    """One request of `tokens` new tokens; its meta_info."""
    sampling = {"max_new_tokens": tokens, "temperature": 0, "ignore_eos": True}
    request = {"input_ids": prompt, "sampling_params": sampling}
    response = httpx.post(f"{server.base_url}/generate", json=request, timeout=300.0, trust_env=False)
    meta: dict[str, object] = response.json()["meta_info"]
    return meta


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_comes_up_as_asked(server: Server, target: Target) -> None:
    """The running server is the target's version, with every pinned argument and the asked pool."""
    assert server.info.version == target.version
    wanted = {
        "device": "cpu",
        "attention_backend": "torch_native",
        "page_size": 16,
        "tp_size": 1,
        "max_total_tokens": 8192,
        "max_running_requests": 32,
        "random_seed": 0,
        "disable_radix_cache": False,
        "load_format": "dummy",
    }
    assert {name: server.info.resolved[name] for name in wanted} == wanted
    assert server.info.kv_capacity_tokens == 8192


def test_listens_on_loopback_only(server: Server) -> None:
    """No process of the server, schedulers included, listens on anything but loopback."""
    listening = {
        (connection.laddr.ip, process.name())
        for process in server.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert len(server.processes()) >= 3
    assert {address for address, _ in listening} == {"127.0.0.1"}


def test_counters_are_exact_and_settled(server: Server, target: Target) -> None:
    """Once the server takes a flush, its counters hold exactly what was asked: prompt once, output but the first.

    Before 0.5.22 the overlap scheduler counts one decode pass more; up to 0.5.19 a prompt counts whole pages.
    """
    extra = 0 if target.adapter.version >= Version("0.5.22") else 1
    prompt = 300 if target.adapter.version >= Version("0.5.20") else 304
    flush_cache(server.base_url)
    before = read_counters(server.base_url)
    meta = generate(server, 12)
    flush_cache(server.base_url)
    counted = delta(before, read_counters(server.base_url))
    assert (meta["prompt_tokens"], meta["completion_tokens"], meta["cached_tokens"]) == (300, 12, 0)
    assert counted["prompt_tokens_total"] == 300
    assert counted["generation_tokens_total"] == 12
    assert counted["realtime_tokens_total{mode=prefill_compute}"] == prompt
    assert counted["realtime_tokens_total{mode=decode}"] == 11 + extra
    assert counted["cuda_graph_passes_total{mode=decode_none}"] == 11 + extra


def test_flush_waits_for_idle_and_empties_the_cache(server: Server) -> None:
    """Flushing waits until the running request ends, and then nothing is cached."""
    generate(server, 1)
    assert generate(server, 1)["cached_tokens"] == 288
    finished = threading.Event()

    def load() -> None:
        generate(server, 150, PROMPT[:40])
        finished.set()

    thread = threading.Thread(target=load)
    thread.start()
    refused = wait_for(
        lambda: httpx.post(f"{server.base_url}/flush_cache", trust_env=False).status_code == 400, 20.0
    )
    flush_cache(server.base_url, deadline=120.0)
    assert refused
    assert finished.wait(5.0)
    thread.join()
    assert generate(server, 1)["cached_tokens"] == 0


def test_killed_guardian_leaves_nothing(server: Server) -> None:
    """``kill -9`` of the guardian ends SGLang's processes too. It is the last test of the shared server."""
    pids = [process.pid for process in server.processes()]
    guardian = psutil.Process(server.pid).ppid()
    psutil.Process(guardian).kill()
    assert wait_for(lambda: not any(alive(pid) for pid in pids), 10.0)


HARNESS = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_server_room import CONFIG, resolve_target, start_server
server = start_server(resolve_target(None), CONFIG, log_path=Path(sys.argv[2]), timeout=300.0)
print(server.base_url.rsplit(":", 1)[1], *[process.pid for process in server.processes()], flush=True)
time.sleep(600)
"""


def test_killed_harness_leaves_nothing(tmp_path: Path) -> None:
    """``kill -9`` of the harness leaves no SGLang process after 5 s, no shared memory, and the port free."""
    before = set(Path("/dev/shm").iterdir())
    words = [sys.executable, "-c", HARNESS, str(Path(__file__).parent), str(tmp_path / "server.log")]
    harness = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert harness.stdout is not None
    port, *pids = map(int, harness.stdout.readline().split())
    guardian = psutil.Process(pids[0]).ppid()
    assert len(pids) >= 3
    harness.kill()
    harness.wait()
    assert wait_for(lambda: not any(alive(pid) for pid in [guardian, *pids]), 5.0)
    assert set(Path("/dev/shm").iterdir()) <= before
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/server_info", trust_env=False)


def test_refused_argument_is_explained(target: Target, tmp_path: Path) -> None:
    """What SGLang's own parser refuses arrives as one clear sentence."""
    config = replace(CONFIG, arguments=("--schedule-policy", "by-magic"))
    with pytest.raises(
        LaunchError, match=r"exit status 2\): argument --schedule-policy: invalid choice: 'by-magic'"
    ):
        start_server(target, config, log_path=tmp_path / "server.log")
