"""Turns the performance suite on: the fixtures ``server`` and ``measure``, and the hooks behind them."""

pytest_plugins = ("sglperf.plugin",)
