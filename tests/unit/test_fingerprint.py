"""Two timings are comparable where, and only where, their fingerprints are equal."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import CPU_ONLY, GIB, H100_X8, HOST, IDLE, INSTALLED, NO_GPUS, gpus

from sglperf.core.fingerprint import Fingerprint, fingerprint, rounded_gib
from sglperf.core.machine import GpuProcess, Gpus, LostGpu, Machine, context
from sglperf.core.topology import LinkKind
from sglperf.errors import BaselineError, UsageError

names = st.one_of(st.text(min_size=1, max_size=60), st.sampled_from(["../../etc", "a/b", "AMD EPYC\n", "©"]))
fingerprints = st.builds(
    Fingerprint,
    device=st.sampled_from(["cpu", "cuda"]),
    cpu_model=names,
    cpu_signature=st.none() | names,
    cpu_cores=st.integers(1, 512),
    cpu_threads=st.integers(1, 1024),
    cpu_quota=st.none() | st.floats(0.1, 64),
    accelerator=st.none() | names,
    accelerator_memory_gib=st.none() | st.integers(1, 512),
    power_cap_w=st.none() | st.integers(50, 1400),
    gpu_count=st.integers(0, 16),
    link_class=st.none() | names,
    nvlinks=st.none() | st.integers(0, 18),
)


@pytest.mark.parametrize(
    ("machine", "gpu_set", "slug"),
    [
        (CPU_ONLY, (), "cpu-intel-xeon-platinum-8480-112c"),
        (H100_X8, (0,), "1x-nvidia-h100-80gb-hbm3"),
        (H100_X8, (0, 1, 2, 3), "4x-nvidia-h100-80gb-hbm3-nvswitch"),
        (Machine(HOST, gpus(2, LinkKind.SYS, 0)), (0, 1), "2x-nvidia-h100-80gb-hbm3-cross-numa"),
        (Machine(HOST, gpus(1, mig=True)), (0,), "1x-nvidia-h100-80gb-hbm3-mig"),
    ],
)
def test_ids_are_readable(machine: Machine, gpu_set: tuple[int, ...], slug: str):
    """The id says what it is, then 8 hex digits."""
    assert re.fullmatch(f"{slug}-[0-9a-f]{{8}}", fingerprint(machine, gpu_set).id)


@pytest.mark.parametrize(
    ("brand", "slug"),
    [
        ("AMD EPYC 9654 96-Core Processor", "amd-epyc-9654"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "intel-xeon"),
        ("Neoverse-V2", "neoverse-v2"),
        ("***", "unknown"),
    ],
)
def test_brands_lose_their_adornments(brand: str, slug: str):
    """What every processor's brand carries is left out of the name, though not out of the comparison."""
    host = replace(HOST, cpu_model=brand, available_cores=4)

    assert fingerprint(Machine(host, NO_GPUS)).id.startswith(f"cpu-{slug}-4c-")


@settings(deadline=None)
@given(fingerprints)
def test_ids_are_safe_folder_names(value: Fingerprint):
    """Whatever the hardware calls itself, the id is one short lower-case folder name."""
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", value.id)
    assert len(value.id) <= 80


@settings(deadline=None)
@given(fingerprints, st.randoms(use_true_random=False))
def test_a_stored_fingerprint_comes_back_whatever_the_order_of_its_fields(value: Fingerprint, random: Any):
    """Through JSON, with fields shuffled, it is the same value with the same id."""
    fields = list(json.loads(json.dumps(value.to_dict())).items())
    random.shuffle(fields)
    back = Fingerprint.from_dict(dict(fields))

    assert back == value
    assert back.id == value.id


@settings(deadline=None)
@given(fingerprints, fingerprints)
def test_equal_exactly_when_nothing_differs(one: Fingerprint, other: Fingerprint):
    """No difference, equal values and equal ids go together."""
    assert (one.differences(other) == []) is (one == other) is (one.id == other.id)


def test_the_id_is_stable_across_releases():
    """An id is a folder of recorded baselines, so the same hardware must keep its name."""
    assert fingerprint(CPU_ONLY).id == "cpu-intel-xeon-platinum-8480-112c-f74d545b"
    assert fingerprint(H100_X8, (0, 1)).id == "2x-nvidia-h100-80gb-hbm3-nvswitch-fa71ac5c"


def test_differences_name_both_values():
    """Each field that differs is a line with both values and the unit."""
    here = fingerprint(Machine(HOST, gpus(2)), (0, 1))
    there = fingerprint(
        Machine(replace(HOST, available_cores=56), gpus(2, LinkKind.PHB, 0, power_limit_w=500.0)), (0, 1)
    )

    assert here.differences(there) == [
        "CPU cores: 112 here, 56 there",
        "power cap: 700 W here, 500 W there",
        "link class: nvswitch here, numa-node there",
        "NVLinks between two GPUs: 18 here, 0 there",
    ]
    assert here.differences(fingerprint(CPU_ONLY))[1] == "accelerator: NVIDIA H100 80GB HBM3 here, none there"


