"""What a run's figures say of a statement, and what a file of statements must hold."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from samples import A100, figure

from sglperf.config_folder import ConfigFolder, load_claims
from sglperf.core.catalogue import METRICS
from sglperf.core.claim import Claim, Standing, check
from sglperf.errors import ConfigError

SHIPPED = ConfigFolder(Path(__file__).parents[2] / "config")
HOLDS, FAILS, OPEN, NOT_MEASURED = Standing


def claim(*metrics: str, **changes: Any) -> Claim:
    """A claim that one server is 10 to 20 % faster in these metrics; in inter-token latency by default."""
    known: dict[str, Any] = {
        "statement": "One is faster than the other",
        "source": "a report",
        "area": "backend",
        "where": {"gpu": "A100", "models": ["llama"]},
        "figures": [
            {"metric": metric, "workload": "decode-.*", "server": "flashinfer", "over": "triton"}
            for metric in metrics or ("inter_token_latency",)
        ],
        "least": 1.1,
        "most": 1.2,
    }
    return Claim.model_validate(known | changes)


# Standing


@pytest.mark.parametrize(
    ("low", "high", "standing"),
    [
        (1.14, 1.16, HOLDS),
        (1.1, 1.2, HOLDS),
        (1.0, 1.09, FAILS),
        (1.21, 1.3, FAILS),
        (1.05, 1.15, OPEN),
        (1.15, 1.25, OPEN),
        (1.0, 1.3, OPEN),
        (1.0, 1.1, OPEN),
        (1.2, 1.3, OPEN),
        (0.0, math.inf, OPEN),
        (math.nan, math.nan, OPEN),
    ],
)
def test_an_interval_is_inside_outside_or_across(low, high, standing):
    """Inside it holds, outside it does not, across a bound nobody can tell; the bounds themselves are inside."""
    checked = check("x", claim(), [figure(low, high)])

    assert checked.standing == standing
    assert [told for _, told in checked.figures] == [standing]
    assert (checked.name, checked.claim, checked.reason) == ("x", claim(), "")


@pytest.mark.parametrize(
    ("bounds", "low", "high", "standing"),
    [
        ({"most": None}, 1.11, math.inf, HOLDS),
        ({"most": None}, 1.0, math.inf, OPEN),
        ({"most": None}, 5.0, 9.0, HOLDS),
        ({"most": None}, 0.5, 1.0, FAILS),
        ({"least": None}, 0.0, 1.19, HOLDS),
        ({"least": None}, 0.0, 1.3, OPEN),
        ({"least": None}, 1.3, 1.4, FAILS),
        ({"least": None}, -2.0, -1.0, HOLDS),
        ({"least": None}, -1.0, 1.1, HOLDS),
    ],
)
def test_a_bound_that_is_not_set_is_kept_by_everything(bounds, low, high, standing):
    """At least so much, or at most so much: the other side is open."""
    assert check("x", claim(**bounds), [figure(low, high)]).standing == standing


@given(st.floats(0.1, 5), st.floats(0, 5), st.floats(0.1, 5), st.floats(0, 5), st.floats(0, 1))
def test_what_holds_or_fails_does_so_for_every_value_of_the_interval(low, width, least, range_, share):
    """No value of an interval that holds is out of bounds, and none of one that fails is in them."""
    high, most, value = low + width, least + range_, min(low + share * width, low + width)
    standing = check("x", claim(least=least, most=most), [figure(low, high)]).standing
    within = least <= value <= most

    assert not (standing == HOLDS and not within)
    assert not (standing == FAILS and within)


@pytest.mark.parametrize(
    ("others", "standing"),
    [
        ([(1.14, 1.16)], HOLDS),
        ([(1.14, 1.16), (1.0, 1.3)], OPEN),
        ([(1.0, 1.3), (1.0, 1.05)], FAILS),
        ([(1.0, 1.05), (1.14, 1.16)], FAILS),
        ([(1.3, 1.4), (1.0, 1.3)], FAILS),
    ],
)
def test_it_holds_only_if_it_holds_for_each_figure(others, standing):
    """One figure that fails is enough; else one that is open is; each keeps what it says by itself."""
    figures = [
        figure(),
        *(figure(low, high, metric="decode_throughput", workload=f"decode-s{low}") for low, high in others),
    ]
    checked = check("x", claim("inter_token_latency", "decode_throughput"), figures)

    assert checked.standing == standing
    assert [one for one, _ in checked.figures] == figures
    assert checked.figures[0][1] == HOLDS


# Whom it speaks of


@pytest.mark.parametrize(
    "change",
    [
        {"metric": "time_to_first_token"},
        {"server": "fa3"},
        {"over": "fa3"},
        {"over": None},
        {"workload": "prefill-p512-r4"},
        {"workload": "some-decode-p512"},
    ],
)
def test_another_figure_does_not_count(change):
    """Metric, servers and the whole of the workload's label must fit; without a figure, nothing was measured."""
    checked = check("x", claim(), [figure(1.0, 1.05, **change)])

    assert (checked.standing, checked.figures) == (NOT_MEASURED, ())
    assert checked.reason == "nothing of it was measured"


