"""Comparisons to verdicts: a status, a reason code, a sentence. The rule is stated in `docs/verdicts.md`.

- *significant*: the family-wise p is at most alpha, and the metric's own interval excludes "no change";
- *relevant*: a change of min_effect lies within, or short of, the interval: irrelevance is not shown;
- ``regressed`` or ``improved``: significant and relevant;
- ``unchanged``: the interval lies inside ± min_effect, whether or not it excludes "no change";
- ``inconclusive``: anything else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

import numpy as np
from scipy import special

from sglperf.core.design import Design, launches_missing
from sglperf.core.launches import FloatArray, Launches, problem
from sglperf.core.metric import Better, Kind, Metric
from sglperf.core.moderation import (
    NO_PRIOR,
    Moderated,
    Prior,
    fit_prior,
    moderate,
    shared_correlation,
)
from sglperf.core.multiplicity import Block, FamilyP, family_p
from sglperf.core.statistics import Comparison, Panel, comparisons, panel

__all__ = ["Case", "Policy", "Status", "Verdict", "judge_family"]

# A single launch may itself be the odd one, and relabelling cannot tell: it must be five times as unlikely.
SINGLE_LAUNCH_SHARE = 0.2
# Launches are compared side by side, with twice the degrees of freedom, unless the variance of whole pairs exceeds
# that within pairs by more than one metric alone would show by chance this often. A metric of many is steadier.
PAIRS_BY_CHANCE = 0.15
SAME_VALUE = 1e-12  # relative; two sums of the same integers may differ in the last bit
FEWEST_TO_SHARE = 3  # metrics of one design from which a prior of their own is fitted


class Status(StrEnum):
    """What is said of a metric."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    UNCHANGED = "unchanged"
    INCONCLUSIVE = "inconclusive"
    INCOMPARABLE = "incomparable"
    NEW = "new"
    INVALID = "invalid"


@dataclass(frozen=True)
class Policy:
    """What counts.

    Attributes:
        alpha: chance that a whole family of one and the same build shows any ``regressed``; the
            same again for any ``improved``.
        min_effect: smallest relative change that matters, where a metric names none of its own.
        family_size: planned number of timing cases. A family that arrives with fewer, because a
            server died, is judged as strictly as the planned one. None: those that are there.
        share: of alpha, that this judgement may spend; below 1 where the run is judged more than once
            (see `sglperf.core.sequential`).
    """

    alpha: float = 0.05
    min_effect: float = 0.03
    family_size: int | None = None
    share: float = 1.0

    @property
    def level(self) -> float:
        """What this judgement may spend: intervals have confidence ``1 - level``."""
        return self.alpha * self.share


@dataclass(frozen=True)
class Case:
    """One metric to be judged.

    Attributes:
        base: accepted launches, or None where there are none yet.
        head: launches to be judged. Launch i of every case of one server is the same launch.
        metric: what was measured.
        paired: launch i of base and of head were interleaved as a pair.
        base_unit: unit that the base was stored in; None means the metric's.
    """

    base: Launches | None
    head: Launches
    metric: Metric
    paired: bool = False
    base_unit: str | None = None

    @property
    def lower_is_better(self) -> bool:
        """Direction; a metric that should stay the same counts a rise as the worse."""
        return self.metric.better is not Better.HIGHER

    @property
    def exact(self) -> bool:
        """Whether the metric has no noise."""
        return self.metric.kind is Kind.EXACT


@dataclass(frozen=True)
class Verdict:
    """What is said of one case.

    Attributes:
        status: the outcome.
        code: the reason in kebab-case, stable across releases.
        sentence: the reason for a person, about 100 characters.
        comparison: the figures, where there are any.
    """

    status: Status
    code: str
    sentence: str
    comparison: Comparison | None = None


