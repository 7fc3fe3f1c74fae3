"""Tables of GPU runs: each timing with its interval, and none where a single launch tells none."""

from __future__ import annotations

import math
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "benchmarks" / "gpu")]

from made_runs import case
from tables import contrasts, rows


def test_a_timing_has_its_value_interval_and_launches():
    """Geometric mean of launches; the t interval of two reaches 12.7 standard errors."""
    (row,) = rows({"cases": {"a": case(head=[[0.006], [0.00605]])}})
    server = ("torch_native-page16-tp0", "decode-p64-n8-s1", "inter_token_latency")
    half = math.exp(12.706 * math.log(6.05 / 6) / 2)
    middle = math.sqrt(6 * 6.05)
    assert row == (*server, f"{middle:.3f} ms", f"{middle / half:.3f} ms … {middle * half:.3f} ms", "2")


def test_one_launch_tells_no_interval():
    """Neither of a figure nor of a ratio, whose ends are nothing and infinity."""
    (row,) = rows({"cases": {"a": case(head=[[0.004, 0.009]])}})
    assert row[4:] == ("–", "1")
    one = {"other": "fa3", "reference": "triton", "workload": "w", "metric": "m"}
    alone, sure = ({**one, "speedup": ends} for ends in ([2.0, 0.0, None], [2.0, 1.9, 2.1]))
    assert list(contrasts({"contrasts": [alone, sure]}))[1:] == [
        "| fa3 over triton | w | m | 2.000 | – |",
        "| fa3 over triton | w | m | 2.000 | 1.900 … 2.100 |",
    ]
    assert list(contrasts({"contrasts": []})) == []


def test_counts_are_no_timings():
    """They have no interval to be shown."""
    assert list(rows({"cases": {"a": case("cached_tokens", head=[[3.0]])}})) == []
