"""From a server config to command line and environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sglperf.core.server_config import Model, ServerConfig
from sglperf.errors import ConfigError
from sglperf.server.arguments import Place, launch_notes, server_command
from sglperf.server.environment import PLACEHOLDER, server_environment, telling
from sglperf.target.build import Target

SHAPE = Model("tiny", 2048, 4096, {"model_type": "llama"})
CPU = ServerConfig(SHAPE, "cpu", "torch_native", 16, (0,), 16384, 64, 0.3, random_seed=7)
CUDA = replace(CPU, device="cuda", attention_backend="flashinfer", tp_set=(2, 3))
TARGET = Target("sglang 0.5.23", Path("/env/bin/python"), None, "0.5.23")
PLACE = Place(
    port=23456,
    name="sglperf-1",
    model_path="/cache/tiny",
    directory=Path("/tmp/x"),
    cache=Path("/cache/jit"),
    devices=("2", "3"),
    cpus=(0, 1, 2, 3, 4),
)


def option(command: list[str], name: str) -> str:
    """The value after the only occurrence of an option."""
    assert command.count(name) == 1
    return command[command.index(name) + 1]


def environment(config: ServerConfig, target: Target = TARGET, **inherited: str) -> dict[str, str]:
    return server_environment(target, config, PLACE, inherited)


def test_everything_that_is_pinned_is_passed() -> None:
    """Model, backend, page, ranks, pool, batch bound, memory share and seed are on the command line."""
    command = server_command(TARGET, CPU, PLACE)
    assert command[:3] == ["/env/bin/python", "-m", "sglang.launch_server"]
    wanted = {
        "--model-path": "/cache/tiny",
        "--served-model-name": "sglperf-1",
        "--host": "127.0.0.1",
        "--port": "23456",
        "--device": "cpu",
        "--attention-backend": "torch_native",
        "--page-size": "16",
        "--tp-size": "1",
        "--max-total-tokens": "16384",
        "--max-running-requests": "64",
        "--mem-fraction-static": "0.3",
        "--random-seed": "7",
        "--load-format": "dummy",
        "--sampling-backend": "pytorch",
        "--grammar-backend": "none",
    }
    assert {name: option(command, name) for name in wanted} == wanted
    assert {
        "--skip-tokenizer-init",
        "--enable-metrics",
        "--incremental-streaming-output",
        "--skip-server-warmup",
        "--sleep-on-idle",
    } <= set(command)


def test_cuda_gets_no_cpu_argument() -> None:
    """A CUDA server keeps SGLang's own sampling, grammar and idle behaviour."""
    command = server_command(TARGET, CUDA, PLACE)
    assert option(command, "--tp-size") == "2"
    assert not {"--sampling-backend", "--grammar-backend", "--sleep-on-idle"} & set(command)


def test_checkpoint_is_loaded_as_it_is() -> None:
    """A checkpoint is not loaded as dummy weights, and may be fetched from the hub."""
    config = replace(CPU, model=replace(SHAPE, path="meta-llama/Meta-Llama-3-8B"))
    assert "--load-format" not in server_command(TARGET, config, PLACE)
    assert "HF_HUB_OFFLINE" not in environment(config)
    assert environment(CPU)["HF_HUB_OFFLINE"] == "1"


def test_further_arguments_come_last() -> None:
    """Further arguments follow, and may choose another sampling backend."""
    config = replace(CPU, arguments=("--schedule-policy", "lpm", "--sampling-backend=flashinfer"))
    command = server_command(TARGET, config, PLACE)
    assert command[-3:] == ["--schedule-policy", "lpm", "--sampling-backend=flashinfer"]
    assert "--sampling-backend" not in command


@pytest.mark.parametrize(
    "argument", ["--host", "--host=0.0.0.0", "--hos", "--page-size", "--tp", "--port=1", "--random-seed"]
)
def test_owned_arguments_are_refused(argument: str) -> None:
    """A further argument that a field or the launch sets is refused, naming who sets it."""
    with pytest.raises(ConfigError, match=rf"server argument {argument} is set by"):
        server_command(TARGET, replace(CPU, arguments=(argument,)), PLACE)


@pytest.mark.parametrize(
    ("target", "refused"),
    [
        (TARGET, True),
        (replace(TARGET, version="0.5.24"), False),
        (replace(TARGET, content="abc"), False),
    ],
    ids=["known release", "newer release", "checkout"],
)
def test_unknown_backend_is_refused_where_names_are_known(target: Target, refused: bool) -> None:
    """Only a known release's list of attention backends is final."""
    config = replace(CPU, attention_backend="flash9")
    if refused:
        with pytest.raises(ConfigError, match=r"no attention backend 'flash9'. Choose one of .*torch_native"):
            server_command(target, config, PLACE)
    else:
        assert option(server_command(target, config, PLACE), "--attention-backend") == "flash9"


def test_cpu_environment() -> None:
    """A CPU server runs the CPU engine, with the placeholder first on its path."""
    variables = environment(CPU, replace(TARGET, import_path=Path("/snap")))
    assert variables["SGLANG_USE_CPU_ENGINE"] == "1"
    assert variables["PYTHONPATH"] == f"{PLACEHOLDER}:/snap"
    assert not {"CUDA_VISIBLE_DEVICES", "TRITON_INTERPRET", "SGLANG_CPU_OMP_THREADS_BIND"} & set(variables)
    assert (PLACEHOLDER / "sgl_kernel" / "__init__.py").is_file()


