"""Bad input and bad days: one clear message, the right exit code, nothing left running, nothing lost.

The server is a double (tests/shell/double.py), since SGLang does not die or hang on demand.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from double import make_target
from suite import NOT_DOUBLED, SMALL, Ended, Suite, alive, gone, interrupt


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> str:
    """``--target`` of the double."""
    return f"--target={make_target(tmp_path_factory.mktemp('double') / 'sg')}"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, target: str) -> Suite:
    """A suite with baselines of the double."""
    suite = Suite(tmp_path_factory.mktemp("recorded") / "suite", SMALL, without=NOT_DOUBLED)
    ended = suite.run("-q", target)
    assert ended.code == 0, ended.output
    assert set(ended.statuses().values()) == {"new"}
    return suite


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """A fresh suite without baselines."""
    return Suite(tmp_path / "suite", SMALL, without=NOT_DOUBLED)


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[psutil.Process]]]:
    """What this test has started and is still there; five seconds after the test that is nothing.

    A variable of the environment tells it from what other tests have started: it is handed down to every process,
    in whatever session and below whomever.
    """
    mark = secrets.token_hex(8)
    monkeypatch.setenv("STARTED_BY", mark)

    def running() -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if _started_by(process) == mark]

    yield running
    if not gone(running):
        left = [(process, process.cmdline()) for process in running()]
        for process, _ in left:  # the other tests do without it
            process.kill()
        raise AssertionError(left)


def _started_by(process: psutil.Process) -> str | None:
    with contextlib.suppress(psutil.Error):  # of another user, a zombie, or gone
        return process.environ().get("STARTED_BY")
    return None


def clear(ended: Ended, code: int, *said: str) -> None:
    """The exit code, the words of the message, and no traceback."""
    assert ended.code == code, ended.output
    for words in said:
        assert words in " ".join(ended.output.split()), ended.output
    assert "Traceback" not in ended.output
    assert "INTERNALERROR" not in ended.output


# ---- bad input: exit 2, and no server was started


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--profile=nope"], "unknown profile 'nope'"),
        (["--attention-backend=nope"], "unknown attention backend 'nope'"),
        (["--page-size=0"], "--page-size: page_sizes is"),
        (["--page-size=x"], "--page-size: page_sizes is"),
        (["--launches=0"], "--launches: launches is '0'"),
        (["--tp-gpus=0,0"], "each GPU once"),
        (["--tp-gpus=zero"], "give GPU indices"),
        (["--model=nope"], "unknown model 'nope'"),
        (["--baseline=maybe"], "--baseline: baseline is 'maybe'"),
        (["--base=x"], "--base and --head go together"),
        (["--profile=gpu", "--tp-gpus=7"], "there is no GPU 7"),
    ],
)
def test_bad_option(suite: Suite, target: str, arguments: list[str], said: str) -> None:
    """A bad option is named, with its value, before anything starts."""
    ended = suite.run("-m", "decode", target, *arguments)
    clear(ended, 2, said)
    assert not list(suite.folder.glob("results/*/*.log"))


def test_no_sglang(suite: Suite, tmp_path: Path) -> None:
    """An interpreter without SGLang is named, with what to do."""
    empty = make_target(tmp_path / "empty")
    for found in (tmp_path / "empty").rglob("sglang*"):
        shutil.rmtree(found, ignore_errors=True)
    clear(suite.run(f"--target={empty}"), 2, "no SGLang", str(empty), "--target")


def test_value_taken_for_a_folder(
    suite: Suite, target: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A path that pytest would take for a folder of tests is explained."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    clear(suite.run(target, "--results-dir", str(elsewhere)), 2, f"write --results-dir={elsewhere}")


def test_profile_with_a_typo(suite: Suite, target: str) -> None:
    """An unknown entry of a profile is named with its file."""
    profile = suite.folder / "config/profiles/small.yaml"
    profile.write_text(profile.read_text() + "lauches: 3\n")
    clear(suite.run(target), 2, "small.yaml: lauches", "unknown setting")


def test_too_large_for_the_pool(suite: Suite, target: str) -> None:
    """A workload that the KV pool cannot hold is refused before a server starts."""
    clear(suite.run(target, SGLPERF_MAX_TOTAL_TOKENS="64"), 2, "KV cache", "raise max_total_tokens")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda text: text[:0], "not valid JSON"),
        (lambda text: text[: len(text) // 2], "not valid JSON"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 99'), "schema 99"),
        (lambda text: text.replace('"unit"', '"units"'), "restore it from git"),
        (
            lambda text: json.dumps({**json.loads(text), "fingerprint_id": "1x-h100-0"}),
            "recorded on 1x-h100-0",
        ),
    ],
    ids=["empty", "truncated", "future-schema", "corrupt", "foreign-fingerprint"],
)
def test_bad_baseline(recorded: Suite, target: str, broken: Callable[[str], str], said: str) -> None:
    """A baseline that cannot be used is named before a server starts, and left as it is."""
    file = recorded.baselines()["decode"]
    good = file.read_text()
    bad = broken(good)
    assert bad != good
    file.write_text(bad)
    try:
        ended = recorded.run("-m", "decode", target)
        clear(ended, 2, said, str(file))
        assert file.read_text() == bad
        assert not any(line["kind"] == "launch" for line in ended.journal)
    finally:
        file.write_text(good)


def test_unwritable_results(suite: Suite, target: str) -> None:
    """A results folder that cannot be made is named before a server starts."""
    (suite.folder / "results").write_text("in the way")
    clear(suite.run("-m", "decode", target), 3, "results folder", "--results-dir")


# ---- bad days: exit 3, and what was measured is kept


def test_dies_on_start(suite: Suite, target: str) -> None:
    """A server that dies on start is reported once, with its last log lines."""
    ended = suite.run("-m", "decode", target, DOUBLE_FAULT="dies-on-start")
    clear(ended, 3, "exit status 1", "CUDA out of memory. Tried to allocate 20 GiB", "whole log")
    assert ended.output.count("next:") == 1


def test_hangs_on_start(suite: Suite, target: str) -> None:
    """A server that never becomes ready is given up after its time."""
    clear(
        suite.run("-m", "decode", target, DOUBLE_FAULT="hangs-on-start", SGLPERF_START_TIMEOUT="2"),
        3,
        "not ready after 2 s",
    )


def test_dies_mid_round(recorded: Suite, target: str) -> None:
    """A server that dies in a round makes its cases invalid; the rounds before it stay in the journal."""
    ended = recorded.run("-m", "decode", target, DOUBLE_FAULT="dies-mid-round")
    clear(ended, 3, "illegal memory access", "exit status 1")
    assert set(ended.statuses().values()) == {"invalid"}
    assert any(line["kind"] == "round" for line in ended.journal)


def test_hangs_mid_round(recorded: Suite, target: str) -> None:
    """A server that stops answering is given up after the round's time, once, not once per round."""
    ended = recorded.run("-m", "decode", target, DOUBLE_FAULT="hangs-mid-round", SGLPERF_ROUND_TIMEOUT="2")
    clear(ended, 3, "hung: no token for 2.0 s")
    assert len([line for line in ended.journal if line["kind"] == "launch"]) == 1


