"""What an area lacks is named together with the next action."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from machines import CPU_ONLY, H100_X8, HOST, IDLE, INSTALLED, NO_GPUS, gpus

from sglperf.core.environment_check import check_environment
from sglperf.core.machine import GpuProcess, Gpus, Host, Installation, LostGpu, Machine
from sglperf.core.readiness import AREAS, cautions, readiness

NO_SGLANG = replace(INSTALLED, versions={"python": "3.11.7"})


def without(*packages: str, **versions: str) -> Installation:
    kept = {name: version for name, version in INSTALLED.versions.items() if name not in packages}
    return replace(INSTALLED, versions=kept | versions)


def lacks(machine: Machine, installation: Installation, device: str) -> dict[str, tuple[str, ...]]:
    """What each area that is not ready lacks on ``cpu`` or ``gpu``."""
    found = {
        area.area: tuple(f.what for f in getattr(area, device)) for area in readiness(machine, installation)
    }
    return {area: what for area, what in found.items() if what}


def every() -> list[str]:
    return list(AREAS)


def test_areas_are_the_markers():
    """Every marker of an area is asked about, in the order of DESIGN.md."""
    assert [area.area for area in readiness(CPU_ONLY, INSTALLED)] == list(AREAS)


def test_a_complete_gpu_host_lacks_nothing():
    """With two GPUs and a complete target every area is ready."""
    assert lacks(H100_X8, INSTALLED, "gpu") == {}
    assert lacks(H100_X8, INSTALLED, "cpu") == {}


def test_a_complete_cpu_host_lacks_only_the_gpu():
    """Without a GPU, the whole GPU column says so, and the action gives the reason."""
    assert lacks(CPU_ONLY, INSTALLED, "cpu") == {}
    assert lacks(CPU_ONLY, INSTALLED, "gpu") == dict.fromkeys(every(), ("needs a GPU",))
    actions = {f.action for area in readiness(CPU_ONLY, INSTALLED) for f in (*area.cpu, *area.gpu)}
    assert len(actions) == 1
    assert str(NO_GPUS.reason) in actions.pop()


def test_no_sglang():
    """Without it no area has what it needs."""
    assert lacks(CPU_ONLY, NO_SGLANG, "cpu") == dict.fromkeys(every(), ("no SGLang in the target",))
    assert set(lacks(H100_X8, NO_SGLANG, "gpu")) == set(every())


@pytest.mark.parametrize(
    ("host", "installation", "what"),
    [
        (replace(HOST, cxx_compiler=None), INSTALLED, "flex_attention needs a C++ compiler"),
        (HOST, replace(INSTALLED, python_headers=False), "flex_attention needs Python.h"),
    ],
)
def test_flex_attention_on_a_cpu_needs_a_toolchain(host: Host, installation: Installation, what: str):
    """Without a C++ compiler or Python's headers, backends lack flex_attention on the CPU."""
    found = lacks(Machine(host, NO_GPUS), installation, "cpu")

    assert found == {"backend": (what,)}


def test_requirements_that_are_not_met():
    """Each is named in every area, on either device: any of them may be what a figure comes from."""
    unmet = replace(INSTALLED, unmet=("torch==2.14.1 (2.13.0 is installed)", "numpy (not installed)"))
    said = (
        "SGLang requires torch==2.14.1 (2.13.0 is installed)",
        "SGLang requires numpy (not installed)",
    )

    assert lacks(CPU_ONLY, unmet, "cpu") == dict.fromkeys(every(), said)
    assert lacks(H100_X8, unmet, "gpu") == dict.fromkeys(every(), said)


def test_tp_on_one_cpu():
    """TP 2 on the CPU engine needs two CPUs."""
    machine = Machine(replace(HOST, available_cpus=1), NO_GPUS)

    assert lacks(machine, INSTALLED, "cpu")["tp"] == ("TP needs two CPUs",)


def test_tp_on_one_gpu():
    """One GPU is enough for everything but tensor parallelism."""
    assert lacks(Machine(HOST, gpus(1)), INSTALLED, "gpu") == {"tp": ("TP needs two GPUs",)}


