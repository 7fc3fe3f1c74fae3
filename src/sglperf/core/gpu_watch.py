"""What GPUs did while a round ran."""

from __future__ import annotations

from dataclasses import dataclass

# Under load a GPU at its power cap is as it should be, and the cap is part of the fingerprint. These are not.
_THROTTLED = ("hw slowdown", "sw thermal", "hw thermal", "hw power brake")


@dataclass(frozen=True)
class GpuSample:
    """A GPU at one moment; None where it does not say.

    Attributes:
        sm_clock_mhz, memory_clock_mhz: MHz.
        clock_reasons: why its clocks are no higher.
        temperature_c: °C.
        power_w: W.
        processes: pids that have a compute context on it, as the driver numbers them; None where they are hidden.
        ecc_errors: uncorrected memory errors since the driver was loaded.
    """

    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    clock_reasons: tuple[str, ...] = ()
    temperature_c: int | None = None
    power_w: float | None = None
    processes: tuple[int, ...] | None = None
    ecc_errors: int | None = None

    @property
    def throttled(self) -> tuple[str, ...]:
        """Reasons for which a timing taken now is not the GPU's own."""
        return tuple(reason for reason in self.clock_reasons if reason in _THROTTLED)


@dataclass(frozen=True)
class GpuWatched:
    """One GPU from just before a round to just after it.

    Attributes:
        index: the driver's number.
        samples: in time order.
        foreign: pids that were seen on it and are not the run's, ascending.
        lost: the driver's words where the GPU stopped to answer, or None.
    """

    index: int
    samples: tuple[GpuSample, ...]
    foreign: tuple[int, ...] = ()
    lost: str | None = None

    @property
    def throttled(self) -> tuple[str, ...]:
        """Every reason for which it was slowed down at any moment, in the order of appearance."""
        return tuple(dict.fromkeys(reason for sample in self.samples for reason in sample.throttled))

    @property
    def new_ecc_errors(self) -> int:
        """Uncorrected memory errors that came up meanwhile."""
        counts = [sample.ecc_errors for sample in self.samples if sample.ecc_errors is not None]
        return max(counts) - counts[0] if counts else 0

    @property
    def slowest_mhz(self) -> int | None:
        """The lowest SM clock that it was slowed down to: one that it fell to for want of work is none."""
        slowed = [sample.sm_clock_mhz for sample in self.samples if sample.throttled]
        return min((clock for clock in slowed if clock is not None), default=None)

    @property
    def hottest_c(self) -> int | None:
        """Its highest temperature meanwhile."""
        return max(
            (sample.temperature_c for sample in self.samples if sample.temperature_c is not None),
            default=None,
        )