def test_interrupted(recorded: Suite, target: str) -> None:
    """Ctrl-C in a round ends everything and says where the rounds are."""
    process = recorded.start("-m", "decode", target, "--rounds=500")
    folder = _await_rounds(recorded, process)
    interrupt(process)
    ended = recorded.finish(process, 20)
    clear(ended, 2, "interrupted", str(folder / "journal.jsonl"))
    assert ended.journal[-1]["kind"] == "interrupted"


def test_killed(recorded: Suite, target: str, ours: Callable[[], list[psutil.Process]]) -> None:
    """After kill -9 of pytest no server or client is left after five seconds, and the journal is whole."""
    process = recorded.start("-m", "decode", target, "--rounds=500")
    folder = _await_rounds(recorded, process)
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) >= 3, started  # the client, the guardian and the server
    assert set(started) <= set(ours())  # so each of them would be seen, were it left by another test
    process.kill()
    process.communicate()
    assert gone(lambda: alive(started))
    lines = (folder / "journal.jsonl").read_bytes().splitlines()
    assert sum(json.loads(line)["kind"] == "round" for line in lines) >= 1


def _await_rounds(suite: Suite, process: subprocess.Popen[str]) -> Path:
    """The run's folder, once its first round is in the journal."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        for journal in suite.folder.glob(f"results/*-{process.pid}/journal.jsonl"):
            if b'"kind":"round"' in journal.read_bytes():
                return journal.parent
        time.sleep(0.05)
    raise AssertionError(process.communicate()[0] if process.poll() is not None else "no round after 120 s")


def test_two_runs_at_once(suite: Suite, target: str) -> None:
    """Two runs on one machine share neither a port nor a folder, and both baselines are recorded."""
    areas = ("decode", "prefill")
    pages = ("16", "64")
    processes = [suite.start("-m", area, f"--page-size={page}", target) for area in areas for page in pages]
    ended = [suite.finish(process) for process in processes]
    assert [one.code for one in ended] == [0] * 4, [one.output for one in ended]
    assert len({one.folder for one in ended}) == 4
    for area in areas:
        cases = json.loads(suite.baselines()[area].read_text())["cases"]
        assert {name.split("/")[1] for name in cases} == {f"torch_native-page{page}-tp0" for page in pages}


# ---- verdicts of a whole run, with faults seeded in the double


def test_short_match(recorded: Suite, target: str) -> None:
    """A prefix match short by one page regresses exact metrics, makes their timings incomparable, and fails."""
    ended = recorded.run("-m", "prefill", target, DOUBLE_FAULT="page-short")
    clear(ended, 1, "288 → 272 tok")
    assert ended.status("repeat", "cached_tokens") == "regressed"
    assert ended.status("repeat", "prefill_tokens") == "regressed"
    assert ended.status("prefill", "cached_tokens") == "unchanged"


def test_other_default(recorded: Suite, target: str) -> None:
    """A default that changed is named."""
    ended = recorded.run("-m", "prefill and exact", target, DOUBLE_FAULT="other-default")
    clear(ended, 0, "context differs", "chunked_prefill_size 4096 → 2048")


def test_strict(suite: Suite, target: str) -> None:
    """Under --strict a case without a baseline fails."""
    clear(suite.run("-m", "prefill and exact", "--strict", target), 1, "new")


def test_baseline_off(suite: Suite, target: str) -> None:
    """With --baseline=off nothing is recorded."""
    clear(suite.run("-m", "prefill and exact", "--baseline=off", target), 0, "--baseline off")
    assert suite.baselines() == {}


def test_compare_leaves_the_baseline(recorded: Suite, target: str) -> None:
    """A comparison changes no byte of an accepted baseline; --baseline=record replaces it."""
    file = recorded.baselines()["prefill"]
    before = file.read_bytes()
    arguments = ("-m", "prefill and exact", "-k", "reuse", target)
    recorded.run(*arguments, DOUBLE_FAULT="page-short")
    assert file.read_bytes() == before
    try:
        recorded.run(*arguments, "--baseline=record", DOUBLE_FAULT="page-short")
        recorded_case = next(
            case for name, case in json.loads(file.read_text())["cases"].items() if "repeat" in name
        )
        (samples,) = recorded_case["metrics"]["cached_tokens"]["samples"].values()
        assert samples == [[272.0]]  # a count has no noise: one launch, one round
    finally:
        file.write_bytes(before)


def test_benchmark_files(recorded: Suite, target: str, tmp_path: Path) -> None:
    """pytest-benchmark's JSON holds the measured seconds, and its own compare reads it."""
    mine = tmp_path / "mine.json"
    ended = recorded.run("-m", "decode and timing", target)
    assert ended.folder is not None
    documents = [json.loads((ended.folder / "benchmark.json").read_text())]
    again = recorded.run("-m", "decode and timing", f"--benchmark-json={mine}", target)
    documents.append(json.loads(mine.read_text()))
    for one, document in zip((ended, again), documents, strict=True):
        for bench in document["benchmarks"]:
            case = one.run["cases"][bench["extra_info"]["case"]]
            rounds = [value for launch in case["head"] for value in launch]
            expected = rounds if case["metric"]["unit"] == "s" else [1 / value for value in rounds]
            assert bench["stats"]["data"] == pytest.approx(expected, rel=1e-9)
            assert bench["extra_info"]["verdict"] == case["status"]
    command = [
        sys.executable,
        "-m",
        "pytest_benchmark",
        "compare",
        f"--histogram={tmp_path / 'histogram'}",
        str(ended.folder / "benchmark.json"),
        str(mine),
    ]
    compared = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert "inter_token_latency" in compared
    assert any("inter_token_latency" in file.read_text() for file in tmp_path.glob("histogram*.svg"))