def judge_family(cases: Mapping[str, Case], policy: Policy) -> dict[str, Verdict]:
    """Judge all metrics of a run together; in the order of ``cases``, without those that are not judged.

    Bad samples never raise here: they are ``invalid`` verdicts, so that one broken metric does not
    hide the others.
    """
    judged = {name: case for name, case in cases.items() if case.metric.judged}
    plain = {name: _without_statistics(case) for name, case in judged.items()}
    noisy = {name: judged[name] for name, verdict in plain.items() if verdict is None}
    statistical = _judge_timings(noisy, policy)
    return {name: verdict or statistical[name] for name, verdict in plain.items()}


def _without_statistics(case: Case) -> Verdict | None:
    """A verdict that needs no statistics, or None for two usable sides of a timing."""
    broken = problem(case.head, zero_is_possible=case.exact)
    if broken:
        return Verdict(Status.INVALID, f"head-{broken[0]}", f"head: {broken[1]}")
    if case.exact and not _agrees(case.head):
        return _disagreement("head", case.head)
    if case.base is None:
        return Verdict(Status.NEW, "no-baseline", "no baseline yet: record one to have this judged")
    if case.base_unit not in (None, case.metric.unit):
        units = f"base is in {case.base_unit}, head in {case.metric.unit}"
        return Verdict(Status.INVALID, "mixed-units", f"{units}: record the baseline again")
    broken = problem(case.base, zero_is_possible=case.exact)
    if broken:
        return Verdict(Status.INVALID, f"base-{broken[0]}", f"base: {broken[1]}")
    return _judge_exact(case) if case.exact else None


# Exact metrics


def _agrees(launches: Launches) -> bool:
    first = launches[0][0]
    return all(_same(value, first) for rounds in launches for value in rounds)


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=SAME_VALUE, abs_tol=0.0)


def _disagreement(side: str, launches: Launches) -> Verdict:
    values = [value for rounds in launches for value in rounds]
    spread = f"from {_count(min(values))} to {_count(max(values))}"
    return Verdict(
        Status.INVALID,
        f"{side}-not-exact",
        f"{side}: an exact metric differs between its own rounds, {spread}",
    )


def _judge_exact(case: Case) -> Verdict:
    assert case.base is not None
    if not _agrees(case.base):
        return _disagreement("base", case.base)
    base, head = float(case.base[0][0]), float(case.head[0][0])
    figures = _exact_comparison(case, base, head)
    if _same(base, head):
        return Verdict(
            Status.UNCHANGED, "exact-equal", f"exactly {_count(head)} {case.metric.unit}, as before", figures
        )
    change = f"{_count(base)} → {_count(head)} {case.metric.unit}"
    if case.metric.better is Better.SAME:
        return Verdict(
            Status.INCOMPARABLE, "work-differs", f"{change}: the two sides did different work", figures
        )
    if (head > base) == case.lower_is_better:
        return Verdict(
            Status.REGRESSED, "exact-worse", f"{change}: an exact metric, so any change counts", figures
        )
    return Verdict(
        Status.IMPROVED, "exact-better", f"{change}: an exact metric, so any change counts", figures
    )


def _exact_comparison(case: Case, base: float, head: float) -> Comparison | None:
    """Figures without noise; None where a zero leaves no ratio."""
    if base == 0 or head == 0:
        return None
    ratio = head / base
    return Comparison(
        ratio=ratio,
        low=ratio,
        high=ratio,
        p_value=1.0 if _same(base, head) else 0.0,
        detectable_effect=0.0,
        base_center=base,
        head_center=head,
        n_base=len(case.base or ()),
        n_head=len(case.head),
        df=math.inf,
        spread=0.0,
        paired=case.paired,
        lower_is_better=case.lower_is_better,
        alpha=0.0,
    )


# Timings


@dataclass(frozen=True)
class _Group:
    """Timing cases of one design, with what is computed from their launches."""

    names: tuple[str, ...]
    cases: tuple[Case, ...]
    panel: Panel
    moderated: Moderated | None = None

    @property
    def design(self) -> Design:
        """Launches per side, and whether in pairs."""
        return self.panel.design

    @property
    def allowed(self) -> bool:
        """Whether the method may alarm at all with this few launches."""
        return not launches_missing(self.design)


