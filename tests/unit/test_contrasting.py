"""Which servers of a run are compared with which, and what that bears on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from samples import A100, FINGERPRINT, SHAPE, ask, measured_round, server, started

from sglperf.contrasting import checked_claims, contrasts, figures
from sglperf.core.answers import Answer
from sglperf.core.catalogue import DIVERGING
from sglperf.core.claim import Claim, Standing
from sglperf.core.contrast import Contrast
from sglperf.core.figure import Figure
from sglperf.core.gates import Gate
from sglperf.core.judgement import judge
from sglperf.core.server_config import ServerConfig
from sglperf.core.verdict import Policy, Status
from sglperf.evidence import Measured, questions
from sglperf.measurements import Measurements, Round
from sglperf.plan import Ask, make_plan
from sglperf.workload.answers import Answers
from sglperf.workload.shapes import Decode


def together(backend: str, page: int = 16, **changes: object) -> ServerConfig:
    return replace(server(backend, page), comparison=f"backends-page{page}-tp0", **changes)


def run(*rounds: Round, asks: list[Ask]) -> Measured:
    plan = make_plan(asks, launches=3, rounds=1, warmup_rounds=1, seed=0)
    launches = {(one.side, one.config, one.launch): None for one in rounds}
    came_up = [started(index, side=side, config=config) for side, config, index in launches]
    return Measured(plan, Measurements(came_up, list(rounds)), {"head": {"sglang": "0.5.23"}})


def labels(measured: Measured) -> list[str]:
    return [config.label for config in measured.plan.configs]


def contrasts_of(measured: Measured, **links: str) -> tuple[Contrast, ...]:
    return contrasts(measured, dict.fromkeys(labels(measured), "cpu") | links, alpha=0.05)


FIRST, SECOND, ALONE = together("triton"), together("flashinfer"), server("fa3")
ITL = [ask(config=config) for config in (FIRST, SECOND, ALONE)]


def paced(of: Ask, *seconds: float) -> list[Round]:
    """A round of each launch."""
    return [
        measured_round(launch, {of.metric: value}, like=of) for launch, value in enumerate(seconds) if value
    ]


def test_each_is_compared_with_the_first_of_its_group():
    """Launch beside launch; a server that stands alone is compared with none."""
    slow, fast, alone = (paced(one, *times) for one, times in zip(ITL, ([0.012, 0.024, 0.036], [0.010, 0.020, 0.030], [0.01] * 3), strict=True))  # fmt: skip
    (found,) = contrasts_of(run(*slow, *fast, *alone, asks=ITL))

    assert (found.reference, found.other, found.metric) == ("triton", "flashinfer", "inter_token_latency")
    assert found.speedup == pytest.approx((1.2, 1.2, 1.2), abs=1e-3)  # though launches differ threefold


def test_a_launch_without_its_partner_is_left_out():
    """The second launch of one has no counterpart; it would be compared with another launch's."""
    slow, fast = paced(ITL[0], 0.012, 0.999, 0.012), paced(ITL[1], 0.010, 0, 0.010)
    (found,) = contrasts_of(run(*slow, *fast, asks=ITL[:2]))

    assert found.comparison.n_base == found.comparison.n_head == 2
    assert found.speedup[0] == pytest.approx(1.2)


def test_each_workload_by_itself():
    """A workload is compared with the same one; one that only the second server has is its own reference."""
    long = Decode(streams=4, prompt_tokens=32, new_tokens=4)
    more = [ask(config=config, workload=long) for config in (FIRST, SECOND)]
    rounds = [*paced(ITL[0], 0.01, 0.01), *paced(ITL[1], 0.02, 0.02), *paced(more[1], 0.03, 0.03)]
    found = contrasts_of(run(*rounds, asks=[*ITL[:2], more[1]]))

    assert [(one.workload, round(one.speedup[0], 2)) for one in found] == [(ITL[0].workload.label, 0.5)]


