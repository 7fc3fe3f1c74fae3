"""``sglperf baseline``: what is accepted, by whom and since when; taking from a run; removing what is old."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from sglperf.console import JsonFile, tell
from sglperf.errors import UsageError

baseline = typer.Typer(
    no_args_is_help=True, help="Look at the baselines, take from a run on purpose, remove what is old."
)
Folder = Annotated[Path, typer.Option("--baseline-dir", help="Where baselines are.")]
Results = Annotated[Path, typer.Option("--results-dir", help="Where runs are kept.")]
Patterns = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CASE]...",
        help="A case's name or a part of it: an area's metric, a workload, with * and ?. All where none is given.",
    ),
]
_BASELINES, _RESULTS = Path("baselines"), Path("results")


@baseline.command("list")
def list_(baseline_dir: Folder = _BASELINES, json: JsonFile = None) -> None:
    """Machines and areas, with the commit that accepted what they hold last."""
    from sglperf.baseline_care import read_all
    from sglperf.report.baselines import list_text, stored_json

    found = read_all(baseline_dir)
    tell(stored_json(found), list_text(found, colour=sys.stdout.isatty()), json)


@baseline.command()
def show(cases: Patterns = None, baseline_dir: Folder = _BASELINES, json: JsonFile = None) -> None:
    """Each metric's figure, its launches and version, and who accepted them when."""
    from sglperf.baseline_care import read_all
    from sglperf.core.acceptance import matching
    from sglperf.report.baselines import show_text, stored_json

    found = read_all(baseline_dir)
    names = [name for one in found for name, *_ in one.baseline.metrics()]
    for pattern in cases or ():
        if not matching(names, [pattern]):
            raise UsageError(f"{pattern!r} fits none of the {len(names)} metrics in {baseline_dir}")
    tell(stored_json(found, cases or ()), show_text(found, cases or (), colour=sys.stdout.isatty()), json)


@baseline.command()
def diff(
    against: Annotated[
        str, typer.Argument(metavar="[RUN|REVISION]", help="A run's folder or name, or a git revision.")
    ] = "HEAD",
    cases: Patterns = None,
    baseline_dir: Folder = _BASELINES,
    results_dir: Results = _RESULTS,
    json: JsonFile = None,
) -> None:
    """What a run would change, or what changed since a git revision."""
    from sglperf.baseline_care import at_revision, compared_with, read_all, read_offer
    from sglperf.core.acceptance import changes, matching
    from sglperf.report.baselines import changes_json, changes_text

    run = find_run(against, results_dir)
    if run is not None:
        found = compared_with(read_offer(run), baseline_dir, cases or ())
    else:
        now = {one.key: one.baseline for one in read_all(baseline_dir)}
        every = changes(at_revision(baseline_dir, against), now)
        fitting = set(matching([one.name for one in every], cases or ()))
        found = tuple(one for one in every if one.name in fitting)
    tell({"changes": changes_json(found)}, changes_text(found, colour=sys.stdout.isatty()), json)


@baseline.command()
def accept(
    run: Annotated[str, typer.Argument(help="A run's folder or name.")],
    cases: Patterns = None,
    status: Annotated[
        str,
        typer.Option(
            metavar="S,…", help="Which verdicts are taken, as improved,regressed; what is invalid never is."
        ),
    ] = "new,improved",
    baseline_dir: Folder = _BASELINES,
    results_dir: Results = _RESULTS,
    json: JsonFile = None,
) -> None:
    """Take what a run measured as what the next ones are judged by. Commit it, with the reason."""
    from sglperf.baseline_care import read_offer, take
    from sglperf.report.baselines import taken_json, taken_text

    folder = find_run(run, results_dir)
    if folder is None:
        raise UsageError(f"{run}: no such run; name a folder, or one of {results_dir}")
    taken = take(read_offer(folder), baseline_dir, cases or (), _statuses(status))
    tell(taken_json(taken), taken_text(taken, colour=sys.stdout.isatty()), json)


@baseline.command()
def prune(
    cases: Patterns = None,
    older: Annotated[
        float, typer.Option("--older-than", min=0, metavar="DAYS", help="Keep what was recorded since.")
    ] = 0,
    machine: Annotated[
        str, typer.Option(metavar="FINGERPRINT", help="Only these machines' folders; may hold * and ?.")
    ] = "*",
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    baseline_dir: Folder = _BASELINES,
    json: JsonFile = None,
) -> None:
    """Remove what nobody records any more: cases that fit, or that are old, or of machines that are gone."""
    from sglperf.baseline_care import prune as remove
    from sglperf.report.baselines import changes_json, pruned_text

    if not cases and not older and machine == "*":
        raise UsageError("prune would remove everything: name cases, --older-than DAYS or --machine")
    if not baseline_dir.is_dir():
        raise UsageError(f"{baseline_dir}: no such folder: give the baselines' with --baseline-dir")
    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - older * 24 * 3600))
    if not older:
        before = "9"  # whatever its date
    pruned = remove(baseline_dir, cases or (), before, machine=machine, dry=dry)
    plain = {
        "changes": changes_json(pruned.changes),
        "files": [str(file) for file in pruned.files],
        "dry": dry,
    }
    tell(plain, pruned_text(pruned, dry=dry, colour=sys.stdout.isatty()), json)


def find_run(name: str, results: Path) -> Path | None:
    """A run by its folder, its file, or its name below ``results``."""
    for place in (Path(name), results / name):
        if (place / "run.json").is_file() or (place.is_file() and place.suffix == ".json"):
            return place
    return None


def _statuses(text: str) -> frozenset[str]:
    from sglperf.core.verdict import Status
    from sglperf.settings import parse_list

    known = [one.value for one in Status if one is not Status.INVALID]
    given = frozenset(parse_list(text))
    if not given or given - set(known):
        raise UsageError(f"--status {text!r}: give some of {', '.join(known)}, separated by commas")
    return given
