"""Start one SGLang server, hand it over ready and verified, and end it without a trace."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import httpx
import psutil
from platformdirs import user_cache_path

from sglperf.core.server_config import ServerConfig
from sglperf.errors import LaunchError, ServerDied, StoreError
from sglperf.probes.server_info import ServerInfo
from sglperf.server.arguments import Place, launch_notes, server_command
from sglperf.server.environment import server_environment, telling
from sglperf.server.failure import explain
from sglperf.server.guarded import Guarded, guard
from sglperf.server.leases import Lease, gpu_uuids, lease_gpus, lease_port
from sglperf.server.model import materialize
from sglperf.server.readiness import Progress, await_ready, verify
from sglperf.target.resolve import Target

DEFAULT_TIMEOUT = 600.0
"""Seconds a start may take: a 70B shape with graph capture needs minutes."""


@dataclass
class Server:
    """A ready server; a context manager that stops it.

    Attributes:
        base_url: ``http://127.0.0.1:PORT``.
        pid: SGLang's main process.
        log_path: its output.
        startup_seconds: from the start of the process until it answered.
        info: what it says of itself.
        command: its command line.
        environment: the variables set or inherited that may change what is measured.
        notes: what a reader of this launch's results should know.
    """

    base_url: str
    pid: int
    log_path: Path
    startup_seconds: float
    info: ServerInfo
    command: tuple[str, ...]
    environment: Mapping[str, str]
    notes: tuple[str, ...]
    _guarded: Guarded = field(repr=False)
    _resources: contextlib.ExitStack = field(repr=False)

    def check_alive(self) -> None:
        """Raises ServerDied, with the last log lines, once the process is gone."""
        end = self._guarded.ended()
        if end is not None:
            raise ServerDied(f"the server at {self.base_url} died ({end}): {explain(self.log_path)}")

    def processes(self) -> list[psutil.Process]:
        """The server's processes: main first, then its schedulers and helpers."""
        try:
            main = psutil.Process(self.pid)
            return [main, *main.children(recursive=True)]
        except psutil.Error:
            return []

    def stop(self) -> None:
        """End it and everything below; may be called twice."""
        self._resources.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_server(
    target: Target,
    config: ServerConfig,
    *,
    log_path: Path,
    timeout: float = DEFAULT_TIMEOUT,
    on_progress: Progress | None = None,
    port: int | None = None,
    wait_for_gpus: float = 0.0,
    cache: Path | None = None,
) -> Server:
    """Start ``target`` as ``config`` asks, and return once it is ready and verified.

    Args:
        target: the build to start.
        config: what to start.
        log_path: where its output goes; appended to, parents are made.
        timeout: seconds until a start that is not ready counts as hung.
        on_progress: called about ten times a second while starting.
        port: a loopback port to insist on; default a free one.
        wait_for_gpus: seconds to wait for another run to release the GPUs.
        cache: parent of model folders and per-target JIT caches; default the user's cache.

    Raises:
        LaunchError: it did not come up, hung, or came up as something else; nothing is left running.
        ConfigError: the config cannot be started at all.
        StoreError: the log or the model folder cannot be written.
    """
    name = f"sglperf-{secrets.token_hex(6)}"
    with contextlib.ExitStack() as stack:
        cache = cache or user_cache_path("sglperf")
        cuda = config.device == "cuda"
        uuids = gpu_uuids(config.tp_set) if cuda else ()
        leases = stack.enter_context(lease_gpus(uuids, wait_seconds=wait_for_gpus))
        number, lease = lease_port(port)
        stack.callback(lease.release)
        place = Place(
            port=number,
            name=name,
            model_path=materialize(config.model, cache / "models"),
            # Not in the results folder: ZeroMQ's socket paths must stay below 108 characters.
            directory=Path(stack.enter_context(scratch())),
            cache=cache / "jit",
            # By index, not by UUID: SGLang's custom all-reduce reads numbers, and gives up in silence on anything else.
            devices=tuple(map(str, config.tp_set)) if cuda else (),
            cpus=tuple(sorted(os.sched_getaffinity(0))),
        )
        return _launch(target, config, place, log_path, timeout, on_progress, [*leases, lease], stack)


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A folder for one launch; ``/tmp`` keeps its path short, which ZeroMQ's sockets need."""
    with tempfile.TemporaryDirectory(prefix="sglperf-", ignore_cleanup_errors=True) as directory:
        yield directory


def _launch(
    target: Target,
    config: ServerConfig,
    place: Place,
    log: Path,
    timeout: float,
    on_progress: Progress | None,
    leases: Sequence[Lease],
    stack: contextlib.ExitStack,
) -> Server:
    command = server_command(target, config, place)
    environment = server_environment(target, config, place, os.environ)
    open_log(log, command, environment)
    started = time.monotonic()
    guarded = guard(command, environment=environment, directory=place.directory, log=log)
    stack.callback(guarded.stop)
    for lease in leases:
        lease.note_guardian(guarded.process.pid)
    base_url = f"http://127.0.0.1:{place.port}"

    def check_alive() -> None:
        if end := guarded.ended():
            raise LaunchError(f"the server for {config.label} ended while starting ({end}): {explain(log)}")

    url = base_url + target.adapter.server_info
    info = await_ready(url, log, timeout, check_alive, on_progress, started)
    seconds = time.monotonic() - started
    guarded.started()
    verify(info, target, config, place.name)
    if target.adapter.freezes_garbage:
        _freeze_garbage(base_url + target.adapter.freeze_gc)
    return Server(
        base_url=base_url,
        pid=guarded.pid or 0,
        log_path=log,
        startup_seconds=seconds,
        info=info,
        command=tuple(command),
        environment=telling(environment, config),
        notes=launch_notes(target, config),
        _guarded=guarded,
        _resources=stack.pop_all(),
    )


def _freeze_garbage(url: str) -> None:
    """What SGLang does after its own warm-up.

    With the warm-up skipped it does so before its port is open, which fails or not by a race, and a full
    garbage collection may or may not land in a measured round.
    """
    with contextlib.suppress(httpx.HTTPError):
        httpx.post(url, timeout=10.0, trust_env=False, verify=False)


def open_log(log: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Begin a log with the command line that it is the output of.

    Raises:
        StoreError: it cannot be written.
    """
    own = {name: value for name, value in environment.items() if os.environ.get(name) != value}
    words = [*(f"{name}={shlex.quote(value)}" for name, value in sorted(own.items())), shlex.join(command)]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"# {' '.join(words)}\n")
    except OSError as error:
        raise StoreError(f"cannot write the server's log {log}: {error}. Choose a writable folder") from error
