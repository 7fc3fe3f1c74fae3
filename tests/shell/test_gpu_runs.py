"""Whole runs on GPUs that are here only as recordings, with the double of SGLang: what becomes of a round on a bad one."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from double import make_target
from suite import ROOT, SMALL, Ended, Suite, interrupt

from sglperf.baseline_care import results_of

GPU = {
    **SMALL,
    "device": "cuda",
    "attention_backends": ["triton"],
    "tp_sets": [[0]],
    "launches": 1,
    "rounds": 1,
    "round_retries": 1,
    "sweeps": {"streams": [1]},
}
NVML = Path(__file__).parent / "nvml_double"
OTHERS = tuple(file.name for file in (ROOT / "perf_tests").glob("test_*.py") if file.name != "test_decode.py")
TIMED = "inter_token_latency"
COUNTED = ("prompt_tokens", "completion_tokens", "decode_tokens", "kv_capacity_tokens")
ONE_OF_EACH = ("-m", "decode", "-k", f"{TIMED} or test_work", "--baseline=off")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> str:
    """``--target`` of the double."""
    return f"--target={make_target(tmp_path_factory.mktemp('double') / 'sg')}"


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path / "suite", GPU, without=OTHERS)


def ran(suite: Suite, target: str, machine: str, *arguments: str, **environment: str) -> Ended:
    """A run on that recording's machine, which must not end in a traceback."""
    ended = suite.run(*ONE_OF_EACH, target, *arguments, **on(machine), **environment)
    assert "Traceback" not in ended.output
    assert "INTERNALERROR" not in ended.output
    return ended


def on(machine: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(NVML), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "DOUBLE_NVML": machine}


def rounds(ended: Ended) -> list[dict[str, Any]]:
    return [line for line in ended.journal if line["kind"] == "round"]


def gates(ended: Ended) -> list[list[str]]:
    """Codes of each try of a round, in order."""
    return [[gate["code"] for gate in line["round"]["gates"]] for line in rounds(ended)]


def said(ended: Ended) -> str:
    return " ".join(ended.output.split())


def codes(ended: Ended, *metrics: str) -> set[tuple[str, str]]:
    """(status, code) of these metrics' cases."""
    cases = [case for case in ended.run["cases"].values() if case["metric"]["name"] in metrics]
    assert len(cases) == len(metrics)
    return {(case["status"], case["code"]) for case in cases}


def test_a_gpu_that_is_well(suite: Suite, target: str) -> None:
    """Its run passes, our server on it is no neighbour, and each round's samples are kept."""
    ended = ran(suite, target, "WELL", "--rounds=2")

    assert ended.code == 0, ended.output
    assert set(ended.statuses().values()) == {"new"}
    assert gates(ended) == [[], []]
    for line in rounds(ended):
        (gpu,) = line["observation"]["gpus"]
        assert (gpu["index"], gpu["foreign"], gpu["lost"]) == (0, [], None)
        assert len(gpu["samples"]) >= 2
        for sample in gpu["samples"]:
            assert (sample["sm_clock_mhz"], sample["memory_clock_mhz"]) == (345, 2619)
            assert (sample["power_w"], sample["temperature_c"]) == (70.412, 31)
            assert (sample["clock_reasons"], sample["ecc_errors"]) == (["idle"], 0)
            assert len(sample["processes"]) == 1


def test_hot_at_first(suite: Suite, target: str) -> None:
    """A round on a throttled GPU is repeated once the GPU has cooled down, and its case has a verdict.

    All this in a container, where the driver's number of our server is not ours.
    """
    ended = ran(suite, target, "HOT_THEN_WELL")

    assert ended.code == 0, ended.output
    assert gates(ended) == [["gpu-throttled"], []]
    hot, well = (
        [sample["temperature_c"] for sample in line["observation"]["gpus"][0]["samples"]]
        for line in rounds(ended)
    )
    assert (set(hot), set(well)) == ({88}, {31})
    assert {status for status, _ in codes(ended, TIMED, *COUNTED)} == {"new"}


def test_hot_for_good(suite: Suite, target: str) -> None:
    """After its retries the timings of a throttled GPU are invalid, and say how slow and hot it was; counts stand."""
    _cool_for(suite, 0.3)
    ended = ran(suite, target, "ALWAYS_HOT")

    assert ended.code == 3, ended.output
    assert gates(ended) == [["gpu-throttled"]] * 2
    assert codes(ended, TIMED) == {("invalid", "gpu-throttled")}
    assert {status for status, _ in codes(ended, *COUNTED)} == {"new"}
    assert "GPU 0 was slowed down (hw thermal) to 1155 MHz at 88 °C: see to its cooling" in said(ended)


