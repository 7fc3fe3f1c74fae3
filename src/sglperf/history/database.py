"""The database: opened, filled and asked. Everything that SQLAlchemy or a driver raises leaves as `HistoryError`."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from sglperf.core.history import Entry
from sglperf.core.launches import Launches
from sglperf.core.trend import Build, Point
from sglperf.errors import AlreadyMerged, HistoryError, UsageError
from sglperf.history.schema import SCHEMA_VERSION, contexts, metadata, results, runs, series, shards, version

SECONDS_TO_WAIT = 10  # for another writer, or for a server to answer
_LOCK = 0x5347_4C50  # of PostgreSQL's advisory locks, the one under which tables are made
_MOST_NAMES = 500  # in one question: databases bound how many values a statement may carry


@dataclass(frozen=True)
class Kept:
    """A run, as it is added or listed.

    Attributes:
        compared: it measured two builds beside each other.
        document: where its ``run.json`` was.
        results: how many there are.
    """

    key: str
    name: str
    recorded: str
    tag: str
    build: Build
    label: str
    compared: bool
    document: str
    results: int = 0


@dataclass(frozen=True)
class Series:
    """Results of one metric that may be compared with one another, oldest first.

    Attributes:
        number: the database's.
        points: their contexts are the database's numbers.
    """

    number: int
    machine: str
    area: str
    name: str
    unit: str
    points: tuple[Point, ...]
    runs: tuple[int, ...]


@dataclass(frozen=True)
class ShardKept:
    """A shard's run while it waits for the others.

    Attributes:
        split: what all shards of the run are called.
        number, of: which of how many, from 1.
        plan: digest of the whole plan.
        recorded: UTC, ISO 8601.
        document: its ``run.json``; empty where it is only listed.
    """

    split: str
    number: int
    of: int
    plan: str
    run: str
    recorded: str
    document: bytes = b""


@dataclass(frozen=True)
class Merged:
    """Shards whose place a run takes.

    Attributes:
        runs: that were read here, by number, each of which must still be here; none for shards that were read from
            folders, and are removed if they are here, too.
    """

    split: str
    runs: Mapping[int, str]


class History:
    """A database of results.

    Args:
        url: of SQLAlchemy: ``sqlite:///FILE``, ``postgresql://USER@HOST/NAME``.
        patience: seconds to wait for another writer, or for a server's answer.

    Raises:
        HistoryError: it cannot be reached or used; also of every method.
    """

    def __init__(self, url: str, *, patience: float = SECONDS_TO_WAIT) -> None:
        with translated("the history"):
            self._url = make_url(url.replace("postgresql://", "postgresql+psycopg://", 1))
            self.place = self._url.render_as_string(hide_password=True)
        with self._translated():
            self._engine = _engine(self._url, patience)
        on_disk = self._url.get_backend_name() == "sqlite" and self._url.database
        self._file = Path(on_disk) if on_disk else None

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    def add(
        self,
        run: Kept,
        entries: Sequence[Entry],
        known: Mapping[str, Mapping[str, Any]],
        merged: Merged | None = None,
    ) -> bool:
        """Keep a run, all or nothing; False where it is there already.

        Args:
            known: context's key → the context.
            merged: the shards whose place the run takes.

        Raises:
            AlreadyMerged: another run has taken their place.
        """
        with self._writing() as connection:
            if merged is not None:
                _remove(connection, merged, self.place)
            row = {
                "key": run.key, "name": run.name, "recorded": run.recorded, "tag": run.tag, "sglang": run.build.version,
                "commit": run.build.commit, "label": run.label, "compared": run.compared, "document": run.document,
            }  # fmt: skip
            statement = _new(connection, runs).returning(runs.c.id)
            number = connection.scalar(statement, row)  # waits for whoever else adds the same run
            if number is None:
                return False
            if entries:
                connection.execute(insert(results), _rows(connection, number, entries, known))
            return True

    def put_shard(self, shard: ShardKept) -> None:
        """Keep a shard's run until it is merged; measured again, it takes the place of the one before."""
        with self._writing() as connection:
            same = (shards.c.split == shard.split) & (shards.c.number == shard.number)
            # Whoever writes the same one waits for this row, so it is first made and then filled.
            found = {"split": shard.split, "number": shard.number, "of": shard.of, "plan": shard.plan, "run": shard.run,
                     "recorded": shard.recorded, "document": zlib.compress(shard.document)}  # fmt: skip
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            new = dialect.insert(shards).on_conflict_do_nothing(index_elements=["split", "number"])
            connection.execute(new, found)
            connection.execute(update(shards).where(same).values(found))

    def shards(self, split: str) -> tuple[dict[str, Any], ...]:
        """Documents of the split's shards that are here, in order."""
        with self._reading() as connection:
            if not connection.dialect.has_table(connection, shards.name):
                return ()
            query = select(shards.c.document).where(shards.c.split == split).order_by(shards.c.number)
            return tuple(json.loads(zlib.decompress(one)) for one in connection.scalars(query))

    def splits(self) -> tuple[ShardKept, ...]:
        """Shards that nobody has merged yet, without their documents."""
        with self._reading() as connection:
            if not connection.dialect.has_table(connection, shards.name):
                return ()
            columns = (
                shards.c.split,
                shards.c.number,
                shards.c.of,
                shards.c.plan,
                shards.c.run,
                shards.c.recorded,
            )
            query = select(*columns).order_by(shards.c.split, shards.c.number)
            return tuple(ShardKept(*row) for row in connection.execute(query))

    def drop_shards(self, split: str) -> int:
        """Forget the shards of a split that is not to be merged; how many there were."""
        with self._reading():  # which makes no database where there is none
            pass
        with self._writing() as connection:
            return int(connection.execute(delete(shards).where(shards.c.split == split)).rowcount)

    def tag(self, name: str, tag: str) -> int:
        """Give the runs of this name a tag; how many there are."""
        with self._reading():  # which makes no database where there is none
            pass
        with self._writing() as connection:
            return int(connection.execute(update(runs).where(runs.c.name == name).values(tag=tag)).rowcount)

    def kept(self, most: int | None = None) -> tuple[Kept, ...]:
        """Runs, the newest first."""
        count = (
            select(results.c.run_id, func.count().label("results"))
            .group_by(results.c.run_id)
            .subquery("count")
        )
        query = (
            select(runs, func.coalesce(count.c.results, 0).label("results"))
            .outerjoin(count, count.c.run_id == runs.c.id)
            .order_by(runs.c.recorded.desc(), runs.c.name.desc())
            .limit(most)
        )
        with self._reading() as connection:
            return tuple(
                Kept(
                    row.key, row.name, row.recorded, row.tag, Build(row.sglang, row.commit), row.label, row.compared,
                    row.document, row.results,
                )
                for row in connection.execute(query)
            )  # fmt: skip

    def names(self) -> tuple[str, ...]:
        """Of every metric that was ever kept."""
        with self._reading() as connection:
            return tuple(connection.scalars(select(series.c.name).distinct().order_by(series.c.name)))

    def series(self, names: Iterable[str] | None = None) -> tuple[Series, ...]:
        """The course of these metrics, of all where None, over runs of one build each."""
        with self._reading() as connection:
            known = {
                row.id: row for row in connection.execute(select(runs).where(runs.c.compared.is_(False)))
            }
            order = {
                number: place for place, number in enumerate(sorted(known, key=lambda one: _when(known[one])))
            }
            builds = {number: Build(row.sglang, row.commit) for number, row in known.items()}
            points: dict[int, list[tuple[int, int, float]]] = {}
            for series_id, run_id, context_id, value in connection.execute(
                course(None if names is None else list(names))
            ):
                if run_id in order:
                    points.setdefault(series_id, []).append((run_id, context_id, value))
            described = {row.id: row for row in connection.execute(select(series))}
        found = []
        for number, several in points.items():
            several.sort(key=lambda one: order[one[0]])
            row = described[number]
            found.append(
                Series(
                    number, row.machine, row.area, row.name, row.unit,
                    tuple(
                        Point(known[run].recorded, known[run].name, value, builds[run], known[run].tag, context)
                        for run, context, value in several
                    ),
                    tuple(run for run, *_ in several),
                )
            )  # fmt: skip
        return tuple(sorted(found, key=lambda one: (one.machine, one.area, one.name, one.number)))

    def launches(self, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Launches]:
        """(series, run) → its launches × rounds, where there are any."""
        by_run: dict[int, list[int]] = {}
        for one, run in wanted:
            by_run.setdefault(run, []).append(one)
        found: dict[tuple[int, int], Launches] = {}
        with self._reading() as connection:
            for run, several in by_run.items():
                for part in _parts(several):
                    query = select(results.c.series_id, results.c.launches).where(
                        results.c.run_id == run, results.c.series_id.in_(part)
                    )
                    found |= {(row.series_id, run): row.launches for row in connection.execute(query)}
        return found

    def contexts(self, numbers: Iterable[int]) -> dict[int, Mapping[str, Any]]:
        """Number → context."""
        found: dict[int, Mapping[str, Any]] = {}
        with self._reading() as connection:
            for part in _parts(sorted(set(numbers))):
                query = select(contexts.c.id, contexts.c.document).where(contexts.c.id.in_(part))
                found |= {row.id: row.document for row in connection.execute(query)}
        return found

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        nothing = f"{self.place} holds no history yet: sglperf history add RUN... fills it"
        if self._file is not None and not self._file.exists():
            raise UsageError(nothing)
        with self._translated(), self._engine.connect() as connection:
            if not _has_tables(connection):
                raise UsageError(nothing)
            self._check(connection)
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction that no other writer interrupts, with the tables made if they are not there."""
        with self._translated():
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
                _make_tables(connection)
                self._check(connection)
                yield connection

    def _check(self, connection: Connection) -> None:
        found = connection.scalar(select(version.c.version))
        if found != SCHEMA_VERSION:
            newer = isinstance(found, int) and found > SCHEMA_VERSION
            mend = (
                "upgrade sglperf"
                if newer
                else "set it aside, or name another with --history; sglperf history add RUN... fills it"
            )
            raise HistoryError(f"{self.place} has schema {found}, this sglperf has {SCHEMA_VERSION}: {mend}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with translated(self.place):
            yield


def course(names: Sequence[str] | None) -> Any:
    """The statement that reads courses: (series, run, context, value), from the index alone."""
    query = select(results.c.series_id, results.c.run_id, results.c.context_id, results.c.value)
    if names is None:
        return query
    return query.where(results.c.series_id.in_(select(series.c.id).where(series.c.name.in_(names))))


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Whatever a database or its driver raises, in one line that names the database."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        said = " ".join(str(cause).split()) or type(cause).__name__
        raise HistoryError(f"{place}: {said}") from error
    except ImportError as error:
        raise HistoryError(
            f"{place}: the database's driver is not installed ({error}): pip install 'sglperf[postgresql]'"
        ) from error
    except OSError as error:
        raise HistoryError(f"{place}: {error.strerror or error}") from error


def _engine(url: Any, patience: float) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": patience})
        event.listen(engine, "connect", _without_own_transactions)
        event.listen(engine, "begin", _begin)
        return engine
    limits = f"-c lock_timeout={int(patience * 1000)} -c statement_timeout=60000"
    return create_engine(url, connect_args={"connect_timeout": max(int(patience), 2), "options": limits})


def _without_own_transactions(connection: Any, _: object) -> None:
    """Python's driver begins late and by itself; whoever reads first and then writes could lose to another."""
    connection.isolation_level = None