def test_what_is_not_compared():
    """Counts, figures without a verdict, another workload, and a server that was never measured."""
    exact = [ask("cached_tokens", config=config) for config in (FIRST, SECOND)]
    shown = [ask("inter_token_latency_slope", config=config) for config in (FIRST, SECOND)]
    for pair in (exact, shown):
        rounds = [one for ask_ in pair for one in paced(ask_, 1.0, 1.0)]
        assert contrasts_of(run(*rounds, asks=pair)) == ()
    assert contrasts_of(run(*paced(ITL[0], 0.01), asks=ITL[:2])) == ()
    assert contrasts_of(run(*paced(ITL[1], 0.01), asks=[ITL[1]])) == ()


def test_variants_go_by_their_own_names():
    """Servers of one backend that differ in an argument are told apart by what they are called."""
    pair = [replace(FIRST, member=name, variant=f"overlap-{name}") for name in ("serial", "overlapped")]
    asks = [ask("decode_throughput", config=config) for config in pair]
    rounds = [*paced(asks[0], 100, 100), *paced(asks[1], 150, 150)]
    (found,) = contrasts_of(run(*rounds, asks=asks))

    assert (found.reference, found.other) == ("serial", "overlapped")
    assert found.speedup[0] == pytest.approx(1.5)


RUN = "20260101-000000-1"
PLACES = {one.label: FINGERPRINT for one in (FIRST, SECOND, ALONE)}


def known(found: Measured) -> tuple[Figure, ...]:
    """Its figures."""
    return figures(found, contrasts_of(found), PLACES, alpha=0.05, run=RUN)


def on(gpus: tuple[int, ...], name: str) -> ServerConfig:
    return replace(server(tp_set=gpus), comparison="scaling-page16", member=name)


def test_efficiency_of_more_gpus():
    """Speed-up over how many times as many GPUs there are: of rates, and of no latency."""
    one, four = on((0,), "single"), on((0, 1, 2, 3), "numa-node-4")
    rates = [ask("decode_throughput", config=config) for config in (one, four)]
    waits = [ask("inter_token_latency", config=config) for config in (one, four)]
    rounds = [*paced(rates[0], 100, 100), *paced(rates[1], 280, 280), *paced(waits[0], 0.01, 0.01), *paced(waits[1], 0.004, 0.004)]  # fmt: skip
    rate, wait = contrasts_of(run(*rounds, asks=[*rates, *waits]), **{four.label: "numa-node"})

    assert (rate.reference_ranks, rate.ranks, rate.links) == (1, 4, "numa-node")
    assert rate.efficiency == pytest.approx((0.7, 0.7, 0.7), abs=1e-3)
    assert (wait.speedup[0], wait.efficiency) == (pytest.approx(2.5, abs=1e-3), None)


def test_efficiency_is_relative_to_the_smallest_set():
    """Where one GPU cannot hold the model, twice the GPUs of two are four."""
    two, four = on((0, 1), "nvswitch-2"), on((0, 1, 2, 3), "nvswitch-4")
    rates = [ask("decode_throughput", config=config) for config in (two, four)]
    (found,) = contrasts_of(run(*paced(rates[0], 100, 100), *paced(rates[1], 180, 180), asks=rates))

    assert found.efficiency == pytest.approx((0.9, 0.9, 0.9), abs=2e-3)


def test_sets_of_one_size_are_compared_where_nothing_smaller_was_asked():
    """What only sets of two can do is compared with the first of these; as many GPUs have no efficiency."""
    asked = [ask("decode_throughput", config=on(gpus, name)) for gpus, name in (((0, 1), "nvlink-2"), ((0, 4), "cross-numa-2"))]  # fmt: skip
    alone = ask("prefill_throughput", config=on((0,), "single"))
    rounds = [*paced(alone, 1, 1), *paced(asked[0], 100, 100), *paced(asked[1], 50, 50)]
    (found,) = contrasts_of(run(*rounds, asks=[alone, *asked]))

    assert (found.reference, found.other, found.efficiency) == ("nvlink-2", "cross-numa-2", None)


