"""A deeper look, on request: a kernel under Nsight Compute, a pass under Nsight Systems, when all is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sglperf.asking import request
from sglperf.core.nsight import KernelReport, kernel_reports
from sglperf.core.roofline import PARTS
from sglperf.core.server_config import ServerConfig
from sglperf.errors import LaunchError, ServerDied, UsageError
from sglperf.evidence import Measured
from sglperf.measurements import Progress
from sglperf.plan import Load, Plan
from sglperf.probes.nsight import NSIGHT, Nsight
from sglperf.server.worker import start_worker
from sglperf.settings import Settings
from sglperf.store import RunFolder
from sglperf.target.build import Target
from sglperf.workload.passes import Pass


@dataclass(frozen=True)
class Look:
    """What a tool was asked to look at, and what it saw.

    Attributes:
        part: the kernel; empty for a whole pass.
        file: what it left; None where it failed.
        kernels: what Nsight Compute says of each launch.
        problem: why there is nothing, or empty.
    """

    tool: str
    config: str
    workload: str
    part: str
    file: str | None = None
    kernels: tuple[KernelReport, ...] = ()
    problem: str = ""


def check_looks(plan: Plan, settings: Settings) -> None:
    """Refuse, before anything starts, a look at nothing.

    Raises:
        UsageError: an unknown kernel, no kernel test, or no GPU.
    """
    asked = [NSIGHT[name].option for name in _asked(settings)]
    if settings.ncu is not None and settings.ncu not in PARTS.values():
        raise UsageError(f"--ncu: unknown kernel {settings.ncu!r}: there are {', '.join(PARTS.values())}")
    if asked and not any(isinstance(load.workload, Pass) for _, load in _loads(plan)):
        raise UsageError(f"{', '.join(asked)}: no kernel test is selected: add -m kernel")
    if asked and settings.device != "cuda":
        raise UsageError(
            f"{', '.join(asked)}: profile {settings.profile} runs on a CPU, Nsight looks at GPUs"
        )


def look_deeper(
    measured: Measured,
    settings: Settings,
    targets: Mapping[str, Target],
    folder: RunFolder,
    progress: Progress,
) -> tuple[Look, ...]:
    """Each tool that was asked for, on the first pass of each server of kernels; what one lacks is said once."""
    looks: list[Look] = []
    for name in _asked(settings):
        tool, part = NSIGHT[name], settings.ncu or "" if name == "ncu" else ""
        if (missing := tool.missing) is not None:
            looks.append(Look(name, "", "", part, problem=missing))
            continue
        first = {config.label: (config, load) for config, load in reversed(list(_loads(measured.plan)))}
        for config, load in reversed(first.values()):
            progress(f"{tool.product}: {config.label}, {load.workload.label}")
            looks.append(_look(tool, part, config, load, targets["head"], settings, folder))
    return tuple(looks)


def _asked(settings: Settings) -> list[str]:
    return [*(["ncu"] if settings.ncu is not None else []), *(["nsys"] if settings.nsys else [])]


def _loads(plan: Plan) -> Iterator[tuple[ServerConfig, Load]]:
    for config in plan.configs:
        for load in plan.loads(config):
            if isinstance(load.workload, Pass):
                yield config, load


def _look(
    tool: Nsight,
    part: str,
    config: ServerConfig,
    load: Load,
    target: Target,
    settings: Settings,
    folder: RunFolder,
) -> Look:
    base = folder.path / f"{tool.program}-{config.label}-{load.workload.label}{'-' if part else ''}{part}"
    file, log = base.with_name(base.name + tool.suffix), base.with_name(base.name + ".log")
    look = Look(tool.program, config.label, load.workload.label, part)
    module = next((module for module, known in PARTS.items() if known == part), "")
    try:
        with start_worker(
            target,
            config,
            "model_pass",
            log_path=log,
            timeout=settings.start_timeout,
            under=tool.command(file),
        ) as worker:
            asked = {**request(settings, config, target, load), "look": module}
            worker.ask(asked, settings.start_timeout)
            worker.finish(settings.start_timeout)
        return _seen(look, file)
    except (LaunchError, ServerDied) as error:
        return replace(look, problem=str(error))


def _seen(look: Look, file: Path) -> Look:
    if not file.exists():
        return replace(look, problem=f"{look.tool} left no {file.name}: see the log beside it")
    if look.tool != "ncu":
        return replace(look, file=str(file))
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        return replace(look, file=str(file), kernels=tuple(kernel_reports(text)))
    except ValueError:
        said = [line for line in text.splitlines() if line.startswith("==ERROR==")] or text.splitlines()[-1:]
        return replace(look, file=str(file), problem=f"{' '.join(said) or 'an empty report'} ({file})")
