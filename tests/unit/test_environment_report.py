"""The environment check as a person and as a program read it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from machines import CPU_ONLY, H100_X8, HOST, IDLE, INSTALLED, gpus
from rich.cells import cell_len

from sglperf.core.environment_check import EnvironmentCheck, check_environment
from sglperf.core.fingerprint import Fingerprint
from sglperf.core.machine import GpuProcess, Gpus, Installation, LostGpu, Machine
from sglperf.core.topology import LinkKind
from sglperf.report.environment import environment_text
from sglperf.report.environment_json import environment_json

# Two GPUs of three answer, one is hidden, one has a neighbour and is hot; the target has no SGLang.
_PAIR = gpus(2, LinkKind.PHB, 0)
_HOT = replace(
    IDLE, sm_clock_mhz=1200, clock_reasons=("sw power cap", "hw thermal"), temperature_c=91, power_w=498.6,
    processes=(GpuProcess(4242, "python3", 2**30),),
)  # fmt: skip
TROUBLED = Machine(
    replace(HOST, cpu_quota=16.0, governor="powersave", container="docker", load_average=(120.5, 60.0, 9.0)),
    replace(
        _PAIR,
        gpus=(_PAIR.gpus[0], replace(_PAIR.gpus[1], state=_HOT, persistence=False)),
        visible=(1,),
        lost=(LostGpu(2, "GPU is lost"),),
    ),
)
BARE = Installation("/usr/bin/python3", {"python": "3.11.2"}, False)
GOLDEN = Path(__file__).parent / "golden"


def check(machine: Machine, installation: Installation = INSTALLED) -> EnvironmentCheck:
    return check_environment(machine, installation)


@pytest.mark.parametrize(
    ("name", "machine", "installation"),
    [("h100_x8", H100_X8, INSTALLED), ("troubled", TROUBLED, BARE), ("cpu_only", CPU_ONLY, INSTALLED)],
)
def test_what_a_person_reads(name: str, machine: Machine, installation: Installation):
    """The text is as it was last approved by eye (tests/unit/golden)."""
    assert environment_text(check(machine, installation)) == (GOLDEN / f"environment_{name}.txt").read_text()


@settings(deadline=None)
@given(st.text(min_size=1, max_size=120), st.integers(40, 200))
@example("long " * 100, 200)
def test_no_line_is_too_long(name: str, width: int):
    """Whatever hardware and processes call themselves, no line exceeds the width, nor 100 columns."""
    state = replace(IDLE, processes=(GpuProcess(1, name, None),))
    machine = Machine(replace(HOST, cpu_model=name, container=name), gpus(8, name=name, state=state))
    text = environment_text(check(machine, replace(INSTALLED, interpreter=name)), width=width)

    assert max(cell_len(line) for line in text.splitlines()) <= min(width, 100)


def test_names_are_text():
    """A name that looks like markup is printed as it is."""
    text = environment_text(
        check(Machine(replace(HOST, cpu_model="[red]Chip[/red] :rocket:"), gpus(1, name="[b]G :rocket:")))
    )

    assert "[red]Chip[/red] :rocket:" in text
    assert "[b]G :rocket:" in text


def test_color_is_asked_for():
    """Escape sequences are printed where color is asked for, and only there."""
    assert "\x1b[" in environment_text(check(CPU_ONLY), color=True)
    assert "\x1b[" not in environment_text(check(CPU_ONLY))


def test_what_a_program_reads():
    """The JSON carries the same facts under stable names, and its fingerprints come back as values."""
    document = json.loads(environment_json(check(TROUBLED, BARE)))

    assert list(document) == [
        "schema", "host", "gpus", "installation", "context", "fingerprints", "areas", "cautions",
    ]  # fmt: skip
    assert document["schema"] == 1
    assert document["host"]["cpu_quota"] == 16.0
    assert document["gpus"]["gpus"][1]["state"]["processes"] == [
        {"pid": 4242, "name": "python3", "memory_bytes": 2**30}
    ]
    assert document["gpus"]["topology"]["links"] == [{"a": 0, "b": 1, "kind": "PHB", "nvlinks": 0}]
    assert document["gpus"]["lost"] == [{"index": 2, "reason": "GPU is lost"}]
    assert document["installation"]["versions"] == {"python": "3.11.2"}
    assert document["context"]["driver"] == "550.54.15"
    backend = next(area for area in document["areas"] if area["area"] == "backend")
    assert {"what": "flex_attention needs Python.h", "action": "apt install python3-dev"} in backend["cpu"]
    for named in document["fingerprints"]:
        assert Fingerprint.from_dict(named["fingerprint"]).id == named["id"]
    assert [named["gpu_set"] for named in document["fingerprints"]] == [[], [1]]


def test_a_host_that_tells_little():
    """A machine that hides almost everything still yields a whole text."""
    host = replace(
        HOST, numa_nodes=(), governor=None, turbo=None, clock_mhz=None, c_compiler=None, cxx_compiler=None
    )
    text = environment_text(check(Machine(host, Gpus(reason="the NVIDIA driver sees no GPU"))))

    assert "governor not told · turbo not told" in text
    assert "C none · C++ none" in text
    assert "none: the NVIDIA driver sees no GPU" in text


def test_a_long_list_is_told_once():
    """Each unmet requirement has its line and its action; the table of areas names a few."""
    unmet = tuple(f"package{number}==1 (2 is installed)" for number in range(9))
    text = environment_text(check(CPU_ONLY, replace(INSTALLED, unmet=unmet)))

    assert text.count("package8==1") == 1
    assert " ".join(text.split()).count("and 6 more") >= 1
    assert text.count("pip install that there") == len(unmet)
