"""What an issue on a regressed area says, and the line by which it is known again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglperf.core.issue_plan import Action, Told, Tracked, plan_issues
from sglperf.core.verdict import Status
from sglperf.errors import UsageError
from sglperf.report.issue import LIMIT, Texts, code, issue_texts, parse_marker, steps_text
from sglperf.tracking import OpenIssue, issues, read_issues, read_night

LINK = "https://example.org/runs/1"
NAME = "llama/triton-page1-tp0/decode-p512-n64-s8/inter_token_latency"


def timing(status: str = "regressed", ratio: float = 1.25, **changes: Any) -> dict[str, Any]:
    """A case as ``run.json`` has it."""
    return {
        "area": "decode", "config": "triton-page1-tp0", "metric": {"name": "inter_token_latency", "unit": "s", "kind": "timing"},
        "base": [[0.008, 0.008]], "head": [[0.008 * ratio] * 2], "status": status,
        "comparison": {"ratio": ratio, "low": ratio - 0.01, "high": ratio + 0.01},
    } | changes  # fmt: skip


def count(status: str = "regressed", **changes: Any) -> dict[str, Any]:
    metric = {"name": "cached_tokens", "unit": "tok", "kind": "exact"}
    found = {"ratio": 0.5, "low": 0.5, "high": 0.5}
    known = {"metric": metric, "base": [[512]], "head": [[256]], "comparison": found}
    return timing(status, **known | changes)


def run(
    cases: Mapping[str, dict[str, Any]],
    profile: str = "h100",
    name: str = "20260101-010000-1",
    **changes: Any,
) -> dict[str, Any]:
    return {
        "schema_version": 1, "run": name, "settings": {"profile": profile}, "targets": {"head": {"label": "sglang 0.5.23"}},
        "fingerprints": {"triton-page1-tp0": {"id": f"1x-{profile}"}}, "cases": dict(cases), "explanations": {},
    } | changes  # fmt: skip


def told(documents: list[dict[str, Any]]) -> dict[Told, dict[str, Any]]:
    return {
        Told(case["area"], document["settings"]["profile"], name, Status(case["status"])): document
        for document in documents
        for name, case in document["cases"].items()
    }


def texts(*documents: dict[str, Any], known: list[Tracked] | None = None, link: str | None = LINK) -> Texts:
    """Of the one step that these runs mean."""
    found = told(list(documents))
    (step,) = plan_issues(found, known or [])
    return issue_texts(step, found, link)


def body(*documents: dict[str, Any], **options: Any) -> str:
    text = texts(*documents, **options).body
    assert text is not None
    return text


def test_a_new_issue():
    """Which metrics, by how much and how sure, on which machine and build, why, and what to do about it."""
    document = run(
        {NAME: timing(), "llama/other": timing("unchanged")},
        explanations={"triton-page1-tp0": {"sentence": "likeliest cause: kernel fwd<float>"}},
    )
    found = texts(document)

    assert (found.title, found.comment) == ("Performance regression: decode", None)
    assert (found.body or "").splitlines() == [
        f"<!-- sglperf:regressed area=decode cases={next(iter(told([document]))).key} -->",
        "**1 of 2 metrics of `decode` are regressed** on `h100`.",
        "",
        "### `h100`",
        "",
        "`sglang 0.5.23` · run `20260101-010000-1` · machine `1x-h100`",
        "",
        "| metric | base | head | ratio | interval |",
        "|---|--:|--:|--:|--:|",
        f"| `{NAME}` | 8.000 ms | 10.00 ms | 1.250 | 1.240 … 1.260 |",
        "",
        "why: `likeliest cause: kernel fwd<float>`",
        "",
        f"[Measured here]({LINK}). Again by hand: `pytest -m decode --profile=h100`. This text is rewritten after each run that "
        "measures the area, and the issue closed once each of these metrics is unchanged or improved. Where the change is meant, "
        "record the baseline anew and have it reviewed.",
    ]


def test_profiles_have_tables_of_their_own():
    """One issue for the area, with each profile's build, run and machine."""
    text = body(run({NAME: timing()}), run({NAME: timing(ratio=1.5)}, "h200", "20260101-010000-2"))

    assert "**2 of 2 metrics of `decode` are regressed** on `h100`, `h200`." in text
    assert [line for line in text.splitlines() if line.startswith("###")] == ["### `h100`", "### `h200`"]
    assert "run `20260101-010000-2` · machine `1x-h200`" in text


def test_the_worst_come_first():
    """Counts before timings; of these, what moved most, in whichever direction is worse."""
    cases = {"a": timing(ratio=1.1), "b": timing(ratio=0.5), "c": timing(ratio=1.3), "d": count()}
    rows = [line for line in body(run(cases)).splitlines() if line.startswith("| `")]

    assert [row[3] for row in rows] == ["d", "b", "c", "a"]
    assert rows[0] == "| `d` | 512 tok | 256 tok | 0.500 |  |"


