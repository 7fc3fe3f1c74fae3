"""``sglperf history`` and ``sglperf trend``: the database of all runs."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sglperf.baseline_command import Patterns, Results, find_run
from sglperf.console import JsonFile, say, tell
from sglperf.errors import UsageError

if TYPE_CHECKING:
    from sglperf.history.database import History
    from sglperf.settings import Settings

history = typer.Typer(no_args_is_help=True, help="The database of all runs, which sglperf trend reads.")
Database = Annotated[
    str | None,
    typer.Option(
        "--history",
        metavar="URL",
        help="A file or postgresql://USER@HOST/NAME (default: SGLPERF_HISTORY, config/suite.yaml, results/history.sqlite).",
    ),
]
_RESULTS = Path("results")


@history.command()
def add(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders or names of runs.")],
    history: Database = None,
    results_dir: Results = _RESULTS,
    json: JsonFile = None,
) -> None:
    """Add runs that the history does not have; the others stay as they are."""
    from sglperf.kept_run import read_run
    from sglperf.remembering import remember

    places = {name: find_run(name, results_dir) for name in runs}
    documents = []
    for name, place in places.items():
        if place is None:
            raise UsageError(f"{name}: no such run; name a folder, or one of {results_dir}")
        documents.append((place, read_run(place)))
    with _opened(_settings(history, results_dir)) as database:
        added = {document["run"]: remember(database, document, place) for place, document in documents}
        lines = [f"{'added' if new else 'was there'}: {run}\n" for run, new in added.items()]
        plain = {
            name: [run for run, new in added.items() if new is here]
            for name, here in (("added", True), ("there", False))
        }
        tell(plain, "".join(lines), json)


@history.command("list")
def list_(
    last: Annotated[int, typer.Option("--last", min=1, metavar="N", help="How many, the newest first.")] = 20,
    history: Database = None,
    results_dir: Results = _RESULTS,
    json: JsonFile = None,
) -> None:
    """The runs that are kept, the newest first."""
    from sglperf.report.trend import runs_json, runs_text

    with _opened(_settings(history, results_dir)) as database:
        kept = database.kept(last)
        tell({"runs": runs_json(kept)}, runs_text(kept, database.place), json)


@history.command()
def shards(
    drop: Annotated[
        str | None, typer.Option("--drop", metavar="SPLIT", help="Forget the shards of this split.")
    ] = None,
    history: Database = None,
    results_dir: Results = _RESULTS,
    json: JsonFile = None,
) -> None:
    """Shards that wait here for the others of their run, until pytest --merge-shards=SPLIT takes them."""
    from sglperf.report.trend import shards_json, shards_text

    with _opened(_settings(history, results_dir)) as database:
        if drop is not None and not database.drop_shards(drop):
            raise UsageError(f"{drop}: {database.place} has no shards of that name: sglperf history shards")
        kept = database.splits()
        tell({"shards": shards_json(kept)}, shards_text(kept, database.place), json)


@history.command()
def tag(
    run: Annotated[str, typer.Argument(help="A run's name.")],
    name: Annotated[str, typer.Argument(metavar="TAG", help="release, nightly, …; '' takes it away.")],
    history: Database = None,
    results_dir: Results = _RESULTS,
) -> None:
    """Say what a run was; later runs are judged against those that are tagged release."""
    with _opened(_settings(history, results_dir, tag=name)) as database:
        count = database.tag(Path(run).name, name)
        if not count:
            raise UsageError(f"{run}: not in {database.place}: sglperf history add {run}")
        say(f"{Path(run).name}: {name or 'no tag'}\n")


def trend(
    cases: Patterns = None,
    tag: Annotated[str, typer.Option(help="Only runs with this tag, beside releases.")] = "",
    last: Annotated[
        int,
        typer.Option("--last", min=2, metavar="N", help="How many of a metric's results, from the newest."),
    ] = 365,
    history: Database = None,
    results_dir: Results = _RESULTS,
    json: JsonFile = None,
) -> None:
    """Where metrics changed over the history, with what, and how they stand against the last release.

    Ends with 1 where a last result is worse than the last release's.
    """
    from sglperf.core.verdict import Policy
    from sglperf.report.trend import regressed, trend_json, trend_text
    from sglperf.trending import trend as look

    settings = _settings(history, results_dir)
    with _opened(settings) as database:
        policy = Policy(alpha=settings.alpha, min_effect=settings.min_effect)
        courses = look(database, cases or (), policy, tag=tag, most=last)
    text = trend_text(courses, every=bool(cases), colour=sys.stdout.isatty())
    tell(trend_json(courses), text, json)
    raise SystemExit(1 if regressed(courses) else 0)


def _settings(url: str | None, results_dir: Path, tag: str | None = None) -> Settings:
    """As a run in this folder would have them, whatever the machine."""
    from sglperf.config import environment_variables, load_settings
    from sglperf.config_folder import config_folder

    options = {"history": url, "results_dir": str(results_dir), "tag": tag}
    return load_settings(config_folder(Path.cwd()), options, environment_variables(), ())


def _opened(settings: Settings) -> closing[History]:
    from sglperf.history.database import History

    if settings.history_url is None:
        raise UsageError(f"the history is off ({settings.origin('history')}): name one with --history")
    return closing(History(settings.history_url))
