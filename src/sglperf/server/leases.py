"""Ports and GPUs that two runs on one machine must not share.

A lease is a lock file that the operating system releases with the process that holds it, so a killed
run leaves nothing to clean up. Who holds it is written beside it, for the other run's message.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from sglperf.errors import ConfigError, LaunchError

# Below the range the kernel hands out by itself (32768 and up), where nobody gets one by accident.
_PORTS = range(20000, 30000)
_DYING_SECONDS = 15.0


@dataclass
class Lease:
    """A held lock; `release` may be called twice."""

    name: str
    lock: FileLock
    owner: Path = field(repr=False)

    def note_guardian(self, pid: int) -> None:
        """Leave the guardian's pid, which may outlive this process by a second or two."""
        _write_owner(self.owner, {"pid": os.getpid(), "guardian": pid})

    def release(self) -> None:
        """Give it back."""
        if self.lock.is_locked:
            self.owner.unlink(missing_ok=True)
            self.lock.release()


def lock_directory() -> Path:
    """One per user and machine: the same for every run, whatever their TMPDIR or XDG variables say."""
    directory = Path(f"/tmp/sglperf-leases-{os.getuid()}")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"cannot make {directory}, where ports and GPUs are leased: {error}") from error
    return directory


def lease_port(requested: int | None = None, directory: Path | None = None) -> tuple[int, Lease]:
    """A loopback port no other run gets while the lease is held, and that is free right now.

    Raises:
        LaunchError: the requested port is taken, or none is free.
    """
    if requested is not None:
        lease = _try_port(requested, directory)
        if lease is None:
            raise LaunchError(_port_taken(requested, directory))
        return requested, lease
    for port in _candidates():
        lease = _try_port(port, directory)
        if lease is not None:
            return port, lease
    raise LaunchError(
        f"no free port on 127.0.0.1 among 200 tried in {_PORTS.start}–{_PORTS.stop}; stop some servers"
    )


def _candidates() -> list[int]:
    return random.sample(_PORTS, 200)


def _try_port(port: int, directory: Path | None) -> Lease | None:
    lease = _acquire(f"port-{port}", directory, 0.0)
    if lease is None:
        return None
    if not _bindable(port):
        lease.release()
        return None
    return lease


def _bindable(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As uvicorn binds: a port in TIME_WAIT is free, one that somebody listens on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _port_taken(port: int, directory: Path | None) -> str:
    holder = _holder(f"port-{port}", directory) or _listener(port)
    return f"port {port} on 127.0.0.1 is taken{holder}. Give another one, or none to have a free one chosen"


def _listener(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.pid
            if listens and connection.laddr and connection.laddr.port == port:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""


@contextlib.contextmanager
def lease_gpus(
    gpus: Sequence[str],
    *,
    wait_seconds: float = 0.0,
    directory: Path | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[list[Lease]]:
    """Hold every GPU (by UUID) of a TP set, in an order that cannot deadlock with another run.

    Raises:
        LaunchError: another run holds one of them, still after ``wait_seconds``.
    """
    with contextlib.ExitStack() as stack:
        leases = []
        for gpu in sorted(set(gpus)):
            lease = _acquire(f"gpu-{gpu}", directory, wait_seconds, sleep)
            if lease is None:
                holder = _holder(f"gpu-{gpu}", directory)
                raise LaunchError(
                    f"GPU {gpu} is in use{holder}. Wait for that run, or choose others with --tp-gpus"
                )
            stack.callback(lease.release)
            leases.append(lease)
        yield leases


def _acquire(
    name: str, directory: Path | None, wait_seconds: float, sleep: Callable[[float], None] = time.sleep
) -> Lease | None:
    folder = directory or lock_directory()
    lease = Lease(name, FileLock(folder / f"{name}.lock"), folder / f"{name}.json")
    try:
        lease.lock.acquire(timeout=wait_seconds)
    except Timeout:
        return None
    except OSError as error:
        raise LaunchError(f"cannot lock {lease.lock.lock_file}: {error}. Make its folder yours") from error
    _await_guardian(lease.owner, sleep)
    _write_owner(lease.owner, {"pid": os.getpid()})
    return lease


def _await_guardian(owner: Path, sleep: Callable[[float], None]) -> None:
    """A killed run's guardian needs a moment to end its server; until then the GPU is not free."""
    guardian = _read_owner(owner).get("guardian")
    deadline = time.monotonic() + _DYING_SECONDS
    while guardian and _is_guardian(guardian) and time.monotonic() < deadline:
        sleep(0.05)


def _is_guardian(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "guardian.py" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _holder(name: str, directory: Path | None) -> str:
    pid = _read_owner((directory or lock_directory()) / f"{name}.json").get("pid")
    return f" by another sglperf run (pid {pid})" if pid else ""


def _read_owner(path: Path) -> dict[str, int]:
    try:
        owner = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return (
        {key: value for key, value in owner.items() if isinstance(value, int)}
        if isinstance(owner, dict)
        else {}
    )


def _write_owner(path: Path, owner: dict[str, int]) -> None:
    with contextlib.suppress(OSError):  # only a message would lack a pid
        path.write_text(json.dumps(owner), "utf-8")


def gpu_uuids(indices: Sequence[int]) -> tuple[str, ...]:
    """UUIDs of GPUs by their index in PCI order, as nvidia-smi counts them.

    Raises:
        ConfigError: there is no such GPU, or no NVIDIA driver at all.
        LaunchError: one of them no longer answers.
    """
    found = _all_uuids()
    missing = [index for index in indices if not 0 <= index < len(found)]
    if missing:
        names = ", ".join(map(str, missing))
        has = (
            f"GPUs 0–{len(found) - 1}"
            if len(found) > 1
            else ("GPU 0" if found else "no GPU that NVML can see")
        )
        raise ConfigError(
            f"TP set {tuple(indices)} names GPU {names}, but this machine has {has}. Change --tp-gpus"
        )
    lost = [index for index in indices if found[index] is None]
    if lost:
        names = ", ".join(map(str, lost))
        raise LaunchError(
            f"GPU {names} no longer answers: see dmesg for its Xid, and reset it or choose another with --tp-gpus"
        )
    return tuple(found[index] or "" for index in indices)


def _all_uuids() -> list[str | None]:
    """By index; None for a GPU that does not answer, which is no matter to the others."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_uuid(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _uuid(nvml: Any, index: int) -> str | None:
    try:
        uuid: str | bytes = nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(index))
    except nvml.NVMLError:
        return None
    return uuid.decode() if isinstance(uuid, bytes) else uuid
