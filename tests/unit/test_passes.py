"""Forward passes as workloads: what a worker is asked, and what its answer comes to."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from samples import server

from sglperf.asking import Answer, answered, request
from sglperf.core.gates import Gate
from sglperf.core.roofline import PassShape, beyond_limits, cost, pass_times, pass_values
from sglperf.core.server_config import Model
from sglperf.core.shape import shape_of
from sglperf.errors import ConfigError, UsageError
from sglperf.plan import Ask, Load, check_ask
from sglperf.settings import Settings
from sglperf.target.build import Target
from sglperf.workload.passes import DecodePass, Pass, PrefillPass
from sglperf.workload.plan import RoundPlan
from sglperf.workload.shapes import TreeGrowth, Workload

DECODE = DecodePass(streams=8, context_tokens=4096)
PREFILL = PrefillPass(new_tokens=512, context_tokens=2048)
LLAMA = Model(
    "small",
    50,
    1024,
    config={
        "hidden_size": 8,
        "intermediate_size": 20,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 3,
        "vocab_size": 50,
    },
)
CONFIG = server(model=LLAMA)


# Workloads


def test_a_decode_pass_computes_one_token_a_stream():
    """All of the context but that is in the KV cache."""
    assert DECODE.load == PassShape(streams=8, context=4096, new=1)
    assert DECODE.load.tokens == 8
    assert DECODE.request == {"phase": "decode", "streams": 8, "context": 4096, "new": 1}


def test_a_prefill_pass_computes_the_end_of_one_prompt():
    """What comes before the new tokens is in the KV cache."""
    assert PREFILL.load == PassShape(streams=1, context=2048, new=512)
    assert PREFILL.load.tokens == 512
    assert PREFILL.request == {"phase": "prefill", "streams": 1, "context": 2048, "new": 512}


@pytest.mark.parametrize(
    ("workload", "label", "longest"),
    [(DECODE, "decode-pass-c4096-s8", 4096), (PREFILL, "prefill-pass-c2048-n512", 2048)],
)
def test_a_pass_is_known_by_its_lengths(workload, label, longest):
    """Each is in its label, and no sequence is longer than the context."""
    assert (workload.label, workload.longest) == (label, longest)


@pytest.mark.parametrize(
    "other",
    [
        DecodePass(4, 4096),
        DecodePass(8, 2048),
        PrefillPass(512, 4096),
        PrefillPass(256, 2048),
        PrefillPass(2048, 512),
    ],
)
def test_another_pass_has_another_label(other):
    """A label is a key of plans and baselines."""
    assert other.label not in (DECODE.label, PREFILL.label)


@pytest.mark.parametrize("workload", [DECODE, PREFILL])
def test_a_pass_is_measured_without_a_server(workload):
    """A worker runs it, and no request is planned."""
    assert workload.worker == "model_pass"
    assert workload.plan(seed=1, vocab_size=50) == RoundPlan(())


def test_open_lengths_of_a_pass_come_from_the_profile():
    """A batch is one stream unless the test says otherwise; a length that nobody gives is named."""
    assert DecodePass().filled({"context_tokens": 64, "streams": 9}) == DecodePass(1, 64)
    assert PrefillPass().filled({"context_tokens": 64, "new_tokens": 32}) == PrefillPass(32, 64)
    with pytest.raises(ConfigError, match="PrefillPass leaves new_tokens open .* workloads.prefill-pass"):
        PrefillPass().filled({"context_tokens": 64})


# What the worker is asked


def asked(workload: Workload) -> dict[str, Any]:
    """The request for a round of it, by a run with seed 7 and a tenth of a second a kernel."""
    settings = SimpleNamespace(seed=7, kernel_seconds=0.1)
    target = SimpleNamespace(adapter=SimpleNamespace(unified_radix_cache=True))
    load = Load(workload, RoundPlan(()), "0" * 16)
    return request(cast("Settings", settings), CONFIG, cast("Target", target), load)


@pytest.mark.parametrize("workload", [DECODE, PREFILL])
def test_the_worker_is_asked_for_a_pass_of_two_layers(workload):
    """The pass, the seed of its prompts, and how long each kernel may be timed."""
    assert asked(workload) == {**workload.request, "layers": 2, "seed": 7, "budget": 0.1}


def test_the_worker_is_asked_for_trees():
    """Their sizes, the page that the server has, and which of the target's caches."""
    tree = {"nodes": (100, 316, 1000), "page_size": 16, "seed": 7, "unified": True}

    assert asked(TreeGrowth(1000)) == tree


# What it answers


def part(error: float | None = None, tolerance: float = 0.01, **changes: Any) -> dict[str, Any]:
    known = {"seconds": 0.002, "calls": 2, "calls_in_layer": 1, "error": error, "tolerance": tolerance}
    return known | changes


def said(**parts: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": "CUPTI, cold L2",
        "layers": 2,
        "parts": {"attn": part(0.001), "q_norm": part(), **parts},
        "pass_seconds": 0.01,
        "copy_bytes_per_second": 1e12,
        "matmul_flops_per_second": 1e12,
    }


@pytest.mark.parametrize("workload", [DECODE, PREFILL])
def test_an_answer_becomes_values(workload: Pass):
    """Those of the pass, at the layers of the whole model, with how it was timed and nothing against them."""
    shape = shape_of(LLAMA)
    assert shape is not None
    found = answered(CONFIG, workload, said())

    assert found.values == pass_values(pass_times(said()), shape, workload.load)
    assert found.values["attention_time"] == 0.002
    assert found.values["attention_calls"] == 5
    assert found.gates == ()
    assert found.method == "CUPTI, cold L2"


