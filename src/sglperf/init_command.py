"""``sglperf init``: a folder in which pytest measures SGLang, in whatever repository it lies."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from sglperf.console import say
from sglperf.errors import StoreError, UsageError

_FILES = {
    "pytest.ini": """\
# Performance tests of SGLang: `cd` to this folder and run pytest. `sglperf.stock` brings the tests that come with sglperf.
[pytest]
addopts =
    -p sglperf.stock
    --import-mode=importlib
    --strict-markers
    --benchmark-columns=median,iqr,rounds
    --benchmark-sort=name
""",
    "conftest.py": '''\
"""Keeps these tests out of a pytest that was begun elsewhere: it has no servers for them."""


def pytest_ignore_collect(config):
    return None if config.pluginmanager.has_plugin("sglperf.plugin") else True
''',
    "test_example.py": '''\
"""Performance tests of our own, beside those of sglperf."""

import pytest
from sglperf import Decode, Measure, Server

pytestmark = pytest.mark.decode


def test_long_answers(server: Server, measure: Measure) -> None:
    """Tokens of an answer of 128 tokens keep coming as fast as they did."""
    measure(Decode(prompt_tokens=32, new_tokens=128)).expect("inter_token_latency")
''',
    ".gitignore": "/results/\n/.benchmarks/\n/baselines/**/.*.lock\n__pycache__/\n",
}


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; made if it is not there.")],
    config: Annotated[
        bool, typer.Option("--config", help="Also copy config/, to change profiles, models and claims.")
    ] = False,
) -> None:
    """Make a folder for performance tests in another repository: pytest.ini, a first test. Overwrites nothing."""
    names = [*_FILES, *(["config"] if config else [])]
    there = [name for name in names if (folder / name).exists()]
    if there:
        raise UsageError(f"{folder / there[0]} is there: name another folder, or remove it first")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in _FILES.items():
            (folder / name).write_text(text, encoding="utf-8")
        if config:
            _copy_config(folder / "config")
    except OSError as error:
        raise StoreError(
            f"cannot write {folder}: {error.strerror}. Name a folder that you can write"
        ) from error
    say("".join(f"{folder / name}\n" for name in names))
    say(f"now: cd {folder} && pytest -m decode -k long_answers\n")


def _copy_config(to: Path) -> None:
    """What a folder without ``config`` uses."""
    from sglperf.config_folder import config_folder

    shutil.copytree(config_folder(to).path, to)
