"""Bad days of a launch, each with one clear message and nothing left running. The server is a double."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_server import fake_target

from sglperf.core.server_config import Model, ServerConfig
from sglperf.errors import ConfigError, LaunchError, ServerDied, StoreError
from sglperf.server import leases
from sglperf.server.launch import Server, start_server
from sglperf.target.build import Target

MODEL = Model("tiny", 2048, 4096, {"model_type": "llama"})
CONFIG = ServerConfig(MODEL, "cpu", "torch_native", 16, (0,), 4096, 8, 0.3)


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.fixture
def target(tmp_path: Path) -> Target:
    made = fake_target(tmp_path / "import")
    assert isinstance(made, Target)
    return made


@pytest.fixture
def start(tmp_path: Path, target: Target) -> Iterator[Callable[..., Server]]:
    """Starts a double with a fault; stops what is left afterwards and checks that no helper survives."""
    helper = tmp_path / "helper-pid"
    servers: list[Server] = []

    def starter(fault: str = "", config: ServerConfig = CONFIG, **options: Any) -> Server:
        environment = {**config.environment, "FAKE_FAULT": fault, "FAKE_PIDS": str(helper)}
        options = {
            "log_path": tmp_path / "server.log",
            "timeout": 30.0,
            "cache": tmp_path / "cache",
            **options,
        }
        server = start_server(target, replace(config, environment=environment), **options)
        servers.append(server)
        return server

    yield starter
    for server in servers:
        server.stop()
    if helper.exists():
        assert not alive(int(helper.read_text()))


def test_good_day(start: Callable[..., Server]) -> None:
    """A server is ready, verified and listening on loopback only; stopping it frees its port."""
    server = start()
    server.check_alive()
    port = int(server.base_url.rsplit(":", 1)[1])
    listening = [
        connection.laddr
        for process in server.processes()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == [("127.0.0.1", port)]
    assert server.info.kv_capacity_tokens == CONFIG.max_total_tokens
    server.stop()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def test_dies_on_start(start: Callable[..., Server], tmp_path: Path) -> None:
    """A server that dies on start is reported with exit status, exception, advice and last log lines."""
    with pytest.raises(LaunchError) as caught:
        start("dies")
    message = str(caught.value)
    assert "exit status 1" in message
    assert "RuntimeError: CUDA out of memory" in message
    assert "mem_fraction_static" in message
    assert "  Loading weights\n" in message
    assert str(tmp_path / "server.log") in message


def test_hangs_on_start(start: Callable[..., Server]) -> None:
    """A start that does not end is given up, with what the server said last."""
    with pytest.raises(LaunchError, match=r"not ready after 2 s(.|\n)*Waiting for a lock"):
        start("hangs", timeout=2.0)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("snaps-page", "page size asked 16, resolved 64. Next: ask for the page size"),
        ("other-version", "runs SGLang 0.5.17, but the target fake is 0.5.23"),
        ("somebody-else", "another server answers on this port: it serves 'llama-of-a-colleague'"),
    ],
)
def test_comes_up_as_something_else(start: Callable[..., Server], fault: str, message: str) -> None:
    """A server that is not what was asked for is refused, naming asked and resolved."""
    with pytest.raises(LaunchError, match=message):
        start(fault)


def test_interpreter_that_went_away(tmp_path: Path, target: Target) -> None:
    """An interpreter that cannot be run any more is named, not taken for a killed server."""
    gone = replace(target, interpreter=tmp_path / "gone" / "python")
    with pytest.raises(LaunchError, match=r"exit status 127\): FileNotFoundError: .*gone/python"):
        start_server(gone, CONFIG, log_path=tmp_path / "server.log", cache=tmp_path / "cache", timeout=30.0)


def test_unusable_lease_folder(tmp_path: Path) -> None:
    """A lease folder that cannot be written is named."""
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError, match=r"cannot lock .*file/port-"):
        leases.lease_port(directory=tmp_path / "file")


def test_unknown_argument(start: Callable[..., Server]) -> None:
    """An argument that SGLang refuses is named, without argparse's pages of usage."""
    with pytest.raises(LaunchError) as caught:
        start(config=replace(CONFIG, arguments=("--bogus",)))
    assert "exit status 2): unrecognized arguments: --bogus" in str(caught.value)
    assert "usage" not in str(caught.value)


def test_unknown_value(start: Callable[..., Server]) -> None:
    """A value that SGLang refuses is named together with those it takes."""
    with pytest.raises(LaunchError, match=r"--sampling-backend: invalid choice: 'magic' \(choose from"):
        start(config=replace(CONFIG, arguments=("--sampling-backend", "magic")))


def test_unknown_backend_costs_no_start(start: Callable[..., Server], tmp_path: Path) -> None:
    """An attention backend the version does not have is refused before anything is started."""
    with pytest.raises(ConfigError, match="no attention backend 'flash9'"):
        start(config=replace(CONFIG, attention_backend="flash9"))
    assert not (tmp_path / "server.log").exists()


def test_dies_mid_round(start: Callable[..., Server]) -> None:
    """A server that goes away is reported with its last log lines, and not before."""
    server = start()
    server.check_alive()
    with contextlib.suppress(httpx.HTTPError):
        httpx.post(f"{server.base_url}/crash", trust_env=False)
    assert wait_for(lambda: server._guarded.ended() is not None)
    with pytest.raises(
        ServerDied, match=r"died \(exit status 1\): RuntimeError: the scheduler hit an illegal"
    ):
        server.check_alive()


def test_killed_server(start: Callable[..., Server]) -> None:
    """A server killed from outside is reported as killed."""
    server = start()
    psutil.Process(server.pid).kill()
    assert wait_for(lambda: server._guarded.ended() is not None)
    with pytest.raises(ServerDied, match=r"died \(killed by SIGKILL\)"):
        server.check_alive()


