"""The ``sglperf`` command. Exit codes: 0 fine, 2 usage, 3 could not be done (DESIGN.md §4)."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from sglperf.errors import SglperfError, StoreError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Also write the result to FILE as JSON; - prints only JSON."),
]


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
        _write(json, environment_json(check))
    if json != Path("-"):
        width = shutil.get_terminal_size(fallback=(100, 24)).columns
        _say(environment_text(check, width=width, color=sys.stdout.isatty()))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
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
    from sglperf.calibrating import keep, learn, read_run
    from sglperf.report.calibration import calibration_text

    folder = of or _measured([f"--launches={launches}", "--baseline=off", *context.args])
    calibrated = learn(read_run(folder), a_side)
    kept = keep(calibrated, baseline_dir)
    if json is not None:
        _write(json, dumps(calibrated.family))
    if json != Path("-"):
        _say(calibration_text(calibrated.family, calibrated.left_out))
        _say("".join(f"kept in {file}\n" for file in kept))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def compare(
    context: typer.Context,
    base: Annotated[
        str, typer.Argument(help="The target that is compared with: sglang==0.5.22, a checkout, ….")
    ],
    head: Annotated[str, typer.Argument(help="The target that is judged.")],
) -> None:
    """Compare two SGLang builds, launches interleaved. Further arguments are pytest's: -m decode."""
    import pytest

    raise SystemExit(int(pytest.main([f"--base={base}", f"--head={head}", *context.args])))


cache = typer.Typer(no_args_is_help=True, help="Environments made for targets that were not installed.")
app.add_typer(cache, name="cache")


@cache.command("list")
def list_(json: JsonFile = None) -> None:
    """What is there, the most recently used first."""
    from sglperf.report.cache import cache_json, cache_text
    from sglperf.target.provision import environments_folder, provided

    found = provided()
    if json is not None:
        _write(json, cache_json(found))
    if json != Path("-"):
        _say(cache_text(found, environments_folder()))


@cache.command("prune")
def prune_(
    older: Annotated[
        float, typer.Option("--older-than", min=0, metavar="DAYS", help="Keep what was used since.")
    ] = 30,
) -> None:
    """Remove what nobody used for a while; what a run is using stays."""
    from sglperf.target.provision import prune

    for one in prune(older * 24 * 3600):
        _say(f"removed {one.requirement} (Python {one.python}), {one.folder}\n")


def _measured(arguments: list[str]) -> Path:
    """The folder of a run of the suite in the current directory.

    Raises:
        SystemExit: it ended without an outcome, and has said why; with its code.
    """
    import pytest

    folders: list[Path] = []

    class Catch:
        def pytest_sessionfinish(self, session: pytest.Session) -> None:
            from sglperf.plugin import SUITE  # by now pytest has imported it, and rewritten its assertions

            suite = session.config.stash.get(SUITE, None)
            if suite is not None and suite.outcome is not None:
                folders.append(Path(suite.outcome.folder))

    code = pytest.main(arguments, plugins=[Catch()])
    if not folders:
        raise SystemExit(int(code) or 3)
    return folders[0]


def dumps(value: object) -> str:
    """A dataclass as JSON; what is infinite is null."""
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"


def _write(file: Path, text: str) -> None:
    if file == Path("-"):
        _say(text)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"cannot write {file}: {error.strerror}. Name a file in a folder that you can write"
        ) from error


def _say(text: str) -> None:
    """Print; a full disk or a closed pipe behind stdout is an error of ours, not exit code 1, which means regressed."""
    try:
        typer.echo(text, nl=False)
    except OSError as error:
        # Else the interpreter flushes what is left at its end, fails again, and ends with 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StoreError(f"cannot write to standard output: {error.strerror}") from error