def test_figures_that_there_are_not():
    """An interval without an end, a side without samples, a count that was zero."""
    found = {"ratio": 1.2, "low": 1.1, "high": None}
    assert "| 1.200 | 1.100 … ∞ |" in body(run({NAME: timing(comparison=found)}))
    assert "| – | – |  |  |" in body(run({NAME: timing(comparison=None, base=None, head=[])}))
    gone = count(comparison={"ratio": 0.0, "low": 0.0, "high": 0.0}, head=[[0]])
    assert "| 512 tok | 0 tok | 0.000 |  |" in body(run({NAME: gone, "other": timing()}))


def test_a_build_of_two_is_named_with_the_other():
    """Base before head."""
    targets = {"base": {"label": "v1"}, "head": {"label": "v2"}}

    assert "`v1` → `v2` · run" in body(run({NAME: timing()}, targets=targets))


def test_news_are_a_comment():
    """What came and what went; a night like the one before rewrites the body and notifies nobody."""
    before = told([run({"a": timing(), "b": timing()})])
    known = [Tracked(5, "decode", frozenset(one.key for one in before))]
    found = texts(run({"a": timing(), "b": timing("improved"), "c": timing()}), known=known)

    assert found.comment == (
        "Regressed, too: `c` on `h100`.\n\nFine again: `b` on `h100` (improved).\n\n"
        f"`h100` run `20260101-010000-1`, [measured here]({LINK})\n"
    )
    same = texts(run({"a": timing(), "b": timing()}), known=known)
    assert (same.comment, same.body is None) == (None, False)


def test_what_waits_is_said():
    """By name and verdict where a run tells, by number where none does."""
    before = told([run({"a": timing(), "b": timing(), "c": timing()})])
    known = [Tracked(5, "decode", frozenset(one.key for one in before))]
    text = body(run({"b": timing("inconclusive"), "z": timing("unchanged")}), known=known)

    assert "**0 of 2 metrics of `decode` are regressed**." in text
    assert (
        "Regressed before, and not shown to be fine: `b` on `h100` is inconclusive; 2 metrics not measured."
        in text
    )
    assert "Again by hand: `pytest -m decode`." in text
    assert parse_marker(5, text) == known[0]


def test_a_closed_issue_says_why():
    """Nothing is rewritten then: the last state stays to be read."""
    before = told([run({"a": timing()})])
    known = [Tracked(5, "decode", frozenset(one.key for one in before))]
    found = texts(run({"a": timing("unchanged")}), known=known, link=None)

    assert found.body is None
    assert found.comment == (
        "Fine again, each of 1 metric: `a` on `h100` (unchanged).\n\n`h100` run `20260101-010000-1`\n"
    )


# ---- text from elsewhere

HOSTILE = "`x` ``y`` @octocat #12 <script>|a| <!-- sglperf:regressed area=tp cases= -->\n\n# title"


def test_text_from_elsewhere_stays_in_code():
    """No mention, reference, tag, marker, cell or title comes of what a branch, a file or a kernel is called."""
    document = run(
        {f"llama/{HOSTILE}": timing()},
        targets={"head": {"label": HOSTILE}},
        explanations={"triton-page1-tp0": {"sentence": HOSTILE}},
    )
    text = body(document)
    outside = plain(text.replace("\\|", ""))

    for special in ("@", "#1", "<script", "octocat", "title"):
        assert special not in outside, special
    assert outside.count("<!--") == 1
    assert [line for line in text.splitlines() if line.startswith("#")] == ["### `h100`"]
    (row,) = [line for line in text.splitlines() if line.startswith("| ``")]
    assert row.replace("\\|", "").count("|") == 6
    tracked = parse_marker(1, text)
    assert tracked is not None
    assert tracked.area == "decode"


def plain(text: str) -> str:
    """Markdown without its code spans, by CommonMark's rule: a run of backticks ends at the next of its length."""
    out, rest = "", text
    while "`" in rest:
        before, _, after = rest.partition("`")
        length = 1 + len(after) - len(after.lstrip("`"))
        inner = after.lstrip("`")
        runs = [i for i in range(len(inner)) if inner[i] == "`" and (i == 0 or inner[i - 1] != "`")]
        ends = [i for i in runs if len(inner[i:]) - len(inner[i:].lstrip("`")) == length]
        out += before
        rest = inner[ends[0] + length :] if ends else inner
    return out + rest


@given(st.text(st.sampled_from("`a@#<|\\ \n"), max_size=30), st.booleans())
def test_a_code_span_ends_where_it_should(text, cell):
    """Whatever is in it, nothing of it is outside, and it is one line."""
    shown = code(text, cell=cell)

    assert plain(f"x{shown}y") == "xy"
    assert "\n" not in shown
    assert not cell or "|" not in shown.replace("\\|", "")


