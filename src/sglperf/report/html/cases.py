"""All cases and their rounds, as the page's table reads them: compact, since there may be thousands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sglperf.core.launches import center
from sglperf.report.html.run import STATUSES, Kept, Run
from sglperf.report.quantity import quantity

_DIGITS = 7


class _Names:
    """Each string once; the others are its number."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def __call__(self, name: str) -> int:
        return self.known.setdefault(name, len(self.known))


def table_data(run: Run) -> dict[str, Any]:
    """Plain values, ready for JSON.

    Returns:
        ``names``: strings, to which numbers below refer; ``metrics``: of each, its unit, direction, kind and meaning;
        ``cases``: worst first; ``rounds``: those that a case may rest on.
    """
    names = _Names()
    cases = [_case(run, name, names) for name in run.ordered]
    metrics = {
        names(case["metric"]["name"]): [case["metric"][key] for key in ("unit", "better", "kind", "meaning")]
        for case in run.cases.values()
    }
    rounds = list(_rounds(run, names))
    return {
        "names": list(names.known),
        "statuses": STATUSES,
        "metrics": metrics,
        "cases": cases,
        "rounds": rounds,
        "paired": run.paired,
    }


def _case(run: Run, name: str, names: _Names) -> list[Any]:
    case = run.cases[name]
    found = case["comparison"] or {}
    exact = case["metric"]["kind"] == "exact"
    base = _middle(case["base"])
    head = _middle(case["head"])
    unit = case["metric"]["unit"]
    return [
        *(names(case[key]) for key in ("status", "area", "model", "config", "workload")),
        names(case["metric"]["name"]),
        names(case["code"]),
        names(case["sentence"]),
        *(_number(value) for value in (base, head)),
        *("–" if value is None else quantity(value, unit) for value in (base, head)),
        *(_number(found.get(key)) for key in ("ratio", "low", "high", "p_family", "detectable_effect")),
        int(exact),
        # A paired base is among the rounds; a baseline's launches are nowhere else on the page.
        None if run.paired or not case["base"] else [[_number(v) for v in launch] for launch in case["base"]],
    ]


def _middle(launches: Sequence[Sequence[float]] | None) -> float | None:
    return center(launches) if launches and any(launches) else None


def _number(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _rounds(run: Run, names: _Names) -> Iterator[list[Any]]:
    asked: dict[tuple[str, str], set[str]] = {}
    for case in run.cases.values():
        asked.setdefault((case["config"], case["workload"]), set()).add(case["metric"]["name"])
    for one in run.rounds:
        wanted = asked.get((one.config, one.workload), set())
        if wanted:
            yield [
                *(names(text) for text in (one.side, one.config, one.workload)),
                one.launch,
                one.index,
                one.line,
                [names(gate["code"]) for gate in one.gates],
                _values(one, wanted, names),
            ]


def _values(one: Kept, wanted: set[str], names: _Names) -> Mapping[int, float | None]:
    return {names(name): _number(value) for name, value in one.values.items() if name in wanted}
