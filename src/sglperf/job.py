"""One launch to be made, and where what it yields goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sglperf.core.server_config import ServerConfig
from sglperf.errors import MeasurementError
from sglperf.measurements import Failure, Launch, Measurements, Progress, Round
from sglperf.plan import Load, Plan
from sglperf.server.leases import gpu_uuids
from sglperf.settings import Settings
from sglperf.store import RunFolder
from sglperf.target.build import Target


@dataclass(frozen=True)
class Job:
    """One launch of one server config on one side.

    Attributes:
        launch: its number, from 0.
        title: what progress calls it.
        measurements: where its launch, rounds and failure are kept.
    """

    plan: Plan
    settings: Settings
    side: str
    target: Target
    config: ServerConfig
    launch: int
    folder: RunFolder
    progress: Progress
    measurements: Measurements
    title: str

    @cached_property
    def loads(self) -> tuple[Load, ...]:
        """What is to be measured on it."""
        return self.plan.loads(self.config)

    @property
    def log(self) -> Path:
        """Where the output of its processes goes."""
        return self.folder.path / f"{self.side}-{self.config.label}-{self.launch}.log"

    @property
    def gpus(self) -> tuple[str, ...]:
        """UUIDs of those that it runs on."""
        return gpu_uuids(self.config.tp_set) if self.config.device == "cuda" else ()

    def attempt(self, work: Callable[[], None]) -> bool:
        """Do it, and say whether it could be done; what kept it from being measured is kept as its config's failure."""
        try:
            work()
        except MeasurementError as error:
            self.failed(error)
            return False
        return True

    def failed(self, error: MeasurementError) -> None:
        """Keep why it was not measured."""
        self.measurements.failures[self.side, self.config.label] = Failure(
            _code(error), str(error), launch=self.launch
        )
        self.folder.append(
            "failure",
            {"side": self.side, "config": self.config.label, "launch": self.launch, "error": str(error)},
        )
        self.says("failed, see below", done=True)

    def says(self, text: str, *, done: bool = False) -> None:
        """Show how far it is."""
        self.progress(f"{self.title}: {text}", done=done)

    def launched(self, launch: Launch) -> None:
        """Keep that a process came up."""
        self.measurements.launches.append(launch)
        self.folder.append("launch", {"launch": launch})

    def measured(self, round_: Round, observation: object) -> None:
        """Keep a round the moment it exists, with what was observed in it."""
        self.measurements.seconds["load"] += round_.seconds
        self.measurements.rounds.append(round_)
        self.folder.append("round", {"round": round_, "observation": observation})


def _code(error: MeasurementError) -> str:
    return {"LaunchError": "launch-failed", "ServerDied": "server-died"}.get(
        type(error).__name__, "not-measured"
    )