def test_a_figure_beside_others_is_told_apart():
    """What is not meant neither counts nor is shown."""
    checked = check("x", claim(), [figure(1.0, 1.05, metric="copy_bandwidth"), figure()])

    assert checked.standing == HOLDS
    assert checked.figures == ((figure(), HOLDS),)


def test_a_workload_is_matched_to_its_end():
    """An expression for a part of the label is not one for the whole."""
    part = claim(figures=[{"metric": "inter_token_latency", "workload": "decode-p512", "over": "triton"}])

    assert check("x", part, [figure()]).standing == NOT_MEASURED


def test_a_figure_by_itself_is_no_comparison():
    """A claim that names no server to compare with is not about how many times better one is than another."""
    alone = claim(
        figures=[{"metric": "inter_token_latency", "workload": "decode-.*", "server": "flashinfer"}]
    )

    assert check("x", alone, [figure()]).standing == NOT_MEASURED
    assert check("x", alone, [figure(over=None)]).standing == HOLDS


def test_a_claim_may_leave_the_server_open():
    """Then it is about every server, on its own where it names none to compare with."""
    anyone = claim(figures=[{"metric": "attention_bandwidth_share", "workload": "decode-pass-.*"}], least=0.8)
    alone = {"metric": "attention_bandwidth_share", "workload": "decode-pass-c4096-s8", "over": None}

    checked = check("x", anyone, [figure(server="fa3", **alone), figure(server="triton", **alone)])
    assert (checked.standing, len(checked.figures)) == (HOLDS, 2)


@pytest.mark.parametrize(
    ("gpu", "here"),
    [("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"), (None, "a CPU"), ("", "a CPU")],
)
def test_on_another_machine_it_says_nothing(gpu, here):
    """What the figures say by themselves is kept, whose machine it is is named."""
    elsewhere = figure(1.0, 1.05, gpu=gpu)
    checked = check("x", claim(), [elsewhere])

    assert checked.standing == NOT_MEASURED
    assert checked.figures == ((elsewhere, FAILS),)
    assert checked.reason == f"it speaks of A100, this is {here}"


def test_of_another_model_it_says_nothing():
    """Both models are named."""
    bounds = {"gpu": "A100", "models": ["llama", "llama-2"]}
    figures = [figure(1.0, 1.05, model="qwen"), figure(1.0, 1.05, model="gemma")]
    checked = check("x", claim(where=bounds), figures)

    assert checked.standing == NOT_MEASURED
    assert [standing for _, standing in checked.figures] == [FAILS, FAILS]
    assert checked.reason == "it speaks of llama, llama-2, this is gemma, qwen"


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ({"links": ["nvlink", "nvswitch"]}, "it speaks of nvlink, nvswitch, this is cpu, numa-node"),
        ({"links": ["cpu"]}, None),
        ({"tp_size": 8}, "it speaks of TP 8, this is TP 2, TP 4"),
        ({"links": ["numa-node"], "tp_size": 2}, "it speaks of TP 2, this is TP 4"),
    ],
)
def test_of_other_links_it_says_nothing(where, reason):
    """Class of links and number of GPUs are those of the figure's own set."""
    if reason is None:
        with pytest.raises(ValidationError, match="links"):
            claim(where=where)
        return
    figures = [figure(1.0, 1.05, links="numa-node", tp_size=4), figure(1.0, 1.05, links="cpu", tp_size=2)]
    checked = check("x", claim(where=where), figures)

    assert (checked.standing, checked.reason) == (NOT_MEASURED, reason)


