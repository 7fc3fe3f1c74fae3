"""From a server config to the command line and environment of one launch. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sglperf.core.server_config import ServerConfig
from sglperf.errors import ConfigError
from sglperf.target.resolve import Target

PLACEHOLDER = Path(__file__).parent / "placeholder"

# Set by a field of ServerConfig or by the launch itself; a second spelling among the further
# arguments would silently win over it, or open the server to the network.
_OWNED = {
    "--model-path": "the model",
    "--model": "the model",
    "--load-format": "the model",
    "--host": "sglperf (always 127.0.0.1)",
    "--port": "the launch",
    "--served-model-name": "the launch",
    "--nccl-port": "the launch",
    "--dist-init-addr": "the launch",
    "--device": "the profile's device",
    "--attention-backend": "--attention-backend of pytest",
    "--page-size": "--page-size of pytest",
    "--tp": "--tp-gpus of pytest",
    "--tp-size": "--tp-gpus of pytest",
    "--tensor-parallel-size": "--tp-gpus of pytest",
    "--max-total-tokens": "max_total_tokens of the profile",
    "--max-running-requests": "max_running_requests of the profile",
    "--mem-fraction-static": "mem_fraction_static of the profile",
    "--random-seed": "random_seed of the profile",
}

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


@dataclass(frozen=True)
class Place:
    """Where one launch happens.

    Attributes:
        port: leased loopback port.
        name: served model name, unique to the launch: proves whose server answers.
        model_path: what ``--model-path`` gets.
        directory: private to the launch; rendezvous file and temporary files live there.
        cache: parent of the per-target JIT caches.
        devices: GPU UUIDs (or indices) of the TP set; empty on a CPU.
        cpus: logical CPUs that ranks of a CPU server may be bound to.
    """

    port: int
    name: str
    model_path: str
    directory: Path
    cache: Path
    devices: tuple[str, ...] = ()
    cpus: tuple[int, ...] = ()


def server_command(target: Target, config: ServerConfig, place: Place) -> list[str]:
    """The command line. Raises ConfigError where a further argument is not the config's to set."""
    _refuse_owned(config.arguments)
    _refuse_unknown_backend(target, config)
    command = [str(target.interpreter), "-m", "sglang.launch_server"]
    command += _pairs(
        {
            "--model-path": place.model_path,
            "--served-model-name": place.name,
            "--host": "127.0.0.1",
            "--port": place.port,
            "--device": config.device,
            "--attention-backend": config.attention_backend,
            "--page-size": config.page_size,
            "--tp-size": config.tp_size,
            "--max-total-tokens": config.max_total_tokens,
            "--max-running-requests": config.max_running_requests,
            "--mem-fraction-static": config.mem_fraction_static,
            "--random-seed": config.random_seed,
        }
    )
    command += ["--skip-tokenizer-init", "--enable-metrics", target.adapter.incremental_output]
    # Every shape is warmed up by the workload itself; SGLang's own request only delays the start.
    command += ["--skip-server-warmup"]
    command += ["--load-format", "dummy"] if config.model.dummy else []
    command += _cpu_arguments(config) if config.device == "cpu" else []
    return [*command, *config.arguments]


def _pairs(values: Mapping[str, object]) -> list[str]:
    return [word for name, value in values.items() for word in (name, str(value))]


def _refuse_owned(arguments: Sequence[str]) -> None:
    for word in arguments:
        owner = _OWNED.get(word.split("=", 1)[0])
        if owner:
            raise ConfigError(
                f"server argument {word} is set by {owner}; remove it from the further arguments"
            )


def _refuse_unknown_backend(target: Target, config: ServerConfig) -> None:
    """Only where the names are known for sure: a checkout or a newer version may have new ones."""
    known = target.adapter.attention_backends
    if target.adapter.exact and target.content is None and config.attention_backend not in known:
        raise ConfigError(
            f"SGLang {target.version} has no attention backend {config.attention_backend!r}. "
            f"Choose one of {', '.join(sorted(known))}"
        )


def launch_notes(target: Target, config: ServerConfig) -> tuple[str, ...]:
    """What a reader of this launch's results should know."""
    if not _interpreted(target, config):
        return target.notes
    return (*target.notes, "Triton's interpreter stands in for its compiler: timings mean little")


def _interpreted(target: Target, config: ServerConfig) -> bool:
    """Whether something on the path of every request is a Triton kernel, on a CPU."""
    paged = config.page_size > 1 and not target.adapter.pages_on_cpu
    return config.device == "cpu" and (config.attention_backend == "triton" or paged)


def _cpu_arguments(config: ServerConfig) -> list[str]:
    """An idle CPU server must sleep, or it takes a core from the one being measured."""
    defaults = {"--sampling-backend": "pytorch", "--grammar-backend": "none"}
    given = {word.split("=", 1)[0] for word in config.arguments}
    return [
        "--sleep-on-idle",
        *_pairs({name: value for name, value in defaults.items() if name not in given}),
    ]


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
    if config.model.dummy:
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
    if _interpreted(target, config):
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
