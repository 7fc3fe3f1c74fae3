"""A deeper look: doubles of Nsight's tools run the worker, and leave what the tools would."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from double import make_target

from sglperf.clock import Clock
from sglperf.config import load_settings
from sglperf.config_folder import ConfigFolder
from sglperf.core.server_config import Model, ServerConfig
from sglperf.deeper import Look, check_looks, look_deeper
from sglperf.errors import UsageError
from sglperf.evidence import Measured
from sglperf.measurements import Measurements, Progress
from sglperf.plan import Ask, Plan, make_plan
from sglperf.server import worker as room
from sglperf.settings import Settings
from sglperf.store import RunFolder
from sglperf.target.resolve import resolve_target
from sglperf.workload.passes import DecodePass
from sglperf.workload.shapes import Decode, Workload

CONFIG = ServerConfig(
    Model("tiny", 2048, 4096, {"vocab_size": 2048}), "cpu", "torch_native", 16, (0,), 4096, 8, 0.3
)
WORKER = """
import sys
from link import serve
serve(lambda request: print("looked at", repr(request["look"]), flush=True) or {})
"""
# What the real ones do with their command lines, as far as it matters: run the rest, and leave a file.
NCU = """#!/bin/sh
while [ "$1" != "--log-file" ]; do shift; done
file=$2; shift 2
"$@" || exit 1
%s
"""
NSYS = """#!/bin/sh
while [ "$1" != "--output" ]; do shift; done
file=$2.nsys-rep; shift 2
"$@" && echo trace > "$file"
"""
REPORT = (
    """printf '"ID","Kernel Name","gpu__time_duration.sum"\\n"","","us"\\n"0","decode","7.5"\\n' > "$file" """
)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of PATH, and workers of which the one for passes does as it is told."""
    shutil.copytree(room.WORKERS, tmp_path / "workers")
    (tmp_path / "workers" / "model_pass.py").write_text(WORKER)
    monkeypatch.setattr(room, "WORKERS", tmp_path / "workers")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path / "bin"


def tool(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def plan(*workloads: Workload, configs: Sequence[ServerConfig] = (CONFIG,)) -> Plan:
    asks = [Ask("kernel", config, workload, "attention_time") for config in configs for workload in workloads]
    return make_plan(asks, launches=1, rounds=1, warmup_rounds=1, seed=0)


def settings(**options: object) -> Settings:
    folder = ConfigFolder(Path(__file__).parents[2] / "config")
    return load_settings(folder, {"profile": "cpu", "start_timeout": 20.0, **options}, {}, ())


def quiet(*_: object, **__: object) -> None:
    pass


def looked(
    tmp_path: Path,
    *,
    configs: Sequence[ServerConfig] = (CONFIG,),
    progress: Progress = quiet,
    limit: float | None = None,
    **options: object,
) -> tuple[Look, ...]:
    target = resolve_target(str(make_target(tmp_path / "target")))
    measured = Measured(plan(DecodePass(1, 64), DecodePass(8, 64), configs=configs), Measurements(), {})
    with RunFolder(tmp_path / "results") as folder:
        return tuple(
            look_deeper(
                measured,
                settings(**options),
                {"head": target},
                folder,
                progress,
                Clock(limit),
            )
        )


def test_a_kernel(tmp_path: Path, tools: Path) -> None:
    """One kernel of the first pass is shown to the tool; its report stays in the run's folder, and is read."""
    tool(tools, "ncu", NCU % REPORT)
    (look,) = looked(tmp_path, ncu="attention")
    assert (look.tool, look.part, look.workload, look.problem) == (
        "ncu",
        "attention",
        "decode-pass-c64-s1",
        "",
    )
    assert [(one.name, one.seconds) for one in look.kernels] == [("decode", pytest.approx(7.5e-6))]
    assert look.file is not None
    assert "looked at 'attn'" in Path(look.file).with_suffix(".log").read_text()


def test_a_whole_pass(tmp_path: Path, tools: Path) -> None:
    """A system trace is of all of the pass."""
    tool(tools, "nsys", NSYS)
    (look,) = looked(tmp_path, nsys=True)
    assert look.file is not None
    assert Path(look.file).read_text() == "trace\n"
    assert "looked at ''" in Path(look.file).with_suffix(".log").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (NCU % "echo '==ERROR== ERR_NVGPUCTRPERM - no permission' > $file", "ERR_NVGPUCTRPERM"),
        (NCU % ": > $file", "an empty report"),
        (NCU % "true", "ncu left no ncu-torch_native-page16-tp0-decode-pass-c64-s1-attention.csv"),
        ("#!/bin/sh\nexit 9\n", "exit status 9"),
    ],
)
def test_a_tool_that_fails(tmp_path: Path, tools: Path, text: str, said: str) -> None:
    """What went wrong is said, and nothing else is lost by it."""
    tool(tools, "ncu", text)
    (look,) = looked(tmp_path, ncu="attention")
    assert said in look.problem
    assert look.kernels == ()


