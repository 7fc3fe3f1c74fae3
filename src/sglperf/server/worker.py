"""A worker: one of `sglperf.workers` under a target's own interpreter, asked over a Unix socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from sglperf.core.server_config import ServerConfig
from sglperf.errors import LaunchError, ServerDied
from sglperf.server.arguments import Place, server_arguments
from sglperf.server.environment import server_environment
from sglperf.server.failure import explain
from sglperf.server.guarded import Guarded, guard
from sglperf.server.launch import open_log, scratch
from sglperf.server.leases import Lease, gpu_uuids, lease_gpus, lease_port
from sglperf.server.model import materialize
from sglperf.target.build import Target

WORKERS = Path(__file__).parents[1] / "workers"
_POLL_SECONDS = 0.1


@dataclass
class Worker:
    """A running worker; a context manager that ends it.

    Attributes:
        name: of its script.
        log_path: its output.
        startup_seconds: until it was ready to be asked.
    """

    name: str
    log_path: Path
    startup_seconds: float
    _link: socket.socket = field(repr=False)
    _guarded: Guarded = field(repr=False)
    _resources: contextlib.ExitStack = field(repr=False)
    _heard: bytes = b""

    def ask(self, request: Mapping[str, Any], timeout: float) -> Any:
        """Its answer to one request.

        Raises:
            ServerDied: it ended, failed at the request, or did not answer in ``timeout`` seconds.
        """
        with contextlib.suppress(OSError):  # then it has ended, and what it said last explains more
            self._link.sendall(json.dumps(request).encode() + b"\n")
        said = json.loads(self._line(time.monotonic() + timeout, timeout))
        if "error" in said:
            raise ServerDied(f"worker {self.name} failed: {said['error']}. {explain(self.log_path)}")
        return said["answer"]

    def _line(self, deadline: float, timeout: float) -> bytes:
        self._link.settimeout(_POLL_SECONDS)
        while b"\n" not in self._heard:
            with contextlib.suppress(TimeoutError, ConnectionError):
                self._heard += self._link.recv(1 << 16)
            if b"\n" not in self._heard and (end := self._guarded.ended()):
                raise ServerDied(f"worker {self.name} ended ({end}): {explain(self.log_path)}")
            if time.monotonic() > deadline:
                raise ServerDied(
                    f"worker {self.name} did not answer within {timeout:g} s: {explain(self.log_path)}"
                )
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    def finish(self, timeout: float) -> None:
        """Let it end by itself, for a tool around it that has something to write down.

        Raises:
            ServerDied: it did not.
        """
        self._link.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + timeout
        while self._guarded.ended() is None:
            if time.monotonic() > deadline:
                raise ServerDied(
                    f"worker {self.name} did not end within {timeout:g} s: {explain(self.log_path)}"
                )
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End it; may be called twice."""
        self._resources.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_worker(
    target: Target,
    config: ServerConfig,
    name: str,
    *,
    log_path: Path,
    timeout: float,
    gpus: Sequence[Lease] | None = None,
    cache: Path | None = None,
    under: Sequence[str] = (),
) -> Worker:
    """Start the worker ``name`` with the interpreter, libraries, GPUs and arguments of a server of this config.

    It has no use for CUDA graphs, which hide what is called.

    Args:
        gpus: leases of the GPUs where the caller holds them, for two workers beside each other.
        under: command line of a tool that runs it; empty for none.

    Raises:
        LaunchError: it did not come up; nothing is left running.
        StoreError: the log cannot be written.
    """
    with contextlib.ExitStack() as stack:
        cuda = config.device == "cuda"
        uuids = gpu_uuids(config.tp_set) if cuda and gpus is None else ()
        leases = [*(gpus or ()), *stack.enter_context(lease_gpus(uuids))]
        directory = Path(stack.enter_context(scratch()))
        cache = cache or user_cache_path("sglperf")
        port, lease = lease_port()  # for the rendezvous of a model's one rank
        stack.callback(lease.release)
        place = Place(
            port=port,
            name=name,
            model_path=materialize(config.model, cache / "models"),
            directory=directory,
            cache=cache / "jit",
            devices=tuple(map(str, config.tp_set)) if cuda else (),
            cpus=tuple(sorted(os.sched_getaffinity(0))),
        )
        address = directory / "link"
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(address))
        listener.listen()
        script = [str(target.interpreter), str(WORKERS / f"{name}.py"), str(address)]
        command = [*under, *script, *server_arguments(target, config, place), target.adapter.no_graphs]
        environment = server_environment(target, config, place, os.environ)
        open_log(log_path, command, environment)
        started = time.monotonic()
        guarded = guard(command, environment=environment, directory=directory, log=log_path)
        stack.callback(guarded.stop)
        for one in (*leases, lease):
            one.note_guardian(guarded.process.pid)
        link = stack.enter_context(_accept(listener, guarded, log_path, timeout, name))
        worker = Worker(name, log_path, 0.0, link, guarded, stack.pop_all())
    try:
        worker._line(started + timeout, timeout)
    except ServerDied as error:
        worker.stop()
        raise LaunchError(str(error)) from None
    guarded.started()
    worker.startup_seconds = time.monotonic() - started
    return worker


def _accept(listener: socket.socket, guarded: Guarded, log: Path, timeout: float, name: str) -> socket.socket:
    deadline = time.monotonic() + timeout
    listener.settimeout(_POLL_SECONDS)
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            return listener.accept()[0]
        if end := guarded.ended():
            raise LaunchError(f"worker {name} ended while starting ({end}): {explain(log)}")
    raise LaunchError(f"worker {name} was not ready within {timeout:g} s: {explain(log)}")
