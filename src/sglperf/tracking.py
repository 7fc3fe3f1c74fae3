"""From the runs of a night, and the issues that are open, to what is to be done about each area that regressed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from sglperf.core.issue_plan import Step, Told, plan_issues
from sglperf.core.validation import first_problem
from sglperf.core.verdict import Status
from sglperf.errors import UsageError
from sglperf.kept_run import read_run
from sglperf.report.issue import Document, Texts, issue_texts, parse_marker


class OpenIssue(BaseModel):
    """As ``gh issue list --json number,body`` has it."""

    number: int
    body: str | None


_ISSUES = TypeAdapter(tuple[OpenIssue, ...])


@dataclass(frozen=True)
class Night:
    """What the runs say.

    Attributes:
        cases: what is told of each case of each profile → the run that tells it, the newest one.
        left_out: files that could not be read, and why.
    """

    cases: Mapping[Told, Document]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class Issue:
    """A step, and its words."""

    step: Step
    texts: Texts

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        step, texts = self.step, self.texts
        return {
            "action": step.action.value, "area": step.area, "number": step.number, "regressed": len(step.regressed),
            "judged": step.judged, "title": texts.title, "body": texts.body, "comment": texts.comment,
        }  # fmt: skip


def read_night(places: Sequence[Path]) -> Night:
    """All runs in and below these folders.

    Raises:
        UsageError: there is none.
    """
    files = sorted({file for place in places for file in _files(place)})
    if not files:
        raise UsageError(f"no run.json in {', '.join(map(str, places))}: name folders of runs, or above them")
    documents, left_out = [], {}
    for file in files:
        try:
            documents.append(read_run(file))
        except UsageError as error:
            left_out[str(file)] = str(error).removeprefix(f"{file}: ")
    newest: dict[tuple[str, str], tuple[Told, Document]] = {}
    for document in sorted(documents, key=lambda document: str(document["run"])):
        profile = str(document["settings"]["profile"])
        for name, case in document["cases"].items():
            told = Told(case["area"], profile, name, Status(case["status"]))
            newest[profile, name] = told, document
    return Night(dict(newest.values()), left_out)


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.rglob("run.json"))


def read_issues(file: Path) -> tuple[OpenIssue, ...]:
    """What ``gh issue list --json number,body`` printed.

    Raises:
        UsageError: it is something else.
    """
    try:
        return _ISSUES.validate_python(orjson.loads(file.read_bytes()))
    except ValidationError as error:
        raise UsageError(
            f"{file}: {first_problem(error)}: give what `gh issue list --json number,body` prints"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {error}: give what `gh issue list --json number,body` prints") from error


def issues(night: Night, known: Sequence[OpenIssue], link: str | None = None) -> tuple[Issue, ...]:
    """What is to be done, area by area.

    Args:
        known: open issues; those that are not ours are left alone.
        link: address of what measured.
    """
    tracked = [found for one in known if (found := parse_marker(one.number, one.body or "")) is not None]
    steps = plan_issues(night.cases, tracked)
    return tuple(Issue(step, issue_texts(step, night.cases, link)) for step in steps)
