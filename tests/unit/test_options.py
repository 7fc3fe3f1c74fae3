"""Options as settings: what is given, and where files go if nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sglperf.options import given_options


class Config:
    """Of pytest, as far as options are read."""

    rootpath = Path("/suite")

    def __init__(self, **given: str) -> None:
        self.given = given

    def getoption(self, name: str, default: Any = None) -> Any:
        return self.given.get(name.removeprefix("--").replace("-", "_"), default)


def places(**given: str) -> tuple[Any, Any]:
    found = given_options(Config(**given))  # type: ignore[arg-type]
    return found["baseline_dir"], found["results_dir"]


def test_files_go_beside_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever pytest was begun; an option names another folder."""
    monkeypatch.delenv("SGLPERF_BASELINE_DIR", raising=False)
    monkeypatch.delenv("SGLPERF_RESULTS_DIR", raising=False)
    assert places() == ("/suite/baselines", "/suite/results")
    assert places(results_dir="here") == ("/suite/baselines", "here")


def test_a_variable_names_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does for any other setting; an option comes before it."""
    monkeypatch.setenv("SGLPERF_RESULTS_DIR", "/elsewhere")
    assert places()[1] is None
    assert places(results_dir="here")[1] == "here"
