"""The server's own torch profiler: started and stopped over HTTP, its traces read back."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson

from sglperf.core.trace_events import Trace, read_trace
from sglperf.errors import ServerDied, WorkloadError


def start_profile(
    base_url: str, folder: Path, *, path: str, steps: int, gpu: bool, timeout: float = 60.0
) -> None:
    """Have the next ``steps`` prefill passes and the next ``steps`` decode passes traced, in a file each.

    Args:
        folder: where the server writes; it must be able to.
        path: of the endpoint.
        gpu: whether there are kernels to be traced.

    Raises:
        WorkloadError: the server will not.
        ServerDied: it does not answer.
    """
    asked = {
        "output_dir": str(folder.resolve()),  # the server runs elsewhere
        "num_steps": steps,
        "profile_by_stage": True,
        "activities": ["CPU", "GPU"] if gpu else ["CPU"],
        # Slows Python down to a half, and has crashed the server with torch 2.14.
        "with_stack": False,
        "record_shapes": False,
    }
    response = _post(base_url + path, timeout, asked)
    if response.status_code != 200:
        raise WorkloadError(f"the server does not start its profiler: {response.text.strip()[:200]}")


def stop_profile(base_url: str, folder: Path, *, path: str, timeout: float = 300.0) -> None:
    """Have written what is still being traced below ``folder``; a trace of decoding ends by itself, and is the last.

    Raises:
        ServerDied: the server does not answer.
    """
    if not list(folder.glob("**/*-DECODE.trace.json.gz")):
        _post(base_url + path, timeout)


def _post(url: str, timeout: float, json: object = None) -> httpx.Response:
    try:
        return httpx.post(url, json=json, timeout=timeout, trust_env=False, verify=False)
    except httpx.HTTPError as error:
        raise ServerDied(f"{url} does not answer: {error!r}. Look at the server's log") from error


def read_traces(folder: Path) -> Iterator[Trace]:
    """The first rank's traces below ``folder``; one that was left half written is passed over."""
    for file in sorted(folder.glob("**/*.trace.json.gz")):
        if "TP-0" not in file.name:
            continue
        try:
            events = orjson.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
        except (OSError, EOFError, zlib.error, ValueError, KeyError):
            continue
        found = read_trace(events)
        if found is not None:
            yield found
