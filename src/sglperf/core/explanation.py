"""Why two builds differ: what changed around the server, in its scheduler, and in what a step runs; most likely first.

A server argument or a dependency that changed is a suspect by itself. A profile says more: which row of a step
grew, and by which part of what the step takes longer. Calls have no noise, so one more in every step is a fact
even where its time drowns in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sglperf.core.trace import Change, ProfileChange
from sglperf.core.trace_events import Part

MOST = 0.5
"""Share of a step's change from which one row is said to explain most of it."""

_NOTICED = 3  # names in a sentence
# Rows in which the host waits for the device: they grow with whatever the device does.
_WAITING = ("Synchronize", "cudaStreamWaitEvent", "cudaEventQuery")


@dataclass(frozen=True)
class StageChange:
    """Wall time of one of the scheduler's stages, by its own account.

    Attributes:
        seconds: of base and of head, in a round.
    """

    name: str
    seconds: tuple[float, float]


@dataclass(frozen=True)
class Explanation:
    """What differs between base and head on one server config.

    Attributes:
        config: the server config's label.
        workload: label of the workload that was profiled, and whose stages are compared; None where none was.
        arguments: resolved server arguments, as ``name before → after``.
        versions: of packages and of Python, likewise.
        files: of the two revisions, as ``git diff --stat`` lists them.
        stages: the scheduler's stages on that workload, the largest change first.
        profiles: a step of each phase.
        changed: whether any case changed; else nothing is looked for, and differences are only listed.
        worse: whether head is the slower one.
        phase: in which of them the change is looked for.
        notes: why something of this is missing.
    """

    config: str
    workload: str | None = None
    arguments: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    stages: tuple[StageChange, ...] = ()
    profiles: tuple[ProfileChange, ...] = ()
    changed: bool = True
    worse: bool = True
    phase: str = "decode"
    notes: tuple[str, ...] = ()

    @property
    def profile(self) -> ProfileChange | None:
        """Of the phase in question."""
        return next((one for one in self.profiles if one.phase == self.phase), None)

    @property
    def sentence(self) -> str:
        """The likeliest cause, or that there is none to name."""
        parts = [part for part in (_argument_suspect(self), _profile_suspect(self)) if part]
        if not parts and self.versions:
            parts = [f"the packages differ: {_listed(self.versions)}"]
        if len(self.files) == 1:
            parts.append(f"one file differs: {self.files[0]}")
        return "; ".join(parts) or "nothing that was looked at differs"


def _argument_suspect(explanation: Explanation) -> str | None:
    if not explanation.arguments:
        return None
    several = len(explanation.arguments) > 1
    return f"first suspect{'s' if several else ''}: server argument{'s' if several else ''} {_listed(explanation.arguments)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NOTICED} more" if len(names) > _NOTICED else ""
    return ", ".join(names[:_NOTICED]) + more


def _profile_suspect(explanation: Explanation) -> str | None:
    profile = explanation.profile
    if profile is None:
        return None
    sign = 1 if explanation.worse else -1
    said = (_cause(profile, sign) if explanation.changed else None, _recounted(profile))
    return "; ".join(filter(None, said)) or None


def _cause(profile: ProfileChange, sign: int) -> str:
    times = f"{milliseconds(profile.steps[0])} → {milliseconds(profile.steps[1])} ms while profiled"
    moved = [change for change in suspects(profile) if change.clear and change.added * sign > 0]
    if profile.added * sign <= 0 or not moved:
        return f"the profile does not show the change: a {profile.phase} step takes {times}"
    largest = max(moved, key=lambda change: change.added * sign)
    share = largest.added / profile.added
    what = f"{described(largest)}, {milliseconds(largest.seconds[0])} → {milliseconds(largest.seconds[1])} ms a step"
    longer = f"of what a {profile.phase} step takes {'longer' if sign > 0 else 'less'} ({times})"
    if share >= MOST:
        return f"likeliest cause: {what}: {_percent(share)} {longer}"
    return f"no single row explains most of it: the largest, {what}, is {_percent(share)} {longer}"


def suspects(profile: ProfileChange) -> Iterator[Change]:
    """Rows that may be a cause: not those in which the host waits for the device."""
    return (
        change
        for change in profile.changes
        if not (change.part is Part.RUNTIME and any(word in change.name for word in _WAITING))
    )


def _recounted(profile: ProfileChange) -> str | None:
    changed = [
        f"{change.name} {counts(change)}"
        for change in profile.changes
        if change.recounted and change.part in (Part.KERNEL, Part.OPERATOR)
    ]
    return f"calls in a step that changed: {_listed(changed)}" if changed else None


def described(change: Change) -> str:
    """What a row is, in words: ``operator aten::copy_``."""
    if change.part is Part.OUTSIDE:
        return "the scheduler's loop, outside any range or operator"
    return f"{change.part.value} {change.name}"


def counts(change: Change) -> str:
    """Calls in a step, before and after: ``33 → 37``."""
    return " → ".join("varies" if calls is None else f"{calls:.4g}" for calls in change.calls)


def milliseconds(seconds: float) -> str:
    """Three digits of a time in ms, and no exponent."""
    value = seconds * 1e3
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _percent(share: float) -> str:
    """Other rows may have shrunk meanwhile."""
    return f"{share:.0%}" if share <= 1.05 else "more than all"


def compare_stages(base: Mapping[str, float], head: Mapping[str, float]) -> tuple[StageChange, ...]:
    """Seconds in a round by stage, side by side, the largest change first."""
    found = [StageChange(name, (base.get(name, 0.0), head.get(name, 0.0))) for name in sorted({*base, *head})]
    return tuple(sorted(found, key=lambda one: -abs(one.seconds[1] - one.seconds[0])))
