"""From a server config to the command line of one launch. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sglperf.core.server_config import ServerConfig
from sglperf.errors import ConfigError
from sglperf.target.build import Target
from sglperf.target.flags import flags_of, unknown_flags

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
    "--chunked-prefill-size": "chunked_prefill_tokens of the profile",
    "--disable-radix-cache": "prefix_cache of the profile",
    "--radix-eviction-policy": "eviction_policy of the profile",
}


@dataclass(frozen=True)
class Place:
    """Where one launch happens.

    Attributes:
        port: leased loopback port.
        name: served model name, unique to the launch: proves whose server answers.
        model_path: what ``--model-path`` gets.
        directory: private to the launch; rendezvous file and temporary files live there.
        cache: parent of the per-target JIT caches.
        devices: GPU indices of the TP set, in PCI order; empty on a CPU.
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
    return [str(target.interpreter), "-m", "sglang.launch_server", *server_arguments(target, config, place)]


def server_arguments(target: Target, config: ServerConfig, place: Place) -> list[str]:
    """What follows the module on the command line; errors as of `server_command`."""
    _refuse_owned(config.arguments)
    _refuse_unknown_backend(target, config)
    command = _pairs(
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
    command += _cache_arguments(config)
    command += _cpu_arguments(config) if config.device == "cpu" else []
    return [*command, *config.arguments]


def refused_arguments(target: Target, config: ServerConfig) -> tuple[str, ...]:
    """Flags of the config's command line that this build does not take; none where its sources do not tell."""
    flags = None if target.package is None else flags_of(target.package)
    if flags is None:
        return ()
    nowhere = Place(port=0, name="", model_path="", directory=Path(), cache=Path())
    return tuple(unknown_flags(server_arguments(target, config, nowhere), flags))


def _pairs(values: Mapping[str, object]) -> list[str]:
    return [word for name, value in values.items() for word in (name, str(value))]


def _refuse_owned(arguments: Sequence[str]) -> None:
    for word in arguments:
        name = word.split("=", 1)[0]
        # argparse takes any unambiguous beginning of a name for the name.
        owner = next((by for owned, by in _OWNED.items() if len(name) > 2 and owned.startswith(name)), None)
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
    if not interpreted(target, config):
        return target.notes
    said = "Triton's interpreter stands in for its compiler: timings mean little"
    if config.attention_backend == "triton" and "float32" not in config.arguments:
        said += ", and so do answers, since it knows no bf16 (--dtype float32 under server_arguments)"
    return (*target.notes, said)


def interpreted(target: Target, config: ServerConfig) -> bool:
    """Whether something on the path of every request is a Triton kernel, on a CPU."""
    paged = config.page_size > 1 and not target.adapter.pages_on_cpu
    return config.device == "cpu" and (config.attention_backend == "triton" or paged)


def _cache_arguments(config: ServerConfig) -> list[str]:
    """What is left to the server is not named at all, so that its defaults stay its own."""
    words = [] if config.prefix_cache else ["--disable-radix-cache"]
    if config.eviction_policy is not None:
        words += ["--radix-eviction-policy", config.eviction_policy]
    if config.eviction_policy == "priority":
        words += ["--enable-priority-scheduling"]  # else a request that has a priority is refused
    if config.chunked_prefill_tokens is not None:
        words += ["--chunked-prefill-size", str(config.chunked_prefill_tokens)]
    return words


def _cpu_arguments(config: ServerConfig) -> list[str]:
    """An idle CPU server must sleep, or it takes a core from the one being measured."""
    defaults = {"--sampling-backend": "pytorch", "--grammar-backend": "none"}
    given = {word.split("=", 1)[0] for word in config.arguments}
    return [
        "--sleep-on-idle",
        *_pairs({name: value for name, value in defaults.items() if name not in given}),
    ]
