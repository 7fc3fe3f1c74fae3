"""All-reduce of a model's own messages: their size, what a time amounts to, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import ask, server

from sglperf.asking import answered, request
from sglperf.config import load_settings
from sglperf.config_folder import ConfigFolder
from sglperf.core.catalogue import METRICS
from sglperf.core.collectives import Message, allreduce_values, message_of
from sglperf.core.server_config import Model, ServerConfig
from sglperf.errors import UsageError
from sglperf.models import load_model
from sglperf.plan import Load, check_ask
from sglperf.workload.collectives import AllReduce

CONFIG = ConfigFolder(Path(__file__).parents[2] / "config")
LLAMA = load_model(CONFIG, "llama-3-8b")
WORKLOAD = AllReduce(ranks=4, tokens=8)
SAID = {"seconds": 3e-5, "streamed_seconds": 2e-5, "error": 0.0, "outside": 0, "method": "CUDA events"}


def on(ranks: int = 4, model: Model = LLAMA) -> ServerConfig:
    return replace(server(tp_set=tuple(range(ranks))), model=model)


def told(**changes: Any) -> Any:
    return answered(on(), WORKLOAD, SAID | changes)


def test_a_message_is_the_hidden_states():
    """8 tokens of 4096 values of two bytes each."""
    assert message_of(LLAMA, 8) == Message(8 * 4096, "bfloat16")
    assert message_of(LLAMA, 8).size == 65536  # type: ignore[union-attr]
    wide = replace(LLAMA, config={**LLAMA.config, "torch_dtype": "float32"})
    assert message_of(wide, 8).size == 131072  # type: ignore[union-attr]


@pytest.mark.parametrize("config", [{}, {"hidden_size": 64, "torch_dtype": "int4"}])
def test_a_message_that_nobody_knows(config: dict[str, object]):
    """A checkpoint whose config was not read, or a type of unknown size."""
    assert message_of(Model("x", 100, 100, config=config), 8) is None


def test_what_a_time_amounts_to():
    """The latency is that of a call by itself; both bandwidths are of one in a row, the bus's by 2 (N - 1) / N."""
    assert allreduce_values(Message(32768, "bfloat16"), 4, 3e-5, 2e-5) == {
        "allreduce_time": 3e-5,
        "allreduce_streamed_time": 2e-5,
        "allreduce_message": 65536.0,
        "allreduce_bandwidth": pytest.approx(3.2768e9),
        "allreduce_bus_bandwidth": pytest.approx(3.2768e9 * 1.5),
    }


@given(st.integers(2, 16), st.floats(1e-6, 1.0), st.integers(1, 10**8))
def test_a_ring_that_fills_its_links(ranks: int, link_seconds: float, elements: int):
    """A ring sends 2 (N - 1) parts of an Nth over each link, one after the other: its bus bandwidth is the link's."""
    message = Message(elements * ranks, "bfloat16")
    seconds = 2 * (ranks - 1) * link_seconds
    values = allreduce_values(message, ranks, seconds, seconds)

    assert values["allreduce_bus_bandwidth"] == pytest.approx(message.size / ranks / link_seconds)


def test_what_the_worker_is_asked_for():
    """The model's own message, the suite's seed, and its time for a kernel."""
    settings = load_settings(CONFIG, {"profile": "cpu", "seed": 7}, {}, ())
    load = Load(WORKLOAD, WORKLOAD.plan(seed=0, vocab_size=1), "x")

    assert request(settings, on(), None, load) == {  # type: ignore[arg-type]
        "elements": 32768, "type": "bfloat16", "seed": 7, "budget": 0.1,
    }  # fmt: skip


def test_an_exact_sum_is_believed():
    """Its values are those of the catalogue, and how it was timed is kept."""
    answer = told()

    assert answer.gates == ()
    assert answer.method == "CUDA events"
    assert answer.values["allreduce_time"] == 3e-5
    assert set(answer.values) <= set(METRICS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"error": 1.0}, "off from the exact sum of the ranks' messages by 1"),
        ({"error": float("inf")}, "off from the exact sum of the ranks' messages by inf"),
        ({"outside": 3}, "changed 3 values beside its message"),
    ],
)
def test_a_wrong_sum_has_no_time(changes: dict[str, Any], said: str):
    """However fast it was: none of its figures stands."""
    answer = told(**changes)

    (gate,) = answer.gates
    assert gate.code == "collective-wrong"
    assert said in gate.sentence
    assert answer.believable(answer.gates) == {}


@pytest.mark.parametrize(
    ("config", "workload", "said"),
    [
        (on(4), AllReduce(ranks=2, tokens=8), "allreduce-n2-t8 needs a TP set of 2, .* has 4"),
        (on(1), AllReduce(ranks=1, tokens=8), "allreduce-n1-t8 needs a TP set of 2, .* has 1"),
        (on(2, Model("x", 100, 100)), AllReduce(ranks=2, tokens=8), "hidden states of x, whose size is not known"),
    ],
)  # fmt: skip
def test_what_is_refused(config: ServerConfig, workload: AllReduce, said: str):
    """A set of another size than the message's ranks, one GPU, a model of unknown size: before anything starts."""
    with pytest.raises(UsageError, match=said):
        check_ask(ask("allreduce_time", area="tp", config=config, workload=workload))


def test_what_is_taken():
    """A set of the message's size."""
    check_ask(ask("allreduce_time", area="tp", config=on(4), workload=WORKLOAD))
    assert WORKLOAD.label == "allreduce-n4-t8"
