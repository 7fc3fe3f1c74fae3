"""Turns the performance suite on: the fixtures ``server`` and ``measure``, and the hooks behind them."""

from __future__ import annotations

import pytest


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """``pytest_plugins`` would do, were these tests not also collected from elsewhere (``sglperf.stock``): then this file is
    not the topmost conftest.py, where alone that is allowed."""
    pluginmanager.import_plugin("sglperf.plugin")
