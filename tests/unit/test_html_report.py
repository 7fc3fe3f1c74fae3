"""The page of a run: what it says, that it says it of the right rounds, and that nothing of it is lost or runs."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from made_runs import case, document, full_run, journal, keep, large_run, observation, round_of

from sglperf import reporting
from sglperf.errors import UsageError
from sglperf.report.html.cases import table_data
from sglperf.report.html.digest import headline
from sglperf.report.html.drawing import drawing, plot
from sglperf.report.html.forest import forests
from sglperf.report.html.latency import _steps
from sglperf.report.html.page import run_page
from sglperf.report.html.run import Run, read
from sglperf.report.markdown import summary_markdown

HOSTILE = "<script>alert('x')</script> \"&' $a$ |`*_"


class Page(HTMLParser):
    """Elements by name, and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._within: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._within and self._within[-1] == tag:
            self._within.pop()

    def handle_data(self, data: str) -> None:
        if self._within:
            if self._within[-1] == "script":
                self.scripts.append(data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def sections(self) -> list[str | None]:
        return [attributes.get("id") for tag, attributes in self.elements if tag == "section"]

    @property
    def data(self) -> dict[str, Any]:
        """What the table reads."""
        (found,) = [one for one in self.scripts if one.startswith("{")]
        parsed: dict[str, Any] = json.loads(found)
        return parsed


@pytest.fixture(scope="module")
def full() -> Page:
    made, lines = full_run()
    return Page(run_page(read(made, lines)))


def test_a_run_shows_all_that_it_has(full):
    """Every section is there, each plot described in words, and the verdict comes first."""
    assert {
        "ratios", "why", "all", "series", "contrasts", "distributions", "curves", "prefix", "load", "phases", "roofline",
        "claims", "environment", "config", "gates",
    } <= set(full.sections)  # fmt: skip
    drawn = [attributes for tag, attributes in full.elements if tag == "svg"]
    assert len(drawn) >= 12
    assert all(one["role"] == "img" and one["aria-label"] for one in drawn)
    assert full.text.index("1 of 4 metrics is worse") < full.text.index("a sentence on regressed")
    for said in (
        "likeliest cause: the scheduler loop",
        "torch 2.11.0 → 2.14.1",
        "host-busy",
        "It is fast",
        "--launches",
    ):
        assert said in full.text


def test_a_run_without_anything_still_has_a_page():
    """No case, no round, no journal: a page that says so."""
    page = Page(run_page(read(document(), None)))

    assert "Nothing was judged" in page.text
    assert "journal.jsonl is not there" in page.text
    assert not [tag for tag, _ in page.elements if tag == "svg"]


@pytest.mark.parametrize("place", ["model", "config", "workload", "sentence", "code"])
def test_whatever_a_name_holds_stays_text(place):
    """No name becomes an element, in the page, in a drawing or in the table's data."""
    one = case(status="regressed", ratio=1.3, **{place: HOSTILE})
    other = case(status="regressed", ratio=1.2, model="other", config="other", workload="other")
    text = run_page(read(document(one, other), None))
    page = Page(text)

    assert "alert(" not in "".join(one for one in page.scripts if not one.startswith("{"))
    assert len([tag for tag, _ in page.elements if tag == "script"]) == 2
    assert HOSTILE in page.data["names"]
    if place != "code":
        assert " ".join(HOSTILE.split()) in page.text


def test_the_page_asks_for_nothing(full):
    """No element names a place outside; the policy forbids what a name might still try."""
    made, lines = full_run()
    text = run_page(read(made, lines))
    places = [
        value
        for _, attributes in Page(text).elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data", "srcset")
    ]

    assert all(one is not None and (one.startswith("#") or one == "data:,") for one in places)
    assert not re.search(r"url\((?!#)|@import", text)
    assert "default-src 'none'" in text


def test_the_table_leads_to_the_rounds():
    """Each round of a case, with its value and the line of the journal that holds it."""
    made = document(case(status="regressed", ratio=1.3))
    data = table_data(read(made, journal(made)))
    name = data["names"].index("inter_token_latency")
    lines = list(journal(made))

    assert len(data["rounds"]) == 4
    for side, config, workload, launch, index, line, gates, values in data["rounds"]:
        kept = json.loads(lines[line - 1])["round"]
        assert [data["names"][at] for at in (side, config, workload)] == [
            "head",
            kept["config"],
            kept["workload"],
        ]
        assert (launch, index, gates) == (kept["launch"], kept["index"], [])
        assert values[name] == pytest.approx(kept["values"]["inter_token_latency"], rel=1e-6)


def test_a_repetition_is_not_taken_for_what_it_repeats():
    """A round that failed a gate and its repetition have the same index and lines of their own."""
    one = case()
    made = document(one)
    failed = round_of(one, 0, 0, values={}, gates=[{"code": "host-busy", "sentence": "busy"}])
    made["rounds"].insert(0, failed)
    data = table_data(read(made, journal(made)))

    first, second = data["rounds"][:2]
    assert (first[5], [data["names"][at] for at in first[6]], first[7]) == (2, ["host-busy"], {})
    assert (second[5], second[6]) == (3, [])
    assert second[7]


def test_a_baselines_launches_are_in_the_table_and_a_builds_among_the_rounds():
    """Nowhere else on the page would the baseline's values be; those of a base that was measured are rounds."""
    alone = table_data(read(document(case()), None))
    paired = document(case(), targets={"base": {"label": "a"}, "head": {"label": "b"}})

    assert alone["cases"][0][-1] == [[0.005, 0.0051], [0.0049, 0.005]]
    assert table_data(read(paired, None))["cases"][0][-1] is None


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        (["regressed", "unchanged"], "1 of 2 metrics is worse"),
        (["invalid", "regressed", "regressed"], "2 of 3 metrics are worse"),
        (["invalid", "improved"], "1 of 2 metrics is not measurable"),
        (["incomparable", "incomparable"], "2 of 2 metrics are not comparable"),
        (["new", "new"], "2 metrics, for the first time: nothing to compare with"),
        (["inconclusive", "improved", "unchanged"], "Nothing is worse in 3 metrics; 1 could not be told"),
        (["unchanged"], "Nothing is worse in 1 metric"),
    ],
)
def test_the_headline_is_the_worst_that_there_is(statuses, said):
    """What nobody could tell is never passed over as fine."""
    names = ("inter_token_latency", "decode_throughput", "time_to_first_token")
    found = headline(
        Run(document(*(case(name, status=status) for name, status in zip(names, statuses, strict=False))), ())
    )

    assert found == said


