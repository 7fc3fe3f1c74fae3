"""All shards of a run together: what they must have in common, and what they say of builds, hosts and servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sglperf import __version__
from sglperf.core.explanation import Explanation
from sglperf.core.fingerprint import Fingerprint
from sglperf.core.machine import Gpus, Installation, Machine, context
from sglperf.deeper import Look
from sglperf.errors import UsageError
from sglperf.plan import Plan
from sglperf.settings import Settings
from sglperf.shard_run import ShardRun
from sglperf.sharding import digest, work
from sglperf.target.build import Target

# What may differ from host to host, and what is decided when all is judged: neither changes what is measured.
_OWN = frozenset(
    {
        "target", "base", "head", "sglang_repo", "target_mode", "baseline", "baseline_dir", "results_dir", "html_report",
        "history", "tag", "strict", "time_limit", "shard", "merge_shards", "split", "origins",
    }
)  # fmt: skip
# Of a build: where it lies, and what it is called there, may differ.
_BUILD = ("version", "commit", "dirty_hash", "content", "packages")
_MOST_NAMES = 5


@dataclass(frozen=True)
class Shards:
    """All shards of a split that had anything to do, in order.

    Attributes:
        taken: name of the split in the history that they were taken from; empty for folders.
    """

    runs: tuple[ShardRun, ...]
    taken: str = ""

    @property
    def explanations(self) -> dict[str, Explanation]:
        """Server config's label → why its shard's verdicts are what they are."""
        return {label: one for run in self.runs for label, one in run.kept.explanations.items()}

    @property
    def looks(self) -> tuple[Look, ...]:
        """What Nsight's tools saw; what they lack is said once."""
        return tuple({repr(look): look for run in self.runs for look in run.kept.nsight}.values())

    @property
    def targets(self) -> Mapping[str, Target]:
        """Side → the build that was measured."""
        return self.runs[0].kept.targets

    @property
    def machine(self) -> Machine:
        """Of the first shard; what differs on others is noted."""
        return self.runs[0].kept.machine

    @property
    def split(self) -> str:
        """The split's name; empty where it has none."""
        return self.runs[0].kept.shard.split

    @property
    def fingerprints(self) -> dict[str, Fingerprint]:
        """Server config's label → what must match, on the host that measured it."""
        return {label: one for run in self.runs for label, one in run.fingerprints.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how it was measured."""
        seconds = ", ".join(f"{run.kept.seconds.get('total', 0):.0f}" for run in self.runs)
        said = f"merged from {len(self.runs)} shard{'' if len(self.runs) == 1 else 's'} that took {seconds} s"
        notes = (f"shard {run.shard.index}: {note}" for run in self.runs for note in run.kept.shard.notes)
        return (said, *notes, *self._hosts())

    def _hosts(self) -> Iterator[str]:
        first = self.runs[0]
        for run in self.runs[1:]:
            others = self._differences(first, run)
            if others:
                yield (
                    f"shard {run.shard.index} ran on another machine than shard {first.shard.index}, and its cases are judged "
                    f"against that one's baselines: {'; '.join(others)} (here: shard {first.shard.index})"
                )

    @staticmethod
    def _differences(one: ShardRun, other: ShardRun) -> list[str]:
        """Sets of GPUs differ by plan, machines by everything else."""
        per_set = {(print_.gpu_count, print_.link_class): print_ for print_ in one.fingerprints.values()}
        found = [
            said
            for theirs in other.fingerprints.values()
            if (ours := per_set.get((theirs.gpu_count, theirs.link_class))) is not None
            for said in ours.differences(theirs)
        ]
        here, there = (context(run.kept.machine, run.kept.shard.installation) for run in (one, other))
        found += [
            f"{name}: {here.get(name, 'none')} here, {there.get(name, 'none')} there"
            for name in ("kernel", "governor", "driver", "cuda-driver")
            if here.get(name) != there.get(name)
        ]
        return list(dict.fromkeys(found))

    @property
    def environments(self) -> tuple[tuple[Machine, Installation], ...]:
        """Of each host: its machine, and what is installed beside the build."""
        return tuple((run.kept.machine, run.kept.shard.installation) for run in self.runs)

    @property
    def gpus(self) -> Gpus:
        """By which the plan was made."""
        return self.machine.gpus

    @property
    def processors(self) -> int:
        """By which it was made on a CPU."""
        return self.machine.host.available_cpus

    def document(self) -> list[dict[str, Any]]:
        """What the merged run keeps of each: its name, where it was, what it took, and its host."""
        return [
            {
                "index": run.shard.index,
                "of": run.shard.of,
                "split": run.kept.shard.split,
                "run": run.kept.run,
                "origin": run.origin,
                "seconds": run.kept.seconds,
                "servers": run.servers,
                "fingerprints": sorted({one.id for one in run.fingerprints.values()}),
                "context": context(run.kept.machine, run.kept.shard.installation),
            }
            for run in self.runs
        ]

    def check(self, plan: Plan, settings: Settings) -> None:
        """Refuse shards of another plan than this command makes.

        Raises:
            UsageError: what differs: settings, by name, or cases.
        """
        paired = "base" in self.targets
        if paired != (settings.base is not None):
            raise UsageError(
                f"{self.runs[0].origin} {'compares two builds' if paired else 'measures one build'}: merge "
                f"{'with' if paired else 'without'} --base and --head"
            )
        if self.runs[0].kept.shard.plan == digest(plan):
            return
        theirs, ours = self.runs[0].kept.settings, settings.model_dump(mode="json")
        said = _settings_differ(ours, theirs) or _work_differs(work(plan), self.runs[0].kept.shard.work)
        raise UsageError(
            f"{self.runs[0].origin} is a shard of another plan: {said}. Merge with the options that the shards were given, "
            "and --merge-shards in the place of --shard"
        )


def _settings_differ(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    differing = [name for name in ours if name not in _OWN and ours[name] != theirs.get(name)]
    return "; ".join(f"{name} is {ours[name]!r} here, {theirs.get(name)!r} there" for name in differing)


def _work_differs(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    said = {
        "only here": [name for name in ours if name not in theirs],
        "only there": [name for name in theirs if name not in ours],
        "another workload or server": [name for name in ours if theirs.get(name, ours[name]) != ours[name]],
    }
    listed = "; ".join(f"{what}: {_listed(names)}" for what, names in said.items() if names)
    return listed or "the same cases, in another number of launches or rounds"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def together(runs: Sequence[ShardRun], taken: str = "") -> Shards:
    """Shards as parts of one whole.

    Raises:
        UsageError: one is missing, twice there, or of another split, sglperf, plan or build than the first.
    """
    runs = sorted(runs, key=lambda run: (run.shard.index, run.origin))
    first = runs[0]
    for run in runs:
        if run.kept.sglperf != __version__:
            raise UsageError(
                f"{run.origin} was measured by sglperf {run.kept.sglperf}, this is {__version__}: merge with the same one"
            )
        for said in _of_others(first, run):
            raise UsageError(f"{first.origin} and {run.origin} are not shards of one run: {said}")
    _all_there(runs)
    return Shards(tuple(run for run in runs if run.servers) or (first,), taken)


def _of_others(one: ShardRun, other: ShardRun) -> Iterator[str]:
    """Why two are no shards of one run; the first reason is the one that matters."""
    here, there = one.kept.shard, other.kept.shard
    if here.of != there.of:
        yield f"one is {one.shard}, the other {other.shard}"
    if here.split != there.split:
        yield f"one is of the split {here.split or 'without a name'!r}, the other of {there.split or 'one without a name'!r}"
    if here.plan != there.plan:
        said = _settings_differ(one.kept.settings, other.kept.settings) or _work_differs(
            here.work, there.work
        )
        yield f"their plans differ: {said} (here: {one.origin})"
    if set(one.kept.targets) != set(other.kept.targets):
        yield "one compares two builds, the other measures one"
    for side, target in one.kept.targets.items():
        yield from _builds_differ(side, target, other.kept.targets[side])


def _builds_differ(side: str, one: Target, other: Target) -> Iterator[str]:
    for name in _BUILD:
        here, there = getattr(one, name), getattr(other, name)
        if here == there:
            continue
        if name == "packages":
            names = sorted({*here, *there})
            said = ", ".join(
                f"{package} {here.get(package, 'absent')} and {there.get(package, 'absent')}"
                for package in names
                if here.get(package) != there.get(package)
            )
        else:
            said = f"{name} {here} and {there}"
        yield f"their builds differ ({side}): {one.label} and {other.label}, {said}"


def _all_there(runs: Sequence[ShardRun]) -> None:
    counts = Counter(run.shard.index for run in runs)
    for index, count in counts.items():
        if count > 1:
            twice = " and ".join(run.origin for run in runs if run.shard.index == index)
            raise UsageError(f"shard {index} is there {count} times: {twice}: leave one of them")
    parts = runs[0].kept.shard.servers
    missing = [
        f"shard {index} of {len(parts)} is missing, which measures {_listed(servers)}"
        for index, servers in enumerate(parts, 1)
        if servers and index not in counts
    ]
    if missing:
        raise UsageError(f"{'; '.join(missing)}: measure it with --shard, then merge again")
