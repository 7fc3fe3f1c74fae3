"""Prints the table of docs/verdicts.md: ``python benchmarks/verdicts/table.py [--quick] [--families N]``.

Everything is seeded: the same command prints the same table, but for the timing. The peers come with the
extra ``peers``; one that cannot be imported is a row that says so.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # one core; read when NumPy is imported

import contest  # noqa: E402  (after the threads are set)
import rows  # noqa: E402
import stopping  # noqa: E402

SECTIONS: tuple[tuple[Callable[[int], Iterator[rows.Row]], int], ...] = (
    (rows.power, 2000),
    (rows.false_alarms, 1500),
    (stopping.errors, 1000),
    (stopping.savings, 1000),
    (rows.equivalence, 1000),
    (rows.stored_days, 1000),
    (rows.degenerate, 1),
    (rows.speed, 10_000),
    (contest.contest, 1000),
)
QUICK = 4


def main() -> None:
    """Print one table, a row the moment it is known; exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} families a row: does it run at all")
    parser.add_argument("--families", type=int, help="simulated families a row")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, seed {rows.SEED}\n")
    print("| property | target | figure | families | met |\n|---|---|---|---|---|")
    missed = 0
    for section, usual in SECTIONS:
        count = (
            usual if section is rows.speed else arguments.families or (QUICK if arguments.quick else usual)
        )
        for row in section(count):
            missed += row.met is False
            met = "" if arguments.quick else {None: "", True: "yes", False: "**no**"}[row.met]
            print(f"| {row.claim} | {row.target} | {row.figure} | {row.families:,} | {met} |", flush=True)
    print(
        "\nRates ± one standard error. A rate meets its limit unless it is above it by more than two of the limit's"
        " standard errors.\nEach tool is called on the same arrays; 'nominal' is its own setting."
    )
    raise SystemExit(1 if missed and not arguments.quick else 0)


if __name__ == "__main__":
    main()
