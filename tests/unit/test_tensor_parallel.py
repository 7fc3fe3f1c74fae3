"""The TP sets of a run: those that are named, or those that the host has and the model can use."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from machines import NO_GPUS, gpus

from sglperf.config import load_settings
from sglperf.config_folder import ConfigFolder
from sglperf.configurations import server_configs
from sglperf.core.machine import Gpus
from sglperf.core.topology import LinkKind
from sglperf.errors import ConfigError, NotHere
from sglperf.models import load_model
from sglperf.settings import Settings
from sglperf.tensor_parallel import ChosenSets, choose_sets

CONFIG = ConfigFolder(Path(__file__).parents[2] / "config")


def settings(server: str | None = "scaling", profile: str = "h100", **options: Any) -> Settings:
    return load_settings(CONFIG, {"profile": profile, **options}, {}, (), server)


def choose(given: Settings, host: Gpus | None = None) -> ChosenSets:
    """On that host; without one nobody may look."""
    return choose_sets(
        given, load_model(CONFIG, given.model), lambda: host or pytest.fail("looked at the GPUs")
    )


def names(chosen: ChosenSets) -> list[str]:
    return [one.name for one in chosen.sets]


def test_sets_are_found():
    """One GPU and a set of each class and size; for all-reduce only those that have something to reduce."""
    assert names(choose(settings(), gpus(8))) == ["single", "nvswitch-2", "nvswitch-4", "nvswitch-8"]
    assert names(choose(settings("allreduce"), gpus(4))) == ["nvswitch-2", "nvswitch-4"]


def test_named_sets_win():
    """--tp-gpus is taken as it is, smallest first, under the names of its classes."""
    chosen = choose(settings(tp_sets=((2, 3), (1,), (0, 1))), gpus(4, LinkKind.PHB, 0))

    assert [(one.name, one.gpus) for one in chosen.sets] == [
        ("single", (1,)), ("numa-node-2", (2, 3)), ("numa-node-2:0.1", (0, 1)),
    ]  # fmt: skip
    assert names(choose(settings("allreduce", tp_sets=((0,), (0, 1))), gpus(2))) == ["nvswitch-2"]


def test_the_gpus_are_not_looked_at_without_need():
    """Named sets that are compared with none, and ranks on a CPU."""
    assert [one.gpus for one in choose(settings(None, tp_sets=((2, 3), (0,)))).sets] == [(2, 3), (0,)]
    assert names(choose(settings(profile="cpu", tp_sets=((0,), (0, 1))))) == ["single", "cpu-2"]


@pytest.mark.parametrize(
    ("processors", "found"), [({0, 1, 2}, ["single", "cpu-2"]), ({4, 5}, ["single", "cpu-2"])]
)
def test_ranks_on_a_cpu(monkeypatch: pytest.MonkeyPatch, processors: set[int], found: list[str]):
    """One rank and two, which have a processor each."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: processors)

    assert names(choose(settings(profile="cpu"))) == found
    assert names(choose(settings("allreduce", profile="cpu"))) == found[1:]


