"""``sglperf baseline``, run as a user runs it, on folders of baselines and runs, with and without git."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from double import make_target
from entry import Command, Entry
from suite import NOT_DOUBLED, SMALL, Suite

from sglperf.core.baseline import Baseline, dump_baseline

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from samples import FINGERPRINT, ask, stored

MACHINE = FINGERPRINT.id
POINT = ask().point
LATENCY, FIRST = f"{POINT}/inter_token_latency", f"{POINT}/time_to_first_token"
OLD, RUN = "20260101-000000-1", "20260202-000000-1"


@pytest.fixture
def sglperf(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """``sglperf baseline`` in a folder."""
    return partial(Entry(monkeypatch, capsys).run, tmp_path, "baseline")


@pytest.fixture
def baselines(tmp_path: Path) -> Path:
    """Two metrics of one machine, from one run."""
    file = tmp_path / "baselines" / MACHINE / "decode.json"
    file.parent.mkdir(parents=True)
    known = stored({"inter_token_latency": ((0.005,), (0.005,)), "time_to_first_token": ((0.2,), (0.2,))})
    file.write_text(dump_baseline(known))
    return file


def measured() -> Baseline:
    metrics = {"inter_token_latency": ((0.004,), (0.004,)), "time_to_first_token": ((0.3,), (0.3,))}
    return stored(metrics, run=RUN, versions={"sglang": "0.5.23"}, recorded="2026-02-02T00:00:00Z")


def keep(folder: Path, statuses: Mapping[str, str] | None = None, **changes: Any) -> Path:
    """A run's folder with what the command reads of it."""
    run = folder / "results" / RUN
    run.mkdir(parents=True)
    given = statuses or {LATENCY: "improved", FIRST: "regressed"}
    document = {
        "schema_version": 1,
        "run": RUN,
        "targets": {"head": {"label": "sglang 0.5.23", "dirty_hash": None}},
        "cases": {name: {"status": status} for name, status in given.items()},
        "results": [measured().model_dump(mode="json")],
    }
    (run / "run.json").write_text(json.dumps(document | changes))
    return run


def samples(file: Path) -> dict[str, Any]:
    """Metric → run → launches."""
    document = json.loads(file.read_text())
    (case,) = document["cases"].values()
    return {name: metric["samples"] for name, metric in case["metrics"].items()}


