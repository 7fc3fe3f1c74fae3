"""A run as it was kept, ready to be shown: its document, and of its journal what plots need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import takewhile
from typing import Any

import numpy as np
import orjson

from sglperf.core.derive import latency_curve, token_gaps
from sglperf.core.launches import FloatArray
from sglperf.core.observation import ClientHealth, RequestObservation, RoundObservation

NO_GAPS: FloatArray = np.empty(0)
# From the worst to what nobody needs to look at.
STATUSES = ("regressed", "invalid", "incomparable", "improved", "inconclusive", "new", "unchanged")


@dataclass(frozen=True)
class Kept:
    """A round, and where it is found again.

    Attributes:
        line: of the journal, from 1; None where there is no journal.
        first_tokens: seconds from sending to the first token, of each request.
        gaps: inter-token latencies, seconds.
        requests: (prompt tokens, cached tokens, seconds to the first token) of each, where the server counted.
        curve: inter-token latency against tokens in the KV cache; shape (points, 2).
    """

    line: int | None
    side: str
    config: str
    workload: str
    launch: int
    index: int
    values: Mapping[str, float]
    gates: tuple[Mapping[str, Any], ...] = ()
    predicted: Mapping[str, float] = field(default_factory=dict)
    batch_sizes: tuple[float, ...] = ()
    probes: tuple[Mapping[str, float], ...] = ()
    first_tokens: tuple[float, ...] = ()
    gaps: FloatArray = field(default_factory=lambda: NO_GAPS)
    requests: tuple[tuple[int, int, float], ...] = ()
    curve: tuple[tuple[float, float], ...] = ()

    @property
    def good(self) -> bool:
        """Whether it failed no gate."""
        return not self.gates


@dataclass(frozen=True)
class Run:
    """A run's document and its rounds.

    Attributes:
        document: ``run.json``.
        rounds: in the order in which they were measured.
        note: what of the journal could not be used; empty where all of it could.
    """

    document: Mapping[str, Any]
    rounds: tuple[Kept, ...]
    note: str = ""

    @property
    def cases(self) -> Mapping[str, Mapping[str, Any]]:
        """Name → case."""
        cases: Mapping[str, Mapping[str, Any]] = self.document["cases"]
        return cases

    @property
    def paired(self) -> bool:
        """Whether two builds were measured."""
        return "base" in self.document["targets"]

    @cached_property
    def ordered(self) -> list[str]:
        """Names of cases, the worst first: by status, then by how far the ratio is from 1."""
        return sorted(
            self.cases,
            key=lambda name: (STATUSES.index(self.cases[name]["status"]), -_size(self.cases[name])),
        )

    @cached_property
    def short(self) -> dict[str, str]:
        """Name → what sets the case apart: without a model that all share, or what all names of servers begin with."""
        one_model = len({case["model"] for case in self.cases.values()}) == 1
        begin = self.common_server
        return {
            name: " · ".join(
                part
                for part in (
                    case["metric"]["name"],
                    case["workload"],
                    case["config"].removeprefix(begin).removeprefix("-"),
                    "" if one_model else case["model"],
                )
                if part
            )
            for name, case in self.cases.items()
        }

    @cached_property
    def common_server(self) -> str:
        """What the names of all servers begin with, in whole words."""
        words = [case["config"].split("-") for case in self.cases.values()]
        same = takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))
        return "-".join(column[0] for column in same)

    @cached_property
    def points(self) -> dict[tuple[str, str], list[Kept]]:
        """(server config, workload) → its rounds that failed no gate, of both sides."""
        found: dict[tuple[str, str], list[Kept]] = {}
        for one in self.rounds:
            if one.good:
                found.setdefault((one.config, one.workload), []).append(one)
        return found

    @property
    def worst_points(self) -> list[tuple[tuple[str, str], list[Kept]]]:
        """The same, those of the worst cases first."""
        places: dict[tuple[str, str], int] = {}
        for at, name in enumerate(self.ordered):
            case = self.cases[name]
            places.setdefault((case["config"], case["workload"]), at)
        return sorted(self.points.items(), key=lambda one: places.get(one[0], len(places) + len(self.cases)))


def _size(case: Mapping[str, Any]) -> float:
    ratio = (case["comparison"] or {}).get("ratio")
    return abs(np.log(ratio)) if ratio else 0.0


def read(document: Mapping[str, Any], journal: Iterable[bytes] | None) -> Run:
    """Put a run together.

    Args:
        document: ``run.json``.
        journal: lines of ``journal.jsonl``; None where it is gone, and rounds then come without arrivals.
    """
    if journal is None:
        rounds = tuple(_kept(None, one, None) for one in document["rounds"])
        return Run(document, rounds, "journal.jsonl is not there: nothing is shown that needs its arrivals")
    found, unread = [], 0
    for number, line in enumerate(journal, 1):
        if b'"round"' not in line[:40]:  # most of a journal is rounds; what is not need not be parsed
            continue
        try:
            entry = orjson.loads(line)
            found.append(_kept(number, entry["round"], entry.get("observation")))
        except (ValueError, KeyError, TypeError):
            unread += 1
    note = f"{unread} line(s) of journal.jsonl could not be read" if unread else ""
    return Run(document, tuple(found), note)


def sources(rounds: Sequence[Kept]) -> str:
    """How many they are, and where they are found again."""
    lines = sorted(one.line for one in rounds if one.line is not None)
    count = f"{len(rounds)} round{'' if len(rounds) == 1 else 's'}"
    if not lines:
        return count
    if len(lines) == 1:
        return f"{count}, line {lines[0]} of journal.jsonl"
    listed = ", ".join(map(str, lines)) if len(lines) <= 8 else f"{lines[0]} to {lines[-1]}"
    return f"{count}, lines {listed} of journal.jsonl"


def _kept(line: int | None, round_: Mapping[str, Any], observation: object) -> Kept:
    known = {
        "line": line,
        **{name: round_[name] for name in ("side", "config", "workload", "launch", "index", "values")},
        "gates": tuple(round_.get("gates", ())),
        "predicted": round_.get("predicted") or {},
        "batch_sizes": tuple(round_.get("batch_sizes") or ()),
        "probes": tuple(round_.get("probes") or ()),
        "curve": tuple(map(tuple, round_.get("curve") or ())),
    }
    # Of a search, a list of rounds at many rates: together they are no distribution of anything.
    seen = _observed(observation) if isinstance(observation, Mapping) else None
    if seen is None:
        return Kept(**known)
    return Kept(
        **known
        | {
            "first_tokens": tuple(one.arrivals[0] - one.sent for one in seen.requests),
            "gaps": np.concatenate([token_gaps(one) for one in seen.requests]),
            "requests": tuple(_counted(seen)),
            "curve": known["curve"] or latency_curve(seen),
        }
    )


_REQUEST = {one.name for one in fields(RequestObservation)}


def _observed(observation: Mapping[str, Any]) -> RoundObservation | None:
    """The round's requests that came to something; None where there are none."""
    requests = tuple(
        RequestObservation(**{name: value for name, value in one.items() if name in _REQUEST})
        for one in observation.get("requests", ())
        if one.get("arrivals") and not one.get("error")
    )
    return RoundObservation(requests, ClientHealth(0, 0, 0, 0, 0), {}) if requests else None


def _counted(seen: RoundObservation) -> Iterator[tuple[int, int, float]]:
    for one in seen.requests:
        if one.prompt_tokens is not None and one.cached_tokens is not None:
            yield one.prompt_tokens, one.cached_tokens, one.arrivals[0] - one.sent
