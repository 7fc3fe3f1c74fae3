"""What an issue on a regressed area says: title, body, comment; and the line by which it is known again.

Whatever comes from a build, a machine or a file stands in code: there GitHub looks for no mention, reference or tag.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sglperf.core.issue_plan import Action, Step, Told, Tracked
from sglperf.core.launches import center
from sglperf.core.metric import Kind
from sglperf.report.quantity import quantity

LIMIT = 65_536
"""GitHub's, in characters; held in bytes, which are never fewer."""

_MOST_KEYS = 4000  # 36 kB
_ROWS = (50, 10, 2, 0)  # of each profile's table, until all fits
_MOST_NAMED = 20
_MOST_CHARACTERS = 300  # of one name or sentence
# Only the first line counts: what a run says may hold anything.
_MARKER = re.compile(r"<!-- sglperf:regressed area=([a-z]+) cases=([0-9a-f,]*)( and more)? -->")

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Texts:
    """What GitHub is given.

    Attributes:
        body: of the issue from now on; None where it stays as it is.
        comment: None where nothing happened that anybody should be told.
    """

    title: str
    body: str | None
    comment: str | None


def issue_texts(step: Step, documents: Mapping[Told, Document], link: str | None = None) -> Texts:
    """Title, body and comment of a step.

    Args:
        documents: case → the run that tells it, for all cases that the step may name.
        link: address of what measured, if any.
    """
    title = f"Performance regression: {step.area}"
    if step.action is Action.CLOSE:
        return Texts(title, None, _closing(step, documents, link))
    return Texts(title, _body(step, documents, link), _news(step, documents, link))


def steps_text(steps: Sequence[Step], left_out: Mapping[str, str]) -> str:
    """A line for each step, for the terminal.

    Args:
        left_out: files that could not be read, and why.
    """
    lines = [
        f"{step.action.value} {'a new issue' if step.number is None else f'#{step.number}'}: {step.area}: "
        f"{len(step.regressed)} of {step.judged} regressed, {len(step.came)} of them new; {len(step.went)} fine again"
        + (f", {len(step.waiting)} not shown to be" if step.waiting else "")
        for step in steps
    ] or ["nothing is regressed, and no open issue is about what was measured"]
    return "\n".join([*lines, *(f"left out: {file}: {reason}" for file, reason in left_out.items())]) + "\n"


def parse_marker(number: int, body: str) -> Tracked | None:
    """What an issue is about; None where it is not one of ours."""
    found = _MARKER.match(body)
    if found is None:
        return None
    keys = frozenset(filter(None, found[2].split(",")))
    return Tracked(number, found[1], keys, whole=not found[3])


def _marker(step: Step) -> str:
    keys = sorted(step.keys)
    more = "" if step.whole and len(keys) <= _MOST_KEYS else " and more"
    return f"<!-- sglperf:regressed area={step.area} cases={','.join(keys[:_MOST_KEYS])}{more} -->"


def _body(step: Step, documents: Mapping[Told, Document], link: str | None) -> str:
    text = ""
    for rows in _ROWS:
        text = "\n".join(_body_lines(step, documents, link, rows)) + "\n"
        if len(text.encode()) <= LIMIT:
            return text
    return text.encode()[:LIMIT].decode(errors="ignore")


def _body_lines(step: Step, documents: Mapping[Told, Document], link: str | None, rows: int) -> Iterator[str]:
    yield _marker(step)
    profiles = sorted({one.profile for one in step.regressed})
    where = f" on {', '.join(map(code, profiles))}" if profiles else ""
    yield f"**{len(step.regressed)} of {step.judged} metrics of `{step.area}` are regressed**{where}."
    for profile in profiles:
        yield from _profile(
            profile, [one for one in step.regressed if one.profile == profile], documents, rows
        )
    yield from _waiting(step, documents)
    yield ""
    measured = f"[Measured here]({link}). " if link else ""
    again = f"`pytest -m {step.area} --profile={profiles[0]}`" if profiles else f"`pytest -m {step.area}`"
    yield (
        f"{measured}Again by hand: {again}. This text is rewritten after each run that measures the area, and the issue closed once "
        "each of these metrics is unchanged or improved. Where the change is meant, record the baseline anew and have it reviewed."
    )


def _profile(
    profile: str, regressed: Sequence[Told], documents: Mapping[Told, Document], rows: int
) -> Iterator[str]:
    newest = max((documents[one] for one in regressed), key=lambda document: str(document["run"]))
    targets = " → ".join(code(target["label"]) for target in newest["targets"].values())
    yield ""
    yield f"### {code(profile)}"
    yield ""
    yield f"{targets} · run {code(newest['run'])} · machine {', '.join(map(code, _machines(regressed, documents)))}"
    shown = sorted(regressed, key=lambda one: _severity(_case(one, documents)))[:rows]
    if shown:
        yield ""
        yield "| metric | base | head | ratio | interval |"
        yield "|---|--:|--:|--:|--:|"
    for one in shown:
        yield f"| {' | '.join(_row(one.case, _case(one, documents)))} |"
    if len(regressed) > len(shown):
        yield ""
        yield f"and {len(regressed) - len(shown)} more in `run.json`"
    for sentence in dict.fromkeys(_whys(regressed, documents)) if rows else ():
        yield ""
        yield f"why: {code(sentence)}"


