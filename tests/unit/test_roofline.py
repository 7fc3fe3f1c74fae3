"""What a part of a pass must move and compute at least, and what its measured time is beside that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglperf.config_folder import ConfigFolder
from sglperf.core.catalogue import METRICS
from sglperf.core.roofline import (
    PARTS,
    Ceilings,
    Cost,
    PassShape,
    PassTimes,
    cost,
    pass_parts,
    pass_times,
    pass_values,
)
from sglperf.core.server_config import Model
from sglperf.core.shape import Shape, shape_of
from sglperf.models import load_model

SMALL = Shape(hidden=8, intermediate=20, layers=5, heads=4, kv_heads=2, head=3, vocabulary=50, value_bytes=2)
LOAD = PassShape(streams=2, context=10, new=3)
PRODUCTS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


def model(name: str = "llama-3-8b", **changes: object) -> Model:
    """A model of ``config/models`` with other entries in its config; None takes one out."""
    known = load_model(ConfigFolder(Path(__file__).parents[2] / "config"), name)
    config = {key: value for key, value in {**known.config, **changes}.items() if value is not None}
    return replace(known, config=config)


def llama() -> Shape:
    found = shape_of(model())
    assert found is not None
    return found


def needed(part: str, shape: Shape = SMALL, load: PassShape = LOAD) -> Cost:
    found = cost(part, shape, load)
    assert found is not None
    return found


# Shapes


def test_the_shape_of_llama_3_8b():
    """Its dimensions as its config.json has them; a head's width follows from the number of heads."""
    assert llama() == Shape(4096, 14336, 32, 32, 8, 128, 128256, 2)


def test_the_weights_of_llama_3_8b():
    """8,030,261,248 parameters, of which 266,240 in norms, in two bytes each; a token's keys and values are 128 KiB."""
    assert llama().weight_bytes == 2 * (8_030_261_248 - 65 * 4096)
    assert llama().kv_token_bytes == 131072


def test_the_weights_of_a_small_shape():
    """By hand: four projections, three feed-forward matrices, in five layers, and an embedding and a head."""
    layer = 8 * 12 + 2 * 8 * 6 + 12 * 8 + 3 * 8 * 20
    assert SMALL.weight_bytes == 2 * (5 * layer + 2 * 50 * 8)
    assert SMALL.kv_token_bytes == 2 * 5 * 2 * 3 * 2


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"num_key_value_heads": None}, "kv_heads", 32),
        ({"head_dim": 64}, "head", 64),
        ({"num_attention_heads": 64}, "head", 64),
        ({"torch_dtype": "float16"}, "value_bytes", 2),
        ({"torch_dtype": "float32"}, "value_bytes", 4),
        ({"torch_dtype": None}, "value_bytes", 2),
        ({"torch_dtype": "something"}, "value_bytes", 4),
        ({"hidden_size": "2048"}, "hidden", 2048),
    ],
)
def test_what_a_config_may_leave_open_or_say_otherwise(changes, name, value):
    """Without grouped queries there are as many key heads as heads; of an unknown type a value takes four bytes."""
    found = shape_of(model(**changes))
    assert found is not None
    assert getattr(found, name) == value


@pytest.mark.parametrize(
    "changes",
    [
        {"num_local_experts": 8},
        {"n_routed_experts": 64},
        {"hidden_size": None},
        {"intermediate_size": None},
        {"num_hidden_layers": None},
        {"num_attention_heads": None},
        {"vocab_size": None},
        {"num_hidden_layers": "many"},
    ],
)
def test_what_is_no_dense_llama_has_no_shape(changes):
    """Experts, a missing dimension, or one that is no number."""
    assert shape_of(model(**changes)) is None


def test_a_checkpoint_has_no_shape():
    """Its config is the server's to read."""
    assert shape_of(Model("x", 100, 1024, path="org/x")) is None


# Costs


@pytest.mark.parametrize(
    ("part", "moved", "flops"),
    [
        ("embedding", 192, 48),
        ("input_norm", 400, 240),
        ("rms_norm", 400, 240),
        ("final_norm", 400, 240),
        ("qkv_proj", 768, 2304),
        ("rope", 432, 324),
        ("attention", 912, 2592),
        ("o_proj", 432, 1152),
        ("gate_up_proj", 1216, 3840),
        ("activation", 720, 480),
        ("down_proj", 656, 1920),
        ("lm_head", 1032, 1600),
        ("sampling", 400, 100),
    ],
)
def test_each_part_by_hand(part, moved, flops):
    """Two prompts of ten tokens, of which three each are computed, in a layer small enough to count."""
    assert needed(part) == Cost(moved, flops)


