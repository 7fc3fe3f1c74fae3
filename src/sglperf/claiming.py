"""From the runs that were kept to what they say of today's claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sglperf.core.claim import Checked, Claim, check
from sglperf.core.figure import Figure, newest
from sglperf.core.validation import first_problem
from sglperf.errors import UsageError
from sglperf.kept_run import read_run

_FIGURES = TypeAdapter(tuple[Figure, ...])
_MOST_NAMES = 5


@dataclass(frozen=True)
class Kept:
    """What runs have kept.

    Attributes:
        figures: of each case the newest.
        left_out: runs that could not be read → why.
    """

    figures: tuple[Figure, ...]
    left_out: Mapping[str, str]

    def check(self, claims: Mapping[str, Claim]) -> tuple[Checked, ...]:
        """What they say of each claim."""
        return tuple(check(name, claim, self.figures) for name, claim in claims.items())


def figures_of(names: Sequence[str], results: Path) -> Kept:
    """The figures of these runs; of all in the results folder where none is named.

    Args:
        names: folders, ``run.json`` files, or names below ``results``.

    Raises:
        UsageError: a run that is named is not there, or cannot be used. One that is not named is left out.
    """
    if names:
        found = [_read(_named(name, results)) for name in names]
        return Kept(newest(figure for figures in found for figure in figures), {})
    figures: list[Figure] = []
    left_out: dict[str, str] = {}
    for file in sorted(results.glob("*/run.json")):
        try:
            figures += _read(file)
        except UsageError as error:
            left_out[file.parent.name] = str(error).removeprefix(f"{file}: ")
    return Kept(newest(figures), left_out)


def _named(name: str, results: Path) -> Path:
    for place in (Path(name), results / name):
        if place.exists():
            return place
    known = sorted((file.parent.name for file in results.glob("*/run.json")), reverse=True)
    newest_first = ", ".join(known[:_MOST_NAMES]) + (", …" if len(known) > _MOST_NAMES else "")
    raise UsageError(f"{name}: no such run; {results} has {newest_first or 'none'}")


def _read(path: Path) -> tuple[Figure, ...]:
    document: dict[str, Any] = read_run(path)
    if "figures" not in document:
        raise UsageError(f"{path}: was kept by a version that kept no figures: measure it anew")
    try:
        return _FIGURES.validate_python(document["figures"])
    except ValidationError as error:
        raise UsageError(f"{path}: figures.{first_problem(error)}: measure it anew") from None