def commit(folder: Path, subject: str) -> None:
    for arguments in (
        ["init", "-q"],
        ["add", "baselines"],
        ["-c", "user.name=A Reviewer", "-c", "user.email=r@example.org", "commit", "-q", "-m", subject],
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


# Looking


def test_who_accepted_what_and_when_comes_from_git(sglperf: Command, baselines: Path, tmp_path: Path) -> None:
    """Until it is committed nothing is accepted; then the commit that brought a run in is named, whatever came later."""
    assert "not committed" in sglperf("list").out
    commit(tmp_path, "Decode on the new host")
    baselines.write_text(baselines.read_text() + "\n")
    commit(tmp_path, "Only a blank line")

    listed = sglperf("list")
    assert (listed.code, listed.err) == (0, "")
    assert "A Reviewer: Decode on the new host" in listed.out
    assert "blank line" not in listed.out
    (one,) = json.loads(sglperf("show", "--json=-").out)["baselines"]
    assert one["accepted"][OLD]["author"] == "A Reviewer"
    assert one["metrics"][LATENCY] == {
        "value": 0.005, "unit": "s", "launches": 2, "runs": [OLD], "recorded": "2026-01-01T00:00:00Z", "sglang": "0.5.22",
    }  # fmt: skip


def test_show_is_narrowed_by_a_part_of_the_name(sglperf: Command, baselines: Path) -> None:
    """What fits is shown with its figure; what fits nothing is refused."""
    assert "5.000 ms" in sglperf("show", "inter_token_*").out
    assert "time_to_first_token" not in sglperf("show", "inter_token_*").out
    refused = sglperf("show", "tocken")
    assert (refused.code, refused.out) == (2, "")
    assert "'tocken' fits none of the 2 metrics" in refused.err


def test_diff_tells_what_a_run_would_change_and_changes_nothing(
    sglperf: Command, baselines: Path, tmp_path: Path
) -> None:
    """Each metric with both figures and the run's verdict."""
    keep(tmp_path)
    before = baselines.read_text()
    found = json.loads(sglperf("diff", RUN, "--json=-").out)["changes"]

    assert [(one["name"], one["kind"], one["status"], round(one["ratio"], 3)) for one in found] == [
        (LATENCY, "replaced", "improved", 0.8),
        (FIRST, "replaced", "regressed", 1.5),
    ]
    assert "0.800 replaced improved" in sglperf("diff", RUN, "inter_token_latency").out
    assert baselines.read_text() == before


def test_diff_with_a_revision_shows_what_is_not_committed(
    sglperf: Command, baselines: Path, tmp_path: Path
) -> None:
    """After accepting, what a reviewer will see; right after committing, nothing."""
    keep(tmp_path)
    commit(tmp_path, "First")
    assert sglperf("diff").out == "nothing differs\n"
    sglperf("accept", RUN)

    (one,) = json.loads(sglperf("diff", "--json=-").out)["changes"]
    assert (one["name"], one["runs_before"], one["runs_after"]) == (LATENCY, [OLD], [RUN])


# Taking


def test_an_improvement_is_taken_on_purpose_and_a_regression_only_when_named(
    sglperf: Command, baselines: Path, tmp_path: Path
) -> None:
    """Without more said the regression stays out, and is counted; --status takes it."""
    keep(tmp_path)
    done = sglperf("accept", RUN)

    assert (done.code, done.err) == (0, "")
    assert set(samples(baselines)["inter_token_latency"]) == {RUN}
    assert set(samples(baselines)["time_to_first_token"]) == {OLD}
    assert "left as they were: 1 regressed" in done.out
    assert f"git add baselines/{MACHINE}/decode.json" in done.out
    sglperf("accept", RUN, "--status=regressed")
    assert set(samples(baselines)["time_to_first_token"]) == {RUN}


def test_accepting_twice_changes_nothing(sglperf: Command, baselines: Path, tmp_path: Path) -> None:
    """The second time no file is written."""
    keep(tmp_path)
    sglperf("accept", RUN)
    after = baselines.stat().st_mtime_ns, baselines.read_text()
    done = json.loads(sglperf("accept", RUN, "--json=-").out)

    assert (done["changes"], done["files"]) == ([], [])
    assert (baselines.stat().st_mtime_ns, baselines.read_text()) == after


def test_a_machine_without_baselines_gets_its_first(sglperf: Command, tmp_path: Path) -> None:
    """A run of another machine is accepted here, under that machine's name."""
    keep(tmp_path, {LATENCY: "new", FIRST: "invalid"})
    done = json.loads(sglperf("accept", str(tmp_path / "results" / RUN), "--json=-").out)

    assert [(one["kind"], one["name"]) for one in done["changes"]] == [("added", LATENCY)]
    assert set(samples(tmp_path / "baselines" / MACHINE / "decode.json")) == {"inter_token_latency"}


def test_uncommitted_code_is_named(sglperf: Command, tmp_path: Path) -> None:
    keep(
        tmp_path,
        {LATENCY: "new"},
        targets={"head": {"label": "here@1a2b3c4d5+local", "dirty_hash": "0f"}},
    )
    assert "here@1a2b3c4d5+local had changes that were not committed" in sglperf("accept", RUN).out


@pytest.mark.parametrize(
    ("arguments", "changes", "says"),
    [
        (["20990101-000000-1"], {}, "20990101-000000-1: no such run"),
        ([RUN, "tocken"], {}, "'tocken' fits no case that run 20260202-000000-1 could measure"),
        ([RUN, "--status=invalid"], {}, "give some of regressed, improved"),
        ([RUN, "--status="], {}, "give some of regressed, improved"),
        ([RUN], {"targets": {"base": {}, "head": {}}}, "compares two builds"),
        ([RUN], {"results": [{"area": "decode"}]}, "results.0.fingerprint_id: Field required"),
        ([RUN], {"schema_version": 9}, "schema 9"),
    ],
)
def test_bad_input_is_refused_with_one_message(
    sglperf: Command,
    baselines: Path,
    tmp_path: Path,
    arguments: list[str],
    changes: dict[str, Any],
    says: str,
) -> None:
    """Exit code 2, the culprit named, and the baseline as it was."""
    keep(tmp_path, **changes)
    before = baselines.read_text()
    done = sglperf("accept", *arguments)

    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert len(done.err.splitlines()) == 1
    assert baselines.read_text() == before


def test_a_run_that_kept_no_results_is_refused(sglperf: Command, tmp_path: Path) -> None:
    """It says so; nothing is made up from its rounds."""
    run = keep(tmp_path)
    document = json.loads((run / "run.json").read_text())
    del document["results"]
    (run / "run.json").write_text(json.dumps(document))

    assert "kept no results to take: measure it anew" in sglperf("accept", RUN).err


def test_a_damaged_baseline_stays_as_it_is(sglperf: Command, baselines: Path, tmp_path: Path) -> None:
    """Nothing is accepted over a file that cannot be read."""
    keep(tmp_path)
    baselines.write_text("{")

    assert sglperf("accept", RUN).code == 2
    assert baselines.read_text() == "{"
    assert "not valid JSON" in sglperf("list").err


# Removing


def test_prune_removes_what_is_named_and_says_so(sglperf: Command, baselines: Path) -> None:
    """Dry, it only tells; then the metric is gone, and with the last one the file."""
    dry = sglperf("prune", "time_to_first_token", "--dry-run")
    assert "would be rewritten" in dry.out
    assert set(samples(baselines)) == {"inter_token_latency", "time_to_first_token"}
    sglperf("prune", "time_to_first_token")
    assert set(samples(baselines)) == {"inter_token_latency"}
    sglperf("prune", "--machine=cpu-*")
    assert not baselines.exists()


def test_prune_by_age_looks_at_the_latest_acceptance(sglperf: Command, baselines: Path) -> None:
    """Recorded in 2026: ten thousand days keep it, half a day does not."""
    assert sglperf("prune", "--older-than=10000").out == "nothing to remove\n"
    assert "2 removed" in sglperf("prune", "--older-than=0.5").out


def test_prune_without_a_choice_is_refused(sglperf: Command, baselines: Path) -> None:
    before = baselines.read_text()

    assert "prune would remove everything" in sglperf("prune").err
    assert baselines.read_text() == before


# A real run of the suite, on a double


def test_a_run_offers_exactly_what_it_would_record(sglperf: Command, tmp_path: Path) -> None:
    """What ``pytest`` recorded as new and what ``accept`` takes from its run are the same file, byte for byte."""
    suite = Suite(tmp_path / "suite", SMALL, without=NOT_DOUBLED)
    target = make_target(tmp_path / "target")
    done = suite.run("-m", "decode or prefill", f"--target={target}")
    assert done.code == 0, done.output
    assert done.folder is not None
    recorded = suite.baselines()
    taken = json.loads(sglperf("accept", str(done.folder), "--baseline-dir=taken", "--json=-").out)

    assert len(taken["files"]) == len(recorded) == 2
    for file in recorded.values():
        assert (tmp_path / "taken" / file.parent.name / file.name).read_text() == file.read_text()


def test_an_improvement_is_offered_and_the_baseline_stays(sglperf: Command, tmp_path: Path) -> None:
    """A count that became better is said with the command that takes it; until then each run says so again."""
    suite = Suite(tmp_path / "suite", SMALL, without=NOT_DOUBLED)
    chosen = ("-m", "prefill and exact", f"--target={make_target(tmp_path / 'target')}")
    assert suite.run(*chosen).code == 0
    file = suite.baselines()["prefill"]
    document = json.loads(file.read_text())
    (repeat,) = [case for name, case in document["cases"].items() if "/repeat-" in name]
    repeat["metrics"]["prefill_tokens"]["samples"] = {
        run: [[value + 8 for value in launch] for launch in launches]
        for run, launches in repeat["metrics"]["prefill_tokens"]["samples"].items()
    }
    file.write_text(json.dumps(document))
    before = file.read_text()
    done = suite.run(*chosen)
    assert done.folder is not None

    assert done.code == 0, done.output
    said = "".join(done.output.split())  # a folder's name may be longer than a line
    assert f"thebaselinestaysasitwas:sglperfbaselineaccept{done.folder}takeswhatimproved(1)" in said
    assert file.read_text() == before
    taken = json.loads(
        sglperf("accept", str(done.folder), f"--baseline-dir={suite.folder / 'baselines'}", "--json=-").out
    )
    assert [(one["name"].rpartition("/")[2], one["status"]) for one in taken["changes"]] == [
        ("prefill_tokens", "improved")
    ]