@pytest.mark.parametrize(
    "changed",
    [
        replace(HOST, load_average=(9.0, 9.0, 9.0), memory_available_bytes=GIB, kernel="6.8.0"),
        replace(HOST, governor="powersave", turbo=False, clock_mhz=800.0),
        replace(HOST, memory_bytes=HOST.memory_bytes - 4096, container="docker", numa_nodes=()),
        replace(HOST, c_compiler=None, cxx_compiler=None),
    ],
)
def test_what_a_day_changes_on_a_host_is_not_in_it(changed: Any):
    """Load, clocks, kernel and compilers leave the fingerprint alone."""
    assert fingerprint(Machine(changed, NO_GPUS)) == fingerprint(CPU_ONLY)


def test_what_a_day_changes_on_a_gpu_is_not_in_it():
    """Temperature, clocks, neighbours, driver, and which of several equal GPUs leave it alone."""
    warm = replace(
        IDLE, sm_clock_mhz=1200, temperature_c=84, power_w=699.0, processes=(GpuProcess(1, "x", None),)
    )
    busy = replace(gpus(2, state=warm, persistence=False, ecc=False), driver="580.1", cuda="13.0")

    assert fingerprint(Machine(HOST, busy), (0, 1)) == fingerprint(Machine(HOST, gpus(2)), (0, 1))
    assert fingerprint(H100_X8, (7, 5)) == fingerprint(H100_X8, (0, 1)) == fingerprint(H100_X8, (1, 0, 1))


@pytest.mark.parametrize(
    "changed",
    [
        replace(HOST, cpu_model="AMD EPYC"),
        replace(HOST, cpu_signature="GenuineIntel family 6 model 207 stepping 2"),
        replace(HOST, available_cores=56),
        replace(HOST, available_cpus=112),
        replace(HOST, cpu_quota=8.0),
    ],
)
def test_what_makes_timings_incomparable_is_in_it(changed: Any):
    """Model, generation, cores, threads and quota each make another fingerprint."""
    assert fingerprint(Machine(changed, NO_GPUS)).id != fingerprint(CPU_ONLY).id


def test_the_slowest_gpu_of_a_set_counts():
    """Of unequal GPUs the products are joined, and the least memory and the lowest cap are taken."""
    first, second = gpus(2).gpus
    small = replace(second, name="NVIDIA A100", memory_bytes=40 * GIB, power_limit_w=400.4)
    mixed = replace(gpus(2), gpus=(first, small))
    value = fingerprint(Machine(HOST, mixed), (0, 1))

    assert value.accelerator == "NVIDIA A100 + NVIDIA H100 80GB HBM3"
    assert (value.accelerator_memory_gib, value.power_cap_w) == (40, 400)


def test_a_gpu_that_tells_neither_memory_nor_cap():
    """What a GPU does not tell is none, not zero."""
    value = fingerprint(Machine(HOST, gpus(1, memory_bytes=None, power_limit_w=None)), (0,))

    assert (value.accelerator_memory_gib, value.power_cap_w) == (None, None)


@pytest.mark.parametrize(
    ("mib", "gib"),
    [
        (143_771, 140),  # H200
        (81_920, 80),  # A100 80 GB under an older driver
        (81_559, 80),  # H100 80 GB
        (81_251, 80),  # A100 80 GB
        (40_536, 40),
        (24_564, 24),
        (23_034, 24),  # L4
        (15_360, 15),  # T4
        (8_188, 8),
    ],
)
def test_memory_is_rounded(mib: int, gib: int):
    """What drivers report for one product is one number."""
    assert rounded_gib(mib * 2**20) == gib
    assert rounded_gib((mib - 50) * 2**20) == gib


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({}, "lacks accelerator"),
        (fingerprint(CPU_ONLY).to_dict() | {"colour": "red"}, "does not know colour"),
        (fingerprint(CPU_ONLY).to_dict() | {"cpu_cores": "112"}, "holds a wrong value in cpu_cores"),
        (fingerprint(CPU_ONLY).to_dict() | {"cpu_cores": True}, "holds a wrong value in cpu_cores"),
        (fingerprint(CPU_ONLY).to_dict() | {"cpu_model": None}, "holds a wrong value in cpu_model"),
    ],
)
def test_a_damaged_fingerprint_is_refused(plain: dict[str, Any], said: str):
    """A stored fingerprint with a missing, foreign or wrong field is refused by name."""
    with pytest.raises(BaselineError, match=said):
        Fingerprint.from_dict(plain)


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (H100_X8, "there is no GPU 8; those that are there: 0, 1, 2, 3, 4, 5, 6, 7"),
        (CPU_ONLY, "there is no GPU 8; those that are there: none (no NVIDIA driver here"),
        (
            Machine(HOST, replace(gpus(1), lost=(LostGpu(8, "GPU is lost"),))),
            "GPU 8 does not answer (GPU is lost); those that are there: 0",
        ),
        (
            Machine(HOST, Gpus(lost=(LostGpu(8, "GPU is lost"),))),
            "GPU 8 does not answer (GPU is lost); those that are there: none",
        ),
    ],
)
def test_a_gpu_that_is_not_there_is_named(machine: Machine, said: str):
    """A set with a GPU that is missing or lost says which, and which are there."""
    with pytest.raises(UsageError, match="^" + re.escape(said)):
        fingerprint(machine, (8,))


def test_context_holds_what_explains():
    """Driver and versions are context; what a machine does not tell is left out."""
    assert context(H100_X8, INSTALLED)["driver"] == "550.54.15"
    assert context(H100_X8, INSTALLED)["sglang"] == "0.5.23"
    assert "driver" not in context(CPU_ONLY, INSTALLED)
