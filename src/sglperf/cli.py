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
