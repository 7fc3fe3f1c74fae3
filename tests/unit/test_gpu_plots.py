"""Plots of GPU runs: of what each is made, and that the documentation has them all, small and asking for nothing.

The runs are those of docs/results-h100.md, of which only what plots read was kept.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "gpu"))
import plots
from plots import Document, Point, drawn, points, standing_alone

PAGES = "".join(
    (ROOT / "docs" / f"results-h100{name}.md").read_text(encoding="utf-8") for name in ("", "-tp")
)


@pytest.fixture(scope="module")
def runs() -> list[Document]:
    kept = Path(__file__).parents[1] / "data" / "h100_runs.json.gz"
    documents: list[Document] = json.loads(gzip.decompress(kept.read_bytes()))
    return documents


@pytest.fixture(scope="module")
def pictures(runs) -> Mapping[str, str]:
    return {name: standing_alone(picture) for name, picture in drawn(runs) if picture is not None}


def words(picture: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(picture).iter() if node.tag.endswith("}text")]


def point(**known: object) -> Point:
    given = {
        "server": ("0.5.17", "a-model", "1", ""), "backend": "triton", "cards": ("GPU-a",),
        "workload": "decode-p512-n256-s1", "metric": "inter_token_latency", "found": (0.01, 0.009, 0.011), "launches": 2,
    }  # fmt: skip
    return Point(**given | known)  # type: ignore[arg-type]


def test_each_is_drawn_and_stands_in_the_documentation(pictures):
    """As many files as plots, each shown on a page, with colours for a dark page and no address but the format's."""
    files = {file.stem: file.read_text(encoding="utf-8") for file in plots.OUT.glob("*")}
    assert set(files) == set(pictures) == set(re.findall(r"\(pictures/h100/([\w-]+)\.svg\)", PAGES))
    for text in [*files.values(), *pictures.values()]:
        ElementTree.fromstring(text)
        assert len(text) < 100_000
        assert "prefers-color-scheme: dark" in text
        assert set(re.findall(r"var\(--([\w-]+)\)", text)) <= set(re.findall(r"--([\w-]+):", text))
        assert {one for one in re.findall(r"https?://[^\s\"']+", text) if "w3.org" not in one} == set()


def test_where_no_run_has_it_there_is_no_plot():
    """Of no runs at all, and of a card by itself."""
    assert [picture for _, picture in drawn([])] == [None] * 8
    assert plots.cards([point()]) is None


def test_backends_are_compared_on_one_card(runs, pictures):
    """That of most backends: another card's FlashInfer, of more launches, is not put beside them."""
    assert {"triton, 1 launch", "flashinfer, 3 launches", "fa3, 3 launches"} <= set(
        words(pictures["inter-token-latency"])
    )
    assert {"triton, 1 launch", "flashinfer, 3 launches", "fa3, 3 launches"} <= set(
        words(pictures["prefill"])
    )
    assert max(one.launches for run in runs for one in points(run)) == 8


def test_servers_that_differ_in_more_than_the_backend_are_not_compared():
    """Page size, model, version and group are alike."""
    other = point(server=("0.5.17", "a-model", "16", ""), backend="fa3", launches=9)
    drawing = plots.inter_token_latency([point(), point(backend="flashinfer"), other])
    assert [word for word in words(standing_alone(drawing)) if "launch" in word] == [
        "triton, 2 launches",
        "flashinfer, 2 launches",
    ]


def test_servers_measured_in_pairs_go_first():
    """Whatever more launches were measured one after another; but not where those were given more workloads."""
    beside = [
        point(server=("0.5.17", "a-model", "1", "backends"), backend=name) for name in ("triton", "fa3")
    ]
    apart = [point(backend=name, launches=9) for name in ("triton", "fa3")]
    more = [point(backend="fa3", launches=9, workload="decode-p512-n256-s8")]
    for order in ([*beside, *apart], [*apart, *beside]):
        assert "triton, 2 launches" in words(standing_alone(plots.inter_token_latency(order)))
        assert "triton, 9 launches" in words(standing_alone(plots.inter_token_latency([*order, *more])))