def test_cuda_environment() -> None:
    """A CUDA server sees exactly its GPUs, and nothing of the CPU engine."""
    variables = environment(CUDA, replace(TARGET, import_path=Path("/snap")), CUDA_VISIBLE_DEVICES="7")
    assert variables["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert variables["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert variables["PYTHONPATH"] == "/snap"
    assert not {"SGLANG_USE_CPU_ENGINE", "SGLANG_NCCL_SO_PATH", "MASTER_PORT"} & set(variables)


def test_cpu_ranks_share_the_cpus_equally() -> None:
    """Each rank of a CPU server gets as many CPUs as the others, and none of theirs."""
    variables = environment(replace(CPU, tp_set=(0, 1)))
    assert variables["SGLANG_CPU_OMP_THREADS_BIND"] == "0,1|2,3"
    assert variables["SGLANG_NCCL_SO_PATH"] == "/dev/null"


def test_more_ranks_than_cpus_are_refused() -> None:
    """A TP set that is larger than the CPUs is refused, with both numbers."""
    with pytest.raises(ConfigError, match=r"parallelism 6 needs 6 CPUs.* 5 are available"):
        environment(replace(CPU, tp_set=tuple(range(6))))


@pytest.mark.parametrize(
    ("version", "backend", "page", "device", "interpreted"),
    [
        ("0.5.23", "torch_native", 16, "cpu", False),
        ("0.5.22", "torch_native", 64, "cpu", False),
        ("0.5.21", "torch_native", 16, "cpu", True),
        ("0.5.21", "torch_native", 1, "cpu", False),
        ("0.5.23", "triton", 1, "cpu", True),
        ("0.5.21", "triton", 16, "cuda", False),
    ],
)
def test_triton_interpreter_where_a_cpu_needs_it(
    version: str, backend: str, page: int, device: str, interpreted: bool
) -> None:
    """Triton's interpreter is used, and said to be used, where a CPU server would otherwise not serve."""
    target = replace(TARGET, version=version)
    config = replace(CPU, attention_backend=backend, page_size=page, device=device)
    assert (environment(config, target).get("TRITON_INTERPRET") == "1") is interpreted
    assert bool(launch_notes(target, config)) is interpreted


def test_callers_environment_does_not_choose_the_code() -> None:
    """Paths and bytecode settings of the caller do not reach the server; other variables do."""
    variables = environment(CPU, PYTHONPATH="/mine", PYTHONDONTWRITEBYTECODE="1", PYTHONHOME="/x", LANG="C")
    assert variables["PYTHONPATH"] == str(PLACEHOLDER)
    assert not {"PYTHONDONTWRITEBYTECODE", "PYTHONHOME"} & set(variables)
    assert variables["LANG"] == "C"


def test_loopback_only() -> None:
    """Ranks meet through a file and loopback, and SGLang's own requests pass by any proxy."""
    variables = environment(CUDA, NO_PROXY="corp", http_proxy="http://proxy")
    assert variables["SGLANG_DISTRIBUTED_INIT_METHOD_OVERRIDE"] == "file:///tmp/x/rendezvous"
    assert variables["GLOO_SOCKET_IFNAME"] == variables["NCCL_SOCKET_IFNAME"] == "lo"
    assert variables["NO_PROXY"] == variables["no_proxy"] == "corp,127.0.0.1,localhost"


def test_caches_are_per_target() -> None:
    """Two builds do not share compiled kernels; two edits of one checkout do."""
    checkout = replace(TARGET, origin=Path("/a/sglang"), content="1")
    edited = replace(checkout, content="2")
    other = replace(checkout, origin=Path("/b/sglang"))
    caches = [environment(CPU, target)["TRITON_CACHE_DIR"] for target in (TARGET, checkout, edited, other)]
    assert caches[1] == caches[2]
    assert len(set(caches)) == 3
    assert all(cache.startswith("/cache/jit/") for cache in caches)


def test_config_has_the_last_word_on_variables() -> None:
    """The config's own environment wins, and is recorded with what else may change a measurement."""
    config = replace(CPU, environment={"HF_HUB_OFFLINE": "0", "MY_KNOB": "3"})
    variables = environment(config, LANG="C", SGLANG_LOG_MS="1", LD_PRELOAD="libx.so")
    assert variables["HF_HUB_OFFLINE"] == "0"
    recorded = telling(variables, config)
    assert {"MY_KNOB", "SGLANG_LOG_MS", "LD_PRELOAD", "SGLANG_USE_CPU_ENGINE"} <= set(recorded)
    assert not {"LANG", "TRITON_CACHE_DIR", "SGLANG_DISTRIBUTED_INIT_METHOD_OVERRIDE"} & set(recorded)


def test_the_prefix_cache_is_left_to_the_server_unless_asked() -> None:
    """What a config says nothing of is not named on the command line."""
    words = server_command(TARGET, CPU, PLACE)
    assert not {"--disable-radix-cache", "--radix-eviction-policy", "--chunked-prefill-size"} & set(words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prefix_cache": False}, ["--disable-radix-cache"]),
        ({"eviction_policy": "lfu"}, ["--radix-eviction-policy", "lfu"]),
        (
            {"eviction_policy": "priority"},
            ["--radix-eviction-policy", "priority", "--enable-priority-scheduling"],
        ),
        ({"chunked_prefill_tokens": 512}, ["--chunked-prefill-size", "512"]),
    ],
)
def test_the_prefix_cache_as_asked(changes: dict[str, Any], words: list[str]) -> None:
    """Cache, policy and chunk become the server's own words."""
    command = server_command(TARGET, replace(CPU, **changes), PLACE)
    at = command.index(words[0])
    assert command[at : at + len(words)] == words