def test_links_and_size_are_of_one_set():
    """A set that fits in one and a set that fits in the other are no set that fits in both."""
    figures = [figure(links="nvlink", tp_size=2), figure(1.0, 1.05, links="numa-node", tp_size=4)]
    told = {
        (links, size): check("x", claim(where={"links": [links], "tp_size": size}), figures).standing
        for links in ("nvlink", "numa-node")
        for size in (2, 4)
    }

    assert told == {
        ("nvlink", 2): HOLDS, ("nvlink", 4): NOT_MEASURED, ("numa-node", 2): NOT_MEASURED, ("numa-node", 4): FAILS,
    }  # fmt: skip


def test_a_speedup_is_no_efficiency():
    """A claim about one is not told by the other, and an efficiency is of one server over another."""
    wanted = {"metric": "inter_token_latency", "workload": "decode-.*", "over": "triton", "per_gpu": True}
    asked = claim(figures=[wanted])

    assert check("x", asked, [figure()]).standing == NOT_MEASURED
    assert check("x", asked, [figure(per_gpu=True)]).standing == HOLDS
    assert check("x", claim(), [figure(per_gpu=True)]).standing == NOT_MEASURED
    with pytest.raises(ValidationError, match="per_gpu is of one server over another"):
        claim(figures=[{**wanted, "over": None}])


def test_of_one_of_its_models_it_speaks():
    """Not all that it names need be there."""
    bounds = {"gpu": "A100", "models": ["llama", "llama-2"]}

    assert check("x", claim(where=bounds), [figure()]).standing == HOLDS


def test_figures_of_other_models_are_left_out():
    """A run of several models is told by those that the claim speaks of."""
    checked = check("x", claim(), [figure(), figure(1.0, 1.05, model="tiny")])

    assert (checked.standing, len(checked.figures)) == (HOLDS, 1)


def test_figures_of_other_machines_are_left_out():
    """Where several machines were measured, the claim is told by the one that it speaks of, whichever came last."""
    here, elsewhere = figure(), figure(1.0, 1.05, gpu="NVIDIA H100 80GB HBM3", machine="1x-h100")

    for figures in ([here, elsewhere], [elsewhere, here]):
        checked = check("x", claim(), figures)
        assert (checked.standing, checked.figures) == (HOLDS, ((here, HOLDS),))


def test_what_was_measured_elsewhere_is_not_measured():
    """A claim about two metrics does not hold by one, though the other was measured on another machine."""
    elsewhere = figure(metric="decode_throughput", gpu=None)
    checked = check("x", claim("inter_token_latency", "decode_throughput"), [figure(), elsewhere])

    assert (checked.standing, checked.reason) == (NOT_MEASURED, "nothing of decode_throughput was measured")


def test_the_condition_that_the_last_figures_failed_is_named():
    """Of what is of the right machine, the model; what is of another machine is no matter then."""
    figures = [figure(gpu=None), figure(model="gemma"), figure(gpu="", model="gemma")]
    checked = check("x", claim(), figures)

    assert checked.standing == NOT_MEASURED
    assert checked.reason == "it speaks of llama, this is gemma"


def test_a_name_within_a_name_is_another_gpu():
    """An A100X is no A100."""
    assert check("x", claim(), [figure(gpu="NVIDIA A100X")]).standing == NOT_MEASURED


