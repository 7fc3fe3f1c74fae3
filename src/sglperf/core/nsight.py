"""What Nsight Compute says of a kernel, from its CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

_NAME = "Kernel Name"
# What is looked for, and the names that it has in Nsight Compute's reports for one architecture or another.
_SHARES = {
    "occupancy": r"sm__warps_active\.avg\.pct_of_peak_sustained_active",
    "compute": r"sm__throughput\.avg\.pct_of_peak_sustained_elapsed",
    "memory": r"gpu__compute_memory_throughput\.avg\.pct_of_peak_sustained_elapsed",
    "DRAM": r"(gpu__)?dram__?throughput\.avg\.pct_of_peak_sustained_elapsed",
    "tensor cores": r"sm__(inst_executed_)?pipe_tensor\w*\.avg\.pct_of_peak_sustained_active",
}
_STALL = re.compile(r"smsp__average_warps_issue_stalled_(?P<reason>\w+?)_per_issue_active\.ratio")
_DURATION = "gpu__time_duration.sum"
_SECONDS = {
    "nsecond": 1e-9,
    "ns": 1e-9,
    "usecond": 1e-6,
    "us": 1e-6,
    "msecond": 1e-3,
    "ms": 1e-3,
    "second": 1.0,
    "s": 1.0,
}


@dataclass(frozen=True)
class KernelReport:
    """One kernel, launched once.

    Attributes:
        name: as the compiler knows it.
        seconds: its duration; None where the report lacks it.
        shares: what is used of the hardware, 0 to 1, by `occupancy`, `compute`, `memory`, `DRAM`, `tensor cores`;
            what this GPU or this Nsight Compute does not tell is absent.
        stalls: reason → warps that waited for it at each issue, on average; largest first.
    """

    name: str
    seconds: float | None
    shares: Mapping[str, float] = field(default_factory=dict)
    stalls: Mapping[str, float] = field(default_factory=dict)


def kernel_reports(text: str) -> list[KernelReport]:
    """The kernels of a report that was printed with ``--csv --page raw``.

    Raises:
        ValueError: there is no table in it.
    """
    rows = list(csv.reader(line for line in text.splitlines() if line.startswith('"')))
    header = next((row for row in rows if _NAME in row), None)
    if header is None:
        raise ValueError("no table of kernels")
    after = rows[rows.index(header) + 1 :]
    units, kernels = after[0] if after else [], after[1:]
    return [_report(header, units, row) for row in kernels if len(row) == len(header)]


def _report(header: Sequence[str], units: Sequence[str], row: Sequence[str]) -> KernelReport:
    values = dict(_numbers(header, row))
    stalls = {
        found["reason"].replace("_", " "): value
        for name, value in values.items()
        if (found := _STALL.fullmatch(name)) and value
    }
    unit = dict(zip(header, units, strict=False)).get(_DURATION, "")
    return KernelReport(
        name=dict(zip(header, row, strict=True))[_NAME],
        seconds=values[_DURATION] * _SECONDS[unit] if _DURATION in values and unit in _SECONDS else None,
        shares={
            name: max(matching) / 100
            for name, pattern in _SHARES.items()
            if (matching := _matching(pattern, values))
        },
        stalls=dict(sorted(stalls.items(), key=lambda one: -one[1])),
    )


def _matching(pattern: str, values: Mapping[str, float]) -> list[float]:
    return [value for name, value in values.items() if re.fullmatch(pattern, name)]


def _numbers(header: Sequence[str], row: Sequence[str]) -> Iterator[tuple[str, float]]:
    for name, text in zip(header, row, strict=True):
        try:
            yield name, float(text.replace(",", ""))
        except ValueError:
            continue  # a name, or a metric that this GPU lacks
