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
from sglperf.target.build import Target

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


@dataclass
class Starting:
    """A server whose process runs, and which nobody has waited for yet; so two can come up side by side."""

    target: Target
    config: ServerConfig
    log_path: Path
    command: tuple[str, ...]
    environment: Mapping[str, str]
    _place: Place = field(repr=False)
    _began: float = field(repr=False)
    _guarded: Guarded = field(repr=False)
    _resources: contextlib.ExitStack = field(repr=False)

    def ready(self, timeout: float = DEFAULT_TIMEOUT, on_progress: Progress | None = None) -> Server:
        """Return once it is ready and verified.

        Args:
            timeout: seconds since its process was started until a start that is not ready counts as hung.
            on_progress: called about ten times a second while starting.

        Raises:
            LaunchError: it did not come up, hung, or came up as something else; nothing is left running.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self.stop)
            base_url = f"http://127.0.0.1:{self._place.port}"
            adapter = self.target.adapter
            info = await_ready(
                base_url + adapter.server_info,
                self.log_path,
                timeout,
                self._check_alive,
                on_progress,
                self._began,
            )
            seconds = time.monotonic() - self._began
            self._guarded.started()
            verify(info, self.target, self.config, self._place.name)
            if adapter.freezes_garbage:
                _freeze_garbage(base_url + adapter.freeze_gc)
            stack.pop_all()
        return Server(
            base_url=base_url,
            pid=self._guarded.pid or 0,
            log_path=self.log_path,
            startup_seconds=seconds,
            info=info,
            command=self.command,
            environment=telling(self.environment, self.config),
            notes=launch_notes(self.target, self.config),
            _guarded=self._guarded,
            _resources=self._resources.pop_all(),
        )

    def _check_alive(self) -> None:
        if end := self._guarded.ended():
            raise LaunchError(
                f"the server for {self.config.label} ended while starting ({end}): {explain(self.log_path)}"
            )

    def stop(self) -> None:
        """End it, unless it has become a `Server`; may be called twice."""
        self._resources.close()


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

    Args and errors are those of `begin_server` and of `Starting.ready`.
    """
    starting = begin_server(
        target, config, log_path=log_path, port=port, wait_for_gpus=wait_for_gpus, cache=cache
    )
    return starting.ready(timeout, on_progress)


def begin_server(
    target: Target,
    config: ServerConfig,
    *,
    log_path: Path,
    port: int | None = None,
    wait_for_gpus: float = 0.0,
    gpus: Sequence[Lease] | None = None,
    cache: Path | None = None,
) -> Starting:
    """Start the process of ``target`` as ``config`` asks, without waiting for it.

    Args:
        target: the build to start.
        config: what to start.
        log_path: where its output goes; appended to, parents are made.
        port: a loopback port to insist on; default a free one.
        wait_for_gpus: seconds to wait for another run to release the GPUs.
        gpus: leases of the GPUs where the caller holds them, for two servers beside each other.
        cache: parent of model folders and per-target JIT caches; default the user's cache.

    Raises:
        LaunchError: port or GPUs are taken.
        ConfigError: the config cannot be started at all.
        StoreError: the log or the model folder cannot be written.
    """
    name = f"sglperf-{secrets.token_hex(6)}"
    with contextlib.ExitStack() as stack:
        cache = cache or user_cache_path("sglperf")
        cuda = config.device == "cuda"
        uuids = gpu_uuids(config.tp_set) if cuda and gpus is None else ()
        leases = [*(gpus or ()), *stack.enter_context(lease_gpus(uuids, wait_seconds=wait_for_gpus))]
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
        command = server_command(target, config, place)
        environment = server_environment(target, config, place, os.environ)
        open_log(log_path, command, environment)
        began = time.monotonic()
        guarded = guard(command, environment=environment, directory=place.directory, log=log_path)
        stack.callback(guarded.stop)
        for one in (*leases, lease):
            one.note_guardian(guarded.process.pid)
        return Starting(
            target, config, log_path, tuple(command), environment, place, began, guarded, stack.pop_all()
        )


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A folder for one launch; ``/tmp`` keeps its path short, which ZeroMQ's sockets need."""
    with tempfile.TemporaryDirectory(prefix="sglperf-", ignore_cleanup_errors=True) as directory:
        yield directory


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
