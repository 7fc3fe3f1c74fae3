"""Valid early stopping: launches are added only where the verdict is open, and the error rates hold.

The run is looked at after every complete launch (pair) from the fewest to the most. Looking at noise often
enough shows anything, so each look may spend only its share of the error rates; the shares are fixed before
anything is measured and add up to one. By the union bound the chance that *any* look of a same-build run says
``regressed`` is at most alpha, whatever made a server stop earlier than another, and likewise for
``improved`` and for a wrong ``unchanged`` (Bonferroni's inequality; α spending as in Lan & DeMets 1983,
Biometrika 70:659, with the increments of Kim & DeMets 1987, Biometrika 74:149). See `docs/verdicts.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sglperf.core.design import Design, launches_missing
from sglperf.core.verdict import Policy, Status, Verdict

__all__ = ["Looks", "combine", "open_cases"]


@dataclass(frozen=True)
class Looks:
    """The launch counts at which a run is judged.

    Attributes:
        fewest, most: launches of head, or pairs; equal for a design that is fixed in advance.

    Raises:
        ValueError: ``fewest`` is below 1 or above ``most``.
    """

    fewest: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.fewest <= self.most:
            raise ValueError(f"looks from {self.fewest} to {self.most}: need 1 ≤ fewest ≤ most")

    @classmethod
    def planned(
        cls, fewest: int, most: int, bases: Iterable[int | None], policy: Policy | None = None
    ) -> Looks:
        """Looks for servers with these baselines: None for a base measured in pairs with head, else its launches.

        A look at which no server may alarm, or where too few relabellings exist to contradict an alarm at
        the level that the look may spend, would waste its share: the first is at the smallest count that
        is enough for one of the servers, if there is one within ``most``.
        """
        alpha = (policy or Policy()).alpha
        designs = [
            Design(count if base is None else base, count, paired=base is None)
            for base in set(bases)
            for count in range(fewest, most + 1)
        ]
        enough = [design.n_head for design in designs if _enough(design, alpha * design.n_head / most)]
        return cls(min(enough, default=fewest), most)

    @property
    def counts(self) -> range:
        """Launch counts at which to judge, in order."""
        return range(self.fewest, self.most + 1)

    def share(self, count: int) -> float:
        """Share of the error rates that the look at ``count`` launches may spend; all looks add up to 1.

        What is spent grows in proportion to the launches made, so every look after the first spends alike.

        Raises:
            ValueError: there is no look at ``count``.
        """
        if count not in self.counts:
            raise ValueError(f"no look at {count} launches: they are at {self.fewest} to {self.most}")
        return (count if count == self.fewest else 1) / self.most

    def policy(self, policy: Policy, count: int) -> Policy:
        """``policy`` for the look at ``count`` launches; a fixed design's only look keeps it as it is."""
        return replace(policy, share=self.share(count))


def _enough(design: Design, level: float) -> bool:
    """Whether an alarm is possible, and the most extreme labelling side by side is as rare as ``level``."""
    side_by_side = replace(design, paired=False)
    return not launches_missing(design) and side_by_side.labellings * level * (1 + 1e-9) >= 1


def combine(earlier: Mapping[str, Verdict], latest: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """Verdicts after one more look: the first decision on a timing stands, everything else is the latest.

    A decision that a later look could revoke would have been no decision, and its error rate unknown. What
    needs no statistics (exact metrics, a failed gate, different work) has no error rate: there the latest
    look saw most. A case that only one of the two looks knows keeps its verdict.
    """
    return {name: _stands(earlier.get(name), latest.get(name)) for name in {**earlier, **latest}}


def _stands(earlier: Verdict | None, latest: Verdict | None) -> Verdict:
    only = latest or earlier
    assert only is not None
    if earlier is None or latest is None:
        return only
    return earlier if _decided(earlier) and _by_statistics(latest) else latest


def _by_statistics(verdict: Verdict) -> bool:
    return verdict.comparison is not None and not verdict.comparison.exact


def _decided(verdict: Verdict) -> bool:
    """Whether statistics settled it; a timing that has no better side and moved is settled, too."""
    return _by_statistics(verdict) and verdict.status is not Status.INCONCLUSIVE


def open_cases(verdicts: Mapping[str, Verdict]) -> frozenset[str]:
    """Names of the cases that further launches may still decide."""
    return frozenset(name for name, verdict in verdicts.items() if verdict.status is Status.INCONCLUSIVE)
