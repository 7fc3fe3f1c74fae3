"""The ``sglperf`` command. Exit codes: 0 fine, 2 usage, 3 could not be done (DESIGN.md §4)."""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from sglperf.baseline_command import baseline
from sglperf.console import JsonFile, dumps, say, write
from sglperf.errors import SglperfError, UsageError
from sglperf.history_command import history, trend
from sglperf.init_command import init

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
# Of commands whose further arguments are pytest's.
PASSING = {"allow_extra_args": True, "ignore_unknown_options": True}


def main() -> None:
    """Entry point: an error of ours ends in one line and its exit code, not in a traceback."""
    try:
        app()
    except SglperfError as error:
        typer.echo(f"sglperf: {error}", err=True)
        raise SystemExit(error.exit_code) from None


@app.callback()
def sglperf() -> None:
    """Performance regression tests for SGLang."""


@app.command()
def env(json: JsonFile = None) -> None:
    """Check this machine: CPUs, memory, GPUs and links, versions, fingerprint, and what is missing."""
    from sglperf.core.environment_check import check_environment
    from sglperf.probes.machine import probe_machine
    from sglperf.probes.versions import read_installation
    from sglperf.report.environment import environment_text
    from sglperf.report.environment_json import environment_json

    check = check_environment(probe_machine(), read_installation(Path(sys.executable)))
    if json is not None:
        write(json, environment_json(check))
    if json != Path("-"):
        width = shutil.get_terminal_size(fallback=(100, 24)).columns
        say(environment_text(check, width=width, color=sys.stdout.isatty()))


@app.command()
def claims(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...", help="Folders or names of runs; all of the results where none is given."
        ),
    ] = None,
    results_dir: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("results"),
    json: JsonFile = None,
) -> None:
    """Check the statements of config/claims against figures that were measured. Starts nothing."""
    from sglperf.claiming import figures_of
    from sglperf.config_folder import config_folder, load_claims
    from sglperf.report.claims import claims_json, claims_text

    kept = figures_of(runs or (), results_dir)
    checked = kept.check(load_claims(config_folder(Path.cwd())))
    if json is not None:
        write(json, dumps(claims_json(checked, kept.left_out)))
    if json != Path("-"):
        say(claims_text(checked, kept.left_out, colour=sys.stdout.isatty()))


@app.command()
def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a run, or of a bisection, below results/.")
    ],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to (default: report.html in that folder).")
    ] = None,
) -> None:
    """Draw a run's page again, from its run.json and journal. Starts nothing."""
    from sglperf.reporting import REPORT, draw

    folder = run if run.is_dir() else run.parent
    text = draw(folder)
    write(output or folder / REPORT, text)
    if output != Path("-"):
        say(f"{output or folder / REPORT}\n")


@app.command(context_settings=PASSING)
def calibrate(
    context: typer.Context,
    launches: Annotated[
        int, typer.Option(min=4, help="Server starts of the one build; 12 or more say something.")
    ] = 12,
    a_side: Annotated[
        int | None,
        typer.Option(
            "--a-side", min=2, help="Launches on either side of a comparison (default: a third of all)."
        ),
    ] = None,
    of: Annotated[
        Path | None,
        typer.Option("--of", metavar="RUN", help="Learn from a run that was made; start nothing."),
    ] = None,
    baseline_dir: Annotated[Path, typer.Option(help="Beside which baselines the result is kept.")] = Path(
        "baselines"
    ),
    json: JsonFile = None,
) -> None:
    """Learn this machine's noise from launches of one build. Further arguments are pytest's: -m decode."""
    from sglperf.calibrating import keep, learn
    from sglperf.kept_run import read_run
    from sglperf.report.calibration import calibration_text

    folder = of or _measured(
        [f"--launches={launches}", "--baseline=off", *context.args], quiet=json == Path("-")
    )
    calibrated = learn(read_run(folder), a_side)
    kept = keep(calibrated, baseline_dir)
    if json is not None:
        write(json, dumps(calibrated.family))
    if json != Path("-"):
        say(calibration_text(calibrated.family, calibrated.left_out))
        say("".join(f"kept in {file}\n" for file in kept))


@app.command(context_settings=PASSING)
def compare(
    context: typer.Context,
    base: Annotated[
        str, typer.Argument(help="The target that is compared with: sglang==0.5.22, a checkout, ….")
    ],
    head: Annotated[str, typer.Argument(help="The target that is judged.")],
    json: JsonFile = None,
) -> None:
    """Compare two SGLang builds, launches interleaved. Further arguments are pytest's: -m decode."""
    from sglperf.kept_run import read_run
    from sglperf.report.comparison import comparison_json

    _refuse_options(BASE=base, HEAD=head)
    code, folder = _suite([f"--base={base}", f"--head={head}", *context.args], quiet=json == Path("-"))
    if json is not None and folder is not None:
        write(json, comparison_json(read_run(folder, part=True), str(folder)))
    raise SystemExit(code)


