"""Waiting until a server answers, and checking that it is the one that was asked for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from sglperf.core.server_config import ServerConfig
from sglperf.errors import LaunchError
from sglperf.probes.server_info import ServerInfo, parse_server_info
from sglperf.server.failure import explain
from sglperf.target.build import Target

Progress = Callable[[float, str], None]
"""Called with seconds since the start and what the server is doing, in a few words."""

_POLL_SECONDS = 0.1

# What a line of SGLang's log tells about how far the start has come; the last match counts.
_STAGES = (
    (re.compile(r"Init (parallel|torch distributed) begin"), "joining ranks"),
    (re.compile(r"Load weight begin"), "loading weights"),
    (re.compile(r"KV Cache is allocated|Memory pool end"), "allocating the KV pool"),
    (re.compile(r"Capture .*graph begin|Capturing"), "capturing graphs"),
    (re.compile(r"Started server process|Uvicorn running"), "opening the port"),
)


def await_ready(
    url: str,
    log: Path,
    timeout: float,
    check_alive: Callable[[], None],
    on_progress: Progress | None,
    started: float,
) -> ServerInfo:
    """Poll until the server describes itself, which takes a scheduler that answers.

    Raises:
        LaunchError: it is not there after ``timeout`` seconds; or what ``check_alive`` raises.
    """
    with httpx.Client(trust_env=False, verify=False, timeout=5.0) as client:
        while (elapsed := time.monotonic() - started) < timeout:
            check_alive()
            info = _ask(client, url)
            if info is not None:
                return info
            if on_progress is not None:
                on_progress(elapsed, stage(log))
            time.sleep(_POLL_SECONDS)
    raise LaunchError(
        f"the server was not ready after {timeout:g} s (it was {stage(log)}); allow it more time, or see "
        f"what it waits for: {explain(log)}"
    )


def _ask(client: httpx.Client, url: str) -> ServerInfo | None:
    try:
        response = client.get(url)
        return parse_server_info(response.json()) if response.status_code == 200 else None
    except (httpx.HTTPError, ValueError):
        return None


def stage(log: Path) -> str:
    """How far the start has come, from the log."""
    try:
        text = log.read_text("utf-8", "replace")
    except OSError:
        return "starting"
    reached = "importing"
    for pattern, name in _STAGES:
        reached = name if pattern.search(text) else reached
    return reached


def verify(info: ServerInfo, target: Target, config: ServerConfig, name: str) -> None:
    """Compare what was asked with what the server says it resolved.

    Raises:
        LaunchError: naming everything that differs, asked and resolved.
    """
    answering = info.varying.get("served_model_name")
    if answering != name:
        raise LaunchError(
            f"another server answers on this port: it serves {answering!r}, ours would serve {name!r}. "
            "Stop the other one, or start again to get another port"
        )
    if info.version != target.version:
        raise LaunchError(
            f"the server runs SGLang {info.version}, but the target {target.label} is {target.version}. "
            f"Check what {target.interpreter} imports as sglang"
        )
    differing = {what: (asked, got) for what, asked, got in _compared(info, config) if asked != got}
    if differing:
        listed = "; ".join(
            f"{what} asked {asked}, resolved {got}" for what, (asked, got) in differing.items()
        )
        advice = next((_ADVICE[what] for what in differing if what in _ADVICE), "look at the server's log")
        raise LaunchError(
            f"SGLang {info.version} did not start {config.label} as asked: {listed}. Next: {advice}"
        )


_ADVICE = {
    "page size": "ask for the page size it resolved, or for another attention backend",
    "attention backend": "ask for the attention backend it resolved, or for another one",
}


def _compared(info: ServerInfo, config: ServerConfig) -> list[tuple[str, object, object]]:
    resolved = info.resolved
    # The KV pool is not among them: it is a metric, so a build that makes less of it is a regression.
    return [
        ("page size", config.page_size, resolved.get("page_size")),
        ("attention backend", config.attention_backend, resolved.get("attention_backend")),
        ("tensor parallelism", config.tp_size, resolved.get("tp_size")),
        ("device", config.device, resolved.get("device")),
        ("random seed", config.random_seed, resolved.get("random_seed")),
    ]
