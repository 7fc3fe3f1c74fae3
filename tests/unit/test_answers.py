"""Prompts whose answers are compared, the weights that make them tell something, and where two answers part."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from sglperf.core.answers import Answer, Divergence, as_likely, compare_answers, first_divergence
from sglperf.core.prediction import Departure
from sglperf.core.server_config import Model
from sglperf.core.shape import Shape, shape_of
from sglperf.errors import ConfigError, StoreError
from sglperf.server.model import materialize
from sglperf.server.weights import random_weights
from sglperf.workload.answers import Answers
from sglperf.workload.plan import Wave

# As likely as the best


@pytest.mark.parametrize(
    ("logprobs", "tokens"),
    [
        ([(-1.0, 7), (-11.0, 3)], (7,)),
        ([(-11.0, 3), (-1.99, 5), (-1.0, 7)], (7, 5)),
        ([(-1.0, 7), (-2.01, 5), (-11.0, 3)], (7,)),
        ([(0.0, 1), (-1.0, 2), (-10.0, 3)], (1, 2)),
        ([(-1.5, 2), (-1.0, 7), (-1.2, 5), (-11.0, 3)], (7, 5, 2)),
        ([(-1.0, 7)], (7,)),
        ([(-1.0, 2), (-1.0, 7), (-1.0, 5)], (7, 5, 2)),
    ],
)
def test_rounding_decides_within_a_tenth_of_the_height(logprobs, tokens):
    """The height is that of the likeliest over the last; what lies no deeper is a tie, the likeliest first."""
    assert as_likely(logprobs) == tokens


LOGPROBS = st.lists(
    st.tuples(st.integers(-2000, 0).map(lambda tenths: tenths / 10), st.integers(0, 99)),
    min_size=2,
    max_size=20,
    unique_by=lambda one: one[1],
)


@given(LOGPROBS, st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_the_temperature_does_not_matter(logprobs, factor):
    """Log probabilities that are all scaled and moved by one amount leave the same ties."""
    moved = [(logprob * factor - 8.0, token) for logprob, token in logprobs]
    height = max(logprobs)[0] - min(logprobs)[0]
    edge = [one for one, _ in logprobs if abs(max(logprobs)[0] - one - 0.1 * height) < 1e-6]

    assert as_likely(moved) == as_likely(logprobs) or edge


# Where two answers part


def answer(*tokens: int, **likely: tuple[int, ...]) -> Answer:
    """Tokens of which none is tied, but where ``at2=(7, 8)`` says what is as likely at position 2."""
    return Answer(
        tokens, tuple(likely.get(f"at{position}", (token,)) for position, token in enumerate(tokens))
    )


def test_the_same_tokens_do_not_part():
    """Whatever else was as likely."""
    assert first_divergence(answer(1, 2, 3), answer(1, 2, 3, at1=(2, 9))) is None
    assert first_divergence(answer(), answer()) is None


@pytest.mark.parametrize(
    ("reference", "other", "found"),
    [
        (answer(1, 2, 3), answer(1, 5, 4), Divergence(1, 2, 5, tie=False)),
        (answer(6), answer(5), Divergence(0, 6, 5, tie=False)),
        (answer(1, 2, at1=(2, 5)), answer(1, 5, at1=(5, 2)), Divergence(1, 2, 5, tie=True)),
        (answer(1, 2, at1=(2, 5)), answer(1, 5), Divergence(1, 2, 5, tie=False)),
        (answer(1, 2), answer(1, 5, at1=(5, 2)), Divergence(1, 2, 5, tie=False)),
        (answer(1, 2, at0=(1, 2, 5)), answer(1, 5, at0=(1, 2, 5)), Divergence(1, 2, 5, tie=False)),
        (answer(1, 2, 3), answer(1, 2), Divergence(2, 3, None, tie=False)),
        (answer(1, 2), answer(1, 2, 3), Divergence(2, None, 3, tie=False)),
        (answer(), answer(4), Divergence(0, None, 4, tie=False)),
    ],
)
def test_the_first_token_that_differs(reference, other, found):
    """It is a tie where each is as likely as the other on both servers; one that ends sooner departs."""
    assert first_divergence(reference, other) == found


ANSWERS = st.lists(st.integers(0, 3), max_size=6).flatmap(
    lambda tokens: st.builds(
        lambda extra: Answer(tuple(tokens), tuple((one, *more) for one, more in zip(tokens, extra, strict=True))),
        st.tuples(*(st.lists(st.integers(0, 3), max_size=2) for _ in tokens)),
    )
)  # fmt: skip


@given(ANSWERS, ANSWERS)
def test_two_answers_part_in_the_same_place_from_either_side(one, other):
    """Up to there they agree, and there they do not; whether it is a tie does not depend on who is the reference."""
    there, back = first_divergence(one, other), first_divergence(other, one)

    if there is None:
        assert back is None
        assert one.tokens == other.tokens
    else:
        assert back == Divergence(there.position, there.other, there.reference, there.tie)
        assert one.tokens[: there.position] == other.tokens[: there.position]
        assert one.tokens[there.position :][:1] != other.tokens[there.position :][:1]


# Rounds of answers

SAME = [answer(1, 2), answer(3, 4), answer(5, 6)]


def test_answers_that_agree():
    """None departs, and nothing is said."""
    assert compare_answers(SAME * 2, SAME * 2, "triton") == (0, None)


def test_cold_answers_are_compared_with_the_reference():
    """The first that departs is named with what it should have been."""
    cold = [answer(1, 2), answer(3, 9), answer(8, 6)]
    count, departure = compare_answers(SAME * 2, cold * 2, "triton")

    assert count == 2
    assert departure == Departure(
        True,
        "answers-differ",
        "2 of 6 answers depart; request 1 from that of triton at token 1: 9 instead of 4, which is no matter of "
        "rounding",
    )


def test_cached_answers_are_compared_with_its_own_cold_ones():
    """A server that departs from the reference departs once, not again from the cache."""
    cached = [answer(1, 2), answer(3, 4), answer(5, 7)]
    count, departure = compare_answers(SAME * 2, SAME + cached, "triton")

    assert count == 1
    assert departure is not None
    assert departure.worse
    assert departure.sentence.startswith(
        "1 of 6 answers depart; request 5 from its own without the prefix cache at token 1: 7 instead of 6,"
    )


def test_what_the_references_cache_did_is_its_own_matter():
    """Its cached answers are compared with its own cold ones when it is the server's turn, not here."""
    odd = [answer(9), answer(9), answer(9)]

    assert compare_answers(SAME + odd, SAME * 2, "triton") == (0, None)


