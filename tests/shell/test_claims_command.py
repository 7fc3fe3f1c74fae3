"""``sglperf claims``, run as a user runs it, on folders of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from double import make_target
from entry import Command, Entry
from suite import NOT_DOUBLED, SMALL, Suite

A100 = {
    "machine": "1x-nvidia-a100-sxm4-80gb-0f0f0f0f",
    "gpu": "NVIDIA A100-SXM4-80GB",
    "tp_size": 1,
    "links": "single",
}
CPU = {"machine": "cpu-amd-epyc-2c-da14f7a5", "gpu": None, "tp_size": 1, "links": "cpu"}
SUITE_CLAIMS = {
    "decode-attention-bandwidth",
    "flashinfer-over-triton",
    "latency-slope",
    "overlap-hides-host",
    "prefill-attention-share",
    "prefill-gemm-share",
    "prefix-cache-speedup",
}


@pytest.fixture
def sglperf(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """``sglperf claims`` in the folder that it is told."""
    entry = Entry(monkeypatch, capsys)
    return lambda folder, *arguments: entry.run(folder, "claims", *arguments)


def speedup(low: float, high: float, **changes: Any) -> dict[str, Any]:
    """A figure of what the prefix cache saves."""
    known = {
        "model": "llama-2-7b", "config": "flashinfer-page1-tp0", "page_size": 1, "server": "flashinfer", "over": None,
        "workload": "hit-or-miss-prefix512-pairs3", "metric": "prefix_cache_speedup", "value": (low + high) / 2,
        "low": low, "high": high, "launches": 5, "sglang": "0.5.23", "run": "20260101-000000-1",
    }  # fmt: skip
    return known | A100 | changes


def keep(results: Path, run: str, *figures: dict[str, Any], **changes: Any) -> Path:
    """A run's folder with what the command reads of it."""
    folder = results / run
    folder.mkdir(parents=True)
    document = {"schema_version": 1, "run": run, "figures": [one | {"run": run} for one in figures]}
    (folder / "run.json").write_text(json.dumps(document | changes))
    return folder


def standings(sglperf: Command, folder: Path, *arguments: str) -> dict[str, str]:
    done = sglperf(folder, *arguments, "--json=-")
    assert (done.code, done.err) == (0, ""), done.err
    return {one["name"]: one["standing"] for one in json.loads(done.out)["claims"]}


def test_without_any_run_nothing_was_measured(sglperf: Command, tmp_path: Path) -> None:
    """Each claim of the suite is listed with the command that would measure it, in a hundred columns."""
    done = sglperf(tmp_path)

    assert (done.code, done.err) == (0, "")
    assert set(standings(sglperf, tmp_path)) >= SUITE_CLAIMS
    assert set(standings(sglperf, tmp_path).values()) == {"not measured here"}
    for area in ("kernel", "backend", "decode", "overlap", "radix"):
        assert f"to measure it: pytest -m {area}, on A100 with llama-2-7b" in done.out
    assert max(map(len, done.out.splitlines())) <= 100


def test_a_claim_that_does_not_hold_is_no_regression(sglperf: Command, tmp_path: Path) -> None:
    """It is said, with figure, interval and run, and the command ends well."""
    keep(tmp_path / "results", "20260101-000000-1", speedup(3.0, 4.0))
    keep(tmp_path / "results", "20260102-000000-1", speedup(1.2, 1.4))
    done = sglperf(tmp_path)

    assert done.code == 0
    assert "prefix-cache-speedup – does not hold" in done.out
    assert "run 20260102-000000-1" in " ".join(done.out.split())
    assert "20260101-000000-1" not in done.out
    (row,) = [line for line in done.out.splitlines() if "hit-or-miss" in line]
    assert row.split() == [
        "1",
        "hit-or-miss-prefix512-pairs3",
        "5",
        "1.3",
        "1.2",
        "1.4",
        "does",
        "not",
        "hold",
    ]


def test_runs_that_are_named_are_the_ones_that_speak(sglperf: Command, tmp_path: Path) -> None:
    """By folder, by file, or by a name below the results; later ones do not count then."""
    older = keep(tmp_path / "elsewhere", "20260101-000000-1", speedup(3.0, 4.0))
    keep(tmp_path / "elsewhere", "20260102-000000-1", speedup(1.2, 1.4))
    where = f"--results-dir={older.parent}"

    assert standings(sglperf, tmp_path, where)["prefix-cache-speedup"] == "does not hold"
    for named in (str(older), str(older / "run.json"), older.name):
        assert standings(sglperf, tmp_path, named, where)["prefix-cache-speedup"] == "holds"
    assert (
        standings(sglperf, tmp_path, older.name, "20260102-000000-1", where)["prefix-cache-speedup"]
        == "does not hold"
    )


