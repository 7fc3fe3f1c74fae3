"""From test functions to what they ask for, before a server starts.

A perf test's body runs twice. While collecting, ``measure(...).expect(...)`` only takes notes of what the test will ask
for, so the plan, and with it the judged family, is known in full; each expected metric becomes an item of its own.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from sglperf.core.catalogue import METRICS
from sglperf.core.metric import Kind
from sglperf.core.server_config import ServerConfig
from sglperf.errors import ConfigError, NotHere, SglperfError, UsageError
from sglperf.plan import Ask
from sglperf.settings import Settings
from sglperf.suite import ASK, Suite, whole_workload
from sglperf.workload.shapes import Workload

AREAS = ("env", "lifecycle", "prefill", "decode", "serving", "radix", "backend", "kernel", "overlap", "tp")


def parametrize(metafunc: pytest.Metafunc, suite: Suite) -> None:
    """Make an item of each server, sweep value and metric of a perf test."""
    try:
        configs = suite.configs(metafunc.definition)
        settings = suite.settings_for(metafunc.definition)
        sweeps = {
            name: _sweep(settings, name)
            for mark in metafunc.definition.iter_markers("sweep")
            for name in mark.args
        }
        metrics = dict.fromkeys(
            ask.metric
            for parameters in _combinations(metafunc, {"server": configs, **sweeps})
            for ask in planned_asks(suite, metafunc.definition, metafunc.function, parameters)
        )
    except SglperfError as error:
        _cannot_be_configured(metafunc, error)
        return
    metafunc.parametrize(
        "server", configs, indirect=True, ids=[config.label for config in configs], scope="session"
    )
    for name, values in sweeps.items():
        metafunc.parametrize(name, values, ids=[f"{name.removesuffix('_tokens')}{value}" for value in values])
    judged = [_metric_parameter(name) for name in metrics if name not in METRICS or METRICS[name].judged]
    metafunc.parametrize("measure", judged, indirect=True)


def _cannot_be_configured(metafunc: pytest.Metafunc, error: SglperfError) -> None:
    """One item that says so if it is selected: whoever asked for other tests need not know."""
    names = [name for mark in metafunc.definition.iter_markers("sweep") for name in mark.args]
    absent = isinstance(error, NotHere)
    parameter = pytest.param(error, marks=pytest.mark.skip(reason=str(error)) if absent else ())
    name = "not-here" if absent else "not-configured"
    metafunc.parametrize("server", [parameter], indirect=True, ids=[name], scope="session")
    for name in names:
        metafunc.parametrize(name, [None], ids=[name])
    metafunc.parametrize("measure", [None], indirect=True, ids=["nothing"])


def _sweep(settings: Settings, name: str) -> tuple[int, ...]:
    values = settings.sweeps.get(name, ())
    if not values:
        raise ConfigError(
            f"profile {settings.profile} has no values for sweep {name!r}: add sweeps.{name} to "
            f"{settings.origin('sweeps')}"
        )
    return values


def _combinations(metafunc: pytest.Metafunc, ours: dict[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of parameters that the test function will be called with, ours and its own marks'."""
    axes: list[list[dict[str, Any]]] = [[{name: value} for value in values] for name, values in ours.items()]
    for mark in metafunc.definition.iter_markers("parametrize"):
        names, values = mark.args[:2]
        words = [word.strip() for word in names.split(",")] if isinstance(names, str) else list(names)
        rows = [value.values if hasattr(value, "marks") else value for value in values]
        axes.append(
            [
                dict(
                    zip(words, row if len(words) > 1 or hasattr(values[0], "marks") else (row,), strict=True)
                )
                for row in rows
            ]
        )
    for chosen in itertools.product(*axes):
        yield {name: value for part in chosen for name, value in part.items()}


def _metric_parameter(name: str) -> Any:
    if name not in METRICS:
        raise pytest.UsageError(f"unknown metric {name!r}: the suite knows {', '.join(METRICS)}")
    exact = METRICS[name].kind is Kind.EXACT
    return pytest.param(name, marks=pytest.mark.exact if exact else pytest.mark.timing, id=name)


class _Planned(Exception):
    """Ends a test's planning pass: from here on the body needs what only a run can give."""


class _Unplanned:
    """Stands for a fixture while a test is planned: touching it ends the planning."""

    def __getattr__(self, name: str) -> Any:
        raise _Planned


class _Planner:
    """``measure`` while collecting: notes workload and metrics."""

    def __init__(self, area: str, config: ServerConfig, settings: Settings) -> None:
        self._area, self._config, self._settings = area, config, settings
        self.asks: list[Ask] = []

    def __call__(self, workload: Workload) -> _Planner:
        self._workload = whole_workload(self._settings, workload)
        return self

    def expect(self, *metrics: str) -> None:
        self.asks += [Ask(self._area, self._config, self._workload, metric) for metric in metrics]


def planned_asks(
    suite: Suite, node: pytest.Item, function: Callable[..., object], parameters: Mapping[str, Any]
) -> list[Ask]:
    """What a test will ask for with these parameters, found by running its body with ``measure`` only taking notes."""
    area = next((name for name in AREAS if node.get_closest_marker(name)), None)
    if area is None:
        raise pytest.UsageError(
            f"{node.nodeid}: a perf test carries the marker of its area: one of {', '.join(AREAS)}"
        )
    planner = _Planner(area, parameters["server"], suite.settings_for(node))
    arguments = {
        name: planner if name == "measure" else parameters.get(name, _Unplanned())
        for name in inspect.signature(function).parameters
    }
    with contextlib.suppress(_Planned):
        function(**arguments)
    metrics = [ask.metric for ask in planner.asks]
    twice = next((name for name in metrics if metrics.count(name) > 1), None)
    if twice is not None:
        raise pytest.UsageError(
            f"{node.nodeid}: asks for {twice} twice, and an item has one verdict: make it two tests, or parametrize it"
        )
    return planner.asks


def item_asks(suite: Suite, item: pytest.Item) -> Iterator[Ask]:
    """An item asks for its own metric, and for its test's figures that carry no verdict."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if not isinstance(item, pytest.Function) or not {"server", "measure"} <= set(parameters):
        return
    error = error_of(item)
    if error is not None:
        if not isinstance(error, NotHere):
            raise UsageError(f"{item.nodeid}: {error}")
        return
    for ask in planned_asks(suite, item, item.obj, parameters):
        if ask.metric == parameters["measure"]:
            item.stash[ASK] = ask
            yield ask
        elif not METRICS[ask.metric].judged:
            yield ask


def error_of(item: pytest.Item) -> SglperfError | None:
    """Why the item's servers cannot be, or None."""
    server = getattr(getattr(item, "callspec", None), "params", {}).get("server")
    return server if isinstance(server, SglperfError) else None