def test_every_part_that_has_a_name_has_a_cost():
    """And no other has."""
    assert all(cost(part, SMALL, LOAD) for part in PARTS.values())
    assert cost("q_norm", SMALL, LOAD) is None


def test_a_decode_step_of_llama_3_8b_reads_its_weights_and_its_cache():
    """Beside 15 GB of matrices and 8,192 tokens of keys and values, all that is moved by a product is small."""
    shape, load = llama(), PassShape(1, 8192)
    moved = sum(needed(part, shape, load).bytes for part in PRODUCTS) * shape.layers
    moved += needed("lm_head", shape, load).bytes
    matrices = shape.weight_bytes - shape.vocabulary * shape.hidden * shape.value_bytes

    assert matrices < moved < 1.001 * matrices
    attention = needed("attention", shape, load).bytes * shape.layers
    assert attention == 8192 * 131072 + 131072 + shape.layers * 2 * 4096 * 2


def test_a_token_of_llama_3_8b_costs_two_operations_a_weight():
    """A multiplication and an addition for each weight of a matrix, 15 GFLOP in all."""
    shape, load = llama(), PassShape(1, 1)
    flops = sum(needed(part, shape, load).flops for part in PRODUCTS) * shape.layers
    flops += needed("lm_head", shape, load).flops

    assert flops == 2 * (8_030_261_248 - 65 * 4096 - 128256 * 4096)


@given(st.integers(1, 4), st.integers(0, 30), st.integers(1, 30))
def test_each_token_looks_at_all_up_to_itself(streams, kept, new):
    """The number of scores is what a loop over streams and new tokens counts, whatever is cached."""
    looks = sum(kept + token + 1 for _ in range(streams) for token in range(new))
    queries = SMALL.heads * SMALL.head

    assert needed("attention", SMALL, PassShape(streams, kept + new, new)).flops == 4 * looks * queries


@given(st.integers(1, 4), st.integers(1, 30), st.integers(1, 30))
def test_a_longer_context_moves_its_keys_and_values_and_no_more(streams, context, more):
    """A decode step reads one layer's share of each further token, in every stream."""
    short, long = PassShape(streams, context), PassShape(streams, context + more)
    grown = needed("attention", SMALL, long).bytes - needed("attention", SMALL, short).bytes

    assert grown * SMALL.layers == streams * more * SMALL.kv_token_bytes


def test_only_last_tokens_get_logits():
    """However long the prompts are, as many rows as sequences reach the head and the sampler."""
    for part in ("lm_head", "sampling"):
        assert needed(part, SMALL, PassShape(2, 99, 99)) == needed(part, SMALL, PassShape(2, 1))


def test_intensity_is_operations_per_byte():
    """Ten operations on four bytes are 2.5."""
    assert Cost(bytes=4, flops=10).intensity == 2.5


@pytest.mark.parametrize(
    ("needs", "seconds", "binding"),
    [
        (Cost(200, 100), 2.0, "memory"),
        (Cost(200, 3000), 3.0, "compute"),
        (Cost(200, 2000), 2.0, "memory"),
        (Cost(1, 0), 0.01, "memory"),
    ],
)
def test_the_slower_of_the_two_binds(needs, seconds, binding):
    """Bytes at the bandwidth or operations at the rate, whichever takes longer; at the ridge, memory."""
    ceilings = Ceilings(bandwidth=100.0, rate=1000.0)

    assert ceilings.seconds(needs) == pytest.approx(seconds)
    assert ceilings.binding(needs) == binding


# Measured passes

CEILINGS = Ceilings(bandwidth=1e6, rate=1e6)
TIMES = PassTimes(
    layers=2,
    seconds={"embedding": 0.01, "attention": 0.003, "o_proj": 0.002, "q_norm": 0.001},
    calls={"embedding": 1, "attention": 2, "o_proj": 3, "q_norm": 4, "strange": 1},
    calls_in_layer={"attention": 1, "o_proj": 1, "q_norm": 2, "embedding": 0},
    whole=0.05,
    ceilings=CEILINGS,
)


def test_calls_grow_with_the_layers_that_make_them():
    """What is called outside of layers, or once more than in them, keeps that."""
    assert TIMES.calls_at(2) == TIMES.calls
    assert TIMES.calls_at(5) == {"embedding": 1, "attention": 5, "o_proj": 6, "q_norm": 10, "strange": 1}
    assert TIMES.calls_at(1) == {"embedding": 1, "attention": 1, "o_proj": 2, "q_norm": 2, "strange": 1}


