"""What a person, or a program, is told of claims."""

from __future__ import annotations

import json
import math

import pytest
from samples import A100, figure

from sglperf.console import dumps
from sglperf.core.claim import Claim, check
from sglperf.core.figure import Figure
from sglperf.report.claims import claims_json, claims_text

CLAIM = Claim.model_validate(
    {
        "statement": "One is faster",
        "source": "a report",
        "area": "backend",
        "where": {"gpu": "A100", "models": ["llama", "llama-2"]},
        "figures": [{"metric": "inter_token_latency", "workload": ".*", "over": "triton"}],
        "least": 1.1,
        "most": 1.2,
    }
)


def text(*figures: Figure, claim: Claim = CLAIM, colour: bool = False, **left_out: str) -> list[str]:
    return claims_text([check("faster", claim, figures)], left_out, colour=colour).splitlines()


def test_a_claim_that_was_measured():
    """A line for all, then conditions, bounds and source, and each figure with its interval, page and launches."""
    shown = text(
        figure(workload="decode-p512-n128-s1"), figure(1.21, 1.25, value=1.23, page_size=16, launches=3)
    )

    assert shown == [
        "claim                           sets                  measured                    standing",
        "faster                          1.1 … 1.2             1.15 … 1.23 (2)             does not hold",
        "",
        "faster – does not hold",
        "  One is faster",
        "  of A100 with llama or llama-2: 1.1 … 1.2",
        "  source: a report",
        "  inter_token_latency of flashinfer over triton · llama · 1x-a100 · SGLang 0.5.23 · run",
        "    20260101-000000-1",
        "page workload                      launches       figure         from           to by itself",
        "   1 decode-p512-n128-s1                  5         1.15         1.14         1.16 holds",
        "  16 decode-p512-n64-s8                   3         1.23         1.21         1.25 does not hold",
    ]


def test_a_claim_that_was_not_measured():
    """Why, and the command that would measure it."""
    assert text()[2:] == [
        "",
        "faster – not measured here: nothing of it was measured",
        "  One is faster",
        "  of A100 with llama or llama-2: 1.1 … 1.2",
        "  source: a report",
        "  to measure it: pytest -m backend, on A100 with llama or llama-2",
    ]


def test_a_figure_of_another_machine_is_shown_and_says_nothing():
    """Neither the claim nor the figure by itself is ever called held; the command is given."""
    shown = text(figure(gpu=None, machine="cpu-x"))

    assert shown[1].split() == ["faster", "1.1", "…", "1.2", "not", "measured", "here"]
    assert shown[3] == "faster – not measured here: it speaks of A100, this is a CPU"
    assert shown[-2].split() == ["1", "decode-p512-n64-s8", "5", "1.15", "1.14", "1.16"]
    assert shown[-1].startswith("  to measure it: ")
    assert not any("holds" in line for line in shown)


def test_figures_of_several_runs_stand_apart():
    """Each run, server and metric has a heading of its own, wherever its figures come in the list."""
    first, later = figure(), figure(run="20260102-000000-1", workload="decode-s1")
    shown = text(first, later, figure(workload="decode-s2"))

    headings = [line for line in shown if "inter_token_latency of" in line]
    assert len(headings) == 2
    assert sum(line.startswith("page workload") for line in shown) == 2


def test_one_launch_tells_no_interval():
    """Its figure stands; what it may be is unknown, and so is what the claim comes to."""
    shown = text(figure(0.0, math.inf, launches=1))

    assert shown[-1].split()[-7:] == ["1", "1.15", "unknown", "unknown", "cannot", "be", "told"]
    assert shown[3] == "faster – cannot be told"


@pytest.mark.parametrize(
    ("bounds", "metric", "sets"),
    [
        ({"least": 1.18e-5, "most": 2.16e-5}, "inter_token_latency_slope", "11.80 … 21.60 µs/tok"),
        ({"least": 9e-7, "most": 2e-6}, "inter_token_latency", "900.0 ns … 2.000 µs"),
        ({"least": 0.8, "most": None}, "attention_bandwidth_share", "at least 0.8"),
        ({"least": None, "most": 3e-3}, "inter_token_latency", "at most 3.000 ms"),
    ],
)
def test_bounds_are_in_the_unit_of_what_they_bound(bounds, metric, sets):
    """A ratio has none; seconds have the prefix that fits."""
    alone = {"figures": [{"metric": metric, "workload": ".*"}], "where": {}}
    claim = Claim.model_validate({**CLAIM.model_dump(), **alone, **bounds})
    one = figure(1e-5, 2e-5, value=1.5e-5, metric=metric, over=None)
    shown = text(one, claim=claim)

    assert f"of any machine with any model: {sets}" in shown[5]


def test_a_claim_about_links():
    """Links and size are among its conditions, and an efficiency is no speed-up."""
    where = {"gpu": "A100", "links": ["nvlink", "nvswitch"], "tp_size": 2}
    wanted = {"metric": "decode_throughput", "workload": ".*", "over": "single", "per_gpu": True}
    claim = Claim.model_validate({**CLAIM.model_dump(), "where": where, "figures": [wanted]})
    one = figure(
        metric="decode_throughput", over="single", server="nvlink-2", links="nvlink", tp_size=2, per_gpu=True
    )
    shown = text(one, claim=claim)

    assert shown[5] == "  of A100 with any model, nvlink or nvswitch links, TP 2: 1.1 … 1.2"
    assert shown[7].startswith("  decode_throughput per GPU of nvlink-2 over single · llama")


def test_runs_that_could_not_be_read_are_named():
    """At the end, with the reason."""
    assert text(run_1="why")[-2:] == ["", "left out: run_1: why"]


def test_no_claims():
    """Nothing is checked, and that is said."""
    assert claims_text([], {}, colour=False) == "config/claims holds no statement\n"


@pytest.mark.parametrize("colour", [True, False])
def test_it_fits_a_terminal_of_a_hundred_columns(colour):
    """However long names, labels and numbers are, a line is folded and nothing is cut off."""
    long = figure(
        workload="a-workload-with-" + "very-" * 12 + "long-label", server="a" * 40, over="triton", value=123456.789,
        low=123456.0, high=123457.0, machine="8x-nvidia-" + "x" * 60, page_size=1024,
    )  # fmt: skip
    shown = text(long, claim=CLAIM.model_copy(update={"statement": "word " * 60}), colour=colour)
    bare = [line.replace("\x1b[0m", "") for line in shown]

    assert max(map(len, text(long))) <= 100
    assert ("\x1b[" in "".join(bare)) == colour
    label = "".join(
        line[5:34].strip()
        for line in text(long)[
            text(long).index(next(line for line in text(long) if line.startswith("page "))) + 1 :
        ]
    )
    assert label == long.workload


def test_as_json():
    """Statement, bounds, standing and figures as plain values; what reaches to infinity is null."""
    kept = json.loads(
        dumps(claims_json([check("faster", CLAIM, [figure(0.0, math.inf)])], {"x": "why"})),
        parse_constant=pytest.fail,
    )
    (one,) = kept["claims"]

    assert kept["left_out"] == {"x": "why"}
    assert (one["name"], one["standing"], one["least"]) == ("faster", "cannot be told", 1.1)
    (measured,) = one["measured"]
    assert (measured["gpu"], measured["high"], measured["standing"]) == (A100, None, "cannot be told")
