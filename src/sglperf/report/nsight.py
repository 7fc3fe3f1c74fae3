"""What Nsight's tools saw, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from sglperf.report.quantity import quantity

if TYPE_CHECKING:
    from sglperf.core.nsight import KernelReport
    from sglperf.deeper import Look

_MOST_STALLS = 3


def nsight_parts(looks: Sequence[Look]) -> Iterator[str | Text]:
    """Each look with what was seen, or why nothing was."""
    for look in looks:
        yield ""
        if look.problem:
            yield look.problem
            continue
        what = f"{look.part} of " if look.part else ""
        yield Text(f"{what}{look.workload} · {look.config} · {look.tool}", style="bold")
        yield from map(_kernel, look.kernels)
        yield f"report: {look.file}"


def _kernel(one: KernelReport) -> str:
    seconds = "" if one.seconds is None else f" {quantity(one.seconds, 's')}"
    shares = ", ".join(f"{name} {share:.0%}" for name, share in one.shares.items())
    stalls = ", ".join(f"{name} {warps:.2g}" for name, warps in list(one.stalls.items())[:_MOST_STALLS])
    waits = f"; warps waiting at an issue: {stalls}" if stalls else ""
    return f"  {one.name}{seconds}: {shares}{waits}"