def test_tools_that_are_not_there(tmp_path: Path, tools: Path) -> None:
    """Each is named in one line, and nothing is started."""
    assert not list(tools.iterdir())
    ncu, nsys = looked(tmp_path, ncu="attention", nsys=True)
    assert ncu.problem == (
        "--ncu: no Nsight Compute here (ncu is not on PATH): install it, or leave the option out"
    )
    assert nsys.problem.startswith("--nsys: no Nsight Systems here (nsys is not on PATH)")
    assert not list((tmp_path / "results").glob("*/*.log"))


# A tool that has not ended a minute after its process has: Nsight Compute was seen to, with a library of a gigabyte.
LINGERS = """case "$file" in *page64*) sleep 60;; esac"""
TWO = (CONFIG, replace(CONFIG, page_size=64))


def test_a_tool_that_does_not_end_in_time(tmp_path: Path, tools: Path) -> None:
    """It is ended when the run's time is over, and what was seen before it stays."""
    tool(tools, "ncu", NCU % f"{REPORT}; {LINGERS}")
    seen, late = looked(tmp_path, configs=TWO, limit=8, ncu="attention")
    assert [one.name for one in seen.kernels] == ["decode"]
    assert "did not end within" in late.problem


def test_no_time_is_left(tmp_path: Path, tools: Path) -> None:
    """Looks for which there is no time are not begun, and say so."""
    tool(tools, "ncu", NCU % REPORT)
    for look in looked(tmp_path, configs=TWO, limit=1e-9, ncu="attention"):
        assert look.problem == (
            f"Nsight Compute: {look.config}, {look.workload}: not begun, 1e-09 s (--time-limit) are over"
        )
    assert not list((tmp_path / "results").glob("*/*.log"))


def test_interrupted(tmp_path: Path, tools: Path) -> None:
    """Ctrl-C ends the looks, not the run, and what was seen stays."""

    def progress(text: str, *, done: bool = False) -> None:
        said.append(text)
        if "page64" in text:
            raise KeyboardInterrupt

    said: list[str] = []
    tool(tools, "ncu", NCU % REPORT)
    (seen,) = looked(tmp_path, configs=TWO, progress=progress, ncu="attention")
    assert seen.problem == ""
    assert said[-1] == "interrupted: the verdicts stand, without the looks that are left"


@pytest.mark.parametrize(
    ("options", "workload", "said"),
    [
        (
            {"ncu": "atention"},
            DecodePass(1, 64),
            "--ncu: unknown kernel 'atention': there are embedding, input_norm",
        ),
        ({"ncu": "attention"}, Decode(1, 64, 8), "--ncu: no kernel test is selected: add -m kernel"),
        ({"ncu": "rope", "nsys": True}, DecodePass(1, 64), "--ncu, --nsys: profile cpu runs on a CPU"),
    ],
)
def test_nothing_to_look_at(options: dict[str, object], workload: Workload, said: str) -> None:
    """A look at nothing is refused before anything starts."""
    with pytest.raises(UsageError, match=said):
        check_looks(plan(workload), settings(**options))


def test_no_look_is_asked_for() -> None:
    """Without the options everything goes."""
    check_looks(plan(replace(Decode(), prompt_tokens=64, new_tokens=8)), settings())
