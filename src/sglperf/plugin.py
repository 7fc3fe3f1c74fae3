"""The pytest side: the ``server`` and ``measure`` fixtures, and what happens at which moment of a session.

What the tests ask for is found while collecting (`sglperf.collecting`), the whole plan is executed before the first
item runs (`sglperf.session`), and each item reads its verdict (`sglperf.expecting`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import pytest
from packaging.version import Version

from sglperf.collecting import AREAS, error_of, item_asks, parametrize
from sglperf.config import environment_variables, load_settings
from sglperf.config_folder import config_folder
from sglperf.core.machine import Gpus
from sglperf.core.server_config import ServerConfig
from sglperf.environment import Environment
from sglperf.errors import SglperfError
from sglperf.expecting import Expectation
from sglperf.models import load_model
from sglperf.options import given_options
from sglperf.plan import Plan, check_ask, make_plan
from sglperf.settings import Settings
from sglperf.suite import ASK, SUITE, Suite

OLDEST_BENCHMARK = "5.3"
MARKERS = {
    **{area: f"area {area} of the performance suite" for area in AREAS},
    "exact": "judged without statistics: any change counts",
    "timing": "judged statistically, over launches",
    "gpu": "needs a CUDA GPU",
    "nightly": "too long for a quick look; runs at night",
    "sweep(name, ...)": "take the values of these arguments from the profile's sweeps",
    "server(name, setting=value, ...)": "measure on this entry of the profile's servers, with these settings changed",
}


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
    given, variables = given_options(config), environment_variables()
    shards = None
    if given["merge_shards"] or variables.get("SGLPERF_MERGE_SHARDS"):
        from sglperf.gathering import gather  # most of what only a measurement needs

        # Whatever the profile: where shards are is the same for all.
        shards = gather(load_settings(folder, given, variables, ()))
        gpus = functools.cache(lambda: shards.gpus)
    accelerators = _accelerators(config, gpus)

    def settings_of(server: str | None, changes: Mapping[str, Any]) -> Settings:
        return load_settings(folder, given, variables, accelerators, server, changes)

    settings = settings_of(None, {})
    load_model(folder, settings.model)  # so that an unknown one is refused whatever is selected
    processors = None if shards is None else shards.processors
    return Suite(settings, folder, settings_of, gpus, processors=processors, shards=shards)


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


# ---- collection: what the tests ask for


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    suite = metafunc.config.stash.get(SUITE, None)
    if suite is not None and {"server", "measure"} <= set(metafunc.fixturenames):
        parametrize(metafunc, suite)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> Generator[None]:
    """The plan, once all others have chosen among the items; a shard leaves those of the others out."""
    yield
    suite = session.config.stash.get(SUITE, None)
    if suite is None:
        return
    try:
        suite.plan = _plan(session, suite, items)
        if suite.plan is not None and suite.settings.shard is not None:
            _take_part(session, suite, suite.plan, items)
    except SglperfError as error:
        _stop(session, error)


def _plan(session: pytest.Session, suite: Suite, items: Sequence[pytest.Item]) -> Plan | None:
    asks = [ask for item in items for ask in item_asks(suite, item)]
    for ask in asks:
        check_ask(ask)
    absent = [error for error in map(error_of, items) if error is not None]
    if absent and not asks:
        _stop(session, absent[0])  # nothing but skipped tests would look like a pass
    if not asks:
        return None
    settings = suite.settings
    return make_plan(
        asks,
        launches=settings.most_launches,
        fewest_launches=settings.fewest_launches,
        rounds=settings.rounds,
        warmup_rounds=settings.warmup_rounds,
        seed=settings.seed,
    )


def _take_part(session: pytest.Session, suite: Suite, whole: Plan, items: list[pytest.Item]) -> None:
    """Only what one shard measures, and what every host is asked."""
    from sglperf.sharding import make_piece

    suite.piece = make_piece(suite.settings, whole, environment_variables())
    suite.plan = suite.piece.plan
    mine = {config.label for config in suite.plan.configs}
    ours: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        ours[ASK not in item.stash or item.stash[ASK].config.label in mine].append(item)
    if ours[False]:
        items[:] = ours[True]
        session.config.hook.pytest_deselected(items=ours[False])


# ---- execution: the whole plan before the first item, then each item reads its verdict


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    suite = session.config.stash.get(SUITE, None)
    if suite is None or suite.plan is None or session.config.option.collectonly or session.testsfailed:
        return
    if _refused_beside_others(session.config):
        return
    from sglperf.session import measure_plan

    try:
        measure_plan(session.config, suite)
    except SglperfError as error:
        _stop(session, error)


_BESIDE = (
    "pytest-xdist's -n would measure servers beside one another, each slowed by the rest: run without it"
)
_REFUSED = pytest.StashKey[bool]()


def _refused_beside_others(config: pytest.Config) -> bool:
    """Whether this is one of several processes that run the tests; the one that began them is told so."""
    output = getattr(config, "workeroutput", None)
    if output is None:
        return False
    output["sglperf_refused"] = True
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    if getattr(node, "workeroutput", {}).get("sglperf_refused"):
        node.config.stash[_REFUSED] = True


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
        return look_at_environment(request.config.stash[SUITE])
    except SglperfError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Expectation:
    """Measure a workload on the test's server: ``measure(Decode(streams=8)).expect("inter_token_latency")``.

    Each expected metric is an item of its own, so each has its own outcome.
    """
    suite = request.config.stash[SUITE]
    if hasattr(request.config, "workeroutput"):
        pytest.fail(f"sglperf: {_BESIDE}", pytrace=False)
    if suite.outcome is None or ASK not in request.node.stash:
        pytest.fail("sglperf: this test was not part of the plan that was measured", pytrace=False)
    expectation = Expectation(request, suite, suite.outcome, request.node.stash[ASK])
    expectation.refuse_invalid()
    return expectation


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """1 says that something regressed; where tests only failed to be measured, 3 says that instead."""
    if session.config.stash.get(_REFUSED, False):
        session.exitstatus = pytest.ExitCode.USAGE_ERROR
        return
    suite = session.config.stash.get(SUITE, None)
    if suite is not None and suite.piece is not None and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK  # there are tests, and other shards run them
        return
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
