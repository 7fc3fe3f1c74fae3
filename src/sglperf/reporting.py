"""From a run or a bisection that was kept to what a person opens: ``report.html`` and ``summary.md``, beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from sglperf.errors import SglperfError, UsageError
from sglperf.kept_run import read_run
from sglperf.store import write_atomically
from sglperf.target.history import describe

REPORT = "report.html"
SUMMARY = "summary.md"


def draw(folder: Path) -> str:
    """The page of a run, or of a bisection.

    Raises:
        UsageError: the folder is neither's.
    """
    return draw_bisection(folder) if (folder / "bisect.json").exists() else draw_run(folder)


def draw_run(folder: Path) -> str:
    """The run's page, from its ``run.json`` and journal.

    Raises:
        UsageError: there is no run.
    """
    # Half a second to import, and only here.
    from sglperf.report.html.page import run_page
    from sglperf.report.html.run import read

    document = read_run(folder, part=True)
    with _journal(folder) as lines:
        return run_page(read(document, lines))


def draw_bisection(folder: Path) -> str:
    """The bisection's page, from its ``bisect.json`` and the runs below it.

    Raises:
        UsageError: the file is none.
    """
    from sglperf.report.html.bisection import bisection_page

    file = folder / "bisect.json"
    try:
        found: Mapping[str, Any] = orjson.loads(file.read_bytes())
        commits = [step["commit"] for step in found["steps"]]
        runs = {step["run"]: _case(folder, step["run"], found["sought"]) for step in found["steps"]}
        named = [*commits, *found["suspects"], *filter(None, (found["culprit"],))]
        names = {commit: _named(Path(found["identity"]["repository"]), commit) for commit in named}
        return bisection_page(found, runs, names, folder.name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: not a bisection ({error!r}): name another folder") from error


def keep_report(folder: Path, *, page: bool) -> tuple[str, ...]:
    """Write a run's ``summary.md`` and, with ``page``, its ``report.html``.

    Returns:
        What went wrong. By now the run is kept and judged, and no fault in showing it may change that.
    """
    try:
        write_atomically(folder / SUMMARY, _summary(folder).encode())
        if page:
            write_atomically(folder / REPORT, draw_run(folder).encode())
    except Exception as error:  # whatever it is: see above
        return (
            f"{REPORT} could not be drawn ({type(error).__name__}: {error}); the run is kept. Again: sglperf report {folder}",
        )
    return ()


def keep_bisection_report(folder: Path) -> tuple[str, ...]:
    """Write a bisection's ``report.html``.

    Returns:
        What went wrong, as of `keep_report`.
    """
    try:
        write_atomically(folder / REPORT, draw_bisection(folder).encode())
    except Exception as error:  # what was found is kept, and counts more
        return (
            f"{REPORT} could not be drawn ({type(error).__name__}: {error}). Again: sglperf report {folder}",
        )
    return ()


def _summary(folder: Path) -> str:
    from sglperf.report.html.run import Run
    from sglperf.report.markdown import summary_markdown

    return summary_markdown(Run(read_run(folder, part=True), ()))


@contextmanager
def _journal(folder: Path) -> Iterator[Iterator[bytes] | None]:
    """Line by line: of long runs it is hundreds of megabytes."""
    try:
        file = (folder / "journal.jsonl").open("rb")
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise UsageError(f"{folder / 'journal.jsonl'} cannot be read: {error.strerror}") from error
    with file:
        yield iter(file)


def _case(folder: Path, run: str, sought: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What a run below a bisection says of the case that is sought; None where it says nothing, or is gone."""
    if not run or sought is None:
        return None
    try:
        case: Mapping[str, Any] | None = read_run(folder / run)["cases"].get(sought["case"])
    except UsageError:
        return None
    return case


def _named(repository: Path, commit: str) -> str:
    """As a person knows it; its hash where the repository is gone."""
    try:
        known = describe(repository, commit)
    except (OSError, SglperfError):
        return commit[:9]
    return f"{known.short} {known.date} {known.author}: {known.subject}"