def test_ties_are_passed_over():
    """They neither count nor are they the first that departs."""
    reference = [answer(1, 2, at1=(2, 5)), answer(3, 4)]
    cold = [answer(1, 5, at1=(5, 2)), answer(9, 4)]
    count, departure = compare_answers(reference * 2, cold * 2, "triton")

    assert count == 1
    assert departure is not None
    assert "request 1 from that of triton at token 0: 9 instead of 3" in departure.sentence


def test_an_answer_that_is_missing_is_an_error():
    """Halves of different lengths are no round of answers."""
    with pytest.raises(ValueError, match="longer than argument 1"):
        compare_answers(SAME[:2], SAME * 2, "triton")
    with pytest.raises(ValueError, match="longer than argument 1"):
        compare_answers(SAME * 2, [*SAME, *SAME, answer(1)], "triton")


# The workload


def test_answers_are_asked_for_twice():
    """All prompts together, and when they have been answered, the same ones together again; nothing is emptied."""
    plan = Answers(prompts=3, prompt_tokens=10, new_tokens=5).plan(seed=1, vocab_size=50)
    first, second = (requests for _, requests in plan.parts())

    assert first == second
    assert [wave for wave, _ in plan.parts()] == [Wave(0, 3, flush=False), Wave(3, 3, flush=False)]
    assert plan.concurrency == 3
    assert [(len(one.input_ids), one.max_new_tokens) for one in first] == [(10, 5)] * 3
    assert len({one.input_ids[0] for one in first}) == 3


def test_answers_take_the_profiles_lengths():
    """Number of prompts aside, which is the test's."""
    assert Answers().filled({"prompt_tokens": 64, "new_tokens": 16, "prompts": 9}) == Answers(4, 64, 16)
    assert (Answers.compares_answers, Answers.cold) == (True, False)


def test_the_label_and_the_longest_of_answers():
    """Lengths and number of prompts are in the label; a sequence is a prompt and its answer."""
    assert Answers(3, 10, 5).label == "answers-p10-n5-3x2"
    assert Answers(3, 10, 5).longest == 15
    assert Answers().longest == 0


# Weights

SHAPE = Shape(
    hidden=64, intermediate=96, layers=2, heads=4, kv_heads=2, head=24, vocabulary=300, value_bytes=2
)
SIZES = {
    "model.embed_tokens.weight": (300, 64),
    **{
        f"model.layers.{layer}.{name}.weight": size
        for layer in (0, 1)
        for name, size in {
            "input_layernorm": (64,),
            "self_attn.q_proj": (96, 64),
            "self_attn.k_proj": (48, 64),
            "self_attn.v_proj": (48, 64),
            "self_attn.o_proj": (64, 96),
            "post_attention_layernorm": (64,),
            "mlp.gate_proj": (96, 64),
            "mlp.up_proj": (96, 64),
            "mlp.down_proj": (64, 96),
        }.items()
    },
    "model.norm.weight": (64,),
    "lm_head.weight": (300, 64),
}