def test_junit(recorded: Suite, target: str, tmp_path: Path) -> None:
    """JUnit has a test case for each metric, with its verdict."""
    junit = tmp_path / "junit.xml"
    recorded.run("-m", "prefill and exact", "-k", "reuse", f"--junitxml={junit}", target)
    text = junit.read_text()
    assert text.count("<testcase") == 3
    assert text.count('name="verdict" value="unchanged"') == 3


def test_starts_are_shared(recorded: Suite, target: str) -> None:
    """There are as many server starts as configurations × launches, whatever the number of tests."""
    ended = recorded.run(target, "--page-size=16,64", "--rounds=1", "--baseline=off")
    assert "4 server starts (2 configurations × 2 launches)" in ended.output
    assert len(ended.run["launches"]) == 4


def test_launches_are_added_only_where_a_verdict_is_open(suite: Suite, target: str) -> None:
    """A change that shows at the first look ends the run there; counts need no more launches than the fewest."""
    one = ("-m", "decode", "-k", "decode_throughput and streams1", target)
    assert suite.run(*one, "--launches=4").code == 0
    slow = suite.run(*one, "--launches=2..5", DOUBLE_FAULT="slow")
    assert slow.code == 1, slow.output
    assert slow.run["looks"] == {"fewest": 3, "most": 5}
    assert len(slow.run["launches"]) == 3
    assert "3 server starts (1 configuration × 3 to 5 launches)" in slow.output
    exact = suite.run("-m", "decode and exact", target, "--launches=1..3", "--baseline=off")
    assert len(exact.run["launches"]) == 1


def test_family_is_the_planned_one(recorded: Suite, target: str) -> None:
    """The family is the selected timing cases, and is not smaller where one could not be measured."""
    ended = recorded.run("-m", "decode", target, "-x", DOUBLE_FAULT="dies-mid-round")
    assert ended.run["family_size"] == 10


def test_runs_extend_a_baseline(suite: Suite, target: str) -> None:
    """What is as before is added run by run, and a change is not; from four runs on a run is the unit."""
    arguments = ("-m", "prefill and exact", "-k", "reuse", target, "--launches=1", "--baseline=extend")
    for _ in range(3):
        assert suite.run(*arguments).code == 0
    assert suite.run(*arguments, DOUBLE_FAULT="page-short").code == 1
    (case,) = json.loads(suite.baselines()["prefill"].read_text())["cases"].values()
    assert {name: len(metric["samples"]) for name, metric in case["metrics"].items()} == {
        "cached_tokens": 3,
        "prefill_tokens": 3,
        "completion_tokens": 4,
    }
