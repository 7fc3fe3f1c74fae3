"""How `tox -e test` runs all tests: what each part is asked for, and what both together end with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from in_two_parts import ALONE, SIDE_BY_SIDE, TESTS, TOGETHER, run


class Parts:
    """A pytest that ends each part as it is told to."""

    def __init__(self, *codes: int) -> None:
        self.codes = iter(codes)
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, *arguments: str) -> int:
        self.asked.append(arguments)
        return next(self.codes)


@pytest.mark.parametrize(
    ("codes", "both"),
    [((0, 0), 0), ((1, 0), 1), ((0, 1), 1), ((5, 0), 0), ((0, 5), 0), ((5, 1), 1), ((1, 5), 1), ((5, 5), 5), ((0, 3), 3), ((0, -9), -9)],
)  # fmt: skip
def test_both_parts_have_to_pass(codes: tuple[int, ...], both: int) -> None:
    """Either's failure is that of both; a selection may leave one part without a test, and not both."""
    parts = Parts(*codes)
    assert run(["-m", "not nightly"], parts) == both
    assert parts.asked == [(*part, "-m", "not nightly") for part in (SIDE_BY_SIDE, ALONE)]


@pytest.mark.parametrize("code", [2, 3, 4, -9])
def test_what_did_not_go_through_ends_there(code: int) -> None:
    """After an interruption, or with arguments that pytest refuses, the second part is not begun."""
    parts = Parts(code)
    assert run([], parts) == code
    assert parts.asked == [SIDE_BY_SIDE]


@pytest.mark.parametrize(
    "argument", ["tests/test_house.py", "tests/unit", "tests/unit/test_plan.py::test_one"]
)
def test_named_tests_run_alone(argument: str) -> None:
    """Whoever names tests gets these."""
    parts = Parts(0)
    assert run([argument, "-x"], parts) == 0
    assert parts.asked == [(argument, "-x")]


def test_every_test_is_in_a_part() -> None:
    """No file of tests is left out."""
    places = [TESTS.parent / word for word in (*SIDE_BY_SIDE, *ALONE) if not word.startswith("-")]
    for file in TESTS.rglob("test_*.py"):
        assert any(file.is_relative_to(place) for place in places), file


def test_what_stays_together_is_there() -> None:
    """A file that is renamed is named anew."""
    assert [name for name in TOGETHER if not (TESTS.parent / name).exists()] == []
