"""What a distribution requires, and which of it an environment does not have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version


@dataclass(frozen=True)
class Unmet:
    """A requirement that an environment does not meet: whose, and in words, ``torch==2.13.0 (2.14.1 is installed)``."""

    name: str
    said: str


def unmet(requirements: Sequence[str], installed: Mapping[str, str]) -> Iterator[Unmet]:
    """What is asked for and the environment does not have.

    Args:
        installed: version by distribution name, in lower case with dashes.
    """
    for text in requirements:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            yield Unmet(text, f"{text} (not understood)")
            continue
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        found = installed.get(re.sub(r"[-_.]+", "-", wanted.name).lower())
        if found is None:
            yield Unmet(wanted.name, f"{wanted.name}{wanted.specifier} (not installed)")
        elif not _meets(wanted, found):
            yield Unmet(wanted.name, f"{wanted.name}{wanted.specifier} ({found} is installed)")


def _meets(wanted: Requirement, found: str) -> bool:
    try:
        return wanted.specifier.contains(Version(found), prereleases=True)
    except InvalidVersion:
        return True
