"""What a run is given, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sglperf.core.baseline import Baseline
from sglperf.core.claim import Checked, Claim
from sglperf.core.contrast import Contrast
from sglperf.core.explanation import Explanation
from sglperf.core.figure import Figure
from sglperf.core.fingerprint import Fingerprint
from sglperf.core.judgement import Question
from sglperf.core.machine import Installation, Machine
from sglperf.core.sequential import Looks
from sglperf.core.verdict import Policy, Verdict
from sglperf.deeper import Look
from sglperf.evidence import ContextChange, Measured
from sglperf.measurements import Progress
from sglperf.merging import Shards
from sglperf.plan import Plan
from sglperf.settings import Settings
from sglperf.sharding import Piece
from sglperf.store import RunFolder
from sglperf.target.build import Target


@dataclass(frozen=True)
class Site:
    """Where the run takes place.

    Attributes:
        machine: the host and its GPUs, for the record.
        fingerprints: server config's label → what must match for its timings to be comparable. Configs on
            GPU sets with different links have different ones.
        notes: what a person should know of the sets that were chosen.
    """

    machine: Machine
    fingerprints: Mapping[str, Fingerprint]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assignment:
    """All that a run is given.

    Attributes:
        targets: side → build; ``head`` alone is compared with baselines, ``base`` and ``head`` with each other.
        claims: statements to be checked, by name.
        folder: where everything is kept.
        progress: where it says what it is doing.
        piece: the shard that is measured, whose plan this is; None for a whole run.
        installation: of the build that is judged, kept by a shard.
        shards: what was measured elsewhere, and is judged here; None where it is measured here.
    """

    plan: Plan
    settings: Settings
    targets: Mapping[str, Target]
    site: Site
    claims: Mapping[str, Claim]
    folder: RunFolder
    progress: Progress
    piece: Piece | None = None
    installation: Installation | None = None
    shards: Shards | None = None

    @property
    def paired(self) -> bool:
        """Whether two builds are compared, and no baseline."""
        return "base" in self.targets

    @property
    def policy(self) -> Policy:
        """How the family is judged; its size is the planned one, whatever was measured of it."""
        settings = self.settings
        return Policy(alpha=settings.alpha, min_effect=settings.min_effect, family_size=self.plan.family_size)


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        questions, verdicts: by case name, in plan order.
        changes: config label → how head's context differs from its base's.
        explanations: config label → why its verdicts are what they are, where one changed.
        contrasts: servers of the run that are compared with one another.
        figures: everything measured that such a statement may be about.
        claims: what the run says of statements about SGLang.
        looks_deeper: what Nsight's tools saw, where they were asked for.
        recorded: baseline files written.
        results: everything measured that a baseline could hold, each file as it would be: what `sglperf baseline
            accept` takes from, and what the history keeps.
        looks: launch counts at which the run was to be judged.
        run: the run's folder name.
        seconds: where the wall time went.
        notes: what a person should be told besides.
        shard: of a shard's run, what it keeps of its split; its verdicts are provisional.
        shards: those that the run was merged from.
    """

    plan: Plan
    measured: Measured
    questions: Mapping[str, Question]
    verdicts: Mapping[str, Verdict]
    changes: Mapping[str, ContextChange]
    recorded: tuple[str, ...]
    looks: Looks
    run: str
    folder: str
    seconds: Mapping[str, float]
    notes: tuple[str, ...] = ()
    explanations: Mapping[str, Explanation] = field(default_factory=dict)
    contrasts: tuple[Contrast, ...] = ()
    figures: tuple[Figure, ...] = ()
    claims: tuple[Checked, ...] = ()
    looks_deeper: tuple[Look, ...] = ()
    results: tuple[Baseline, ...] = ()
    shard: Mapping[str, Any] | None = None
    shards: tuple[Mapping[str, Any], ...] = ()