def _machines(regressed: Sequence[Told], documents: Mapping[Told, Document]) -> list[str]:
    ids = (documents[one]["fingerprints"][_case(one, documents)["config"]]["id"] for one in regressed)
    return list(dict.fromkeys(map(str, ids)))


def _whys(regressed: Sequence[Told], documents: Mapping[Told, Document]) -> Iterator[str]:
    for one in regressed:
        explanation = documents[one].get("explanations", {}).get(_case(one, documents)["config"])
        if explanation:
            yield str(explanation["sentence"])


def _case(one: Told, documents: Mapping[Told, Document]) -> Mapping[str, Any]:
    case: Mapping[str, Any] = documents[one]["cases"][one.case]
    return case


def _severity(case: Mapping[str, Any]) -> tuple[bool, float]:
    """Counts first, which have no noise; then by how far they moved."""
    ratio = (case["comparison"] or {}).get("ratio")
    return case["metric"]["kind"] != Kind.EXACT, -abs(math.log(ratio)) if ratio else -math.inf


def _row(name: str, case: Mapping[str, Any]) -> tuple[str, ...]:
    found, unit = case["comparison"] or {}, case["metric"]["unit"]
    sides = (
        quantity(center(side), unit) if side and any(side) else "–" for side in (case["base"], case["head"])
    )
    ratio, low, high = (found.get(name) for name in ("ratio", "low", "high"))
    exact = case["metric"]["kind"] == Kind.EXACT
    interval = "" if exact or low is None else f"{low:.3f} … {'∞' if high is None else f'{high:.3f}'}"
    return code(name, cell=True), *sides, "" if ratio is None else f"{ratio:.3f}", interval


def _waiting(step: Step, documents: Mapping[Told, Document]) -> Iterator[str]:
    """What was regressed before, and is neither that nor fine."""
    if not step.waiting:
        return
    named = sorted(one for one in documents if one.key in step.waiting)
    said = [f"{_name(one)} is {one.status.value}" for one in named]
    unmeasured = len(step.waiting) - len(named)
    if unmeasured:
        said.append(f"{_metrics(unmeasured)} not measured")
    yield ""
    yield f"Regressed before, and not shown to be fine: {_listed(said)}."


def _news(step: Step, documents: Mapping[Told, Document], link: str | None) -> str | None:
    """A comment, which notifies people; a new issue does that by itself."""
    if step.action is Action.OPEN or not (step.came or step.went):
        return None
    lines = []
    if step.came:
        lines.append(f"Regressed, too: {_listed([_name(one) for one in step.came])}.")
    if step.went:
        lines.append(f"Fine again: {_listed([_fine(one) for one in step.went])}.")
    return _comment([*lines, _source(step, documents, link)])


def _closing(step: Step, documents: Mapping[Told, Document], link: str | None) -> str:
    names = _listed([_fine(one) for one in step.went])
    return _comment(
        [f"Fine again, each of {_metrics(len(step.went))}: {names}.", _source(step, documents, link)]
    )


def _source(step: Step, documents: Mapping[Told, Document], link: str | None) -> str:
    said = [*step.regressed, *step.went]
    runs = sorted({f"{code(one.profile)} run {code(documents[one]['run'])}" for one in said})
    return ", ".join(filter(None, [", ".join(runs), f"[measured here]({link})" if link else ""]))


def _comment(paragraphs: Iterable[str]) -> str:
    return "\n\n".join(paragraphs) + "\n"


def _fine(one: Told) -> str:
    return f"{_name(one)} ({one.status.value})"


def _name(one: Told) -> str:
    return f"{code(one.case)} on {code(one.profile)}"


def _metrics(count: int) -> str:
    return f"{count} metric{'' if count == 1 else 's'}"


def _listed(entries: Sequence[str]) -> str:
    more = len(entries) - _MOST_NAMED
    return "; ".join(entries[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def code(text: object, *, cell: bool = False) -> str:
    """A code span that shows ``text`` as it is, on one line.

    Args:
        cell: it stands in a table, which ends cells at a bar even there.
    """
    words = " ".join(str(text).split())
    shown = words if len(words) <= _MOST_CHARACTERS else words[: _MOST_CHARACTERS - 1] + "…"
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence, blank = "`" * (longest + 1), " " if "`" in (shown[:1], shown[-1:]) else ""
    return f"{fence}{blank}{shown or ' '}{blank}{fence}".replace("|", "\\|" if cell else "|")