def test_the_sum_counts_each_call():
    """A part that was called but not timed adds nothing."""
    assert TIMES.sum_at(2) == pytest.approx(0.01 + 2 * 0.003 + 3 * 0.002 + 4 * 0.001)
    assert TIMES.sum_at(5) == pytest.approx(0.01 + 5 * 0.003 + 6 * 0.002 + 10 * 0.001)


def test_coverage_is_of_the_pass_that_was_measured():
    """The parts of two layers beside the pass of two layers."""
    assert TIMES.coverage == pytest.approx(0.026 / 0.05)


def test_the_values_of_a_pass():
    """Times as measured, shares of what the ceilings allow, calls and sum for the whole model."""
    values = pass_values(TIMES, SMALL, LOAD)

    assert {name: value for name, value in values.items() if name.endswith("_time")} == {
        "embedding_time": 0.01,
        "attention_time": 0.003,
        "o_proj_time": 0.002,
        "q_norm_time": 0.001,
        "pass_kernel_time": pytest.approx(0.047),
    }
    assert {name: value for name, value in values.items() if name.endswith("_calls")} == {
        "embedding_calls": 1,
        "attention_calls": 5,
        "o_proj_calls": 6,
        "q_norm_calls": 10,
        "strange_calls": 1,
        "kernel_calls": 23,
    }
    assert {name: value for name, value in values.items() if name.endswith("_share")} == {
        "embedding_limit_share": pytest.approx(192e-6 / 0.01),
        "attention_limit_share": pytest.approx(2592e-6 / 0.003),
        "o_proj_limit_share": pytest.approx(1152e-6 / 0.002),
        "attention_bandwidth_share": pytest.approx(912e-6 / 0.003),
        "attention_share": pytest.approx(3 / 7),
        "gemm_share": pytest.approx(2 / 7),
    }
    assert values["pass_coverage"] == TIMES.coverage
    assert (values["copy_bandwidth"], values["matmul_rate"]) == (1e6, 1e6)


def test_the_ceilings_are_not_mixed_up():
    """Attention of a small shape is bound by whichever is slower, and its bandwidth's share knows no operations."""
    fast = replace(TIMES, ceilings=Ceilings(bandwidth=1e5, rate=1e9))
    values = pass_values(fast, SMALL, LOAD)

    assert values["attention_limit_share"] == pytest.approx(912e-5 / 0.003)
    assert values["attention_bandwidth_share"] == pytest.approx(912e-5 / 0.003)
    assert (values["copy_bandwidth"], values["matmul_rate"]) == (1e5, 1e9)


def test_a_pass_without_attention_has_no_bandwidth_share():
    """What was not timed has no figure."""
    rest = replace(TIMES, seconds={"o_proj": 0.002})

    assert "attention_bandwidth_share" not in pass_values(rest, SMALL, LOAD)


def test_a_layer_is_shared_among_its_kernels():
    """By their calls in one layer; what is called outside of layers does not count, nor how many layers there are."""
    layer = {"qkv_proj": 1, "attention": 1, "o_proj": 1, "rms_norm": 2, "gate_up_proj": 1, "down_proj": 1}
    seconds = {"qkv_proj": 0.1, "attention": 0.37, "o_proj": 0.05, "rms_norm": 0.09, "gate_up_proj": 0.2, "down_proj": 0.1}  # fmt: skip
    times = replace(TIMES, seconds={**seconds, "lm_head": 9.0}, calls_in_layer={**layer, "lm_head": 0})
    values = pass_values(times, SMALL, LOAD)

    assert values["attention_share"] == pytest.approx(0.37)
    assert values["gemm_share"] == pytest.approx(0.45)
    assert pass_values(replace(times, layers=9), SMALL, LOAD)["gemm_share"] == pytest.approx(0.45)


@pytest.mark.parametrize("lost", ["attention", "q_norm"])
def test_a_layer_that_was_not_timed_whole_is_not_shared(lost):
    """The rest would seem to take more of it than it does."""
    seconds = {part: time for part, time in TIMES.seconds.items() if part != lost}
    values = pass_values(replace(TIMES, seconds=seconds), SMALL, LOAD)

    assert not {"attention_share", "gemm_share"} & set(values)


def test_without_attention_a_layer_is_not_shared():
    """Whatever it is, it is no layer of a transformer as it was meant."""
    rest = replace(TIMES, calls_in_layer={"o_proj": 1})

    assert "gemm_share" not in pass_values(rest, SMALL, LOAD)


# The worker's answer