def _judge_timings(cases: Mapping[str, Case], policy: Policy) -> dict[str, Verdict]:
    groups = _share_variance([_unpaired_if_alike(group) for group in _grouped(cases)])
    tested = [group for group in groups if group.allowed]
    planned = max(policy.family_size or 0, len(cases))
    family = family_p([_block(group) for group in tested], planned, policy.level) if tested else None
    verdicts: dict[str, Verdict] = {}
    start = 0
    for group in groups:
        mine = slice(start, start + len(group.names)) if group.allowed else None
        verdicts |= _judge_group(group, family, mine, policy)
        start += len(group.names) if group.allowed else 0
    return verdicts


def _grouped(cases: Mapping[str, Case]) -> list[_Group]:
    by_design: dict[Design, list[str]] = {}
    for name, case in cases.items():
        by_design.setdefault(_design(case), []).append(name)
    return [_group(names, [cases[name] for name in names]) for names in by_design.values()]


def _design(case: Case) -> Design:
    return Design(len(case.base or ()), len(case.head), case.paired)


def _group(names: Sequence[str], cases: Sequence[Case]) -> _Group:
    sides = [(case.base or (), case.head) for case in cases]
    directions = [case.lower_is_better for case in cases]
    return _Group(tuple(names), tuple(cases), panel(sides, directions, paired=cases[0].paired))


def _unpaired_if_alike(group: _Group) -> _Group:
    """Where pairs turn out not to matter, comparing side by side doubles what is known of the spread."""
    if not group.design.paired or len(group.names) < FEWEST_TO_SHARE or group.design.pairs < 2:
        return group
    side_by_side = group.panel.unpaired()
    excess = float(np.log(side_by_side.variances / group.panel.variances).mean())
    return replace(group, panel=side_by_side) if excess < _by_chance(group.panel.df) else group


@lru_cache(maxsize=64)
def _by_chance(df: int) -> float:
    """Log of a variance side by side over that within pairs, which is (1 + F) / 2 where pairs do not matter."""
    return math.log((1 + float(special.fdtri(df, df, 1 - PAIRS_BY_CHANCE))) / 2)


def _share_variance(groups: Sequence[_Group]) -> list[_Group]:
    """Moderate each group with its own prior, or with the largest group's of its kind if it is small."""
    priors = {group.design: _prior(group) for group in groups}
    return [
        replace(group, moderated=_moderated(group, _best_prior(group, groups, priors)))
        if group.design.df
        else group
        for group in groups
    ]


def _prior(group: _Group) -> Prior:
    if len(group.names) < FEWEST_TO_SHARE or not group.panel.df:
        return NO_PRIOR
    correlation = shared_correlation(group.panel.coordinates[:, 1:])
    return fit_prior(group.panel.variances, group.panel.df, correlation)


def _best_prior(group: _Group, groups: Sequence[_Group], priors: Mapping[Design, Prior]) -> Prior:
    if priors[group.design] is not NO_PRIOR:
        return priors[group.design]
    kin = [other for other in groups if other.design.paired == group.design.paired]
    return priors[max(kin, key=lambda other: len(other.names)).design]


def _moderated(group: _Group, prior: Prior) -> Moderated:
    return moderate(group.panel.variances, group.panel.df, prior)


def _block(group: _Group) -> Block:
    assert group.moderated is not None
    towards_worse = np.array([1.0 if case.lower_is_better else -1.0 for case in group.cases])
    return Block(
        coordinates=group.panel.coordinates * towards_worse[:, None],
        prior_share=group.moderated.prior_share,
        df=group.moderated.df,
        prior_variance=group.moderated.prior_variance,
        relabelled=group.design.relabelled(),
    )


