"""``--shard`` and ``--merge-shards`` as they are typed, on the double of SGLang: what is run where, said and refused."""

from __future__ import annotations

import json
import os
import shutil
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest
from double import make_target
from suite import NOT_DOUBLED, SMALL, Ended, Suite

from sglperf.history.database import History

WITHOUT = [name for name in NOT_DOUBLED if name != "test_environment.py"]
PROFILE = {
    **SMALL,
    "page_sizes": [1, 16, 64],
    "launches": 1,
    "rounds": 1,
    "sweeps": {"streams": [1], "prompt_tokens": [64]},
}
NVML = Path(__file__).parent / "nvml_double"
# Three servers, four shards: the last one has nothing to do.
WHAT = ("-m", "decode", "-k", "inter_token_latency or work")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_target(tmp_path_factory.mktemp("double") / "sg")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(tmp_path_factory.mktemp("shards") / "suite", PROFILE, without=WITHOUT)


@pytest.fixture(scope="module")
def shards(suite: Suite, target: Path) -> list[Ended]:
    """Four of one run, side by side as on four hosts, which meet in a folder and in a database."""
    running = [
        suite.start(
            *WHAT, f"--target={target}", f"--shard={index}/4", f"--results-dir=parts/{index}", "--split=tonight",
            "--baseline=off", SGLPERF_HISTORY=str(suite.folder / "shared.sqlite"),
        )
        for index in (1, 2, 3, 4)
    ]  # fmt: skip
    return [suite.finish(one) for one in running]


def merge(suite: Suite, *arguments: str, **variables: str) -> Ended:
    return suite.run(*WHAT, *arguments, **variables)


def said(ended: Ended) -> str:
    return " ".join(ended.output.split())


def servers(folder: Path) -> Counter[str]:
    """Server config → launches, of the runs below a folder."""
    found = [json.loads(file.read_text()) for file in folder.rglob("run.json")]
    return Counter(launch["config"] for run in found for launch in run["launches"])


def test_each_shard_measures_its_part(suite: Suite, shards: list[Ended]) -> None:
    """Together every server once; the others' tests are deselected; verdicts are provisional; one has nothing to do."""
    assert [one.code for one in shards] == [0, 0, 0, 0], "\n".join(one.output for one in shards)
    started = servers(suite.folder / "parts")
    assert len(started) == 3
    assert set(started.values()) == {1}
    for index, one in enumerate(shards[:3], 1):
        assert f"shard {index} of 4: 1 of 3 server configurations. Its verdicts are provisional" in said(one)
        assert "9 passed, " in one.output
        assert " 9 selected" in one.output
    assert "shard 4 of 4: nothing to do, since there is work for 3 only" in said(shards[3])
    assert " 0 selected" in shards[3].output


def test_merged_like_one_run(suite: Suite, shards: list[Ended], tmp_path: Path) -> None:
    """All items have their outcome, all cases are judged, baselines recorded; no SGLang is there to be found."""
    ended = merge(suite, "--merge-shards=parts", f"--junitxml={tmp_path / 'junit.xml'}", "--target=/nowhere")

    assert ended.code == 0, ended.output
    assert "27 passed" in ended.output
    assert "merged from 3 shards that took" in said(ended)
    assert len(ended.run["cases"]) == 27
    assert set(ended.statuses().values()) == {"new"}
    assert suite.baselines().keys() == {"decode"}
    assert ended.folder is not None
    benchmark = json.loads((ended.folder / "benchmark.json").read_text())
    assert len(benchmark["benchmarks"]) == 6
    items = ElementTree.parse(tmp_path / "junit.xml").getroot().iter("testcase")
    assert sum(1 for _ in items) == 27
    again = merge(suite, "--merge-shards=parts")
    assert again.code == 0, again.output
    assert "regressed" not in again.statuses().values()
    shutil.rmtree(suite.folder / "baselines")


