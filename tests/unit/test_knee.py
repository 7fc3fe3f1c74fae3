"""A search closes in on the rate at which a server no longer keeps its objective."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglperf.core.knee import Probe, Search

rates = st.floats(0.1, 1000)


def searched(search: Search, bound: float, knee: float, width: float) -> list[Probe]:
    """Probes of a server whose share falls from one to zero around the knee, evenly in the logarithm of the rate."""
    done: list[Probe] = []
    while (rate := search.next_rate(bound, done)) is not None:
        share = search.share - math.log(rate / knee) / width
        done.append(Probe(rate, min(1.0, max(0.0, share))))
    return done


@given(rates, st.floats(0.3, 3), st.integers(5, 9))
def test_the_knee_is_enclosed(bound, at, probes):
    """However sharp it is: at most three strides to enclose it, then half as much on a logarithmic scale by each probe."""
    search = Search(probes)
    done = searched(search, bound, at * bound, width=1e-3)
    found = search.rate(done)

    assert len(done) == probes
    assert found is not None
    assert abs(math.log(found / (at * bound))) <= math.log(1.5) / 2 ** (probes - 4)


@given(rates, st.floats(0.7, 1.4))
def test_a_knee_that_is_no_cliff_is_interpolated(bound, at):
    """A share that falls evenly is read to the digit from the two probes around the knee."""
    search = Search(4)

    assert search.rate(searched(search, bound, at * bound, width=5.0)) == pytest.approx(at * bound, rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_knee_beyond_all_probes_is_not_made_up(share):
    """Where every probe keeps the objective, or none does, there is no figure."""
    search = Search(3)
    done: list[Probe] = []
    while (rate := search.next_rate(10.0, done)) is not None:
        done.append(Probe(rate, share))

    assert len(done) == 3
    assert search.rate(done) is None


def test_the_first_rates_by_hand():
    """First what the closed loop came to; kept, so a stride up; missed, so half way back; kept, so half way up again."""
    search, done = Search(4), []
    for share in (1.0, 0.5, 0.95, 0.85):
        done.append(Probe(search.next_rate(20.0, done), share))

    assert [round(probe.rate, 2) for probe in done] == [20.0, 30.0, 24.49, 27.11]
    assert search.rate(done) == pytest.approx((24.49 * 27.11) ** 0.5, rel=1e-3)
    assert search.next_rate(20.0, done) is None


def test_strides_go_down_where_the_first_rate_is_missed():
    """By the same factor as up, until one is kept."""
    search, done = Search(4), []
    for share in (0.2, 0.5, 0.9):
        done.append(Probe(search.next_rate(18.0, done), share))

    assert [round(probe.rate, 2) for probe in done] == [18.0, 12.0, 8.0]
    assert search.next_rate(18.0, done) == pytest.approx((8 * 12) ** 0.5)


def test_a_rate_that_is_kept_above_one_that_is_missed_was_luck():
    """The lowest rate that is missed counts, and the highest below it that is kept."""
    done = [Probe(10.0, 1.0), Probe(20.0, 0.8), Probe(15.0, 0.95), Probe(30.0, 0.97)]

    assert 15.0 < Search(5).rate(done) < 20.0
    assert Search(5).next_rate(10.0, done) == pytest.approx((15.0 * 20.0) ** 0.5)