def test_hidden_gpus_do_not_count():
    """Of eight GPUs of which one is visible, TP has one."""
    machine = Machine(HOST, replace(gpus(8), visible=(3,)))

    assert lacks(machine, INSTALLED, "gpu") == {"tp": ("TP needs two GPUs",)}


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (replace(gpus(2), visible=()), "needs a visible GPU"),
        (gpus(2, mig=True), "needs a whole GPU"),
        (Gpus(lost=(LostGpu(0, "GPU is lost"),)), "needs a GPU that answers"),
    ],
)
def test_gpus_that_cannot_be_used(found: Gpus, what: str):
    """Hidden, split and lost GPUs are each told apart from none."""
    assert lacks(Machine(HOST, found), INSTALLED, "gpu") == dict.fromkeys(every(), (what,))


@pytest.mark.parametrize(
    ("host", "installation", "what", "areas"),
    [
        (HOST, without("sglang-kernel"), "no sglang-kernel in the target", every()),
        (HOST, without(torch="2.14.1+cpu"), "torch is a CPU build", every()),
        (HOST, replace(INSTALLED, python_headers=False), "Triton needs Python.h", every()),
        (replace(HOST, c_compiler=None), INSTALLED, "Triton needs a C compiler", every()),
        (HOST, without("flashinfer-python"), "no FlashInfer in the target", ["env", "backend", "kernel"]),
    ],
)
def test_software_for_gpus(host: Host, installation: Installation, what: str, areas: list[str]):
    """Each missing piece of a GPU installation is named in the areas that need it."""
    assert lacks(Machine(host, gpus(2)), installation, "gpu") == dict.fromkeys(areas, (what,))


def test_either_name_of_the_kernel_package_will_do():
    """sgl-kernel is sglang-kernel under its older name."""
    assert lacks(H100_X8, without("sglang-kernel", **{"sgl-kernel": "0.3.0"}), "gpu") == {}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"load_average": (112.0, 0.0, 0.0)}, ["load average 112.0 on 224 CPUs"]),
        ({"load_average": (111.9, 200.0, 200.0)}, []),
        ({"governor": "powersave"}, ["CPU governor is powersave"]),
        ({"governor": None}, []),
        ({"cpu_quota": 1.5, "available_cpus": 2}, ["cgroup grants 1.5 of 2 CPUs"]),
    ],
)
def test_cautions_about_the_host(changes: dict[str, Any], what: list[str]):
    """Load, governor and quota are warned of where they matter."""
    assert [caution.what for caution in cautions(Machine(replace(HOST, **changes), NO_GPUS))] == what


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({}, []),
        ({"persistence": False}, ["GPU 0 has persistence off: its first use is slow"]),
        ({"mig": True}, ["GPU 0 is split by MIG"]),
        (
            {"state": replace(IDLE, clock_reasons=("sw power cap", "hw thermal"))},
            ["GPU 0 is throttled: hw thermal"],
        ),
        (
            {"state": replace(IDLE, processes=(GpuProcess(7, "python3", None), GpuProcess(8, None, None)))},
            ["GPU 0 is shared with python3 7, process 8"],
        ),
    ],
)
def test_cautions_about_a_gpu(changes: dict[str, Any], what: list[str]):
    """Persistence, MIG, throttling and neighbours are warned of; a power cap and idling are normal."""
    assert [caution.what for caution in cautions(Machine(HOST, gpus(1, **changes)))] == what


def test_a_lost_gpu_is_a_caution():
    """A GPU that does not answer is named with the driver's words while the others are used."""
    found = replace(gpus(1), lost=(LostGpu(1, "GPU is lost"),))

    assert [caution.what for caution in cautions(Machine(HOST, found))] == [
        "GPU 1 does not answer: GPU is lost"
    ]


@pytest.mark.parametrize(
    ("machine", "sets"),
    [
        (CPU_ONLY, [()]),
        (Machine(HOST, gpus(1)), [(), (0,)]),
        (Machine(HOST, gpus(3)), [(), (0,), (0, 1), (0, 1, 2)]),
        (Machine(HOST, gpus(4)), [(), (0,), (0, 1), (0, 1, 2, 3)]),
        (Machine(HOST, replace(gpus(4), visible=(2, 1))), [(), (1,), (1, 2)]),
    ],
)
def test_sets_that_are_named(machine: Machine, sets: list[tuple[int, ...]]):
    """Fingerprints are given for the CPU, the sets of tensor parallelism, and all usable GPUs."""
    check = check_environment(machine, INSTALLED)

    assert [named.gpu_set for named in check.sets] == sets
    assert len({named.fingerprint.id for named in check.sets}) == len(sets)
