"""Rounds under the server's own profiler: what a forward pass consists of.

torch's profiler is known to end servers, by an error of its own in memory, mostly after it has written a trace (torch
2.11 on an H100: three servers of four; torch 2.14 on a CPU: one trace in 37). So a server is traced last, and what it
was measured in before stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sglperf.core.gates import NO_TRACE, Gate
from sglperf.core.observation import RoundObservation
from sglperf.core.step import step_values
from sglperf.core.trace_events import Trace
from sglperf.errors import MeasurementError
from sglperf.job import Job
from sglperf.measurements import Round
from sglperf.plan import Load
from sglperf.probes.profiler import read_traces, start_profile, stop_profile
from sglperf.server.launch import Server
from sglperf.workload.plan import RoundPlan
from sglperf.workload.rounds import Prompts
from sglperf.workload.traced import DecodeTrace

# Passes of one kind in a trace, at most.
_MOST_STEPS = 32


class Serving(Protocol):
    """A running server: `sglperf.serving.Serving`."""

    @property
    def job(self) -> Job: ...

    @property
    def server(self) -> Server: ...

    @property
    def ended(self) -> list[str]: ...

    def observe(self, load: Load) -> tuple[RoundObservation, Prompts]:
        """One round as it was seen."""

    def gates(self, observation: RoundObservation, load: Load) -> tuple[Gate, ...]:
        """Those that it fails."""


@dataclass(frozen=True)
class Tracing:
    """What came of a round under the profiler.

    Attributes:
        traces: the first rank's.
        observation: what the client saw; None where the server was gone before the round's end.
        died: what ended the server, or the tracing; None where nothing did.
    """

    traces: tuple[Trace, ...]
    observation: RoundObservation | None = None
    died: MeasurementError | None = None


def trace(serving: Serving, load: Load, name: str) -> Tracing:
    """Play a round under the server's profiler, whose traces stay in the run's folder.

    Args:
        name: what sets this trace apart from others of the workload on this launch.
    """
    job, url, adapter = serving.job, serving.server.base_url, serving.job.target.adapter
    folder = job.folder.path / "profiles"
    folder /= f"{job.side}-{job.config.label}-{load.workload.label}-{job.launch}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    gpu = job.config.device == "cuda"
    observation = died = None
    try:
        start_profile(url, folder, path=adapter.start_profile, steps=traced_steps(load.round), gpu=gpu)
        observation, _ = serving.observe(load)
        stop_profile(url, folder, path=adapter.stop_profile)
    except MeasurementError as error:
        died = error
    return Tracing(tuple(read_traces(folder)), observation, died)


def traced_steps(round_: RoundPlan) -> int:
    """Passes to be traced: half of what is decoded, so that the batch is whole; of prefill, one for each prompt."""
    fewest = min(request.max_new_tokens for request in round_.requests)
    return max(1, min(_MOST_STEPS, fewest // 2 if fewest > 1 else len(round_.requests)))


def traced_round(serving: Serving, load: Load) -> None:
    """Trace the workload once and keep what a pass consists of; a server that its profiler ended is left alone."""
    job = serving.job
    if serving.ended:
        return
    job.says(f"trace, {load.workload.label}")
    tracing = trace(serving, load, "round")
    if tracing.died is not None:
        serving.ended.append(str(tracing.died))
    seen, phase = tracing.observation, _phase(tracing.traces, load)
    gates = () if seen is None else serving.gates(seen, load)
    if phase is None:
        gates = (*gates, _no_trace(tracing, load))
    values = {} if phase is None else step_values(phase)
    round_ = Round(
        side=job.side,
        config=job.config.label,
        launch=job.launch,
        workload=load.workload.label,
        index=0,
        values={
            name: value for name, value in values.items() if not any(gate.spoils(name) for gate in gates)
        },
        gates=gates,
        finish_reasons={},  # where the profiler ended the server nothing finished, and the trace is as good
        seconds=0.0 if seen is None else seen.client.wall_seconds,
    )
    job.measured(round_, seen)


def _phase(traces: Sequence[Trace], load: Load) -> Trace | None:
    """The trace of what the workload is for."""
    decoding = isinstance(load.workload, DecodeTrace)
    return next((one for one in traces if one.decoding == decoding), None)


def _no_trace(tracing: Tracing, load: Load) -> Gate:
    why = f": {tracing.died}" if tracing.died else ""
    return Gate(NO_TRACE, f"the server's profiler left no trace of {load.workload.label}{why}")