@pytest.mark.parametrize("metrics", [60, 600, 5000])
def test_no_body_is_longer_than_github_takes(metrics):
    """Rows go before profiles, and what it remembers goes last; what is not shown is counted."""
    long = "m" * 200
    cases = {f"{long}/{number}": timing(ratio=1 + number / 100) for number in range(1, metrics // 2 + 1)}
    documents = [run(cases, profile) for profile in ("h100", "h200")]
    text = body(*documents)

    assert len(text.encode()) <= LIMIT
    assert f"**{2 * len(cases)} of" in text
    assert "more in `run.json`" in text or metrics == 60
    assert f"/{metrics // 2}`" in text or metrics == 5000  # the worst is shown
    tracked = parse_marker(1, text)
    assert tracked is not None
    assert tracked.whole == (metrics < 5000)
    assert len(tracked.keys) == min(metrics, 4000)
    comment = texts(*documents, known=[Tracked(1, "decode", frozenset({"00000000"}))]).comment
    assert comment is not None
    assert len(comment.encode()) <= LIMIT
    assert "; and" in comment


@pytest.mark.parametrize(("profiles", "rows"), [(4, 50), (12, 10), (50, 2), (110, 0)])
def test_many_profiles_have_shorter_tables(profiles, rows):
    """So that each has one, and what to do stands at the end."""
    cases = {f"{'m' * 200}/{number}": timing(ratio=1 + number / 100) for number in range(1, 61)}
    text = body(*(run(cases, f"p{number}") for number in range(profiles)))

    assert len(text.encode()) <= LIMIT
    assert text.count("| `m") == rows * profiles
    assert text.count("### `p") == profiles
    assert text.endswith("have it reviewed.\n")


def test_a_marker_is_read_back():
    """Also from what GitHub made of its line ends; never from further down, and never from another's issue."""
    line = "<!-- sglperf:regressed area=tp cases=0a0b0c0d,ffffffff -->"

    assert parse_marker(3, f"{line}\r\nrest") == Tracked(3, "tp", frozenset({"0a0b0c0d", "ffffffff"}))
    assert parse_marker(3, line.replace(" -->", " and more -->") + "\n") == Tracked(
        3, "tp", frozenset({"0a0b0c0d", "ffffffff"}), whole=False
    )
    for other in (
        "",
        "a title",
        f"quoted:\n{line}",
        f" {line}",
        line.replace("tp", "<tp>"),
        line.replace(" -->", ""),
    ):
        assert parse_marker(3, other) is None


# ---- from files


def keep(folder: Path, document: Mapping[str, Any] | bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(document if isinstance(document, bytes) else orjson.dumps(document))
    return folder


def test_runs_are_found_below_folders(tmp_path):
    """As artifacts are laid out; of two runs of one profile the newer one speaks for what both measured."""
    keep(tmp_path / "results-h100" / "1", run({"a": timing(), "b": timing()}, name="20260101-1"))
    keep(tmp_path / "results-h100" / "2", run({"a": timing("unchanged")}, name="20260102-1"))
    keep(tmp_path / "results-h200" / "3", run({"a": timing()}, "h200", name="20251231-1"))
    night = read_night([tmp_path])

    assert {(one.profile, one.case): one.status.value for one in night.cases} == {
        ("h100", "a"): "unchanged",
        ("h100", "b"): "regressed",
        ("h200", "a"): "regressed",
    }
    (found,) = issues(night, [])
    assert (found.step.action, len(found.step.regressed)) == (Action.OPEN, 2)
    assert found.to_dict() == {
        "action": "open",
        "area": "decode",
        "number": None,
        "regressed": 2,
        "judged": 3,
        "title": found.texts.title,
        "body": found.texts.body,
        "comment": None,
    }


def test_a_run_that_cannot_be_read_is_left_out_and_said(tmp_path):
    """The others are heard."""
    keep(tmp_path / "good", run({"a": timing()}))
    broken = keep(tmp_path / "broken", b"{")
    other = keep(tmp_path / "other", run({"a": timing()}, schema_version=99))
    night = read_night([tmp_path])

    assert len(night.cases) == 1
    assert set(night.left_out) == {str(broken / "run.json"), str(other / "run.json")}
    said = steps_text([one.step for one in issues(night, [])], night.left_out)
    assert said.splitlines()[0] == "open a new issue: decode: 1 of 1 regressed, 1 of them new; 0 fine again"
    assert "99, this sglperf reads 1" in said


def test_a_folder_without_runs(tmp_path):
    """It is named."""
    with pytest.raises(UsageError, match="no run.json in .*: name folders of runs, or above them"):
        read_night([tmp_path])


def test_issues_of_others_are_left_alone(tmp_path):
    """With no body, or with another's text under our label."""
    keep(tmp_path / "1", run({"a": timing("unchanged")}))
    known = [OpenIssue(number=1, body=None), OpenIssue(number=2, body="Slow since Tuesday")]

    assert issues(read_night([tmp_path]), known) == ()


@pytest.mark.parametrize("text", ["{", "[{}]", '{"number": 1}', '[{"number": "x", "body": ""}]'])
def test_a_list_of_issues_that_is_none(tmp_path, text):
    """One message that names the file and what is wanted."""
    file = tmp_path / "issues.json"
    file.write_text(text)
    with pytest.raises(
        UsageError, match=r"issues.json: .*: give what `gh issue list --json number,body` prints"
    ):
        read_issues(file)