def test_the_worst_comes_first():
    """By status, then by the size of the change, whichever way it goes."""
    cases = [
        case("time_to_first_token", status="unchanged", ratio=1.01),
        case("inter_token_latency", status="regressed", ratio=1.1),
        case("decode_throughput", status="regressed", ratio=0.5),
        case("prefill_throughput", status="invalid", ratio=None),
    ]
    ordered = [name.rsplit("/", 1)[1] for name in Run(document(*cases), ()).ordered]

    assert ordered == [
        "decode_throughput",
        "inter_token_latency",
        "prefill_throughput",
        "time_to_first_token",
    ]


def test_arrivals_are_read_from_the_journal():
    """Seconds to the first token, gaps and what came from the cache are those of the requests."""
    made = document(case())
    run = read(made, journal(made, observation(requests=2, tokens=3, prompt=80, cached=64)))

    one = run.rounds[0]
    assert one.first_tokens == pytest.approx((0.02, 0.02))
    assert one.gaps == pytest.approx([0.0051, 0.0053] * 2)
    assert [(prompt, cached) for prompt, cached, _ in one.requests] == [(80, 0), (80, 64)]


def test_a_request_that_failed_has_no_latency():
    """Nor has one of which nothing arrived; the others of its round do."""
    seen = observation(requests=3)
    seen["requests"][0]["error"] = "connection reset"
    seen["requests"][1]["arrivals"], seen["requests"][1]["tokens"] = [], []
    made = document(case())
    one = read(made, journal(made, seen)).rounds[0]

    assert len(one.first_tokens) == 1
    assert len(one.gaps) == 11
    seen["requests"][2]["error"] = "the same"
    assert read(made, journal(made, seen)).rounds[0].first_tokens == ()