@app.command()
def issues(
    runs: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Folders of runs, or above them.", exists=True)
    ],
    known: Annotated[
        Path | None,
        typer.Option(
            "--open",
            metavar="FILE",
            help="What `gh issue list --json number,body` printed; without it, no issue is open.",
        ),
    ] = None,
    link: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the runs were made, to be named in the texts.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Say which issues the regressed areas need: one each, opened, brought up to date or closed. Touches none."""
    from sglperf.report.issue import steps_text
    from sglperf.tracking import issues as planned
    from sglperf.tracking import read_issues, read_night

    night = read_night(runs)
    found = planned(night, read_issues(known) if known else (), link)
    if json is not None:
        write(json, dumps({"steps": [one.to_dict() for one in found], "left_out": night.left_out}))
    if json != Path("-"):
        say(steps_text([one.step for one in found], night.left_out))


@app.command(context_settings=PASSING)
def bisect(
    context: typer.Context,
    good: Annotated[str, typer.Argument(help="A revision that is fine.")],
    bad: Annotated[str, typer.Argument(help="A later one that is worse.")],
    sglang_repo: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The repository that they are revisions of.")
    ] = None,
    results_dir: Annotated[Path, typer.Option(help="Where the bisection is kept.")] = Path("results"),
    step: Annotated[
        bool,
        typer.Option(
            "--step",
            help="Judge BAD alone, for `git bisect run`: 0 good, 1 bad, 125 cannot be told. BAD may be any target.",
        ),
    ] = False,
    effect: Annotated[
        float,
        typer.Option(
            min=0.001,
            help="With --step: by how much the bad ones are worse, as a share; good is only what excludes that.",
        ),
    ] = 0.1,
    json: JsonFile = None,
) -> None:
    """Find the first commit that is worse. Further arguments are pytest's: -m decode -k test_time."""
    from sglperf.bisecting import bisect as search
    from sglperf.core.bisection import Side
    from sglperf.report.bisection import bisection_json, bisection_text

    _refuse_options(GOOD=good, BAD=bad)
    if any(word.startswith(("--shard", "--merge-shards")) for word in context.args):
        raise UsageError(
            "bisect decides after each commit, on one machine: leave --shard and --merge-shards out"
        )
    if step:
        repository = [] if sglang_repo is None else [f"--sglang-repo={sglang_repo}"]
        raise SystemExit(
            _step(
                [f"--base={good}", f"--head={bad}", f"--results-dir={results_dir}", *repository],
                context.args,
                effect,
            )
        )
    if sglang_repo is None:
        raise UsageError("bisect needs the repository of the two revisions: --sglang-repo=PATH")

    def say(line: str) -> None:
        typer.echo(line, err=json == Path("-"))

    try:
        found = search(good, bad, sglang_repo, context.args, results_dir, say)
    except KeyboardInterrupt:
        raise UsageError("interrupted; the same command goes on from here") from None
    if json is not None:
        write(json, bisection_json(found))
    if json != Path("-"):
        say(bisection_text(found))
    confirmed = found.bisection.confirmed
    raise SystemExit(0 if confirmed is not None and confirmed.side is Side.BAD else 3)


# git bisect run takes 1 to 127 for bad, except 125, and stops at what is above: a mistyped option must not be bad.
_STOP_GIT = 129


def _step(targets: list[str], arguments: list[str], effect: float) -> int:
    """One commit for ``git bisect run``."""
    from sglperf.core.bisection import Side, judge_alone
    from sglperf.kept_run import read_run

    code, folder = _suite([*targets, "--why=off", *arguments])
    if folder is None:
        return 125 if code == 3 else _STOP_GIT
    run = read_run(folder)
    if any(failure["side"] == "base" for failure in run["failures"]):
        typer.echo("sglperf: the good commit itself could not be measured", err=True)
        return _STOP_GIT
    judged = judge_alone(run["cases"], 1 + effect)
    typer.echo(f"{judged.side.value}: {judged.sentence}")
    return {Side.GOOD: 0, Side.BAD: 1, Side.UNKNOWN: 125}[judged.side]


def _refuse_options(**arguments: str) -> None:
    """An option before them would be taken for one."""
    for name, value in arguments.items():
        if value.startswith("-"):
            raise UsageError(
                f"{value!r} was taken for {name}: name {' and '.join(arguments)} first, then the options"
            )


cache = typer.Typer(no_args_is_help=True, help="Environments made for targets that were not installed.")
app.add_typer(cache, name="cache")


@cache.command("list")
def list_(json: JsonFile = None) -> None:
    """What is there, the most recently used first."""
    from sglperf.report.cache import cache_json, cache_text
    from sglperf.target.provision import environments_folder, provided

    found = provided()
    if json is not None:
        write(json, cache_json(found))
    if json != Path("-"):
        say(cache_text(found, environments_folder()))


@cache.command("prune")
def prune_(
    older: Annotated[
        float, typer.Option("--older-than", min=0, metavar="DAYS", help="Keep what was used since.")
    ] = 30,
) -> None:
    """Remove what nobody used for a while; what a run is using stays."""
    from sglperf.target.provision import prune

    for one in prune(older * 24 * 3600):
        say(f"removed {one.requirement} (Python {one.python}), {one.folder}\n")


app.add_typer(baseline, name="baseline")
app.add_typer(history, name="history")
app.command()(trend)
app.command()(init)


def _measured(arguments: list[str], *, quiet: bool) -> Path:
    """The folder of a run of the suite in the current directory.

    Raises:
        SystemExit: it ended without an outcome, and has said why; with its code.
    """
    code, folder = _suite(arguments, quiet=quiet)
    if folder is None:
        raise SystemExit(code or 3)
    return folder


def _suite(arguments: list[str], *, quiet: bool = False) -> tuple[int, Path | None]:
    """Run the suite in the current directory: pytest's exit code, and the run's folder if it has an outcome.

    Args:
        quiet: what pytest says goes to standard error, which leaves standard output to what is made of it.
    """
    import pytest

    folders: list[Path] = []

    class Catch:
        def pytest_sessionfinish(self, session: pytest.Session) -> None:
            from sglperf.suite import SUITE

            suite = session.config.stash.get(SUITE, None)
            if suite is not None and suite.outcome is not None:
                folders.append(Path(suite.outcome.folder))

    with contextlib.redirect_stdout(sys.stderr) if quiet else contextlib.nullcontext():
        code = pytest.main(arguments, plugins=[Catch()])
    return int(code), folders[0] if folders else None