def test_merged_from_the_database(suite: Suite, shards: list[Ended]) -> None:
    """A split by its name: the merged run is added, its shards are gone, and a second merge finds none."""
    url = str(suite.folder / "shared.sqlite")
    listed = suite.finish(suite.command("history", "shards", f"--history={url}"))
    assert [line.split()[:4] for line in listed.output.splitlines()[:-1]] == [
        ["tonight", str(index), "of", "4"] for index in (1, 2, 3, 4)
    ]
    ended = merge(suite, "--merge-shards=tonight", "--baseline=off", SGLPERF_HISTORY=url)

    assert ended.code == 0, ended.output
    assert len(ended.run["cases"]) == 27
    history = History(f"sqlite:///{url}")
    assert ended.folder is not None
    assert [one.name for one in history.kept()] == [ended.folder.name]
    assert history.splits() == ()
    history.close()
    again = merge(suite, "--merge-shards=tonight", "--baseline=off", SGLPERF_HISTORY=url)
    assert again.code == 2
    assert "has no shards of that name" in said(again)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard=5/4"], "--shard: shard is '5/4': there is no shard 5 of 4"),
        (["--shard=1/4", "--merge-shards=parts"], "one run measures a part (--shard) or merges what the parts measured"),
        (["--merge-shards=nowhere"], "--merge-shards=nowhere: no such folder"),
        (["--merge-shards=parts", "--page-size=1"], "another plan: page_sizes is [1] here, [1, 16, 64] there"),
        (["--shard=1/4", "--history=x.sqlite"], "--shard with a history that is shared (--history) needs --split=NAME"),
    ],
)  # fmt: skip
def test_refused(suite: Suite, shards: list[Ended], arguments: list[str], message: str) -> None:
    """In one message, with exit code 2, before anything starts."""
    before = set(suite.folder.glob("results/*"))
    ended = merge(suite, *arguments)

    assert ended.code == 2, ended.output
    assert message in said(ended)
    assert "Traceback" not in ended.output
    assert set(suite.folder.glob("results/*")) == before


def test_other_tests_are_refused(suite: Suite, shards: list[Ended]) -> None:
    """Those that only the shards had are named."""
    ended = suite.run("-m", "decode", "-k", "work", "--merge-shards=parts")

    assert ended.code == 2
    assert "another plan: only there: tiny-llama/" in said(ended)


def test_what_a_host_lacks_is_told_where_shards_meet(suite: Suite, target: Path) -> None:
    """A test of the environment is asked in each shard of its host, and at the merge of the hosts of all."""
    arguments = (
        "-m",
        "env",
        "-k",
        "ready and decode or start",
        f"--target={target}",
        "--baseline=off",
        "--page-size=16",
    )
    shard = suite.run(*arguments, "--shard=1/1", "--results-dir=env")
    assert shard.code == 0, shard.output
    (file,) = suite.folder.glob("env/*/run.json")
    run = json.loads(file.read_text())
    run["shard"]["installation"]["unmet"] = ["torch 2.9.1 is installed, sglang requires torch==2.14.1"]
    file.write_text(json.dumps(run))
    merged = suite.run(*arguments, "--merge-shards=env")

    assert merged.code == 1, merged.output
    assert "1 failed, 2 passed" in merged.output
    assert "torch 2.9.1 is installed" in said(merged)


def test_gpus_are_those_of_the_shards(tmp_path: Path, target: Path) -> None:
    """Where shards meet there is no GPU: which sets are compared, and on which links, is theirs."""
    gpus = {
        **SMALL,
        "device": "cuda",
        "attention_backends": ["triton"],
        "launches": 1,
        "rounds": 1,
        "round_retries": 0,
    }
    suite = Suite(tmp_path / "suite", {**gpus, "servers": {"scaling": {"sweeps": {"streams": [1]}}}})
    what = ("-m", "tp", "-k", "test_decode and decode_throughput", "--baseline=off")
    path = os.pathsep.join(filter(None, (str(NVML), os.environ.get("PYTHONPATH"))))
    shard = suite.run(
        *what,
        f"--target={target}",
        "--shard=1/1",
        "--results-dir=parts",
        PYTHONPATH=path,
        DOUBLE_NVML="A100_X7",
    )
    assert shard.code == 0, shard.output
    merged = suite.run(*what, "--merge-shards=parts")

    assert merged.code == 0, merged.output
    (run,) = [json.loads(file.read_text()) for file in suite.folder.glob("parts/*/run.json")]
    assert merged.run["cases"].keys() == run["cases"].keys()
    assert {one["other"] for one in merged.run["contrasts"]} == {one["other"] for one in run["contrasts"]}
    assert merged.run["fingerprints"] == run["fingerprints"]
    assert len(run["contrasts"]) > 2
