"""Which issues regressed areas need: one each, and closed only once all that it is about is fine again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sglperf.core.issue_plan import Action, Step, Told, Tracked, plan_issues
from sglperf.core.verdict import Status

AREAS = {"a": "decode", "b": "decode", "c": "prefill", "d": "prefill"}
SILENT = [Status.INCONCLUSIVE, Status.INCOMPARABLE, Status.NEW, Status.INVALID]


def told(case: str, status: str, area: str = "decode", profile: str = "h100") -> Told:
    return Told(area, profile, case, Status(status))


def tracked(*cases: Told, number: int = 7, area: str = "decode", whole: bool = True) -> Tracked:
    return Tracked(number, area, frozenset(one.key for one in cases), whole)


def only(steps: tuple[Step, ...]) -> Step:
    (step,) = steps
    return step


def test_nothing_regressed_and_nothing_open():
    """There is nothing to do, however little could be told."""
    assert plan_issues([], []) == ()
    assert plan_issues([told("a", "unchanged"), told("b", "invalid"), told("c", "new")], []) == ()


def test_an_area_gets_one_issue():
    """However many of its metrics regressed, on however many profiles."""
    found = [told(case, "regressed", profile=profile) for profile in ("h100", "h200") for case in "abc"]
    step = only(plan_issues([*found, told("d", "unchanged")], []))

    assert (step.action, step.area, step.number) == (Action.OPEN, "decode", None)
    assert (step.regressed, step.judged) == (tuple(sorted(found)), 7)
    assert step.keys == {one.key for one in found}


def test_areas_have_an_issue_each():
    """In the order of their names, whatever comes first."""
    steps = plan_issues([told("a", "regressed", "prefill"), told("a", "regressed")], [])

    assert [(step.action, step.area) for step in steps] == [(Action.OPEN, "decode"), (Action.OPEN, "prefill")]


def test_what_is_still_regressed_is_brought_up_to_date():
    """What came and what went is told apart from what is as it was."""
    old = [told("a", "regressed"), told("b", "regressed")]
    new = [told("a", "regressed"), told("b", "unchanged"), told("c", "regressed"), told("d", "unchanged")]
    step = only(plan_issues(new, [tracked(*old)]))

    assert (step.action, step.number) == (Action.UPDATE, 7)
    assert [one.case for one in step.regressed] == ["a", "c"]
    assert [one.case for one in step.came] == ["c"]
    assert [one.case for one in step.went] == ["b"]
    assert step.keys == {old[0].key, new[2].key}


def test_the_same_case_of_another_profile_is_another():
    """An H200 that is fine does not speak for an H100."""
    step = only(plan_issues([told("a", "unchanged", profile="h200")], [tracked(told("a", "regressed"))]))

    assert (step.action, step.waiting) == (Action.UPDATE, {told("a", "regressed").key})


def test_an_issue_is_closed_once_all_is_fine():
    """Unchanged or improved, each of them."""
    old = tracked(told("a", "regressed"), told("b", "regressed"))
    step = only(plan_issues([told("a", "unchanged"), told("b", "improved")], [old]))

    assert (step.action, step.number, len(step.went)) == (Action.CLOSE, 7, 2)


def test_what_cannot_be_told_closes_nothing():
    """Neither a case that says nothing, nor one that is missing, nor a night without the area."""
    old = tracked(told("a", "regressed"), told("b", "regressed"))
    for status in SILENT:
        step = only(plan_issues([told("a", "unchanged"), told("b", status.value)], [old]))
        assert (step.action, step.waiting) == (Action.UPDATE, {told("b", "regressed").key})
    assert only(plan_issues([told("a", "unchanged")], [old])).action is Action.UPDATE
    assert plan_issues([told("a", "unchanged", "prefill")], [old]) == ()
    assert plan_issues([], [old]) == ()


def test_an_issue_that_does_not_know_all_its_cases_stays_open():
    """Somebody's edit, or more than it can remember: nobody knows when all of them are fine."""
    fine = [told("a", "unchanged")]

    assert only(plan_issues(fine, [tracked(*fine, whole=False)])).action is Action.UPDATE
    step = only(plan_issues(fine, [tracked()]))
    assert (step.action, step.whole) == (Action.UPDATE, False)


def test_of_two_issues_the_older_one_is_kept_up():
    """The other is a person's to close."""
    old = told("a", "regressed")
    issues = [tracked(old, number=number) for number in (9, 3, 12)]

    assert only(plan_issues([old], issues)).number == 3


CASES = st.lists(
    st.builds(
        lambda profile, case, status: Told(AREAS[case], profile, case, status),
        st.sampled_from(["h100", "h200"]),
        st.sampled_from(sorted(AREAS)),
        st.sampled_from(Status),
    ),
    unique_by=lambda one: (one.profile, one.case),
)


@given(CASES, CASES)
def test_whatever_a_night_brings(before, now):
    """No area has two steps; nothing regressed goes unsaid; nothing that was not shown to be fine is forgotten."""
    issues = [
        Tracked(number, step.area, step.keys) for number, step in enumerate(plan_issues(before, []), start=1)
    ]
    steps = {step.area: step for step in plan_issues(now, issues)}
    fine = {one.key for one in now if one.status in (Status.UNCHANGED, Status.IMPROVED)}

    assert len(steps) == len(plan_issues(now, issues))
    for area in AREAS.values():
        regressed = {one.key for one in now if one.area == area and one.status is Status.REGRESSED}
        assert not regressed or steps[area].action in (Action.OPEN, Action.UPDATE)
        assert regressed <= (steps[area].keys if area in steps else set())
    for issue in issues:
        step = steps.get(issue.area)
        if step is not None:
            assert issue.keys - fine <= step.keys
            assert (step.action is Action.CLOSE) == (issue.keys <= fine and not step.regressed)
