"""Numbers as a person reads them keep their value and their place in the table."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglperf.core.launches import center
from sglperf.report.quantity import interval, quantity

SCALES = {"s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9, "tok/s": 1, "Mtok/s": 1e6, "tok": 1, "": 1}


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.00721, "s", "7.210 ms"),
        (1.0, "s", "1.000 s"),
        (0.9999, "s", "999.9 ms"),
        (12.3456e-6, "s", "12.35 µs"),
        (5e-9, "s", "5.000 ns"),
        (75.5, "s", "75.50 s"),
        (123456.0, "s", "123 456 s"),
        (0.0, "s", "0 ns"),
        (1.234e-7, "s/tok", "123.4 ns/tok"),
        (-1.234e-7, "s/tok", "-123.4 ns/tok"),
        (-1e-17, "s/tok", "-1e-08 ns/tok"),
        (1.0, "ratio", "1.000"),
        (0.98765, "ratio", "0.9877"),
        (123.44, "tok/s", "123.4 tok/s"),
        (999.96, "tok/s", "1000 tok/s"),
        (35123.4, "tok/s", "35 123 tok/s"),
        (123456.7, "tok/s", "123 457 tok/s"),
        (999_999.7, "tok/s", "1.000 Mtok/s"),
        (1_234_567.0, "tok/s", "1.235 Mtok/s"),
        (0, "tok", "0 tok"),
        (512, "tok", "512 tok"),
        (131072.0, "tok", "131 072 tok"),
        (12_345_679, "tok", "12 345 679 tok"),
        (0.5, "tok", "0.5000 tok"),
        (math.nan, "tok", "nan"),
        (math.inf, "tok", "inf"),
        (math.nan, "s", "nan"),
        (-math.inf, "tok/s", "-inf"),
    ],
)
def test_examples(value, unit, shown):
    """Four significant digits with the unit's prefix; counts whole; what is no number says so."""
    assert quantity(value, unit) == shown


@given(
    st.one_of(
        st.tuples(st.floats(1e-10, 1e6), st.just("s")),
        st.tuples(st.floats(1e-10, 10), st.just("s/tok")),
        st.tuples(st.floats(-10, -1e-10), st.just("s/tok")),
        st.tuples(st.floats(1e-3, 1e10), st.just("tok/s")),
        st.tuples(st.floats(1e-3, 1e5), st.just("ratio")),
        st.tuples(st.integers(0, 10**12), st.just("tok")),
    )
)
def test_a_quantity_can_be_read_back_and_fits_its_column(given_):
    """What is shown is the value to four digits, in 14 characters at most."""
    value, unit = given_
    shown = quantity(value, unit)
    number, prefix = re.fullmatch(r"(-?[\d. ]*\d(?:e[-+]\d+)?) ?([a-zA-Zµ/]*)", shown).groups()

    assert len(shown) <= 14
    assert float(number.replace(" ", "")) * SCALES[prefix.removesuffix("/tok")] == pytest.approx(
        value, rel=6e-4
    )


@given(st.integers(0, 10**8 - 1))
def test_counts_are_shown_to_the_token(count):
    """An exact count that is off by one does not look the same."""
    assert quantity(count, "tok") != quantity(count + 1, "tok")


def test_the_centre_is_the_median_launch():
    """Each launch speaks with its median round, whatever its length, and launches without rounds do not."""
    assert center([[1, 2, 300], [4.0], [3, 3], []]) == 3


def test_an_interval():
    """Both ends, or that none is known: one launch tells no spread, in a comparison or a kept run's null."""
    shown = "{:.2f}".format
    assert interval(0.95, 1.02, shown) == "0.95 … 1.02"
    assert interval(0.0, math.inf, shown) == interval(0.0, None, shown) == "unknown"
