"""The history's database: what goes in comes out, once, whoever writes beside, and what fails says so in one line."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import postgres
import pytest
from sqlalchemy import create_engine, text

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from courses import FIRST, LATENCY, document, run_name
from samples import FINGERPRINT

from sglperf.errors import AlreadyMerged, HistoryError, UsageError
from sglperf.history.database import History, Merged, ShardKept, course
from sglperf.remembering import remember

WRITERS, RUNS = 2, 12
FLAT = {"inter_token_latency": [[0.005, 0.0051], [0.0049]], "time_to_first_token": [[0.1], [0.1]]}


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A server's URL; skipped where the machine has none."""
    reason = postgres.missing()
    if reason:
        pytest.skip(reason)
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'made' / 'history.sqlite'}"
    server: str = request.getfixturevalue("postgresql")
    engine = create_engine(server.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return server


@pytest.fixture
def history(url: str) -> Iterator[History]:
    found = History(url)
    yield found
    found.close()


def add(history: History, night: int, **changes: object) -> bool:
    return remember(history, document(night, FLAT, **changes), Path("results") / run_name(night))


# In and out


def test_what_goes_in_comes_out(history: History) -> None:
    """Each metric's course with build, tag and context, its launches as they were measured."""
    assert add(history, 1, commit="c" * 40, tag="release")
    assert add(history, 0)
    first, second = history.series()

    assert (first.name, second.name) == (LATENCY, FIRST)
    assert (first.machine, first.area, first.unit) == (FINGERPRINT.id, "decode", "s")
    assert [(point.run, point.tag, point.value) for point in first.points] == [
        (run_name(0), "nightly", pytest.approx(0.004975)),
        (run_name(1), "release", pytest.approx(0.004975)),
    ]
    assert (first.points[1].build.version, first.points[1].build.commit) == ("0.5.22", "c" * 40)
    wanted = (first.number, first.runs[0])
    assert history.launches([wanted]) == {wanted: [[0.005, 0.0051], [0.0049]]}
    known = history.contexts({point.context for point in first.points})
    assert [one["versions"]["torch"] for one in known.values()] == ["2.11.0"]
    assert [one["machine"] for one in known.values()] == [{"kernel": "6.1"}]


def test_a_run_is_added_once(history: History) -> None:
    """Again, also after its explanation was added to the document, it changes nothing."""
    assert add(history, 0)
    again = document(0, FLAT) | {"explanations": {"x": {"sentence": "why"}}}

    assert not remember(history, again, Path("elsewhere"))
    assert [(one.name, one.results) for one in history.kept()] == [(run_name(0), 2)]


def test_two_runs_of_one_name_are_two(history: History) -> None:
    """Two machines may start a run in the same second under the same process number: what they measured differs."""
    assert add(history, 0)
    other = document(0, {"inter_token_latency": [[0.009]]})

    assert remember(history, other, Path("other"))
    assert len(history.kept()) == 2


def test_names_narrow_a_course(history: History) -> None:
    add(history, 0)

    assert [one.name for one in history.series([FIRST])] == [FIRST]
    assert history.series([]) == ()
    assert history.names() == (LATENCY, FIRST)


@pytest.mark.parametrize(
    "changes",
    [
        {"workload_hash": "another"},
        {"client": "2"},
        {"finish_reasons": {"abort": 1}},
        {"cached_tokens": 7},
        {"method": "graph"},
        {"resolved": {"page_size": 1}},
    ],
)
def test_other_work_is_another_course(history: History, changes: dict[str, object]) -> None:
    """Timings of different work are never put side by side."""
    add(history, 0)
    add(history, 1, **changes)

    assert [len(one.points) for one in history.series([LATENCY])] == [1, 1]


def test_what_only_explains_does_not_break_a_course(history: History) -> None:
    """Another version, default or kernel is a context."""
    add(history, 0)
    add(history, 1, version="0.5.23", resolved={"schedule_policy": "lpm"}, kernel="6.2")

    (one,) = history.series([LATENCY])
    assert len({point.context for point in one.points}) == 2


def test_a_run_of_two_builds_is_kept_and_no_part_of_a_course(history: History) -> None:
    """Somebody compared two commits: that says nothing of how things went on."""
    compared = document(0, FLAT)
    compared["targets"]["base"] = compared["targets"]["head"]

    assert remember(history, compared, Path("x"))
    assert history.series() == ()
    assert history.kept()[0].compared


def test_a_tag_can_be_given_later(history: History) -> None:
    add(history, 0)

    assert history.tag(run_name(0), "release") == 1
    assert history.tag("20990101-000000-1", "release") == 0
    assert history.kept()[0].tag == "release"


# Two at once


def _write(url: str, writer: int) -> None:
    history = History(url)
    for night in range(RUNS):
        # The same metrics in the opposite order, and every third run is the other's, too.
        metrics = dict(reversed(FLAT.items())) if writer else FLAT
        shared = night % 3 == 0
        changed = metrics if shared else {**metrics, "inter_token_latency": [[0.005 + 0.001 * writer]]}
        remember(history, document(night, changed), Path("results"))
    history.close()


def test_two_writers_lose_nothing_and_add_nothing_twice(url: str) -> None:
    """They begin on an empty database, so both make its tables, and meet at every row."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(url, number)) for number in range(WRITERS)]
    for one in writers:
        one.start()
    for one in writers:
        one.join(60)

    assert [one.exitcode for one in writers] == [0] * WRITERS
    history = History(url)
    shared = len(range(0, RUNS, 3))
    assert [one.results for one in history.kept()] == [2] * (shared + WRITERS * (RUNS - shared))
    assert [len(one.points) for one in history.series()] == [shared + WRITERS * (RUNS - shared)] * 2
    history.close()


# Shards of one run


def shard(number: int, split: str = "tonight", run: str = "") -> ShardKept:
    document = json.dumps({"run": run or f"run-{number}", "values": [0.1] * 1000, "shard": number}).encode()
    return ShardKept(split, number, 4, "a" * 16, run or f"run-{number}", "2026-01-01T00:00:00Z", document)


def test_shards_wait_for_one_another(history: History) -> None:
    """In their order, whoever came first, and apart from other splits; a shard that is measured again replaces the first."""
    history.put_shard(shard(2))
    history.put_shard(shard(1, run="failed"))
    history.put_shard(shard(1, "yesterday"))
    history.put_shard(shard(1))

    assert [one["run"] for one in history.shards("tonight")] == ["run-1", "run-2"]
    assert history.shards("tonight")[0]["values"] == [0.1] * 1000
    assert history.shards("tomorrow") == ()
    assert [(one.split, one.number, one.of) for one in history.splits()] == [
        ("tonight", 1, 4), ("tonight", 2, 4), ("yesterday", 1, 4)
    ]  # fmt: skip
    assert history.kept() == ()


def test_a_merged_run_takes_the_place_of_its_shards(history: History) -> None:
    """All of that split, and none of another; a shard that had nothing to do, and was not read, goes too."""
    for one in (shard(1), shard(2), shard(3), shard(1, "yesterday")):
        history.put_shard(one)

    assert add_merged(history, 0, Merged("tonight", {1: "run-1", 2: "run-2"}))
    assert [one.name for one in history.kept()] == [run_name(0)]
    assert [one.split for one in history.splits()] == ["yesterday"]


def test_shards_that_changed_since_they_were_read(history: History) -> None:
    """Another merge took them, or one was measured again: the run is not added, and nothing is removed."""
    for one in (shard(1), shard(2)):
        history.put_shard(one)
    with pytest.raises(AlreadyMerged, match="shard 2 of tonight is not there any more as it was read"):
        add_merged(history, 0, Merged("tonight", {1: "run-1", 2: "another"}))

    assert history.kept() == ()
    assert len(history.splits()) == 2
    assert add_merged(history, 0, Merged("tonight", {1: "run-1", 2: "run-2"}))
    with pytest.raises(AlreadyMerged):
        add_merged(history, 1, Merged("tonight", {1: "run-1", 2: "run-2"}))
    assert len(history.kept()) == 1


def test_shards_that_were_merged_from_folders_go_too(history: History) -> None:
    """Whether they were here or not."""
    assert add_merged(history, 0, Merged("tonight", {}))
    history.put_shard(shard(1))
    assert add_merged(history, 1, Merged("tonight", {}))

    assert history.splits() == ()


def test_shards_can_be_forgotten(history: History) -> None:
    history.put_shard(shard(1))

    assert history.drop_shards("yesterday") == 0
    assert history.drop_shards("tonight") == 1
    assert history.splits() == ()


def test_a_database_from_before_shards_takes_them(history: History) -> None:
    """The table is added where there is none; until then nothing waits."""
    add(history, 0)
    with history._engine.begin() as connection:
        connection.execute(text("DROP TABLE shard"))

    assert history.splits() == history.shards("tonight") == ()
    history.put_shard(shard(1))
    assert len(history.splits()) == 1
    assert len(history.kept()) == 1


def add_merged(history: History, night: int, merged: Merged) -> bool:
    return remember(history, document(night, FLAT), Path("results") / run_name(night), merged)


def _put(url: str, number: int) -> None:
    history = History(url)
    for again in range(3):
        history.put_shard(shard(number, run=f"run-{number}" if again == 2 else "earlier"))
        history.put_shard(shard(1, "contended", run=f"writer-{number}"))
    history.close()


def _merge(url: str, number: int) -> None:
    history = History(url)
    try:
        add_merged(history, number, Merged("tonight", {one: f"run-{one}" for one in range(1, 5)}))
    except AlreadyMerged:
        raise SystemExit(3) from None
    finally:
        history.close()


def _together(work: Callable[[str, int], None], url: str, numbers: Sequence[int]) -> list[int | None]:
    """Exit codes of as many processes at once."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(url, number)) for number in numbers]
    for one in processes:
        one.start()
    for one in processes:
        one.join(60)
    return [one.exitcode for one in processes]


def test_shards_that_end_at_once_and_merges_that_begin_at_once(url: str) -> None:
    """Four write on an empty database, also the same row; of three merges one adds its run, the others say why not."""
    assert _together(_put, url, range(1, 5)) == [0] * 4
    history = History(url)
    assert [one["run"] for one in history.shards("tonight")] == [f"run-{number}" for number in range(1, 5)]
    assert len(history.shards("contended")) == 1

    assert sorted(map(int, _together(_merge, url, range(3)))) == [0, 3, 3]
    assert len(history.kept()) == 1
    assert history.shards("tonight") == ()
    history.close()


# What fails


def test_a_locked_database_says_so_and_takes_the_run_later(tmp_path: Path) -> None:
    """Another's write that does not end costs the wait, not the run."""
    file = tmp_path / "history.sqlite"
    history = History(f"sqlite:///{file}", patience=0.1)
    add(history, 0)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(HistoryError, match=r"history.sqlite: database is locked"):
        add(history, 1)
    other.execute("ROLLBACK")
    other.close()

    assert add(history, 1)
    history.close()


def test_an_interrupted_write_leaves_nothing(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is there with all its results or not at all."""
    from sglperf.history import database

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    add(history, 0)
    with monkeypatch.context() as patched:
        patched.setattr(database, "_rows", fails)
        with pytest.raises(HistoryError, match="No space left"):
            add(history, 1)

    assert len(history.kept()) == 1
    assert add(history, 1)


@pytest.mark.parametrize(("found", "mend"), [(0, "set it aside"), (2, "upgrade sglperf")])
def test_another_schema_is_neither_read_nor_written(history: History, found: int, mend: str) -> None:
    """An older and a newer one are named, with what to do."""
    add(history, 0)
    with history._engine.begin() as connection:
        connection.execute(text(f"UPDATE sglperf_history SET version = {found}"))

    for action in (lambda: add(history, 1), history.kept, history.series):
        with pytest.raises(HistoryError, match=f"has schema {found}, this sglperf has 1: .*{mend}"):
            action()


def test_an_unreachable_server_says_so_without_the_password(tmp_path: Path) -> None:
    """One line with the place and what the driver said."""
    history = History(f"postgresql://me:secret@/postgres?host={tmp_path}", patience=1)
    with pytest.raises(HistoryError) as raised:
        add(history, 0)

    assert str(tmp_path) in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_driver_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(HistoryError, match=r"pip install 'sglperf\[postgresql\]'"):
        History("postgresql://me@host/runs")


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    file = tmp_path / "history.sqlite"
    file.write_text("not a database, but long enough to be looked at" * 50)
    history = History(f"sqlite:///{file}")
    with pytest.raises(HistoryError, match="file is not a database"):
        add(history, 0)

    assert file.read_text().startswith("not a database")


def test_reading_makes_no_file(tmp_path: Path) -> None:
    """A mistyped name is refused, and leaves nothing behind that would look like a history."""
    history = History(f"sqlite:///{tmp_path / 'none.sqlite'}")
    with pytest.raises(UsageError, match="holds no history yet"):
        history.kept()

    assert not (tmp_path / "none.sqlite").exists()


# How it is asked


def test_a_course_is_read_from_the_index_alone(tmp_path: Path) -> None:
    """Samples, which are most of the bytes, are not touched for what has no need of them."""
    history = History(f"sqlite:///{tmp_path / 'history.sqlite'}")
    add(history, 0)
    with history._engine.connect() as connection:
        statement = course([LATENCY]).compile(connection, compile_kwargs={"literal_binds": True})
        plan = " ".join(
            str(row) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        )
        steps = connection.exec_driver_sql("SELECT count(*) FROM result").scalar()
    history.close()

    assert steps == 2
    assert "USING COVERING INDEX course (series_id=?)" in plan
    assert "SCAN result" not in plan
    assert json.loads(json.dumps(plan))