@pytest.mark.parametrize(
    ("error", "wrong"),
    [(0.0, False), (0.01, False), (0.0101, True), (math.nan, True), (math.inf, True), (None, False)],
)
def test_a_kernel_that_computes_something_else_is_not_believed(error, wrong):
    """Its tolerance is allowed, an error that is not a number is none within it, and without a reference all is well."""
    gates = answered(CONFIG, DECODE, said(attn=part(error))).gates

    assert [gate.code for gate in gates] == ["kernel-wrong"] * wrong
    assert all(not gate.timing_only for gate in gates)


def test_a_wrong_kernel_spoils_its_own_figures_and_those_of_the_pass():
    """What is right beside it keeps its times, and calls are counted whatever they compute."""
    found = answered(CONFIG, DECODE, said(attn=part(0.5), sampler=part(0.0)))
    believed = found.believable(found.gates)

    gone = {
        "attention_time",
        "attention_limit_share",
        "attention_bandwidth_share",
        "attention_share",
        "gemm_share",
        "pass_kernel_time",
        "pass_coverage",
    }
    assert set(found.values) - set(believed) == gone
    assert {"sampling_time", "kernel_calls"} <= set(believed)


def test_a_wrong_kernel_outside_of_layers_spoils_no_share_of_one():
    """A layer's time is divided as it was, whatever the sampler computes."""
    found = answered(CONFIG, DECODE, said(attn=part(0.0), sampler=part(0.5, calls_in_layer=0)))

    assert {"attention_share", "gemm_share"} <= set(found.believable(found.gates))


def test_each_wrong_kernel_is_named():
    """By the name that tables have for it, with how far it is off and how far it may be."""
    gates = answered(CONFIG, DECODE, said(attn=part(0.5, 0.02), q_norm=part(0.03), sampler=part(0.0))).gates

    assert [gate.sentence for gate in gates] == [
        "attention is off from its float64 reference by 50.00% (root mean square), more than 2.00%: it computes "
        "something else",
        "q_norm is off from its float64 reference by 3.00% (root mean square), more than 1.00%: it computes "
        "something else",
    ]


def test_nothing_is_faster_than_its_limit():
    """Where a part seems to be, its limit was measured wrong: no share of a limit is believed, every time still is."""
    shape = shape_of(LLAMA)
    assert shape is not None
    answer = said()
    least = cost("attention", shape, DECODE.load)
    assert least is not None
    answer["copy_bytes_per_second"] = least.bytes / (1.25 * 0.002)
    found = answered(CONFIG, DECODE, answer)

    (gate,) = found.gates
    assert (gate.code, gate.timing_only) == ("beyond-limit", False)
    assert gate.sentence == (
        "attention takes 80% of the shortest time that the limits measured beside it allow: they are none"
    )
    gone = {"attention_limit_share", "attention_bandwidth_share"}
    assert set(found.values) - set(found.believable(found.gates)) == gone


@pytest.mark.parametrize(("share", "beyond"), [(0.5, False), (1.1, False), (1.101, True)])
def test_a_little_beyond_a_limit(share, beyond):
    """Memory that is only read is faster than a copy, by some percent."""
    assert beyond_limits({"lm_head_limit_share": share, "lm_head_time": 5.0}) == (
        {"lm_head": share} if beyond else {}
    )


@pytest.mark.parametrize("model", [replace(LLAMA, config={}), Model("org--x", 50, 1024, path="org/x")])
def test_a_model_of_unknown_shape_is_refused(model):
    """Its kernels' work cannot be counted, and the model is named."""
    with pytest.raises(UsageError, match=f"{model.name} is none of known shape"):
        check_ask(Ask("kernel", server(model=model), DECODE, "attention_time"))


def test_an_answer_about_trees():
    """It has no gate and no choice of method."""
    times = {"match": [1e-6, 2e-6, 4e-6], "evict": [1e-6, 1e-6, 1e-6]}
    found = answered(CONFIG, TreeGrowth(1000), times)

    assert found.values["prefix_match_time"] == 4e-6
    assert (found.gates, found.method) == ((), "")


# What of it is believed

BUSY = Gate("host-busy", "a neighbour", timing_only=True)
WRONG = Gate("kernel-wrong", "computes something else")
ANSWER = Answer({"attention_time": 0.002, "kernel_calls": 23.0, "q_norm_calls": 5.0, "pass_coverage": 0.9})


def test_without_a_gate_all_is_believed():
    """Exact counts, times, and figures of parts that no metric is known for."""
    assert ANSWER.believable(()) == ANSWER.values


def test_a_disturbed_round_keeps_what_no_neighbour_moves():
    """Exact metrics, and only those that are known to be."""
    assert ANSWER.believable([BUSY]) == {"kernel_calls": 23.0}
    assert ANSWER.believable([BUSY, BUSY]) == {"kernel_calls": 23.0}


@pytest.mark.parametrize("gates", [[WRONG], [BUSY, WRONG], [WRONG, BUSY]])
def test_a_wrong_kernel_leaves_nothing(gates):
    """Not even its calls are worth counting."""
    assert ANSWER.believable(gates) == {}


def test_more_new_tokens_than_there_are():
    """A prefill of more tokens than the prompt has is refused, with the place to change it."""
    with pytest.raises(
        ConfigError, match="computes 1024 tokens of a prompt of 512: .*workloads.prefill-pass"
    ):
        PrefillPass(new_tokens=1024).filled({"context_tokens": 512})