@pytest.mark.parametrize(("low", "high", "standing"), [(1.14, 1.16, NOT_MEASURED), (1.0, 1.05, FAILS)])
def test_what_was_not_measured_does_not_hold(low, high, standing):
    """A claim about two metrics does not hold by one of them, though one is enough for it to fail."""
    checked = check("x", claim("inter_token_latency", "decode_throughput"), [figure(low, high)])

    assert checked.standing == standing
    assert checked.reason == ("nothing of decode_throughput was measured" if standing == NOT_MEASURED else "")


@pytest.mark.parametrize("gpu", [None, A100])
def test_a_claim_about_anything_is_checked_anywhere(gpu):
    """Neither machine nor model set: a CPU and a small model will do."""
    assert check("x", claim(where={}), [figure(model="tiny", gpu=gpu)]).standing == HOLDS


# Files


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"where": {"gpu": "A100("}}, "where.gpu"),
        ({"figures": [{"metric": "inter_token_latency", "workload": "decode-["}]}, "figures.0.workload"),
    ],
)
def test_a_bad_expression_is_refused(change, place):
    """Where it stands and that it is none is said, before anything is measured."""
    with pytest.raises(ValidationError, match="not a regular expression") as caught:
        claim(**change)
    assert ".".join(map(str, caught.value.errors()[0]["loc"])) == place


@pytest.mark.parametrize("change", [{"least": 0}, {"most": -1.0}, {"figures": []}, {"where": {"gpus": ""}}])
def test_what_makes_no_sense_is_refused(change):
    """A bound that is not above zero, no figure at all, a word that is not known."""
    with pytest.raises(ValidationError):
        claim(**change)


def test_the_shipped_claims():
    """Each is understood, and speaks of metrics, models and an area that exist."""
    claims = load_claims(SHIPPED)

    assert list(claims) == SHIPPED.names("claims") != []
    for one in claims.values():
        assert {wanted.metric for wanted in one.figures} <= set(METRICS)
        assert set(one.where.models) <= set(SHIPPED.names("models"))
        assert one.statement
        assert one.source
        assert one.least or one.most


GOOD = "statement: s\nsource: t\narea: decode\nfigures: [{metric: inter_token_latency, workload: '.*'}]\nleast: 1.5\n"


@pytest.fixture
def folder(tmp_path: Path) -> ConfigFolder:
    """A configuration with one good claim."""
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "good.yaml").write_text(GOOD)
    return ConfigFolder(tmp_path)


def test_claims_are_named_by_their_files(folder):
    """A bound and conditions that are left out are open."""
    (one,) = load_claims(folder).items()

    assert one[0] == "good"
    assert (one[1].least, one[1].most, one[1].where.gpu, one[1].where.models) == (1.5, None, "", ())


@pytest.mark.parametrize(
    ("bounds", "said"),
    [({"least": None, "most": None}, "sets no bound"), ({"least": 1.3}, "least is 1.3, more than most, 1.2")],
)
def test_bounds_that_say_nothing(bounds, said):
    """A claim that every figure keeps, or none can, is none."""
    with pytest.raises(ValidationError, match=said):
        claim(**bounds)


def test_no_claims_are_none(tmp_path):
    """A folder without statements makes none."""
    assert load_claims(ConfigFolder(tmp_path)) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "lest: 1.1\n", "lest: Extra inputs are not permitted"),
        (GOOD.replace("figures", "figure"), "figures: Field required"),
        (GOOD.replace("workload: '.*'", "workload: '('"), "figures.0.workload: not a regular expression"),
        (GOOD.replace("inter_token", "intertoken"), "figures.0.metric: unknown metric 'intertoken_latency'"),
        (GOOD + "where: {gpu: '['}\n", "where.gpu: not a regular expression"),
        ("[1, 2]", "expected a mapping"),
    ],
)
def test_a_claim_that_is_not_understood_is_named(folder, text, said):
    """File, place and problem, in one line that a person can act on."""
    file = folder.path / "claims" / "bad.yaml"
    file.write_text(text)

    with pytest.raises(ConfigError, match=f"^{re.escape(f'{file}: {said}')}[^\\n]*$"):
        load_claims(folder)