def test_refuses_to_end(start: Callable[..., Server]) -> None:
    """A server that ignores SIGTERM is ended all the same."""
    server = start("refuses-sigterm")
    pids = [process.pid for process in server.processes()]
    assert pids
    server.stop()
    assert [pid for pid in pids if alive(pid)] == []


def children() -> set[int]:
    """Processes that this one has started, and theirs."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_interrupt_while_starting(start: Callable[..., Server], tmp_path: Path) -> None:
    """Ctrl-C during a start leaves nothing running."""
    started: list[int] = []
    others = children()  # a browser, for other tests of this process

    def interrupt(_seconds: float, _stage: str) -> None:
        if (tmp_path / "helper-pid").exists():
            started.extend(children() - others)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start("hangs", on_progress=interrupt)
    assert started
    assert [pid for pid in started if alive(pid)] == []


def test_requested_port_is_taken(start: Callable[..., Server]) -> None:
    """A port that somebody listens on is refused, naming the process, before anything is started."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            LaunchError, match=rf"port {port} on 127.0.0.1 is taken by .* \(pid {os.getpid()}\)"
        ):
            start(port=port)


def test_requested_port_is_leased(start: Callable[..., Server]) -> None:
    """A port another sglperf server holds is refused even before that server listens."""
    port, lease = leases.lease_port()
    try:
        with pytest.raises(LaunchError, match=rf"taken by another sglperf run \(pid {os.getpid()}\)"):
            start(port=port)
    finally:
        lease.release()
    assert start(port=port).base_url == f"http://127.0.0.1:{port}"


def test_unwritable_log(start: Callable[..., Server], tmp_path: Path) -> None:
    """A log that cannot be written is a clear error before anything is started."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write the server's log"):
        start(log_path=tmp_path / "file" / "server.log")


def test_missing_checkpoint(start: Callable[..., Server]) -> None:
    """A checkpoint directory that is not there is named."""
    with pytest.raises(ConfigError, match="no checkpoint directory /nowhere/llama"):
        start(config=replace(CONFIG, model=replace(MODEL, path="/nowhere/llama")))


HOLDER = """
import sys
from pathlib import Path
from sglperf.server.leases import lease_gpus, lease_port
port, lease = lease_port(directory=Path(sys.argv[1]))
with lease_gpus(["GPU-a", "GPU-b"], directory=Path(sys.argv[1])):
    print(port, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_run(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that holds a port and GPUs a and b."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process, int(process.stdout.readline())
    process.kill()
    process.wait()


def test_two_runs_do_not_share_a_gpu(other_run: tuple[subprocess.Popen[str], int], tmp_path: Path) -> None:
    """A GPU set that overlaps another run's is refused, naming GPU and pid; a disjoint one is not."""
    process, _ = other_run
    with (
        pytest.raises(
            LaunchError, match=rf"GPU GPU-b is in use by another sglperf run \(pid {process.pid}\)"
        ),
        leases.lease_gpus(["GPU-b", "GPU-c"], directory=tmp_path),
    ):
        pass
    with leases.lease_gpus(["GPU-c"], directory=tmp_path):
        pass


def test_waiting_for_a_gpu(other_run: tuple[subprocess.Popen[str], int], tmp_path: Path) -> None:
    """With a waiting time, a GPU is taken once the other run is gone, killed or not."""
    process, _ = other_run
    process.kill()
    with leases.lease_gpus(["GPU-b"], wait_seconds=20.0, directory=tmp_path) as held:
        assert [lease.name for lease in held] == ["gpu-GPU-b"]


def test_two_runs_do_not_share_a_port(
    other_run: tuple[subprocess.Popen[str], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port leased by another run is not handed out although nobody listens on it yet."""
    _, port = other_run
    free = port + 1
    monkeypatch.setattr(leases, "_candidates", lambda: [port, free])
    ours, lease = leases.lease_port(directory=tmp_path)
    lease.release()
    assert ours == free


def test_gpu_is_not_free_while_a_guardian_cleans_up(tmp_path: Path) -> None:
    """After a killed run the GPU is taken only when the guardian of its server has ended."""
    guardian = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "guardian.py"])
    try:
        with leases.lease_gpus(["GPU-a"], directory=tmp_path) as held:
            held[0].note_guardian(guardian.pid)
            note = (tmp_path / "gpu-GPU-a.json").read_text()
        (tmp_path / "gpu-GPU-a.json").write_text(note)  # as a killed run leaves it
        waited: list[int] = []

        def sleep(_seconds: float) -> None:
            waited.append(guardian.pid)
            guardian.kill()
            guardian.wait()

        with leases.lease_gpus(["GPU-a"], directory=tmp_path, sleep=sleep):
            assert waited == [guardian.pid]
    finally:
        guardian.kill()
        guardian.wait()


@pytest.mark.parametrize(("count", "has"), [(0, "no GPU"), (1, "GPU 0"), (7, "GPUs 0–6")])
def test_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch, count: int, has: str) -> None:
    """A TP set with a GPU that is not there names it and what the machine has."""
    monkeypatch.setattr(leases, "_all_uuids", lambda: [f"GPU-{index}" for index in range(count)])
    with pytest.raises(ConfigError, match=rf"TP set \(0, 9\) names GPU (0, )?9, but this machine has {has}"):
        leases.gpu_uuids((0, 9))


def test_gpus_by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs are found by their index, in the order of the set."""
    monkeypatch.setattr(leases, "_all_uuids", lambda: ["GPU-x", "GPU-y", "GPU-z"])
    assert leases.gpu_uuids((2, 0)) == ("GPU-z", "GPU-x")