def _begin(connection: Connection) -> None:
    """A writer takes its turn at once: one that only asks for it midway may be refused for good."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _has_tables(connection: Connection) -> bool:
    return bool(connection.dialect.has_table(connection, version.name))


def _make_tables(connection: Connection) -> None:
    if _has_tables(connection) and connection.dialect.has_table(connection, shards.name):
        return
    if connection.dialect.name == "postgresql":  # SQLite has but one writer, and this is it
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    new = not _has_tables(connection)
    metadata.create_all(connection)  # those that are not there
    if new:
        connection.execute(insert(version).values(version=SCHEMA_VERSION))


def _remove(connection: Connection, merged: Merged, place: str) -> None:
    """The shards; of those that were read from here, each as it was read."""
    for number, run in sorted(merged.runs.items()):
        same = (shards.c.split == merged.split) & (shards.c.number == number) & (shards.c.run == run)
        if connection.execute(delete(shards).where(same)).rowcount != 1:
            raise AlreadyMerged(
                f"{place}: shard {number} of {merged.split} is not there any more as it was read: another merge has added its run, "
                "or it was measured again"
            )
    connection.execute(
        delete(shards).where(shards.c.split == merged.split)
    )  # and those that had nothing to do


def _add_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows whose key is not there yet. In the keys' order: two writers that meet wait, and none for the other."""
    if not rows:
        return
    connection.execute(_new(connection, table), sorted(rows, key=lambda row: str(row["key"])))