def test_the_tensors_of_a_hugging_face_llama():
    """Names and shapes, (out, in), as transformers' LlamaForCausalLM has them, in half precision."""
    weights = random_weights(SHAPE)

    assert {name: one.shape for name, one in weights.items()} == SIZES
    assert {one.dtype for one in weights.values()} == {np.dtype(np.float16)}


def test_matrices_are_all_the_weights_that_a_shape_counts():
    """What is written is what a shape says of its size, but for the norms."""
    values = sum(one.size for one in random_weights(SHAPE).values() if one.ndim == 2)

    assert values * SHAPE.value_bytes == SHAPE.weight_bytes


def test_norms_are_the_identity_and_matrices_keep_the_variance():
    """A matrix spreads by one over the root of what it adds up; what a token begins with, by a tenth."""
    for name, one in random_weights(SHAPE).items():
        values = one.astype(np.float64)
        if one.ndim == 1:
            assert np.all(values == 1)
        else:
            expected = 0.1 if name == "model.embed_tokens.weight" else 1 / math.sqrt(one.shape[1])
            assert values.std() == pytest.approx(expected, rel=0.06), name
            assert abs(values.mean()) < 5 * expected / math.sqrt(one.size), name


def test_weights_are_the_same_everywhere_and_differ_among_themselves():
    """Drawn from one seed, in one order, and no two matrices alike."""
    once, again = random_weights(SHAPE), random_weights(SHAPE)

    assert all(np.array_equal(once[name], again[name]) for name in once)
    assert once["model.embed_tokens.weight"][0, :3].tolist() == pytest.approx(
        [0.17639, 0.04001, 0.09790], abs=1e-4
    )
    assert len({one.tobytes() for one in once.values() if one.ndim == 2}) == 2 + 2 * 7


# On disk

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "vocab_size": 300,
    "max_position_embeddings": 128,
    "torch_dtype": "bfloat16",
}
MODEL = Model("tiny", 300, 128, config=CONFIG, written=True)


def test_written_weights_are_a_checkpoint(tmp_path):
    """Beside the config lie the shape's weights, as safetensors reads them, and nothing else."""
    folder = Path(materialize(MODEL, tmp_path))
    found = load_file(folder / "model.safetensors")
    expected = random_weights(SHAPE)

    assert shape_of(MODEL) == SHAPE
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert json.loads((folder / "config.json").read_text()) == CONFIG
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors"}


def test_weights_are_written_once(tmp_path):
    """A second run finds them, so a large model costs nothing then."""
    file = Path(materialize(MODEL, tmp_path)) / "model.safetensors"
    file.write_bytes(b"as it was")

    assert materialize(MODEL, tmp_path) == str(file.parent)
    assert file.read_bytes() == b"as it was"


def test_dummy_weights_are_not_written(tmp_path):
    """SGLang makes them up; the folder is another, so that neither finds the other's files."""
    dummy = replace(MODEL, written=False)
    folder = Path(materialize(dummy, tmp_path))

    assert [file.name for file in folder.iterdir()] == ["config.json"]
    assert folder != Path(materialize(MODEL, tmp_path))
    assert (dummy.dummy, MODEL.dummy) == (True, False)
    assert folder.name.startswith("tiny-")


def test_another_shape_is_another_folder(tmp_path):
    """One entry of the config is enough."""
    other = replace(MODEL, config={**CONFIG, "rope_theta": 1.0})

    assert materialize(other, tmp_path) != materialize(MODEL, tmp_path)


def test_the_order_of_a_config_does_not_matter(tmp_path):
    """The same entries are the same model, however its file has them."""
    turned = replace(MODEL, config=dict(reversed(CONFIG.items())))

    assert materialize(turned, tmp_path) == materialize(MODEL, tmp_path)


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    """No half of a file that another run might take for a whole one, and the folder is named."""

    def full(weights: object, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sglperf.server.model.save_file", full)
    with pytest.raises(StoreError, match="cannot write a model into .*tiny-.*No space left on device"):
        materialize(MODEL, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert list(folder.iterdir()) == []


def test_weights_of_an_unknown_shape_are_refused(tmp_path):
    """Experts have weights whose names and sizes nobody has written down."""
    experts = replace(MODEL, config={**CONFIG, "num_local_experts": 8})

    with pytest.raises(ConfigError, match="model tiny is no dense Llama, so no weights can be made for it"):
        materialize(experts, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """With what to do about it."""
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="cannot write a model into .*file/tiny-.*Choose a writable folder"):
        materialize(MODEL, tmp_path / "file")


def test_a_checkpoint_is_left_as_it_is(tmp_path):
    """A directory is given by its whole path, a hub name as it is; nothing is written."""
    assert materialize(Model("x", 9, 9, path=str(tmp_path)), tmp_path) == str(tmp_path.resolve())
    assert materialize(Model("x", 9, 9, path="org/x"), tmp_path) == "org/x"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="no checkpoint directory"):
        materialize(Model("x", 9, 9, path=str(tmp_path / "none")), tmp_path)