def test_claims_about_links():
    """An efficiency on one class of links tells nothing of a claim about another."""
    sets = {"single": ((0,), "single"), "nvlink-2": ((0, 1), "nvlink"), "cross-numa-2": ((0, 4), "cross-numa")}  # fmt: skip
    configs = {name: on(gpus, name) for name, (gpus, _) in sets.items()}
    asks = [ask("decode_throughput", config=config) for config in configs.values()]
    rates = ((100, 101, 100), (185, 186, 185), (100, 101, 100))
    found = run(*(one for ask_, values in zip(asks, rates, strict=True) for one in paced(ask_, *values)), asks=asks)  # fmt: skip
    links = {configs[name].label: kind for name, (_, kind) in sets.items()}
    claims = {
        kind: Claim.model_validate(
            {
                "statement": "s", "source": "t", "area": "decode", "where": {"links": [kind], "tp_size": 2}, "least": 0.9,
                "figures": [{"metric": "decode_throughput", "workload": "decode-.*", "over": "single", "per_gpu": True}],
            }
        )
        for kind in ("nvlink", "nvswitch", "cross-numa")
    }  # fmt: skip
    places = {label: replace(FINGERPRINT, link_class=kind) for label, kind in links.items()}
    compared = contrasts(found, links, alpha=0.05)
    checked = checked_claims(claims, found.plan, figures(found, compared, places, alpha=0.05, run=RUN))

    standings = {one.name: one.standing for one in checked}
    assert standings == {"nvlink": "holds", "nvswitch": "not measured here", "cross-numa": "does not hold"}
    assert checked[1].reason == "it speaks of nvswitch, this is cross-numa, nvlink"
    ((figure, _),) = checked[0].figures
    assert (figure.server, figure.per_gpu, figure.value) == ("nvlink-2", True, pytest.approx(0.925, abs=0.01))


def test_claims_of_the_areas_that_were_measured():
    """A claim is told by contrasts or by plain figures; those about other areas are not mentioned."""
    said = {"statement": "s", "source": "t", "figures": [{"metric": "inter_token_latency", "workload": "decode-.*"}], "most": 0.011}  # fmt: skip
    compared = {**said, "most": None, "least": 1.1, "figures": [{**said["figures"][0], "server": "flashinfer", "over": "triton"}]}  # fmt: skip
    claims = {
        "plain": Claim.model_validate({**said, "area": "decode"}),
        "compared": Claim.model_validate({**compared, "area": "decode"}),
        "elsewhere": Claim.model_validate({**said, "area": "kernel"}),
    }
    rounds = [*paced(ITL[0], 0.012, 0.012, 0.012), *paced(ITL[1], 0.010, 0.010, 0.010)]
    found = run(*rounds, asks=ITL[:2])
    checked = checked_claims(claims, found.plan, known(found))

    assert {one.name: one.standing for one in checked} == {
        "plain": Standing.FAILS,
        "compared": Standing.HOLDS,
    }
    assert [figure.server for figure, _ in checked[0].figures] == ["triton", "flashinfer"]


def test_a_figure_says_where_it_was_measured():
    """Server, page, workload, launches, machine, version and run: all that tells it from another."""
    place = replace(FINGERPRINT, device="cuda", accelerator=A100, gpu_count=2, link_class="nvlink")
    paged = replace(together("triton", 64), tp_set=(0, 1))
    (found,) = figures(
        run(*paced(ask(config=paged), 0.010, 0.011), asks=[ask(config=paged)]), (), {paged.label: place}, alpha=0.05, run=RUN
    )  # fmt: skip

    assert (found.model, found.config, found.page_size) == ("tiny", paged.label, 64)
    assert (found.server, found.over, found.workload) == ("triton", None, SHAPE.label)
    assert (found.metric, found.launches) == ("inter_token_latency", 2)
    assert found.value == pytest.approx((0.010 * 0.011) ** 0.5)
    assert found.low < found.value < found.high
    assert (found.machine, found.gpu, found.links) == (place.id, A100, "nvlink")
    assert (found.tp_size, found.per_gpu) == (2, False)
    assert (found.sglang, found.run) == ("0.5.23", RUN)