def _new(connection: Connection, table: Table) -> Any:
    """Insert what has no key that is there already."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing(index_elements=["key"])


def _numbers(connection: Connection, table: Table, keys: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in _parts(sorted(set(keys))):
        query = select(table.c.key, table.c.id).where(table.c.key.in_(part))
        found |= {row.key: row.id for row in connection.execute(query)}
    return found


def _rows(
    connection: Connection, run: int, entries: Sequence[Entry], known: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    _add_new(connection, contexts, [{"key": key, "document": dict(one)} for key, one in known.items()])
    described = {
        one.series: {
            "key": one.series, "machine": one.machine, "area": one.area, "name": one.name, "unit": one.unit,
            "work": one.work,
        }
        for one in entries
    }  # fmt: skip
    _add_new(connection, series, list(described.values()))
    in_series = _numbers(connection, series, described)
    in_context = _numbers(connection, contexts, known)
    return [
        {
            "run_id": run, "series_id": in_series[one.series], "context_id": in_context[one.context],
            "value": one.value, "launches": [list(launch) for launch in one.launches], "status": one.status,
        }
        for one in {entry.series: entry for entry in entries}.values()
    ]  # fmt: skip


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[start : start + _MOST_NAMES] for start in range(0, len(values), _MOST_NAMES))


def _when(row: Any) -> tuple[str, str]:
    return row.recorded, row.name