def _judge_group(
    group: _Group, family: FamilyP | None, mine: slice | None, policy: Policy
) -> dict[str, Verdict]:
    figures = comparisons(
        group.panel,
        group.moderated,
        _critical(group, family, policy.level),
        [_min_effect(case, policy) for case in group.cases],
        policy.level,
    )
    if family is not None and mine is not None:
        pairs = zip(figures, family.worse[mine], family.better[mine], strict=True)
        figures = [
            replace(one, p_family=float(worse if one.worse else better)) for one, worse, better in pairs
        ]
    return {
        name: _judge(case, one, group.design, policy)
        for name, case, one in zip(group.names, group.cases, figures, strict=True)
    }


def _critical(group: _Group, family: FamilyP | None, alpha: float) -> FloatArray | float:
    """t value that an alarm takes: above the family's rivals, and above the metric's own launches."""
    if group.moderated is None or family is None or not group.allowed:
        return math.inf
    rival = special.stdtrit(group.moderated.df, special.ndtr(family.rival))
    own = special.stdtrit(group.panel.df, 1 - alpha)
    return np.asarray(np.maximum(rival, own), dtype=np.float64)


def _min_effect(case: Case, policy: Policy) -> float:
    return policy.min_effect if case.metric.min_effect is None else case.metric.min_effect


def _judge(case: Case, figures: Comparison, design: Design, policy: Policy) -> Verdict:
    effect = _min_effect(case, policy)
    if _significant(figures, policy) and not _inside(figures, effect):
        return _changed(case, figures)
    if _inside(figures, effect):
        return Verdict(
            Status.UNCHANGED,
            "within-min-effect",
            f"{_interval(figures)} lies within ± {_percent(effect)}",
            figures,
        )
    missing = launches_missing(design)
    if missing or (design.n_head == 1 and not design.paired):
        wanted = missing or "more launches of head"
        return Verdict(
            Status.INCONCLUSIVE, "needs-launches", f"{_interval(figures)}: needs {wanted}", figures
        )
    seen = f"{_percent(effect)} matters, {_percent(figures.detectable_effect)} could have been seen"
    return Verdict(Status.INCONCLUSIVE, "too-noisy", f"{_interval(figures)}: {seen}", figures)


def _significant(figures: Comparison, policy: Policy) -> bool:
    if figures.p_family is None:
        return False
    excludes_equality = figures.low > 1 or figures.high < 1
    single = figures.n_head == 1 and not figures.paired
    return excludes_equality and figures.p_family <= policy.level * (SINGLE_LAUNCH_SHARE if single else 1)


def _inside(figures: Comparison, effect: float) -> bool:
    return figures.low > 1 / (1 + effect) and figures.high < 1 + effect


def _changed(case: Case, figures: Comparison) -> Verdict:
    size = abs(figures.ratio - 1)
    evidence = f"{_interval(figures)}, family p = {figures.p_family:.2g}"
    if case.metric.better is Better.SAME:
        return Verdict(
            Status.INCOMPARABLE, "work-differs", f"differs by {_percent(size)}: {evidence}", figures
        )
    if figures.worse:
        return Verdict(Status.REGRESSED, "significant-worse", f"{_percent(size)} worse: {evidence}", figures)
    return Verdict(Status.IMPROVED, "significant-better", f"{_percent(size)} better: {evidence}", figures)


def _interval(figures: Comparison) -> str:
    if not math.isfinite(figures.high):
        return f"×{_short(figures.ratio)} with an unknown spread"
    confidence = f"{100 * (1 - figures.alpha):.3g} %"
    return f"×{_short(figures.ratio)}, {confidence} interval [{_short(figures.low)}, {_short(figures.high)}]"


def _count(value: float) -> str:
    """Whole numbers in full: an exact metric that is off by one must show it."""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:g}"


def _short(ratio: float) -> str:
    return f"{ratio:.3f}" if 0.01 < ratio < 100 else f"{ratio:.2g}"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 10 else "over 1000%"
