"""``pytest -p sglperf.stock``: the suite's own tests in any folder, beside those that are there.

They come with the package, so a repository that uses them holds no copy. Whoever names files of tests gets these alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sglperf.errors import ConfigError

pytest_plugins = ("sglperf.plugin",)


def stock_tests() -> Path:
    """The folder of the suite's tests: in an installed package, or in the checkout that it runs from.

    Raises:
        ConfigError: there is none.
    """
    source = Path(__file__).parent
    for folder in (source / "_perf_tests", source.parents[1] / "perf_tests"):
        if (folder / "test_decode.py").is_file():
            return folder
    raise ConfigError(f"{source} came without the suite's tests: reinstall sglperf")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Add them to what is collected, unless something below the root was asked for by name."""
    config = session.config
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    whole = any(Path(config.invocation_params.dir, one).resolve() == config.rootpath for one in config.args)
    if not named or whole:
        config.args.append(str(stock_tests()))
