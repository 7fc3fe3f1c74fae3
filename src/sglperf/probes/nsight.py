"""NVIDIA's Nsight tools: whether they are there, and how a process is run under them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

_SECTIONS = (
    "SpeedOfLight",
    "Occupancy",
    "WarpStateStats",
    "ComputeWorkloadAnalysis",
    "MemoryWorkloadAnalysis",
)


@dataclass(frozen=True)
class Nsight:
    """One of the tools.

    Attributes:
        option: of pytest, that asks for it.
        program, product: what it is called.
        suffix: of the file that it leaves.
        wrapping: its command line, but for the program, that leaves a file there.
    """

    option: str
    program: str
    product: str
    suffix: str
    wrapping: Callable[[Path], list[str]]

    @property
    def missing(self) -> str | None:
        """Why it cannot be used, in one line; None where it can."""
        if shutil.which(self.program):
            return None
        return f"{self.option}: no {self.product} here ({self.program} is not on PATH): install it, or leave the option out"

    def command(self, file: Path) -> list[str]:
        """What a command line is put behind, so that its process is looked at."""
        return [self.program, *self.wrapping(file)]


def _ncu(file: Path) -> list[str]:
    # Clocks stay as they are: a run has no business setting them, and the other figures were measured so.
    sections = [word for section in _SECTIONS for word in ("--section", section)]
    return [
        "--clock-control", "none", "--profile-from-start", "off", "--target-processes", "all",
        *sections, "--csv", "--page", "raw", "--log-file", str(file),
    ]  # fmt: skip


def _nsys(file: Path) -> list[str]:
    return [
        "profile", "--trace", "cuda,nvtx,osrt", "--capture-range", "cudaProfilerApi", "--force-overwrite", "true",
        "--output", str(file.with_suffix("")),
    ]  # fmt: skip


NSIGHT: Mapping[str, Nsight] = {
    "ncu": Nsight("--ncu", "ncu", "Nsight Compute", ".csv", _ncu),
    "nsys": Nsight("--nsys", "nsys", "Nsight Systems", ".nsys-rep", _nsys),
}