def test_a_figure_of_two_servers_counts_pairs():
    """What is compared is said; the page is that of both."""
    rounds = [*paced(ITL[0], 0.012, 0.012, 0.012), *paced(ITL[1], 0.010, 0, 0.010)]
    *_, found = known(run(*rounds, asks=ITL[:2]))

    assert (found.server, found.over, found.launches, found.page_size) == ("flashinfer", "triton", 2, 16)
    assert (found.value, found.config) == (pytest.approx(1.2), SECOND.label)


def test_a_slope_below_zero_counts():
    """A launch in which it came out negative is as good as another; left out, the rest would say too much."""
    slope = ask("inter_token_latency_slope", config=ALONE)
    rounds = [measured_round(i, {slope.metric: value}, like=slope) for i, value in enumerate([-1e-6, 4e-6])]
    (found,) = known(run(*rounds, asks=[slope]))

    assert (found.value, found.launches) == (pytest.approx(1.5e-6), 2)
    assert found.low < 0


def test_counts_and_what_was_not_measured_are_no_figures():
    """A count has no interval; a launch without a time says nothing."""
    count = ask("cached_tokens", config=ALONE)

    assert known(run(*paced(count, 4.0), asks=[count])) == ()
    assert known(run(asks=[ITL[0]])) == ()


@pytest.mark.parametrize("dead", [0, 1])
def test_what_was_not_measured_to_the_end_supports_no_claim(dead):
    """The launches of a server that died are no figure, and no comparison with it is one."""
    rounds = [*paced(ITL[0], 0.012, 0.012), *paced(ITL[1], 0.010, 0.010)]
    found = run(*rounds, asks=ITL[:2])
    found.measurements.failures["head", ITL[dead].config.label] = Gate("server-died", "gone")

    assert [(one.server, one.over) for one in known(found)] == [(("flashinfer", "triton")[dead == 1], None)]


# Answers


def answered(of: Ask, *tokens: int, again: int | None = None) -> Round:
    """A prompt for each token, cold and from the cache; ``again`` is the first one's answer from the cache."""
    cold = [Answer((token,), ((token,),)) for token in tokens]
    cached = [Answer((again,), ((again,),)), *cold[1:]] if again is not None else cold
    return measured_round(0, {"completion_tokens": 4.0}, like=of, answers=(*cold, *cached))


def judged(*rounds: Round, asks: list[Ask]) -> list[tuple[Status, str]]:
    verdicts = judge(
        questions(run(*rounds, asks=asks), {}, paired=False),
        Policy(alpha=0.05, min_effect=0.03, family_size=1),
    )
    return [(one.status, one.code) for one in verdicts.values()]


ANSWERS = Answers(2, 8, 1)
BOTH = [ask(DIVERGING, config=config, workload=ANSWERS) for config in (FIRST, SECOND)]


def test_answers_that_agree():
    """With the first server's, and with its own from the cache: every request as it must be."""
    found = judged(answered(BOTH[0], 5, 6), answered(BOTH[1], 5, 6), asks=BOTH)

    assert found == [(Status.UNCHANGED, "as-predicted")] * 2


def test_answers_that_differ_are_the_other_servers_matter():
    """The first server's are the reference; a server is also held against itself."""
    other = judged(answered(BOTH[0], 5, 6), answered(BOTH[1], 5, 7), asks=BOTH)
    cached = judged(answered(BOTH[0], 5, 6, again=9), answered(BOTH[1], 5, 6), asks=BOTH)

    assert other == [(Status.UNCHANGED, "as-predicted"), (Status.REGRESSED, "answers-differ")]
    assert cached == [(Status.REGRESSED, "answers-differ"), (Status.UNCHANGED, "as-predicted")]


def test_without_the_first_server_nothing_is_told():
    """No reference is no agreement."""
    assert judged(answered(BOTH[1], 5, 6), asks=BOTH)[1] == (Status.INVALID, "no-samples")
