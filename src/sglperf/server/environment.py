"""From a server config to the environment of one launch. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sglperf.core.server_config import ServerConfig
from sglperf.errors import ConfigError
from sglperf.server.arguments import Place, interpreted
from sglperf.target.build import Target

PLACEHOLDER = Path(__file__).parent / "placeholder"

# Of the caller's environment: they would change which code runs, or keep Python from caching bytecode,
# which costs every start ten seconds and more.
_NOT_INHERITED = frozenset(
    {
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONSTARTUP",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPYCACHEPREFIX",
        "PYTHONSAFEPATH",
    }
)

# Inherited variables that change what is measured: kept, and recorded with the launch.
_TELLING = (
    "SGLANG_",
    "SGL_",
    "CUDA_",
    "NCCL_",
    "TORCH",
    "TRITON_",
    "FLASHINFER_",
    "OMP_",
    "MKL_",
    "KMP_",
    "LD_PRELOAD",
)

_RENDEZVOUS = "SGLANG_DISTRIBUTED_INIT_METHOD_OVERRIDE"

# SGLang keeps its own caches and, in newer versions, its libraries' below SGLANG_CACHE_DIR.
_JIT_CACHES = {
    "SGLANG_CACHE_DIR": "sglang",
    "SGLANG_DG_CACHE_DIR": "sglang/deep_gemm",
    "SGLANG_JIT_CACHE_DIR": "sglang/jit",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TORCH_EXTENSIONS_DIR": "extensions",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "TVM_FFI_CACHE_DIR": "tvm-ffi",
    "TILELANG_CACHE_DIR": "tilelang",
    "CUDA_CACHE_PATH": "cuda",
}

# Where this launch or target keeps things: says nothing about what is measured.
_PLUMBING = frozenset({*_JIT_CACHES, _RENDEZVOUS})


def server_environment(
    target: Target, config: ServerConfig, place: Place, inherited: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of the server process; ``config.environment`` has the last word."""
    environment = {name: value for name, value in inherited.items() if name not in _NOT_INHERITED}
    environment |= _paths(target, config, place)
    environment |= _network(place, environment)
    environment |= (
        _cpu_environment(target, config, place) if config.device == "cpu" else _cuda_environment(place)
    )
    if config.model.path is None:
        environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return {**environment, **config.environment}


def telling(environment: Mapping[str, str], config: ServerConfig) -> dict[str, str]:
    """The variables worth recording: those that may change what is measured, and not with each launch."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name in config.environment or (name.startswith(_TELLING) and name not in _PLUMBING)
    }


def _paths(target: Target, config: ServerConfig, place: Place) -> dict[str, str]:
    jit = place.cache / target.key
    first = [str(PLACEHOLDER)] if config.device == "cpu" else []
    own = [str(target.import_path)] if target.import_path else []
    return {
        "PYTHONPATH": ":".join([*first, *own]),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(place.directory),
        **{name: str(jit / folder) for name, folder in _JIT_CACHES.items()},
    }


def _network(place: Place, environment: Mapping[str, str]) -> dict[str, str]:
    """Loopback only, and no port but the leased one.

    torch's TCP rendezvous would listen on every interface, at a port chosen long before it is bound; a
    file does the same work for the processes of one machine. MASTER_* name the shared-memory segments
    of SGLang's AMX all-reduce, which would otherwise collide between two servers.
    """
    rendezvous = f"file://{place.directory / 'rendezvous'}"
    hosts = [environment.get("NO_PROXY") or environment.get("no_proxy"), "127.0.0.1", "localhost"]
    no_proxy = ",".join(filter(None, hosts))
    return {
        _RENDEZVOUS: rendezvous,
        "GLOO_SOCKET_IFNAME": "lo",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


def _cpu_environment(target: Target, config: ServerConfig, place: Place) -> dict[str, str]:
    environment = {
        "SGLANG_USE_CPU_ENGINE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(place.port),
    }
    if config.tp_size > 1:
        environment["SGLANG_CPU_OMP_THREADS_BIND"] = _binding(place.cpus, config.tp_size)
        environment["SGLANG_NCCL_SO_PATH"] = "/dev/null"
    if interpreted(target, config):
        environment["TRITON_INTERPRET"] = "1"
    return environment


def _binding(cpus: Sequence[int], ranks: int) -> str:
    """Equal, disjoint shares of the CPUs: ``0,1|2,3``."""
    share = len(cpus) // ranks
    if share == 0:
        raise ConfigError(
            f"tensor parallelism {ranks} needs {ranks} CPUs, one per rank, and {len(cpus)} are available. "
            "Choose a smaller set with --tp-gpus"
        )
    groups = [cpus[rank * share : (rank + 1) * share] for rank in range(ranks)]
    return "|".join(",".join(map(str, group)) for group in groups)


def _cuda_environment(place: Place) -> dict[str, str]:
    """PCI order, so that an index means the same GPU here, in nvidia-smi and in the profile."""
    return {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(place.devices),
        "NCCL_SOCKET_IFNAME": "lo",
    }
