"""Tensor parallelism on hosts that are here only as recordings, with the double of SGLang: which servers are started, on
which GPUs, one after the other, and what is told of them."""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from double import make_target
from suite import SMALL, Ended, Suite

GPU = {
    **SMALL,
    "device": "cuda",
    "attention_backends": ["triton"],
    "model": "tiny-llama",
    "rounds": 1,
    "round_retries": 0,
    "client_lag_share": 1000.0,  # nor does it matter how busy this machine is
    "servers": {"scaling": {"sweeps": {"streams": [1]}}, "allreduce": {}},
}
NVML = Path(__file__).parent / "nvml_double"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> str:
    """``--target`` of the double."""
    return f"--target={make_target(tmp_path_factory.mktemp('double') / 'sg')}"


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path / "suite", GPU)


def ran(suite: Suite, machine: str, *arguments: str) -> Ended:
    """A run on that recording's machine, which must not end in a traceback."""
    path = os.pathsep.join(filter(None, (str(NVML), os.environ.get("PYTHONPATH"))))
    ended = suite.run(*arguments, "--baseline=off", PYTHONPATH=path, DOUBLE_NVML=machine)
    assert "Traceback" not in ended.output
    assert "INTERNALERROR" not in ended.output
    return ended


def decoded(suite: Suite, machine: str, target: str, *arguments: str) -> Ended:
    return ran(suite, machine, "-m", "tp", "-k", "test_decode and decode_throughput", target, *arguments)


def said(ended: Ended) -> str:
    return " ".join(ended.output.split())


def started(ended: Ended) -> list[tuple[int, str]]:
    """(launch, server) in the order in which they came up."""
    lines = (line["launch"] for line in ended.journal if line["kind"] == "launch")
    return [(line["index"], line["config"]) for line in lines]


def contrasts(ended: Ended) -> dict[str, Any]:
    return {one["other"]: one for one in ended.run["contrasts"]}


def test_a_host_with_pairs(suite: Suite, target: str) -> None:
    """Seven A100: a set of each class and size, each launch one after the other and the next the other way round.

    Their contrasts are of the same launch of both, whichever came first, and go by class.
    """
    ended = decoded(suite, "A100_X7", target)

    assert ended.code == 0, ended.output
    order = [[config for _, config in some] for _, some in groupby(started(ended), lambda one: one[0])]
    assert len(order) == 2
    assert order[0] == order[1][::-1]
    assert {config.split("-")[2] for config in order[0]} == {
        "tp0",
        "tp0.1",
        "tp0.2",
        "tp0.4",
        "tp0.1.2.3",
        "tp0.1.5.6",
    }
    found = contrasts(ended)
    assert {name: (one["reference"], one["links"], one["ranks"]) for name, one in found.items()} == {
        "nvlink-2": ("single", "nvlink", 2),
        "numa-node-2": ("single", "numa-node", 2),
        "cross-numa-2": ("single", "cross-numa", 2),
        "numa-node-4": ("single", "numa-node", 4),
        "cross-numa-4": ("single", "cross-numa", 4),
    }
    for one in found.values():
        assert one["efficiency"] == [value / one["ranks"] for value in one["speedup"]]
    assert {one["link_class"] for one in ended.run["fingerprints"].values()} == {
        "single", "nvlink", "numa-node", "cross-numa",
    }  # fmt: skip
    assert "scaling efficiency over single · tiny-llama · scaling-triton-page16" in said(ended)
    _only_nvlink_is_told_of_nvlink(ended)


def _only_nvlink_is_told_of_nvlink(ended: Ended) -> None:
    """The claims speak of another model, so they are not told here; but what they were held against is kept."""
    claims = {one["name"]: one for one in ended.run["claims"]}
    assert {one["standing"] for one in claims.values()} == {"not measured here"}
    assert "it speaks of llama-2-7b, this is tiny-llama" in claims["scaling-nvlink-pair"]["reason"]


def test_a_host_with_a_switch(suite: Suite, target: str) -> None:
    """Eight H100: all pairs are alike, so there is one set of each size; tiny-llama has KV heads for eight, shared."""
    ended = decoded(suite, "H100_X8", target, "--launches=1")

    assert ended.code == 0, ended.output
    assert list(contrasts(ended)) == ["nvswitch-2", "nvswitch-4", "nvswitch-8"]


def test_a_host_without_nvlink(suite: Suite, target: str) -> None:
    """Two L40S: one set of two, in the NUMA node of both."""
    ended = decoded(suite, "PCIE_X8", target, "--launches=1", "--tp-gpus=0;0,1;0,4;2,3")

    assert ended.code == 0, ended.output
    assert set(contrasts(ended)) == {"pcie-switch-2", "cross-numa-2", "pcie-switch-2:2.3"}


def test_one_gpu_alone(suite: Suite, target: str) -> None:
    """Where nothing else was asked for the run ends with one line; beside others the tests are skipped, with the reason."""
    needs = "tensor parallelism needs a TP set of 2 or more, and this machine has 1 GPU that can be used"
    alone = ran(suite, "WELL", "-m", "tp", target)

    assert alone.code == 3, alone.output
    assert said(alone).count(needs) == 1
    assert alone.folder is None
    beside = ran(
        suite,
        "WELL",
        "-m",
        "tp or decode",
        "-k",
        "decode_throughput and streams1 or not-here",
        "-rs",
        "--launches=1",
        target,
    )
    assert beside.code == 0, beside.output
    assert needs in said(beside)
    assert "skipped" in beside.output
    assert len(started(beside)) == 1