def part(seconds: float, calls: int, in_layer: int) -> dict[str, Any]:
    return {"seconds": seconds, "calls": calls, "calls_in_layer": in_layer, "error": None, "tolerance": 0.01}


SAID = {
    "method": "wall clock, cold cache",
    "layers": 2,
    "parts": {
        "sampler": part(0.004, 1, 0),
        "q_norm": part(0.001, 2, 1),
        "attn": part(0.003, 2, 1),
        "embed_tokens": part(0.01, 1, 0),
    },
    "pass_seconds": 0.05,
    "copy_bytes_per_second": 2e9,
    "matmul_flops_per_second": 3e12,
}


def test_the_answer_of_the_worker():
    """Modules get the names that they have here, and one that is not known keeps its own."""
    assert pass_times(SAID) == PassTimes(
        layers=2,
        seconds={"sampling": 0.004, "q_norm": 0.001, "attention": 0.003, "embedding": 0.01},
        calls={"sampling": 1, "q_norm": 2, "attention": 2, "embedding": 1},
        calls_in_layer={"sampling": 0, "q_norm": 1, "attention": 1, "embedding": 0},
        whole=0.05,
        ceilings=Ceilings(2e9, 3e12),
    )


def test_each_module_of_llama_has_a_name_of_its_own():
    """No two would be taken for one; and those whose time is judged are all among them."""
    names = list(PARTS.values())
    judged = {name.removesuffix("_limit_share") for name in METRICS if name.endswith("_limit_share")}

    assert len(set(names)) == len(names) == 13
    assert judged <= set(names)


# Rows


def test_the_rows_of_a_pass():
    """In the order of a pass, unknown parts last; each with its share, its cost and what binds it."""
    rows = pass_parts(pass_values(pass_times(SAID), SMALL, LOAD), SMALL, LOAD)
    whole = 0.01 + 5 * 0.003 + 0.004 + 5 * 0.001

    assert [row.name for row in rows] == ["embedding", "attention", "sampling", "q_norm"]
    assert [row.calls for row in rows] == [1, 5, 1, 5]
    assert [row.seconds for row in rows] == [0.01, 0.003, 0.004, 0.001]
    assert [row.share for row in rows] == [
        pytest.approx(time / whole) for time in (0.01, 0.015, 0.004, 0.005)
    ]
    attention, unknown = rows[1], rows[3]
    assert attention.cost == Cost(912, 2592)
    assert attention.limit_share == pytest.approx(912 / 2e9 / 0.003)
    assert attention.binding == "memory"
    assert (unknown.cost, unknown.limit_share, unknown.binding) == (None, None, None)


def test_what_binds_a_row_follows_from_the_ceilings():
    """The same pass beside a processor that computes slowly."""
    slow = {**SAID, "matmul_flops_per_second": 2e9}
    rows = {row.name: row for row in pass_parts(pass_values(pass_times(slow), SMALL, LOAD), SMALL, LOAD)}

    assert rows["attention"].binding == "compute"
    assert rows["attention"].limit_share == pytest.approx(2592 / 2e9 / 0.003)
    assert rows["sampling"].binding == "memory"


def test_means_of_rounds_are_taken_as_values():
    """Calls that a mean left as 4.999… are counted as whole ones."""
    values = {**pass_values(pass_times(SAID), SMALL, LOAD), "attention_calls": 4.9999999}

    assert {row.name: row.calls for row in pass_parts(values, SMALL, LOAD)}["attention"] == 5


@given(
    st.dictionaries(
        st.sampled_from([*PARTS, "q_norm", "gate"]),
        st.tuples(st.floats(1e-7, 1.0), st.integers(1, 9), st.integers(0, 3)),
        min_size=1,
    )
)
def test_shares_add_up_to_the_whole(given_parts):
    """Whatever parts a pass has, each has one row, and the rows share all of its time."""
    said = {**SAID, "parts": {name: part(*values) for name, values in given_parts.items()}}
    rows = pass_parts(pass_values(pass_times(said), SMALL, LOAD), SMALL, LOAD)

    assert {row.name for row in rows} == {PARTS.get(name, name) for name in given_parts}
    assert len(rows) == len(given_parts)
    assert sum(row.share for row in rows) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "same"),
    [({"num_key_value_heads": None}, True), ({"head_dim": None}, True), ({"num_attention_heads": 0}, False)],
)
def test_null_is_the_default(change, same):
    """Some configs spell a default as null; no heads at all are no Llama."""
    config = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}  # fmt: skip
    shape = shape_of(Model("x", 100, 1024, config))

    assert shape is not None
    assert shape_of(Model("x", 100, 1024, {**config, **change})) == (shape if same else None)