def test_streams_and_contexts_are_shown_apart():
    """Each axis has its own sizes; where one prompt was tried there is nothing to show of its length."""
    tried = [point(workload=f"decode-p{prompt}-n256-s1") for prompt in (512, 2048, 8192)]
    many = [point(workload=f"decode-p512-n256-s{streams}") for streams in (8, 32)]
    by_streams = words(standing_alone(plots.inter_token_latency([*tried, *many])))
    by_context = words(standing_alone(plots.context([*tried, *many])))
    assert [word for word in by_streams if re.fullmatch(r"[\d ]+", word)] == ["1", "8", "32"]
    assert [word for word in by_context if re.fullmatch(r"[\d ]+", word)] == ["512", "2 048", "8 192"]
    assert plots.context([tried[0], *many]) is None


def test_cards_are_compared_by_the_server_that_most_had(pictures):
    """Each by its own four digits; a set of two GPUs is no card."""
    found = words(pictures["cards"])
    assert {"dd28, 4 launches", "a27e, 8 launches", "1062, 3 launches"} <= set(found)
    assert [word for word in found if word in ("decode", "prefill")] == ["decode"] * 3 + ["prefill"] * 3


def test_figures_are_of_launches_and_of_good_rounds(runs):
    """The mean of launches with its interval; a failed round and the base build count for nothing."""
    (run,) = [one for one in runs if any(at["side"] == "base" for at in one["rounds"])]
    key = ("flashinfer", "decode-p512-n256-s8", "inter_token_latency")
    (found,) = [one for one in points(run) if (one.backend, one.workload, one.metric) == key]
    assert found.launches == 3
    assert found.found == pytest.approx((0.006863, 0.006859, 0.006867), rel=1e-4)

    bad = [{**one, "gates": [{}]} if one["launch"] == 0 else one for one in run["rounds"]]
    assert {one.launches for one in points({**run, "rounds": bad})} == {2}


def test_one_launch_has_a_hollow_mark_and_no_bar():
    """Nobody takes it for a sure figure."""
    alone, sure = (
        standing_alone(plots.inter_token_latency([one]))
        for one in (point(found=(0.01, 0.0, math.inf), launches=1), point())
    )
    filled = re.compile(r"<use[^>]*fill: var\(--series-0\)")
    bar = re.compile(r"<path[^>]*stroke: var\(--series-0\); stroke-width: 2")
    # The legend's own mark is filled.
    assert (len(filled.findall(alone)), len(bar.findall(alone))) == (1, 0)
    assert (len(filled.findall(sure)), len(bar.findall(sure))) == (2, 1)


def test_the_memory_s_limit_grows_with_what_is_read(runs):
    """Alike for every backend, and below every time."""
    found = [one for run in runs for one in points(run) if plots.PASS.fullmatch(one.workload)]
    limits = plots.memory_limits(found)
    per_token = [limit / tokens for tokens, limit in limits]
    shortest = dict(limits)
    assert max(per_token) < 1.02 * min(per_token)
    assert all(one.found[0] > shortest[plots._tokens(one)] for one in found if one.metric == "attention_time")


def test_most_launches_speak():
    """Of runs that measured the same."""
    three, five = (point(found=(0.001 * count, 0.001, 0.009), launches=count) for count in (3, 5))
    for order in ([three, five], [five, three]):
        assert "triton, 5 launches" in words(standing_alone(plots.inter_token_latency(order)))


def test_a_set_of_gpus_is_no_card():
    """Two that serve together are not put beside one."""
    pair = point(cards=("GPU-a", "GPU-b"))
    assert plots.inter_token_latency([pair]) is None
    assert plots.cards([point(), pair]) is None
