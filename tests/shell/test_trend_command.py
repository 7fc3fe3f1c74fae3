"""``sglperf history`` and ``sglperf trend``, run as a user runs them, on runs that were never made and on the double's."""

from __future__ import annotations

import json
import random
import sqlite3
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from double import make_target
from entry import Command, Ended, Entry
from suite import NOT_DOUBLED, SMALL, Suite

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from courses import FIRST, LATENCY, TOKENS, document, keep, run_name

NIGHTS, AT = 40, 20
needs_otava = pytest.mark.skipif(
    find_spec("otava") is None, reason="Apache Otava pins NumPy, so it is not beside SGLang: tox run -e trend"
)


@pytest.fixture
def sglperf(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """The command in a folder."""
    return partial(Entry(monkeypatch, capsys).run, tmp_path)


def launches(generator: random.Random, center: float, spread: float = 0.01) -> list[list[float]]:
    """Four launches of three rounds."""
    drawn = (center * generator.lognormvariate(0, spread) for _ in range(4))
    return [[launch * generator.lognormvariate(0, spread) for _ in range(3)] for launch in drawn]


def fill(
    folder: Path,
    latency: Callable[[int], float],
    of: Callable[[int], Mapping[str, Any]] = lambda _: {},
    nights: int = NIGHTS,
) -> list[str]:
    """Nights of a latency, a time to first token that goes on as it was, and a count; the first three are the release's."""
    generator = random.Random(1)
    names = []
    for night in range(nights):
        metrics = {
            "inter_token_latency": launches(generator, latency(night)),
            "time_to_first_token": launches(generator, 0.1),
            "prefill_tokens": [[512.0]],
        }
        tag = "release" if night < 3 else "nightly"
        keep(folder / "results", document(night, metrics, unit="s", **{"tag": tag, **of(night)}))
        names.append(run_name(night))
    return names


def courses(done: Ended) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(done.out)["metrics"]}


@needs_otava
def test_a_step_is_told_with_what_changed_then(sglperf: Command, tmp_path: Path) -> None:
    """8 % slower from the night on which version, a default, kernel and GPU changed; what did not change is quiet."""

    def of(night: int) -> dict[str, Any]:
        if night < AT:
            return {"version": "0.5.22", "commit": "a" * 40, "gpus": ("GPU-5616dda1-75c8",)}
        return {
            "version": "0.5.23",
            "commit": "b" * 40,
            "kernel": "6.2",
            "gpus": ("GPU-dd28de7b-ee54",),
            "resolved": {"schedule_policy": "fcfs"},
        }

    names = fill(tmp_path, lambda night: 0.0054 if night >= AT else 0.005, of)
    assert sglperf("history", "add", *names).out.count("added") == NIGHTS
    done = sglperf("trend", "--json=-")

    found = courses(done)
    (step,) = found[LATENCY]["change_points"]
    assert step["runs"] == [run_name(AT - 1), run_name(AT)]
    assert (step["worse"], round(step["ratio"], 2)) == (True, 1.08)
    assert step["commits"] == ["a" * 40, "b" * 40]
    assert step["differences"] == [
        "sglang 0.5.22 → 0.5.23",
        "schedule_policy absent → fcfs",
        "gpus GPU-5616dda1 → GPU-dd28de7b",
        "kernel 6.1 → 6.2",
    ]
    assert found[LATENCY]["since_release"]["status"] == "regressed"
    assert not found[LATENCY]["creep"]
    assert (found[FIRST]["change_points"], found[FIRST]["since_release"]["status"]) == ([], "unchanged")
    assert done.code == 1

    said = sglperf("trend").out
    assert "2026-01-21 worse: ×1.08" in said
    assert "SGLang 0.5.22 at aaaaaaaaa → 0.5.23 at bbbbbbbbb; sglang 0.5.22 → 0.5.23" in " ".join(
        said.split()
    )
    assert "sglperf bisect aaaaaaaaa bbbbbbbbb" in said
    assert "time_to_first_token" not in said
    assert max(map(len, said.splitlines())) <= 100


@needs_otava
def test_slow_creep_is_told_though_no_night_is_worse_than_the_one_before(
    sglperf: Command, tmp_path: Path
) -> None:
    """A quarter of a percent a night: ten percent since the release, and no step makes up half of it."""
    names = fill(tmp_path, lambda night: 0.005 * 1.0025**night)
    sglperf("history", "add", *names)
    done = sglperf("trend", "inter_token_latency", "--json=-")

    found = courses(done)[LATENCY]
    assert (found["since_release"]["status"], found["creep"], done.code) == ("regressed", True, 1)
    assert found["overnight"]["status"] != "regressed"
    assert "slow creep: no single moment shows it" in sglperf("trend").out


@needs_otava
def test_without_a_release_nothing_is_judged_and_it_says_so(sglperf: Command, tmp_path: Path) -> None:
    """Then one is tagged, and the same history is judged against it."""
    names = fill(tmp_path, lambda night: 0.005 if night < AT else 0.006, lambda _: {"tag": ""})
    sglperf("history", "add", *names)
    done = sglperf("trend")
    assert (done.code, "no release to judge against" in done.out) == (0, True)

    assert sglperf("history", "tag", run_name(2), "release").code == 0
    assert sglperf("trend").code == 1


