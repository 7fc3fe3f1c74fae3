"""A deeper look, on request: a kernel under Nsight Compute, a pass under Nsight Systems, when all is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sglperf.asking import request
from sglperf.clock import Clock
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
    clock: Clock,
) -> Iterator[Look]:
    """Each tool that was asked for, on the first pass of each server of kernels; what one lacks is said once.

    Each look comes as soon as it is made, so that none is lost by a later one. Interrupted there, or out of time, the
    run goes on without what is left.
    """
    try:
        for tool, part, config, load in _looks(measured.plan, settings):
            look = Look(tool.program, config.label, load.workload.label, part)
            if tool.missing is not None:
                yield Look(tool.program, "", "", part, problem=tool.missing)
            elif clock.left <= 0:
                yield replace(look, problem=f"{_title(tool, look)}: not begun, {clock.limit} are over")
            else:
                progress(_title(tool, look))
                yield _made(look, tool, config, load, targets["head"], settings, folder, clock)
    except KeyboardInterrupt:
        progress("interrupted: the verdicts stand, without the looks that are left", done=True)


def _looks(plan: Plan, settings: Settings) -> Iterator[tuple[Nsight, str, ServerConfig, Load]]:
    """Tool, part, server and pass; of a tool that is not here, the first."""
    first = {config.label: (config, load) for config, load in reversed(list(_loads(plan)))}
    for name in _asked(settings):
        tool, part = NSIGHT[name], settings.ncu or "" if name == "ncu" else ""
        for config, load in list(reversed(first.values()))[: 1 if tool.missing else None]:
            yield tool, part, config, load


def _title(tool: Nsight, look: Look) -> str:
    return f"{tool.product}: {look.config}, {look.workload}"


def _asked(settings: Settings) -> list[str]:
    return [*(["ncu"] if settings.ncu is not None else []), *(["nsys"] if settings.nsys else [])]


def _loads(plan: Plan) -> Iterator[tuple[ServerConfig, Load]]:
    for config in plan.configs:
        for load in plan.loads(config):
            if isinstance(load.workload, Pass):
                yield config, load


def _made(
    look: Look,
    tool: Nsight,
    config: ServerConfig,
    load: Load,
    target: Target,
    settings: Settings,
    folder: RunFolder,
    clock: Clock,
) -> Look:
    base = folder.path / f"{look.tool}-{look.config}-{look.workload}{'-' if look.part else ''}{look.part}"
    file, log = base.with_name(base.name + tool.suffix), base.with_name(base.name + ".log")
    module = next((module for module, known in PARTS.items() if known == look.part), "")

    def patience() -> float:
        return max(0.0, min(settings.start_timeout, clock.left))

    try:
        with start_worker(
            target,
            config,
            "model_pass",
            log_path=log,
            timeout=patience(),
            under=tool.command(file),
        ) as worker:
            asked = {**request(settings, config, target, load), "look": module}
            worker.ask(asked, patience())
            worker.finish(patience())
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
