"""The pytest side: the ``server`` and ``measure`` fixtures, and one test item per metric.

A perf test's body runs twice. While collecting, ``measure(...).expect(...)`` notes what the test will ask
for, so the plan, and with it the judged family, is known before a server starts; each expected metric
becomes an item of its own. When the items run, the plan has been executed and the same call reads the verdict.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from packaging.version import Version

from sglperf.config import (
    ConfigFolder,
    Settings,
    config_folder,
    environment_variables,
    load_model,
    load_settings,
    server_configs,
)
from sglperf.core.catalogue import METRICS
from sglperf.core.machine import Gpus
from sglperf.core.metric import Kind
from sglperf.core.server_config import ServerConfig
from sglperf.environment import Environment
from sglperf.errors import ConfigError, InconclusiveWarning, NotHere, SglperfError, UsageError
from sglperf.options import given_options
from sglperf.plan import Ask, Plan, check_ask, make_plan
from sglperf.tensor_parallel import choose_sets
from sglperf.workload.shapes import Workload

if TYPE_CHECKING:
    from sglperf.pipeline import Outcome

OLDEST_BENCHMARK = "5.3"
AREAS = ("env", "lifecycle", "prefill", "decode", "serving", "radix", "backend", "kernel", "overlap", "tp")
MARKERS = {
    **{area: f"area {area} of the performance suite" for area in AREAS},
    "exact": "judged without statistics: any change counts",
    "timing": "judged statistically, over launches",
    "gpu": "needs a CUDA GPU",
    "nightly": "too long for a quick look; runs at night",
    "sweep(name, ...)": "take the values of these arguments from the profile's sweeps",
    "server(name, setting=value, ...)": "measure on this entry of the profile's servers, with these settings changed",
}


@dataclass
class Suite:
    """What one pytest session knows: settings, the asks of the collected items, then the outcome.

    Attributes:
        gpus: of this machine, looked at once.
        notes: what a person should be told of a server config's choice, by its label.
    """

    settings: Settings
    folder: ConfigFolder
    settings_of: Callable[[str | None, Mapping[str, Any]], Settings]
    gpus: Callable[[], Gpus]
    plan: Plan | None = None
    outcome: Outcome | None = None
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _named: dict[str, Settings] = field(default_factory=dict)

    def settings_for(self, node: Any) -> Settings:
        """What holds for a test: the profile's settings, or those of the server that its ``server`` mark names."""
        mark = node.get_closest_marker("server")
        if mark is None:
            return self.settings
        if len(mark.args) != 1:
            raise pytest.UsageError(
                f"{node.nodeid}: server takes one name, of an entry of the profile's servers; got {mark.args}"
            )
        name = mark.args[0]
        if name not in self._named:
            self._named[name] = self.settings_of(name, {})
        return self._named[name]

    def configs(self, node: Any) -> tuple[ServerConfig, ...]:
        """The servers that a test is parametrized by: the profile's own, or those of its ``server`` mark."""
        plain, mark = self.settings_for(node), node.get_closest_marker("server")
        if mark is None:
            return self._configs(plain, "")
        found: list[ServerConfig] = []
        for values in itertools.product(*map(_several, mark.kwargs.values())):
            changes = dict(zip(mark.kwargs, values, strict=True))
            words = [_word(name, value) for name, value in changes.items()]
            found += self._configs(self.settings_of(mark.args[0], changes), "-".join([mark.args[0], *words]))
        return tuple(found)

    def _configs(self, settings: Settings, variant: str) -> tuple[ServerConfig, ...]:
        model = load_model(self.folder, settings.model)
        chosen = choose_sets(settings, model, self.gpus)
        configs = server_configs(settings, model, variant, chosen.sets)
        self.notes |= {config.label: chosen.notes for config in configs}
        return configs


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _word(name: str, value: Any) -> str:
    """A changed setting as a word of the server's label."""
    if isinstance(value, bool):
        return name.replace("_", "-") if value else f"no-{name.replace('_', '-')}"
    return str(value)


SUITE = pytest.StashKey[Suite]()
ASK = pytest.StashKey[Ask]()


def pytest_configure(config: pytest.Config) -> None:
    if Version(version("pytest-benchmark")) < Version(OLDEST_BENCHMARK):
        raise pytest.UsageError(
            f"pytest-benchmark {version('pytest-benchmark')} fails at the end of a session with cases that have no timing: "
            f"install pytest-benchmark>={OLDEST_BENCHMARK}"
        )
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    try:
        session.config.stash[SUITE] = _suite(session.config)
    except SglperfError as error:
        _stop(session, error)


def _suite(config: pytest.Config) -> Suite:
    folder, gpus = config_folder(config.rootpath), functools.cache(_gpus)
    given, variables, accelerators = (
        given_options(config),
        environment_variables(),
        _accelerators(config, gpus),
    )

    def settings_of(server: str | None, changes: Mapping[str, Any]) -> Settings:
        return load_settings(folder, given, variables, accelerators, server, changes)

    settings = settings_of(None, {})
    load_model(folder, settings.model)  # so that an unknown one is refused whatever is selected
    return Suite(settings, folder, settings_of, gpus)


def _gpus() -> Gpus:
    from sglperf.probes.gpu import probe_gpus

    return probe_gpus(visible_devices=environment_variables().get("CUDA_VISIBLE_DEVICES"))


def _accelerators(config: pytest.Config, gpus: Callable[[], Gpus]) -> Sequence[str]:
    """Product names of the GPUs present; not looked up where the profile is given."""
    if config.getoption("--profile") not in (None, "auto"):
        return ()
    return [gpu.name for gpu in gpus().usable]


