"""Which sets of GPUs tensor parallelism is tried on, on hosts that are here only as recordings."""

from __future__ import annotations

import pytest
from recorded_nvml import (
    A100_X7,
    EMPTY,
    H100,
    H100_X8,
    LOST_GPU,
    MIG_GPU,
    NO_DRIVER,
    PCIE_X2,
    PCIE_X8,
    RecordedNvml,
    Recording,
)

from sglperf.core.gpu_sets import named_sets, representative_sets
from sglperf.probes.gpu import probe_gpus


def chosen(recording: Recording, visible: str | None = None) -> dict[str, tuple[int, ...]]:
    return {one.name: one.gpus for one in representative_sets(probe_gpus(RecordedNvml(recording), visible))}


@pytest.mark.parametrize(
    ("recording", "sets"),
    [
        # All pairs of an NVSwitch host are alike, so there is one set of each size, though it has two NUMA nodes.
        (H100_X8, {"single": (0,), "nvswitch-2": (0, 1), "nvswitch-4": (0, 1, 2, 3), "nvswitch-8": tuple(range(8))}),
        # Across nodes, two of each, joined by NVLink: not three here and one there.
        (
            A100_X7,
            {
                "single": (0,), "nvlink-2": (0, 1), "numa-node-2": (0, 2), "cross-numa-2": (0, 4),
                "numa-node-4": (0, 1, 2, 3), "cross-numa-4": (0, 1, 5, 6),
            },
        ),
        (
            PCIE_X8,
            {
                "single": (0,), "pcie-switch-2": (0, 1), "numa-node-2": (0, 2), "cross-numa-2": (0, 4),
                "numa-node-4": (0, 1, 2, 3), "cross-numa-4": (0, 1, 4, 5), "cross-numa-8": tuple(range(8)),
            },
        ),
        (PCIE_X2, {"single": (0,), "numa-node-2": (0, 1)}),
        (H100, {"single": (0,)}),
        (LOST_GPU, {"single": (0,)}),
        (MIG_GPU, {}),
        (NO_DRIVER, {}),
        (EMPTY, {}),
    ],
    ids=["H100_X8", "A100_X7", "PCIE_X8", "PCIE_X2", "H100", "LOST_GPU", "MIG_GPU", "NO_DRIVER", "EMPTY"],
)  # fmt: skip
def test_sets_of_known_hosts(recording: Recording, sets: dict[str, tuple[int, ...]]):
    """One of each size and class, the closest first; none of GPUs that cannot be used."""
    assert list(chosen(recording).items()) == list(sets.items())


def test_only_visible_gpus_are_taken():
    """What is hidden from this process is in no set: then there is no bridge, or nothing but one GPU."""
    assert chosen(A100_X7, "1,2,4") == {"single": (1,), "numa-node-2": (1, 2), "cross-numa-2": (1, 4)}
    assert chosen(A100_X7, "3") == {"single": (3,)}


def test_the_sets_of_the_report():
    """The sets of the seven A100 go by the names that the report has for them."""
    topology = probe_gpus(RecordedNvml(A100_X7), None).topology
    given = [(0,), (0, 1), (2, 3), (5, 6), (0, 1, 2, 3), (2, 3, 5, 6)]

    assert [one.name for one in named_sets(given, topology)] == [
        "single", "nvlink-2", "nvlink-2:2.3", "nvlink-2:5.6", "numa-node-4", "cross-numa-4",
    ]  # fmt: skip