def test_a_torn_line_is_said_and_skipped():
    """A run that was killed while it wrote keeps its other rounds."""
    made = document(case())
    whole = list(journal(made))
    run = read(made, [*whole[:-1], whole[-1][: len(whole[-1]) // 2]])

    assert len(run.rounds) == 3
    assert run.note == "1 line(s) of journal.jsonl could not be read"


def test_a_search_is_no_distribution():
    """Its rounds ran at many rates, which the journal keeps as a list."""
    one = case()
    made = document(one)
    line = json.dumps(
        {"kind": "round", "round": round_of(one, 0, 0), "observation": [observation()]}, separators=(",", ":")
    )
    (found,) = read(made, [line.encode()]).rounds

    assert found.first_tokens == ()


def test_a_distribution_reaches_each_value_at_its_share():
    """Steps at the values themselves; of many, at evenly many of them, and both ends are kept."""
    late, shares = _steps(np.array([3.0, 1.0, 2.0, 2.0]))
    assert list(zip(late, shares, strict=True)) == [(1, 0), (1, 0.25), (2, 0.5), (2, 0.75), (3, 1)]

    many = np.arange(1000.0)
    late, shares = _steps(many)
    assert (late[0], late[-1], shares[-1]) == (0, 999, 1)
    assert len(late) < 250
    assert np.all(np.abs(shares[1:] - (late[1:] + 1) / 1000) < 1e-12)


def test_an_interval_without_an_end_is_drawn_to_the_edge():
    """What could be anything is no point; and what lies beyond the edge is no point either."""
    open_ended = case(status="inconclusive", ratio=1.0)
    open_ended["comparison"].update(low=0.0, high=None, detectable_effect=None)
    far = case("decode_throughput", status="regressed", ratio=0.01)
    (drawn,) = forests(Run(document(open_ended, far), ()))

    assert "NaN" not in drawn.svg.lower().replace("nan", "NaN")
    assert "inf" not in re.sub(r"aria-label=\"[^\"]*\"", "", drawn.svg)


def test_counts_that_did_not_change_are_not_in_the_forest():
    """An exact ratio of one has no interval and nothing to show."""
    assert list(forests(Run(document(case("prefill_tokens")), ()))) == []


def test_drawings_take_their_colours_from_the_page():
    """No colour of its own, so that dark mode and print hold for all of it; the same drawing twice is the same text."""
    made, lines = full_run()
    text = run_page(read(made, lines))
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))

    assert set(re.findall(r"#[0-9a-f]{6}\b", drawn)) == set()
    assert run_page(read(made, lines)) == text


@pytest.mark.filterwarnings("error")
def test_a_name_in_any_script_is_drawn():
    """The browser has fonts that the drawing library lacks."""
    with drawing() as figure:
        figure.add_subplot().set_title("模型 🚀 a$b$c")
        assert "模型 🚀 a$b$c" in plot(figure, "t", "c").svg


def test_size_stays_bounded():
    """Of thousands of metrics, the file grows by what a reader may ask of each; the elements hardly grow at all."""
    few, many = (run_page(read(large_run(metrics), None)) for metrics in (500, 5000))
    elements = [len(Page(text).elements) for text in (few, many)]

    assert elements[1] - elements[0] < 500
    assert elements[1] < 12_000
    assert len(many) < 6_000_000
    assert (len(many) - len(few)) / 4500 < 1000  # bytes a metric, its 12 rounds included


# summary.md


def test_the_summary_says_what_the_page_says_first():
    """Headline, reasons, causes and every case, in a few lines."""
    made, _ = full_run()
    text = summary_markdown(Run(made, ()))

    assert text.startswith("## 1 of 4 metrics is worse\n")
    assert "a sentence on regressed" in text
    assert "likeliest cause: the scheduler loop" in text
    assert len([line for line in text.splitlines() if line.startswith("| ")]) == 1 + 4


def test_nothing_in_the_summary_is_markup():
    """A name is text in Markdown too."""
    text = summary_markdown(Run(document(case(status="regressed", ratio=1.3, workload=HOSTILE)), ()))

    assert re.search(r"(?<!\\)<script", text) is None
    row = next(line for line in text.splitlines() if line.startswith("| regressed"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 7


# Kept beside the run


def test_both_files_are_written(tmp_path):
    """And each can be had without the run that made it."""
    folder = keep(tmp_path / "run", *full_run())

    assert reporting.keep_report(folder, page=True) == ()
    assert (folder / "report.html").read_text(encoding="utf-8") == reporting.draw(folder)
    assert (folder / "summary.md").read_text(encoding="utf-8").startswith("## 1 of 4")


def test_no_page_where_none_is_wanted(tmp_path):
    """The summary costs nothing."""
    folder = keep(tmp_path / "run", *full_run())

    assert reporting.keep_report(folder, page=False) == ()
    assert {file.name for file in folder.iterdir()} == {"run.json", "journal.jsonl", "summary.md"}


def test_a_fault_in_drawing_loses_nothing(tmp_path):
    """It is said, with how to try again; the run is as it was."""
    made, lines = full_run()
    made["contrasts"] = [{"nonsense": 1}]
    folder = keep(tmp_path / "run", made, lines)
    before = (folder / "run.json").read_bytes()

    (note,) = reporting.keep_report(folder, page=True)

    assert note.startswith("report.html could not be drawn (KeyError")
    assert note.endswith(f"Again: sglperf report {folder}")
    assert (folder / "run.json").read_bytes() == before
    assert not (folder / "report.html").exists()


def test_a_folder_that_is_no_run_is_named(tmp_path):
    """So is a bisection that is none."""
    with pytest.raises(UsageError, match="not a run"):
        reporting.draw(tmp_path)
    (tmp_path / "bisect.json").write_text("{}")
    with pytest.raises(UsageError, match="not a bisection"):
        reporting.draw(tmp_path)


def bisection(**changes: Any) -> dict[str, Any]:
    commits = {"good": "a" * 40, "bad": "b" * 40}
    steps = [
        {"commit": commit, "side": side, "sentence": f"it is {side}", "run": f"step-{side}/20260102-030405-6"}
        for side, commit in commits.items()
    ]
    name = next(iter(document(case())["cases"]))
    return {
        "schema_version": 1,
        "identity": {"repository": "/nowhere/at/all", "good": "0" * 40, "bad": "b" * 40, "arguments": []},
        "sought": {"case": name, "sentence": HOSTILE, "others": []},
        "steps": steps,
        "culprit": commits["bad"],
        "suspects": [],
        "confirmed": {"side": "bad", "sentence": "30 % worse"},
        "against": commits["good"],
        "why": ["likeliest cause: a loop"],
        "also": [],
        "finished": True,
        **changes,
    }


def test_a_bisection_has_a_page_of_its_own(tmp_path):
    """The commit, that it was confirmed, why, and each commit with its ratio and its run's page."""
    found = bisection()
    (tmp_path / "bisect.json").write_text(json.dumps(found))
    for step, ratio in zip(found["steps"], (1.0, 1.3), strict=True):
        keep(tmp_path / step["run"], document(case(status="regressed", ratio=ratio)), None)
    page = Page(reporting.draw(tmp_path))

    assert "First bad commit: bbbbbbbbb" in page.text
    assert "Confirmed beside aaaaaaaaa (bad): 30 % worse" in page.text
    assert "likeliest cause: a loop" in page.text
    assert " ".join(HOSTILE.split()) in page.text
    links = [
        attributes["href"]
        for tag, attributes in page.elements
        if tag == "a" and "skip" not in str(attributes)
    ]
    assert links == [f"{step['run']}/report.html" for step in found["steps"]]
    assert len([tag for tag, _ in page.elements if tag == "svg"]) == 1


def test_a_bisection_that_could_not_tell_says_which_it_may_be(tmp_path):
    """One that is not confirmed says so as loudly."""
    (tmp_path / "bisect.json").write_text(
        json.dumps(bisection(culprit=None, suspects=["c" * 40, "d" * 40], confirmed=None))
    )
    assert "One of these 2 commits" in Page(reporting.draw(tmp_path)).text

    (tmp_path / "bisect.json").write_text(
        json.dumps(bisection(confirmed={"side": "good", "sentence": "no worse"}))
    )
    assert "NOT confirmed" in Page(reporting.draw(tmp_path)).text


def test_a_case_is_called_by_what_sets_it_apart():
    """Names of servers are told without the words that all begin with, whole words; what is left tells them apart."""
    servers = (
        "torch_native-page16-tp0-overlap-serial",
        "torch_native-page16-tp0-overlap-overlapped",
        "torch_native-page16-tp0",
    )
    run = Run(document(*(case(config=server) for server in servers)), ())
    assert run.common_server == "torch_native-page16-tp0"
    assert [name.partition(" · ")[2] for name in run.short.values()] == [
        "decode-p64-n8-s1 · overlap-serial", "decode-p64-n8-s1 · overlap-overlapped", "decode-p64-n8-s1",
    ]  # fmt: skip
    pages = Run(document(case(config="triton-page1-tp0"), case(config="triton-page16-tp0")), ())
    assert pages.common_server == "triton"
    assert set(pages.short.values()) == {
        f"inter_token_latency · decode-p64-n8-s1 · page{size}-tp0" for size in (1, 16)
    }
    assert Run(document(case()), ()).short.popitem()[1] == "inter_token_latency · decode-p64-n8-s1"