def _stop(session: pytest.Session, error: SglperfError) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.ensure_newline()
        reporter.write_line(f"ERROR: {error}", red=True)
    pytest.exit("sglperf: nothing was measured", returncode=error.exit_code)


# ---- collection: parametrize servers, sweeps and metrics


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    suite = metafunc.config.stash.get(SUITE, None)
    if suite is None or not {"server", "measure"} <= set(metafunc.fixturenames):
        return
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


def whole_workload(settings: Settings, workload: Workload) -> Workload:
    """The workload with its open lengths filled from the settings."""
    return workload.filled(settings.workloads.get(workload.kind, {}))


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


# ---- execution: the whole plan before the first item, then each item reads its verdict


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    suite = session.config.stash.get(SUITE, None)
    if suite is None:
        return
    try:
        asks = [ask for item in session.items for ask in _item_asks(suite, item)]
        for ask in asks:
            check_ask(ask)
    except SglperfError as error:
        _stop(session, error)
    absent = [error for error in map(_error_of, session.items) if error is not None]
    if absent and not asks:
        _stop(session, absent[0])  # nothing but skipped tests would look like a pass
    if asks:
        settings = suite.settings
        suite.plan = make_plan(
            asks,
            launches=settings.most_launches,
            fewest_launches=settings.fewest_launches,
            rounds=settings.rounds,
            warmup_rounds=settings.warmup_rounds,
            seed=settings.seed,
        )


def _item_asks(suite: Suite, item: pytest.Item) -> Iterator[Ask]:
    """An item asks for its own metric, and for its test's figures that carry no verdict."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if not isinstance(item, pytest.Function) or not {"server", "measure"} <= set(parameters):
        return
    error = _error_of(item)
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


def _error_of(item: pytest.Item) -> SglperfError | None:
    """Why the item's servers cannot be, or None."""
    server = getattr(getattr(item, "callspec", None), "params", {}).get("server")
    return server if isinstance(server, SglperfError) else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    suite = session.config.stash.get(SUITE, None)
    if suite is None or suite.plan is None or session.config.option.collectonly or session.testsfailed:
        return
    from sglperf.session import measure_plan

    try:
        measure_plan(session.config, suite)
    except SglperfError as error:
        _stop(session, error)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> ServerConfig:
    """The server that a test is about: attention backend, page size and TP set. One start serves all its tests."""
    config: ServerConfig = request.param
    return config


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest) -> Environment:
    """The machine and the target's installation, and what they lack: ``environment.require("decode")``."""
    from sglperf.session import look_at_environment

    try:
        return look_at_environment(request.config.stash[SUITE].settings)
    except SglperfError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Expectation:
    """Measure a workload on the test's server: ``measure(Decode(streams=8)).expect("inter_token_latency")``.

    Each expected metric is an item of its own, so each has its own outcome.
    """
    suite = request.config.stash[SUITE]
    if suite.outcome is None or ASK not in request.node.stash:
        pytest.fail("sglperf: this test was not part of the plan that was measured", pytrace=False)
    expectation = Expectation(request, suite, suite.outcome, request.node.stash[ASK])
    expectation.refuse_invalid()
    return expectation


class Expectation:
    """``measure`` while running: turns this item's verdict into the test's outcome."""

    def __init__(self, request: pytest.FixtureRequest, suite: Suite, outcome: Outcome, ask: Ask) -> None:
        self._request, self._suite, self._outcome, self._ask = request, suite, outcome, ask
        self._verdict = outcome.verdicts[ask.name]
        self._workload: Workload | None = None

    def __call__(self, workload: Workload) -> Expectation:
        self._workload = whole_workload(self._suite.settings_for(self._request.node), workload)
        return self

    def refuse_invalid(self) -> None:
        """A measurement that failed a gate is an error of the set-up, not a failure of SGLang."""
        verdict = self._verdict
        self._request.node.user_properties.extend(
            [("verdict", verdict.status.value), ("code", verdict.code), ("sentence", verdict.sentence)]
        )
        if verdict.status.value == "invalid":
            # The summary says the rest once; a dead server would repeat its log under every case.
            pytest.fail(f"invalid: {verdict.sentence.partition(chr(10))[0]}", pytrace=False)

    def expect(self, *metrics: str) -> None:
        """Read the verdict of this item's metric if it is among ``metrics``.

        Raises:
            pytest.fail.Exception: regressed; or new or incomparable under ``--strict``.
        """
        if self._ask.metric not in metrics or self._workload != self._ask.workload:
            return
        from sglperf.recorder import record

        record(self._request, self._outcome, self._ask.name)
        status, said = self._verdict.status.value, f"{self._ask.metric}: {self._verdict.sentence}"
        if status == "regressed" or (self._suite.settings.strict and status in ("new", "incomparable")):
            pytest.fail(f"{status}: {said}", pytrace=False)
        if status == "inconclusive":
            self._request.node.warn(InconclusiveWarning(said))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """1 says that something regressed; where tests only failed to be measured, 3 says that instead."""
    suite = session.config.stash.get(SUITE, None)
    if suite is None or suite.outcome is None or exitstatus != pytest.ExitCode.TESTS_FAILED:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not reporter.stats.get("failed"):
        session.exitstatus = 3


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    suite = terminalreporter.config.stash.get(SUITE, None)
    if suite is None or suite.outcome is None:
        return
    from sglperf.report.sheet import WIDTH
    from sglperf.report.terminal import summary

    terminalreporter.section("sglperf")
    terminalreporter.write_line(
        summary(suite.outcome, suite.settings, width=WIDTH, colour=terminalreporter.hasmarkup)
    )
