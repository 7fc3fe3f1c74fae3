"""What every command of ``sglperf`` shares: where its result goes, and how it is printed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from sglperf.errors import StoreError

JsonFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Also write the result to FILE as JSON; - prints only JSON."),
]


def dumps(value: object) -> str:
    """A dataclass as JSON; what is infinite is null."""
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"


def tell(value: object, text: str, json: Path | None) -> None:
    """A command's result: as text, as JSON to a file besides, or as JSON alone."""
    if json is not None:
        write(json, dumps(value))
    if json != Path("-"):
        say(text)


def write(file: Path, text: str) -> None:
    """Write a result to a file; ``-`` prints it.

    Raises:
        StoreError: it cannot be written.
    """
    if file == Path("-"):
        say(text)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"cannot write {file}: {error.strerror}. Name a file in a folder that you can write"
        ) from error


def say(text: str) -> None:
    """Print; a full disk or a closed pipe behind stdout is an error of ours, not exit code 1, which means regressed."""
    try:
        typer.echo(text, nl=False)
    except OSError as error:
        # Else the interpreter flushes what is left at its end, fails again, and ends with 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StoreError(f"cannot write to standard output: {error.strerror}") from error