def test_another_machine_holds_nothing(sglperf: Command, tmp_path: Path) -> None:
    """A figure that would hold on the A100 says nothing on a CPU, and does not stand in the way of one that does."""
    keep(tmp_path / "results", "20260102-000000-1", speedup(3.0, 4.0, **CPU))
    done = sglperf(tmp_path)

    assert "prefix-cache-speedup – not measured here: it speaks of A100, this is a CPU" in done.out
    assert " holds" not in done.out
    keep(tmp_path / "results", "20260101-000000-1", speedup(3.0, 4.0))
    assert standings(sglperf, tmp_path)["prefix-cache-speedup"] == "holds"


def test_claims_are_todays(sglperf: Command, tmp_path: Path) -> None:
    """What stands in config/claims now is checked, not what the run found then."""
    stored = [{"name": "prefix-cache-speedup", "standing": "holds"}]
    keep(tmp_path / "results", "20260101-000000-1", speedup(3.0, 4.0), claims=stored)
    suite = Suite(tmp_path / "suite", SMALL)
    file = suite.folder / "config" / "claims" / "prefix-cache-speedup.yaml"
    file.write_text(file.read_text().replace("least: 2", "least: 5"))

    assert (
        standings(sglperf, suite.folder, f"--results-dir={tmp_path / 'results'}")["prefix-cache-speedup"]
        == "does not hold"
    )
    file.write_text("least: 5\n")
    done = sglperf(suite.folder)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"sglperf: {file}: statement: Field required")


BROKEN = {
    "no file": (None, "not a run (*No such file or directory*): name a folder below results/"),
    "no JSON": ("{", "not a run (*): name a folder below results/"),
    "no document": ("[]", "schema None, this sglperf reads 1: name another run"),
    "another schema": ('{"schema_version": 2}', "schema 2, this sglperf reads 1: name another run"),
    "before figures": (
        '{"schema_version": 1}',
        "was kept by a version that kept no figures: measure it anew",
    ),
    "no figures": ('{"schema_version": 1, "figures": 4}', "figures.*: measure it anew"),
    "half a figure": (
        '{"schema_version": 1, "figures": [{"model": "m"}]}',
        "figures.0.config: Field required: measure it anew",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_run_that_cannot_be_used(sglperf: Command, tmp_path: Path, broken: str) -> None:
    """Named, it ends the command with one line; among others, it is left out and the others speak."""
    text, said = BROKEN[broken]
    folder = tmp_path / "results" / "20260103-000000-1"
    folder.mkdir(parents=True)
    if text is not None:
        (folder / "run.json").write_text(text)
    done = sglperf(tmp_path, folder.name)

    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    before, _, after = said.partition("*")
    assert line.startswith("sglperf: ")
    assert folder.name in line
    assert before in line
    assert line.endswith(after.rpartition("*")[2])
    keep(tmp_path / "results", "20260101-000000-1", speedup(3.0, 4.0))
    done = sglperf(tmp_path)
    assert done.code == 0
    assert "prefix-cache-speedup – holds" in done.out
    assert (f"left out: {folder.name}: {before}" in done.out) == (text is not None)


def test_a_run_that_is_not_there(sglperf: Command, tmp_path: Path) -> None:
    """The newest ones that are there are named."""
    for day in range(1, 8):
        keep(tmp_path / "results", f"2026010{day}-000000-1")
    done = sglperf(tmp_path, "nowhere")

    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "sglperf: nowhere: no such run; results has 20260107-000000-1, 20260106-000000-1, 20260105-000000-1, "
        "20260104-000000-1, 20260103-000000-1, …\n"
    )
    assert sglperf(tmp_path, "nowhere", "--results-dir=nothing").err.endswith("nothing has none\n")


def test_json_beside_text(sglperf: Command, tmp_path: Path) -> None:
    """A file gets the same claims; the text is printed as without."""
    done = sglperf(tmp_path, "--json=claims.json")

    assert done.out == sglperf(tmp_path).out
    assert {
        one["name"] for one in json.loads((tmp_path / "claims.json").read_text())["claims"]
    } >= SUITE_CLAIMS


def test_a_run_of_the_suite_is_read(sglperf: Command, tmp_path: Path) -> None:
    """What a run keeps is enough for a claim about it that is written later."""
    suite = Suite(tmp_path / "suite", SMALL, without=NOT_DOUBLED)
    ended = suite.run("-m", "decode", f"--target={make_target(tmp_path / 'sg')}", "--baseline=off")
    assert ended.folder is not None, ended.output
    (suite.folder / "config" / "claims" / "pace.yaml").write_text(
        "statement: A token takes longer than a microsecond\nsource: this test\narea: decode\n"
        "figures: [{metric: inter_token_latency, workload: 'decode-.*'}]\nleast: 1.0e-6\n"
    )
    done = sglperf(suite.folder, "--json=-")
    (pace,) = [one for one in json.loads(done.out)["claims"] if one["name"] == "pace"]

    assert pace["standing"] == "holds", pace
    assert {(one["page_size"], one["launches"], one["gpu"], one["run"]) for one in pace["measured"]} == {
        (16, 2, None, ended.folder.name)
    }
