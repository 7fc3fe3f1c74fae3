"""What Nsight Compute prints, read: a report composed in its format, with the columns that matter and some that do not."""

from __future__ import annotations

import pytest

from sglperf.core.nsight import kernel_reports

STALL = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
HEADER = (
    "ID", "Process ID", "Kernel Name", "Block Size", "gpu__time_duration.sum",
    "sm__warps_active.avg.pct_of_peak_sustained_active", "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__inst_executed_pipe_tensor_op_hmma.avg.pct_of_peak_sustained_active",
    "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active",
    STALL.format("long_scoreboard"), STALL.format("barrier"), STALL.format("math_pipe_throttle"),
)  # fmt: skip
UNITS = ("", "", "", "", "usecond", "%", "%", "%", "%", "inst", "inst", "inst")
DECODE = ("0", "77", "_fwd_grouped_kernel_stage1(int, float)", "(128, 1, 1)", "1,234.50", "31.25", "82.10", "4.0", "12.5", "3.9", "0.00", "7.1")  # fmt: skip
COPY = ("1", "77", "copy", "(64, 1, 1)", "2.00", "50", "n/a", "0", "0", "0", "0", "0")


def printed(*rows: tuple[str, ...]) -> str:
    lines = (",".join(f'"{cell}"' for cell in row) for row in rows)
    return "\n".join(["==PROF== Connected to process 77", *lines, "==PROF== Disconnected"])


def test_a_kernel_is_read():
    """Thousands separators, units, the larger of two tensor pipes, and stalls from the largest down, without zeros."""
    decode, copy = kernel_reports(printed(HEADER, UNITS, DECODE, COPY))

    assert decode.name == "_fwd_grouped_kernel_stage1(int, float)"
    assert decode.seconds == pytest.approx(1.2345e-3)
    assert decode.shares == pytest.approx({"occupancy": 0.3125, "DRAM": 0.821, "tensor cores": 0.125})
    assert list(decode.stalls.items()) == [("math pipe throttle", 7.1), ("long scoreboard", 3.9)]
    assert "DRAM" not in copy.shares
    assert copy.stalls == {}


def test_an_unknown_unit_is_no_duration():
    """A duration in a unit nobody knows is left out rather than guessed."""
    units = tuple("fortnight" if unit == "usecond" else unit for unit in UNITS)

    assert kernel_reports(printed(HEADER, units, DECODE))[0].seconds is None


@pytest.mark.parametrize("text", ["", "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission"])
def test_no_table(text):
    """A report without kernels is no report."""
    with pytest.raises(ValueError, match="no table of kernels"):
        kernel_reports(text)


def test_no_kernel():
    """A table without a row is an empty report."""
    assert kernel_reports(printed(HEADER, UNITS)) == []
