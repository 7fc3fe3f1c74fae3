"""Shards' measurements taken launch by launch, as if they were measured now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import orjson

from sglperf.measure import Turn, launch_by_launch
from sglperf.measurements import Measurements
from sglperf.merging import Shards
from sglperf.plan import Plan
from sglperf.shard_run import ShardRun


def replay(
    plan: Plan,
    sides: Sequence[str],
    shards: Shards,
    measurements: Measurements,
    still_open: Callable[[int], Collection[str]],
    keep: Callable[[bytes], None],
) -> None:
    """Take what was measured launch by launch, as it would have been measured in one run.

    A shard makes all launches that may be needed; those after a server's verdicts were decided are not looked at.

    Args:
        measurements: filled.
        still_open: as of `launch_by_launch`.
        keep: given the lines of the shards' journals on what was taken.
    """
    made = max(run.kept.shard.made for run in shards.runs)
    taken: set[tuple[str, str, int]] = set()

    def take(launch: int, turns: Sequence[Turn]) -> None:
        wanted = {(turn.side, turn.config.label) for turn in turns}
        taken.update((side, label, launch) for side, label in wanted)
        for run in shards.runs:
            measurements.launches += [
                one for one in run.kept.launches if one.index == launch and (one.side, one.config) in wanted
            ]
            measurements.rounds += [
                one for one in run.kept.rounds if one.launch == launch and (one.side, one.config) in wanted
            ]
            measurements.failures |= {
                key: one for key, one in run.failures.items() if key in wanted and one.launch == launch
            }

    launch_by_launch(plan, sides, measurements, take, still_open, lambda launch: launch < made)
    for run in shards.runs:
        for name, seconds in run.kept.seconds.items():
            measurements.seconds["elsewhere" if name == "total" else name] += seconds
        for line in _lines(run, taken):
            keep(line)


def _lines(run: ShardRun, taken: Collection[tuple[str, str, int]]) -> Iterator[bytes]:
    """Of the shard's journal, what is about these launches."""
    if run.journal is None:
        return
    with run.journal.open("rb") as file:
        for line in file:
            try:
                entry = orjson.loads(line)
            except ValueError:  # cut where the machine was stopped
                continue
            kind = entry.get("kind")
            if kind not in ("launch", "round", "failure"):
                continue
            about = entry if kind == "failure" else entry[kind]
            number = about["index"] if kind == "launch" else about["launch"]
            if (about["side"], about["config"], number) in taken:
                yield line
