"""Attention backends as servers and their kernels, on real SGLang."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "shell"))
from faults import PAGE_NOT_SEEN, faulty
from suite import Ended, Suite

from sglperf.config import load_settings
from sglperf.config_folder import ConfigFolder
from sglperf.configurations import server_configs
from sglperf.models import load_model
from sglperf.server.worker import Worker, start_worker
from sglperf.target.resolve import resolve_target

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sglang") is None, reason="needs SGLang in this environment"
)
NO_COMPILER = pytest.mark.skipif(
    shutil.which("g++") is None, reason="flex_attention on a CPU compiles C++, and there is no g++"
)
CONFIG = ConfigFolder(Path(__file__).parents[2] / "config")
SMALL = {
    "launches": 2,
    "rounds": 2,
    "workloads": {
        "decode": {"prompt_tokens": 64, "new_tokens": 24},
        "prefill": {"requests": 2},
        "repeat": {"prompt_tokens": 100},
        "answers": {"prompt_tokens": 64, "new_tokens": 32},
        "decode-pass": {"context_tokens": 256},
        "prefill-pass": {"context_tokens": 256, "new_tokens": 64},
    },
    "sweeps": {"streams": [1], "prompt_tokens": [64], "batch": [8], "context_tokens": [256]},
}
NATIVE, FLEX = "torch_native-page16-tp0", "flex_attention-page16-tp0"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(tmp_path_factory.mktemp("backends") / "suite", SMALL)


def rounds_in_order(ended: Ended, workload: str) -> list[str]:
    """Backend of each round of a workload, as they happened; a round that a gate had repeated comes once."""
    rounds = [record["round"] for record in ended.journal if record["kind"] == "round"]
    mine = {(one["index"], one["config"]): None for one in rounds if one["workload"].startswith(workload)}
    return [config.partition("-")[0] for _, config in mine]


@NO_COMPILER
def test_a_page_that_is_not_seen(suite: Suite, tmp_path: Path) -> None:
    """Decoding that leaves out a page is found twice: other tokens than another backend's, and a wrong kernel.

    What is right beside it is not blamed: the backend's own answers repeat, and its prefill passes.
    """
    ended = suite.run(
        "-m", "backend or kernel",
        "-k", "same_answers or (by_batch and throughput) or (extend and attention) or (decode_attention and time)",
        "--launches=1", "--page-size=16", "--baseline=off",
        faulty(tmp_path / "sglang", PAGE_NOT_SEEN), timeout=600,
    )  # fmt: skip
    assert ended.code == 1, ended.output
    answers = {
        case["config"]: case for case in ended.run["cases"].values() if case["workload"].startswith("answers")
    }
    assert answers[f"{NATIVE}-answers"]["status"] == "unchanged"
    assert answers[f"{FLEX}-answers"]["status"] == "regressed"
    said = answers[f"{FLEX}-answers"]["sentence"]
    assert re.match(
        r"[1-4] of 8 answers depart; request \d from that of torch_native at token \d+: ", said
    ), said
    wrong = next(case for case in ended.run["cases"].values() if case["workload"].startswith("decode-pass"))
    assert (wrong["metric"]["name"], wrong["code"]) == ("attention_time", "kernel-wrong")
    assert "attention is off from its float64 reference by" in ended.output
    assert ended.status("prefill-pass", "attention_time") == "new"
    # One start of each tells no interval, and the two took turns.
    (contrast,) = ended.run["contrasts"]
    assert (contrast["reference"], contrast["other"]) == ("torch_native", "flex_attention")
    assert (contrast["comparison"]["low"], contrast["comparison"]["high"]) == (0.0, None)
    order = rounds_in_order(ended, "decode-p64")
    assert order[0] != order[1]
    assert order == [order[0], order[1], order[1], order[0]]
    (claim,) = [one for one in ended.run["claims"] if one["name"] == "decode-attention-bandwidth"]
    assert (claim["standing"], claim["reason"]) == ("not measured here", "nothing of it was measured")


@pytest.mark.nightly
@NO_COMPILER
def test_sound_backends(suite: Suite) -> None:
    """Two backends give the same tokens; how they compare is told with an interval, and their kernels add up."""
    ended = suite.run("-m", "backend or kernel", "--page-size=16", "--baseline=off", timeout=900)
    assert ended.code == 0, ended.output
    answers = [case for case in ended.run["cases"].values() if case["workload"].startswith("answers")]
    assert [case["code"] for case in answers] == ["as-predicted"] * 2
    assert all(one["comparison"]["low"] > 0 for one in ended.run["contrasts"])
    rounds = [one for one in ended.run["rounds"] if one["workload"] == "decode-pass-c256-s8"]
    passes = [one["values"] for one in rounds if not one["gates"]]  # one that a gate rejects is repeated
    assert passes
    # Nine modules in each of four layers, and embedding, last norm, logits and sampling.
    assert {one["kernel_calls"] for one in passes} == {40.0}
    assert all(0.6 < one["pass_coverage"] < 1.4 for one in passes)


@pytest.fixture(params=[16, *(pytest.param(size, marks=pytest.mark.nightly) for size in (1, 64))])
def triton(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Worker]:
    """Triton's kernels through its interpreter, which knows no bf16: it computes with the bits of one as if of an int."""
    settings = load_settings(
        CONFIG,
        {
            "profile": "cpu",
            "attention_backends": ("triton",),
            "page_sizes": (request.param,),
            "server_arguments": ("--dtype", "float32"),
        },
        {},
        (),
    )
    (config,) = server_configs(settings, load_model(CONFIG, settings.model))
    target = resolve_target(sys.executable)
    with start_worker(target, config, "model_pass", log_path=tmp_path / "log", timeout=120) as worker:
        yield worker


def test_triton_kernels(triton: Worker) -> None:
    """Paged decode and extend attention are what float64 says, on pages of every size."""
    asked = {"layers": 2, "seed": 0, "budget": 0, "streams": 2}
    for phase in (
        {"phase": "decode", "context": 100, "new": 1},
        {"phase": "prefill", "context": 128, "new": 64},
    ):
        said: dict[str, Any] = triton.ask({**asked, **phase}, 120)
        attention = said["parts"]["attn"]
        assert attention["error"] < attention["tolerance"] == 1e-5
        assert (attention["calls"], attention["calls_in_layer"]) == (2, 1)


FLASHINFER = """
import inspect, torch
from flashinfer import BatchDecodeWithPagedKVCacheWrapper, BatchPrefillWithPagedKVCacheWrapper
from flashinfer.testing import bench_gpu_time
asked = {"dry_run_time_ms", "repeat_iters", "enable_cupti", "use_cuda_graph", "cold_l2_cache"}
assert asked <= set(inspect.signature(bench_gpu_time).parameters), "bench_gpu_time takes other arguments"
print("imported")
wrapper = BatchDecodeWithPagedKVCacheWrapper(torch.empty(1 << 20, dtype=torch.uint8), "NHD")
indptr = torch.tensor([0, 4], dtype=torch.int32)
wrapper.plan(indptr, torch.arange(4, dtype=torch.int32), torch.tensor([1], dtype=torch.int32), 8, 4, 64, 16)
print("planned")
"""


def test_flashinfer() -> None:
    """What the worker calls of FlashInfer is there; planning goes as far as a machine lets it."""
    ended = subprocess.run(
        [sys.executable, "-c", FLASHINFER], check=False, capture_output=True, text=True, timeout=300
    )
    assert "imported" in ended.stdout, ended.stderr
    if "planned" not in ended.stdout:
        pytest.skip(f"FlashInfer plans nothing here: {ended.stderr.strip().splitlines()[-1]}")