@needs_otava
def test_a_tag_selects_nights(sglperf: Command, tmp_path: Path) -> None:
    """Runs that somebody made by day are no part of the nights' course; releases always are."""
    names = fill(
        tmp_path,
        lambda night: 0.009 if night % 2 else 0.005,
        lambda night: {"tag": "try" if night % 2 else "release" if night < 3 else "nightly"},
    )
    sglperf("history", "add", *names)
    found = courses(sglperf("trend", "--tag=nightly", "--json=-"))[LATENCY]

    assert found["results"] == NIGHTS // 2
    assert found["change_points"] == []


def test_a_count_that_changed_is_told(sglperf: Command, tmp_path: Path) -> None:
    """An exact metric needs neither nights nor Otava."""
    for night, tokens in enumerate((512.0, 512.0, 640.0)):
        keep(tmp_path / "results", document(night, {"prefill_tokens": [[tokens]]}, unit="tok"))
    sglperf("history", "add", *(run_name(night) for night in range(3)))
    (step,) = courses(sglperf("trend", "--json=-"))[TOKENS]["change_points"]

    assert (step["before"], step["after"], step["runs"]) == (512.0, 640.0, [run_name(1), run_name(2)])


def test_results_of_other_work_are_counted_and_not_compared(sglperf: Command, tmp_path: Path) -> None:
    """A cache that serves less changes what is timed: the course begins anew, and says how much is set apart."""
    for night in range(6):
        values = {"inter_token_latency": [[0.005]]}
        keep(tmp_path / "results", document(night, values, cached_tokens=0 if night < 4 else 7))
    sglperf("history", "add", *map(run_name, range(6)))
    found = courses(sglperf("trend", "--json=-"))[LATENCY]

    assert (found["results"], found["apart"], found["change_points"]) == (2, 4, [])
    assert "4 more are of other work" in sglperf("trend", "inter_token_latency").out


def test_adding_again_changes_nothing(sglperf: Command, tmp_path: Path) -> None:
    """Each run is there once, and the command says which were new."""
    names = fill(tmp_path, lambda _: 0.005, nights=3)
    sglperf("history", "add", *names[:2])
    done = json.loads(sglperf("history", "add", *names, "--json=-").out)

    assert done == {"added": names[2:], "there": names[:2]}
    listed = json.loads(sglperf("history", "list", "--json=-").out)["runs"]
    assert [one["name"] for one in listed] == names[::-1]
    assert run_name(0) in sglperf("history", "list").out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trend"], "holds no history yet"),
        (["history", "list"], "holds no history yet"),
        (["history", "add", "nothing"], "nothing: no such run"),
        (["history", "tag", "nothing", "release"], "holds no history yet"),
        (["history", "add", run_name(0), "--history=mysql://x/y"], "give a file, sqlite:///FILE"),
        (["history", "add", run_name(0), "--history=off"], "the history is off (--history)"),
        (["history", "tag", run_name(0), "x" * 41], "tag is 'xxx"),
    ],
)
def test_bad_input_is_refused_with_one_message(
    sglperf: Command, tmp_path: Path, arguments: list[str], says: str
) -> None:
    keep(tmp_path / "results", document(0, {"prefill_tokens": [[1.0]]}, unit="tok"))
    done = sglperf(*arguments)

    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert len(done.err.splitlines()) == 1


def test_a_pattern_that_fits_nothing_and_a_run_that_is_not_there_are_named(
    sglperf: Command, tmp_path: Path
) -> None:
    sglperf("history", "add", *fill(tmp_path, lambda _: 0.005, nights=2))

    assert "'tocken' fits none of the 3 metrics" in sglperf("trend", "tocken").err
    assert (
        "20990101-000000-1: not in sqlite:///"
        in sglperf("history", "tag", "20990101-000000-1", "release").err
    )


# A real run of the suite, on a double


def test_a_run_adds_itself_and_outlives_a_database_that_fails(sglperf: Command, tmp_path: Path) -> None:
    """Locked, the run ends as it would have, with one note and its files; added later, it is there."""
    suite = Suite(tmp_path / "suite", SMALL, without=NOT_DOUBLED)
    target = make_target(tmp_path / "target")
    chosen = ("-m", "prefill", f"--target={target}")
    first = suite.run(*chosen, "--tag=release", SGLPERF_HISTORY="")
    assert first.code == 0, first.output
    assert first.folder is not None
    file = first.folder.parent / "history.sqlite"
    with sqlite3.connect(file) as known:
        assert known.execute("SELECT name, tag FROM run").fetchall() == [(first.folder.name, "release")]
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    second = suite.run(*chosen, SGLPERF_HISTORY="")
    other.execute("ROLLBACK")
    other.close()

    assert second.code == 0, second.output
    assert second.folder is not None
    assert second.run["cases"]
    assert "kept, but not in the history" in second.output
    assert "database is locked" in " ".join(second.output.split())
    done = sglperf("history", "add", str(second.folder), f"--history={file}")
    assert (done.code, done.out) == (0, f"added: {second.folder.name}\n")


def test_a_password_is_kept_nowhere(tmp_path: Path) -> None:
    """Neither in the run's files nor in what is printed, though the server is not there."""
    suite = Suite(tmp_path / "suite", SMALL, without=NOT_DOUBLED)
    target = make_target(tmp_path / "target")
    done = suite.run(
        "-m", "prefill and exact", f"--target={target}",
        SGLPERF_HISTORY=f"postgresql://me:secret@/postgres?host={tmp_path}",
    )  # fmt: skip

    assert done.code == 0, done.output
    assert done.folder is not None
    assert "kept, but not in the history" in done.output
    kept = [file.read_text() for file in done.folder.iterdir() if file.is_file()]
    assert not [text for text in [done.output, *kept] if "secret" in text]