def test_one_processor_has_no_ranks(monkeypatch: pytest.MonkeyPatch):
    """It says what to give it."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})

    with pytest.raises(NotHere, match="this process has one processor: give it two"):
        choose(settings(profile="cpu"))


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (gpus(1), "this machine has 1 GPU that can be used"),
        (NO_GPUS, r"this machine has 0 GPUs that can be used \(no NVIDIA driver"),
    ],
)
@pytest.mark.parametrize("server", ["scaling", "allreduce"])
def test_one_gpu_has_no_ranks(host: Gpus, said: str, server: str):
    """One GPU by itself scales to nothing."""
    with pytest.raises(NotHere, match=f"needs a TP set of 2 or more, and {said}"):
        choose(settings(server), host)
    with pytest.raises(NotHere, match="--tp-gpus names none: give one with --tp-gpus"):
        choose(settings(server, tp_sets=((0,),)), host)


def test_a_set_that_cannot_split_the_model_is_refused():
    """Model, set and where it was given are named, and what does not go; a CPU server pads its heads."""
    with pytest.raises(
        ConfigError,
        match=r"--tp-gpus: TP set 0,1,2 does not fit llama-3-8b: its 32 attention heads cannot be shared evenly by 3",
    ):
        choose(settings(None, tp_sets=((0,), (0, 1, 2))), gpus(4))
    assert names(choose(settings(profile="cpu", tp_sets=((0, 1, 2),)))) == ["cpu-3"]


def test_sizes_that_cannot_split_the_model_are_left_out_and_named(monkeypatch: pytest.MonkeyPatch):
    """Of sets that are found, the others are measured."""
    given = settings()
    odd = load_model(CONFIG, given.model)
    odd = replace(odd, config={**odd.config, "num_attention_heads": 36, "num_key_value_heads": 12})
    chosen = choose_sets(given, odd, lambda: gpus(8))

    assert names(chosen) == ["single", "nvswitch-2", "nvswitch-4"]
    assert chosen.notes == (
        "llama-3-8b: its 36 attention heads cannot be shared evenly by 8 ranks, so sets of 8 are left out",
    )


def test_sets_that_cannot_hold_the_model_are_left_out_and_named():
    """A 70B model begins at two H100 with the profile's pool, at four with a larger one, and scales from there."""
    small, large = settings(model="llama-2-70b"), settings(model="llama-2-70b", max_total_tokens=131072)
    chosen = choose(large, gpus(8))

    assert names(chosen) == ["nvswitch-4", "nvswitch-8"]
    assert names(choose(small, gpus(8))) == ["nvswitch-2", "nvswitch-4", "nvswitch-8"]
    less = settings(model="llama-2-70b", mem_fraction_static=0.8)  # of memory for weights and pool
    assert names(choose(less, gpus(8))) == ["nvswitch-4", "nvswitch-8"]
    (note,) = chosen.notes
    assert "llama-2-70b and its KV pool take 168 GiB: sets of 1 and 2 are left out" in note
    with pytest.raises(NotHere, match="too little memory on them for the model"):
        choose(large, gpus(2))


def test_servers_of_a_comparison_of_sets():
    """They differ in nothing but their set, go by its name, and have labels and fingerprints of their own."""
    given = settings()
    model = load_model(CONFIG, given.model)
    configs = server_configs(given, model, "scaling", choose_sets(given, model, lambda: gpus(4)).sets)

    assert [(one.label, one.name_in_group, one.tp_set) for one in configs] == [
        ("flashinfer-page1-tp0-scaling", "single", (0,)),
        ("flashinfer-page1-tp0.1-scaling", "nvswitch-2", (0, 1)),
        ("flashinfer-page1-tp0.1.2.3-scaling", "nvswitch-4", (0, 1, 2, 3)),
    ]
    assert {one.group for one in configs} == {"scaling-flashinfer-page1"}
    assert len({one.neighbourhood for one in configs}) == 3


def test_backends_are_not_compared_across_sets():
    """Each backend has a comparison of its own; so has each page size."""
    given = settings(attention_backends=("a", "b"), page_sizes=(1, 16))
    configs = server_configs(given, load_model(CONFIG, given.model), "scaling", choose(given, gpus(2)).sets)

    assert len({one.group for one in configs}) == 4
    assert len(configs) == 8


def test_servers_are_compared_in_one_respect():
    """TP sets or backends: both at once say nothing."""
    with pytest.raises(ConfigError, match="compare_tp_sets .*: servers are compared in one respect"):
        settings("backends", compare_tp_sets=True)


def test_auto_is_typed_or_written():
    """On the command line, in a variable, in a file."""
    from sglperf.settings import parse_tp_sets

    assert parse_tp_sets(" auto ") == "auto"
    assert settings(None, tp_sets="auto").tp_sets == ()
    assert load_settings(CONFIG, {"profile": "cpu"}, {"SGLPERF_TP_SETS": "auto"}, ()).tp_sets == ()
