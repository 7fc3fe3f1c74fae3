"""What a running server says of itself: its resolved arguments, capacity and version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from sglperf.errors import ServerDied

# These differ between two starts of the same configuration, or hold secrets: never part of its identity.
_VARYING = frozenset(
    {
        "api_key", "admin_api_key", "port", "host", "nccl_port", "dist_init_addr", "gated_launch_port",
        "model_path", "tokenizer_path", "served_model_name", "launch_command", "startup_time", "status",
        "disaggregation_bootstrap_port", "encoder_bootstrap_port", "engine_info_bootstrap_port",
        "watermark_config", "watermark_key", "watermark_key_b", "ssl_keyfile", "ssl_certfile",
        "ssl_ca_certs", "ssl_keyfile_password", "crash_dump_folder", "export_metrics_to_file_dir",
        "numa_node", "instance_id", "base_gpu_id", "custom_sigquit_handler", "download_dir",
    }
)  # fmt: skip
_STATE = frozenset({"internal_states", "version", "frontend", "kv_events", "hicache_object_layout"})


@dataclass(frozen=True)
class ServerInfo:
    """A server's own account.

    Attributes:
        version: ``sglang.__version__`` of the running process.
        resolved: server arguments after SGLang filled in its defaults, flattened to dotted names;
            without what differs between two starts of the same configuration.
        varying: the rest of them: ports, paths, names.
        kv_capacity_tokens: size of the KV pool, tokens.
        internal_state: the first scheduler's live state.
    """

    version: str
    resolved: Mapping[str, object]
    varying: Mapping[str, object]
    kv_capacity_tokens: int | None
    internal_state: Mapping[str, Any]


def read_server_info(base_url: str, path: str = "/server_info", timeout: float = 10.0) -> ServerInfo:
    """Ask the server.

    Raises:
        ServerDied: it does not answer, or not with JSON.
    """
    try:
        with httpx.Client(trust_env=False, verify=False, timeout=timeout) as client:
            response = client.get(base_url + path)
            response.raise_for_status()
            return parse_server_info(response.json())
    except (httpx.HTTPError, ValueError) as error:
        raise ServerDied(f"{base_url}{path} does not answer: {error!r}. Look at the server's log") from error


def parse_server_info(answer: Mapping[str, Any]) -> ServerInfo:
    """Sort the endpoint's one flat object into arguments and state."""
    states = answer.get("internal_states") or [{}]
    state = states[0] if isinstance(states[0], dict) else {}
    arguments = {key: value for key, value in answer.items() if key not in _STATE}
    resolved = {key: value for key, value in arguments.items() if key not in _VARYING}
    return ServerInfo(
        version=str(answer.get("version", "")),
        resolved=dict(sorted(_flatten(resolved).items())),
        varying={key: value for key, value in arguments.items() if key in _VARYING},
        kv_capacity_tokens=_capacity(answer, state),
        internal_state=state,
    )


def _capacity(answer: Mapping[str, Any], state: Mapping[str, Any]) -> int | None:
    usage = state.get("memory_usage") or {}
    value = answer.get("max_total_num_tokens", usage.get("token_capacity"))
    return int(value) if value is not None else None


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat
