"""A whole run and its shards without servers: what each launch measures is drawn from its name, wherever it is made.

Only `sglperf.measure.execute` is replaced; the order of launches, judging, keeping and merging are the suite's own.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "unit"))

from machines import CPU_ONLY, INSTALLED
from samples import SHAPE, ask, measured_round, server, started

from sglperf.clock import Clock
from sglperf.core.fingerprint import fingerprint
from sglperf.core.machine import Machine
from sglperf.core.server_config import ServerConfig
from sglperf.core.sharding import Shard
from sglperf.gathering import read_folder
from sglperf.measure import Turn, launch_by_launch
from sglperf.measurements import Failure, Measurements
from sglperf.outcome import Assignment, Outcome, Site
from sglperf.pipeline import run
from sglperf.plan import Load, Plan, make_plan
from sglperf.settings import Settings
from sglperf.sharding import Piece
from sglperf.store import RunFolder
from sglperf.target.build import Target
from sglperf.workload.shapes import Prefill, Repeat

COMPARED = [server(backend, comparison="backends") for backend in ("torch_native", "flex_attention")]
ALONE = [server(page=page, variant="alone") for page in (1, 16, 64, 128)]
CONFIGS = [*COMPARED, *ALONE]
# Metric → workload, and its size on a server that is as it was.
METRICS: dict[str, tuple[Any, float]] = {
    "inter_token_latency": (SHAPE, 0.005),
    "decode_throughput": (SHAPE, 200.0),
    "time_to_first_token": (Prefill(64, 2), 0.1),
    "prefill_tokens": (Prefill(64, 2), 128.0),
    "cached_tokens": (Repeat(300), 288.0),
}
TARGET = Target("sglang 0.5.23", Path("/opt/env/bin/python"), None, "0.5.23", packages={"sglang": "0.5.23"})
SETTINGS: dict[str, Any] = {
    "profile": "cpu", "device": "cpu", "model": "tiny", "attention_backends": ("torch_native",), "page_sizes": (16,),
    "tp_sets": ((0,),), "max_total_tokens": 4096, "max_running_requests": 16, "mem_fraction_static": 0.3,
    "launches": 2, "rounds": 3, "html_report": False, "why": "off", "history": "off",
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """What happens to servers.

    Attributes:
        slower: label → by how much its timings are longer now, on the head.
        deaths: (side, label, launch) of servers that go away: in their first launch before a round, later after one.
        limit: launches after which there is no time for another; None for time enough.
        noise: relative spread of a round.
        seed: of the draw; another is another day.
    """

    slower: Mapping[str, float] = field(default_factory=dict)
    deaths: Collection[tuple[str, str, int]] = ()
    limit: int | None = None
    noise: float = 0.01
    seed: int = 1

    def execute(
        self,
        plan: Plan,
        _settings: Settings,
        targets: Mapping[str, Target],
        folder: RunFolder,
        _progress: Callable[..., None],
        measurements: Measurements,
        still_open: Callable[[int], Collection[str]],
        _clock: Clock,
        _beside: Collection[str] = (),
    ) -> None:
        """In the place of `sglperf.measure.execute`."""

        def make(launch: int, turns: Sequence[Turn]) -> None:
            for turn in turns:
                self._launch(plan, turn, launch, measurements, folder)

        def room(launch: int) -> bool:
            if self.limit is not None and launch >= self.limit:
                measurements.notes.append(f"ended after {launch} launches")
                return False
            return True

        launch_by_launch(plan, tuple(targets), measurements, make, still_open, room)

    def _launch(
        self, plan: Plan, turn: Turn, launch: int, measurements: Measurements, folder: RunFolder
    ) -> None:
        config = turn.config
        came = replace(started(launch, config=config.label, page_size=config.page_size), side=turn.side)
        measurements.launches.append(came)
        folder.append("launch", {"launch": came})
        measurements.seconds["start"] += 30.0
        dies = (turn.side, config.label, launch) in self.deaths
        if not dies or launch:
            for load in plan.loads(config)[: 1 if dies else None]:
                self._rounds(
                    load, turn, launch, 1 if dies or not load.timed else plan.rounds, measurements, folder
                )
        if dies:
            gone = Failure("server-died", f"{config.label} is gone", launch=launch)
            measurements.failures[turn.side, config.label] = gone
            about = {"side": turn.side, "config": config.label, "launch": launch}
            folder.append("failure", {**about, "error": gone.sentence})

    def _rounds(
        self, load: Load, turn: Turn, launch: int, count: int, measurements: Measurements, folder: RunFolder
    ) -> None:
        like = ask(config=turn.config, workload=load.workload)
        for index in range(count):
            values = {
                name: self._value(name, turn.side, turn.config, launch, index)
                for name, (workload, _) in METRICS.items()
                if workload == load.workload
            }
            one = measured_round(launch, values, index=index, like=like, side=turn.side)
            measurements.rounds.append(one)
            folder.append("round", {"round": one, "observation": {"requests": []}})

    def _value(self, metric: str, side: str, config: ServerConfig, launch: int, index: int) -> float:
        size = METRICS[metric][1]
        if metric.endswith("tokens"):
            return size
        draw = random.Random(f"{self.seed} {metric} {side} {config.label} {launch}")
        level = draw.gauss(0, self.noise / 2)
        draw = random.Random(f"{self.seed} {metric} {side} {config.label} {launch} {index}")
        longer = self.slower.get(config.label, 1.0) if side == "head" else 1.0
        value = size * (1 + level + draw.gauss(0, self.noise))
        return value / longer if metric == "decode_throughput" else value * longer


def whole_plan(launches: int | tuple[int, int], configs: Sequence[ServerConfig] = CONFIGS) -> Plan:
    fewest, most = (launches, launches) if isinstance(launches, int) else launches
    asks = [
        ask(metric, config=config, workload=workload)
        for config in configs
        for metric, (workload, _) in METRICS.items()
    ]
    return make_plan(asks, launches=most, fewest_launches=fewest, rounds=3, warmup_rounds=1, seed=0)


class Bench:
    """Runs below a folder, whole, in parts and merged."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.folder, self._monkeypatch, self._settings = folder, monkeypatch, settings
        self._number = 0

    @property
    def targets(self) -> dict[str, Target]:
        sides = ("base", "head") if "base" in self._settings else ("head",)
        return dict.fromkeys(sides, TARGET)

    def settings(self, **changes: Any) -> Settings:
        places = {"results_dir": self.folder / "results", "baseline_dir": self.folder / "baselines"}
        return Settings(**{**SETTINGS, **places, **self._settings, **changes})

    def whole(self, world: World, plan: Plan, **changes: Any) -> Outcome:
        """An unsplit run."""
        return self._run(world, plan, self.settings(**changes))

    def shard(
        self,
        world: World,
        plan: Plan,
        index: int,
        of: int,
        *,
        machine: Machine = CPU_ONLY,
        name: str = "",
        **changes: Any,
    ) -> Outcome:
        """A part of it, kept below ``parts``."""
        piece = Piece(Shard(index, of), name, plan)
        known = {"shard": f"{index}/{of}", "results_dir": self.folder / "parts" / str(index), **changes}
        return self._run(world, piece.plan, self.settings(**known), machine=machine, piece=piece)

    def merged(self, plan: Plan, **changes: Any) -> Outcome:
        """What the parts come to together."""
        place = str(self.folder / "parts")
        settings = self.settings(merge_shards=place, **changes)
        shards = read_folder(Path(place))
        shards.check(plan, settings)
        site = Site(shards.machine, shards.fingerprints, shards.notes)
        return self._assigned(plan, settings, site, dict(shards.targets), shards=shards)

    def _run(
        self,
        world: World,
        plan: Plan,
        settings: Settings,
        machine: Machine = CPU_ONLY,
        piece: Piece | None = None,
    ) -> Outcome:
        self._monkeypatch.setattr("sglperf.pipeline.execute", world.execute)
        site = Site(machine, {config.label: fingerprint(machine) for config in plan.configs})
        installation = None if piece is None else INSTALLED
        return self._assigned(plan, settings, site, self.targets, piece=piece, installation=installation)

    def _assigned(
        self, plan: Plan, settings: Settings, site: Site, targets: dict[str, Target], **known: Any
    ) -> Outcome:
        self._number += 1  # a run's name is a second and a process, and these are made in one of each
        clock = SimpleNamespace(
            time=time.time, gmtime=time.gmtime, strftime=lambda *_: f"20260101-{self._number:06}"
        )
        self._monkeypatch.setattr("sglperf.store.time", clock)
        settings = settings.model_copy(update={"results_dir": settings.results_dir / str(self._number)})
        with RunFolder(settings.results_dir) as folder:
            return run(Assignment(plan, settings, targets, site, {}, folder, _quiet, **known))


def _quiet(text: str, *, done: bool = False) -> None:
    pass


def document(outcome: Outcome) -> dict[str, Any]:
    """``run.json``."""
    found: dict[str, Any] = json.loads((Path(outcome.folder) / "run.json").read_text())
    return found


# When and where a run was made; what is left is what was measured and what it came to.
_OWN = ("run", "seconds", "settings", "shards", "baselines_recorded")


def comparable(outcome: Outcome) -> dict[str, Any]:
    """The document without times, names and places, its rounds in an order of their own."""
    text = json.dumps(document(outcome)).replace(outcome.run, "RUN")
    found = json.loads(re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "TIME", text))
    for name in ("launches", "rounds", "failures"):
        found[name] = sorted(json.dumps(one, sort_keys=True) for one in found[name])
    return {name: value for name, value in found.items() if name not in _OWN}


def baselines(folder: Path, outcome: Outcome) -> dict[str, str]:
    """File below the folder → its text, likewise."""
    return {
        str(file.relative_to(folder)): re.sub(
            r"\d{4}-\d\d-\d\dT[\d:]+Z", "TIME", file.read_text().replace(outcome.run, "RUN")
        )
        for file in sorted(folder.rglob("*.json"))
    }
