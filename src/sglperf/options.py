"""The command-line options, for every pytest in which sglperf is installed.

They are a plugin of their own because pytest must know an option before it reads a conftest.py: else the
value of ``--baseline-dir`` is taken for a folder of tests. The rest is in sglperf.plugin, which the suite's
conftest.py names, so that installing sglperf changes no other project's tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_PATHS = (
    "--target", "--base", "--head", "--sglang-repo", "--model", "--baseline-dir", "--results-dir", "--merge-shards",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sglperf", "performance of SGLang")
    add = group.addoption
    add(
        "--target",
        metavar="SPEC",
        help="SGLang under test: sglang==X, an interpreter, a checkout (default: as importable here)",
    )
    add("--base", metavar="SPEC", help="with --head: compare two targets instead of a stored baseline")
    add("--head", metavar="SPEC", help="the target that is judged against --base")
    add("--sglang-repo", metavar="PATH", help="repository in which revisions are looked up")
    add(
        "--target-mode",
        metavar="MODE",
        help="for a release or revision: overlay (over the installed packages), venv (its own), or auto (default)",
    )
    add("--profile", metavar="NAME", help="a name from config/profiles, or auto (default)")
    add("--attention-backend", metavar="A,B", help="attention backends instead of the profile's")
    add("--page-size", metavar="N,M", help="KV page sizes instead of the profile's")
    add("--tp-gpus", metavar="0;0,1", help="TP sets instead of the profile's, separated by ';', or auto")
    add("--model", metavar="NAME", help="a shape from config/models, a checkpoint directory, or a hub name")
    add(
        "--launches",
        metavar="N",
        help="server starts per configuration; MIN..MAX adds them while a verdict is open",
    )
    add("--rounds", metavar="N", help="rounds per launch")
    add(
        "--time-limit",
        metavar="SECONDS",
        help="begin no launch that would not end within it, and judge what was measured",
    )
    add(
        "--why",
        metavar="WHEN",
        help="with --base and --head, profile both: auto (default; once a timing changed), always or off",
    )
    add(
        "--ncu",
        metavar="KERNEL",
        help="with -m kernel: look at this kernel with Nsight Compute, as attention",
    )
    add(
        "--nsys",
        action="store_true",
        default=None,
        help="with -m kernel: keep a system trace of a pass (Nsight Systems)",
    )
    add("--baseline", metavar="MODE", help="compare (default), extend, record or off")
    add("--baseline-dir", metavar="DIR", help="where baselines are (default: baselines/)")
    add("--results-dir", metavar="DIR", help="where runs are kept (default: results/)")
    add(
        "--shard",
        metavar="K/N",
        help="measure the K-th of N parts of the plan, as 2/4; --merge-shards judges what all of them measured",
    )
    add(
        "--merge-shards",
        metavar="FOLDER",
        help="start nothing: judge what the shards below this folder measured, or those of a split in the history",
    )
    add(
        "--split",
        metavar="NAME",
        help="with --shard and --history: what all shards of this run are called there (default: GitHub's run and the profile)",
    )
    add(
        "--history",
        metavar="URL",
        help="database that the run is added to: a file, postgresql://USER@HOST/NAME, or off (default: results/history.sqlite)",
    )
    add("--tag", metavar="NAME", help="what the history calls the run, as nightly or release")
    # --strict is there: every pytest has it, for a strictness of its own, and one flag turns on both.


def pytest_configure(config: pytest.Config) -> None:
    """Catch pytest's one trap: it looks for its configuration before plugins name their options.

    Led astray, it finds another project's configuration, or none and takes a common parent for the root.
    """
    given = config.invocation_params
    found = config.inipath is not None and given.dir.is_relative_to(config.inipath.parent)
    for option in _PATHS:
        value = config.getoption(option, default=None)
        if not found and value in given.args and Path(given.dir, value).exists():
            pytest.exit(
                f"pytest took the value of {option} for a folder of tests: write {option}={value}",
                returncode=2,
            )


def given_options(config: pytest.Config) -> dict[str, Any]:
    """Setting name → value as given on the command line; None where an option was not given."""
    from sglperf.settings import parse_list, parse_tp_sets  # not in every pytest of this environment

    given = {
        name: config.getoption(f"--{name.replace('_', '-')}")
        for name in (
            "target", "base", "head", "sglang_repo", "target_mode", "profile", "model",
            "launches", "rounds", "time_limit", "why", "ncu", "nsys", "baseline", "baseline_dir", "results_dir",
            "history", "tag", "shard", "merge_shards", "split",
        )
    }  # fmt: skip
    lists: dict[str, tuple[str, Callable[[str], Any]]] = {
        "attention_backends": ("--attention-backend", parse_list),
        "page_sizes": ("--page-size", parse_list),
        "tp_sets": ("--tp-gpus", parse_tp_sets),
    }
    for name, (option, parse) in lists.items():
        text = config.getoption(option)
        given[name] = None if text is None else parse(text)
    given["strict"] = config.getoption("strict", default=False) or None
    for name, folder in (("baseline_dir", "baselines"), ("results_dir", "results")):
        if given[name] is None and f"SGLPERF_{name.upper()}" not in os.environ:
            given[name] = str(config.rootpath / folder)
    return given