def _cool_for(suite: Suite, seconds: float) -> None:
    """Wait no longer than that for a hot GPU, in this suite's runs."""
    with (suite.folder / "conftest.py").open("a") as file:
        file.write(f"\nfrom sglperf.probes import gpu_watch\n\ngpu_watch.COOLING_SECONDS = {seconds}\n")


def test_a_neighbour(suite: Suite, target: str) -> None:
    """Timings beside another process are invalid and name it, and not our own server; counts stand."""
    ended = ran(suite, target, "NEIGHBOUR_COMES")

    assert ended.code == 3, ended.output
    assert gates(ended) == [["gpu-shared"]] * 2
    assert codes(ended, TIMED) == {("invalid", "gpu-shared")}
    assert {status for status, _ in codes(ended, *COUNTED)} == {"new"}
    assert "another process computes on GPU 0 (pid 4242): end it" in said(ended)


def test_wrong_memory(suite: Suite, target: str) -> None:
    """Where a GPU's memory went wrong its counts are not believed either."""
    ended = ran(suite, target, "ECC_ERRORS")

    assert ended.code == 3, ended.output
    assert gates(ended) == [["gpu-ecc"]] * 2
    assert codes(ended, TIMED, *COUNTED) == {("invalid", "gpu-ecc")}
    assert all(line["round"]["values"] == {} for line in rounds(ended))


def test_a_gpu_that_is_lost(suite: Suite, target: str) -> None:
    """Nothing is believed of it, and that it is gone is said in one line for all cases."""
    ended = ran(suite, target, "LOST_MIDWAY")

    assert ended.code == 3, ended.output
    assert gates(ended) == [["gpu-lost"]] * 2
    assert codes(ended, TIMED, *COUNTED) == {("invalid", "gpu-lost")}
    section = said(ended).partition("= sglperf =")[2].partition("short test summary")[0]
    assert section.count("GPU 0 no longer answers (GPU is lost): see dmesg") == 1


def test_lost_between_launches(suite: Suite, target: str) -> None:
    """A GPU that is gone when the next server is to start ends the run with one line, and is no fault of sglperf's."""
    ended = ran(suite, target, "LOST_MIDWAY", "--launches=2")

    assert ended.code == 3, ended.output
    assert said(ended).count("GPU 0 no longer answers") == 1
    assert gates(ended) == [["gpu-lost"]] * 2


def test_passes_outside_graphs(suite: Suite, target: str) -> None:
    """Decode passes for which no graph was captured spoil timings, and the flag that helps is named."""
    ended = ran(suite, target, "WELL", DOUBLE_FAULT="no-graph-fits")

    assert ended.code == 3, ended.output
    assert gates(ended) == [["graph-fallback"]] * 2
    assert codes(ended, TIMED) == {("invalid", "graph-fallback")}
    assert {status for status, _ in codes(ended, *COUNTED)} == {"new"}
    assert "11 decode passes ran outside CUDA graphs" in said(ended)
    assert "--cuda-graph-max-bs-decode" in said(ended)


def test_two_runs_on_one_gpu(suite: Suite, target: str) -> None:
    """The second run is told who has the GPU, and ends before it starts a server."""
    first = suite.start(*ONE_OF_EACH, target, "--rounds=5000", **on("WELL"))
    try:
        _until(
            lambda: any(
                b'"kind":"round"' in file.read_bytes()
                for file in suite.folder.glob("results/*/journal.jsonl")
            )
        )
        second = ran(suite, target, "WELL")
    finally:
        interrupt(first)
        suite.finish(first)

    assert second.code == 3, second.output
    assert (
        f"is in use by another sglperf run (pid {first.pid}). Wait for that run, or choose others with --tp-gpus"
        in said(second)
    )
    assert second.output.count("is in use") == 1
    assert not any(line["kind"] == "launch" for line in second.journal)


def _until(condition: Any, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


def test_a_baseline_knows_its_gpu(suite: Suite, target: str) -> None:
    """It is recorded with the GPU that it was measured on; on another one of the same product that is said."""
    keep = ("-m", "decode", "-k", f"{TIMED} or test_work", target)
    assert suite.run(*keep, **on("WELL")).code == 0
    again = suite.run(*keep, **on("WELL"))
    assert again.folder is not None
    assert [one.fingerprint["device"] for one in results_of(again.run, again.folder)] == ["cuda"]
    other = suite.run(*keep, **on("WELL"), DOUBLE_CARD="1")
    assert (again.code, other.code) == (0, 0), other.output
    recorded = json.loads(suite.baselines()["decode"].read_text())
    (first,) = {context["gpus"][0] for context in recorded["contexts"].values()}
    assert first.startswith("GPU-")
    assert "gpus GPU-" not in said(again)
    assert f"gpus {first[:12]} → GPU-1{first[5:12]}" in said(other)
