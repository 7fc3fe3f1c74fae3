"""One set of GPUs for each size and class of links, whatever the host looks like."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import H100, gpus

from sglperf.core.gpu_sets import SIZES, named_sets, representative_sets, why_not_split
from sglperf.core.machine import Gpus
from sglperf.core.server_config import Model
from sglperf.core.topology import Link, LinkKind, Topology


@st.composite
def hosts(draw: st.DrawFn) -> Gpus:
    """Up to eight GPUs, every pair linked somehow; some hidden."""
    count = draw(st.integers(1, 8))
    kinds = draw(st.lists(st.sampled_from(list(LinkKind)), min_size=28, max_size=28))
    links = tuple(
        Link(a, b, kind) for (a, b), kind in zip(combinations(range(count), 2), kinds, strict=False)
    )
    visible = tuple(sorted(draw(st.sets(st.integers(0, count - 1)))))
    return replace(gpus(count), topology=Topology(links), visible=visible)


@settings(deadline=None, max_examples=60)
@given(hosts())
def test_every_size_and_class_that_there_is(host: Gpus):
    """No pair of size and class is left out, none is there twice, and each set is what its name says."""
    visible = [gpu.index for gpu in host.usable]
    there = {(size, host.topology.link_class(one)) for size in SIZES for one in combinations(visible, size)}
    found = representative_sets(host)
    taken = [(len(one.gpus), host.topology.link_class(one.gpus)) for one in found]

    assert sorted(taken) == sorted(there)
    assert taken == sorted(taken, key=lambda one: (one[0], list(type(one[1])).index(one[1])))
    for one, (size, links) in zip(found, taken, strict=True):
        assert one.name == ("single" if size == 1 else f"{links.value}-{size}")
        assert set(one.gpus) <= set(visible)


@settings(deadline=None, max_examples=30)
@given(hosts(), st.randoms(use_true_random=False))
def test_the_order_of_links_does_not_matter(host: Gpus, source):
    """The same host gives the same sets, however its links are listed."""
    links = list(host.topology.links)
    source.shuffle(links)

    assert representative_sets(replace(host, topology=Topology(tuple(links)))) == representative_sets(host)


def test_the_better_linked_pair_is_taken():
    """Of two pairs with NVLinks, the one with more of them: one of the others is broken."""
    pairs = {(0, 1): 11, (2, 3): 12}
    links = tuple(
        Link(a, b, LinkKind.NVLINK, pairs[a, b]) if (a, b) in pairs else Link(a, b, LinkKind.SYS)
        for a, b in combinations(range(4), 2)
    )
    found = {one.name: one.gpus for one in representative_sets(replace(gpus(4), topology=Topology(links)))}

    assert found["nvlink-2"] == (2, 3)
    assert found["cross-numa-2"] == (0, 2)


def test_two_nodes_share_a_set_evenly():
    """Two GPUs of each node, though three of one and one of the other have shorter paths between them."""
    links = tuple(
        Link(a, b, LinkKind.NODE if a // 4 == b // 4 else LinkKind.SYS) for a, b in combinations(range(8), 2)
    )
    found = {one.name: one.gpus for one in representative_sets(replace(gpus(8), topology=Topology(links)))}

    assert found["cross-numa-4"] == (0, 1, 4, 5)


def test_few_parts_rather_than_many():
    """Two pairs below a switch each, not four GPUs below four switches."""
    links = tuple(
        Link(a, b, LinkKind.PIX if a // 2 == b // 2 else LinkKind.NODE) for a, b in combinations(range(8), 2)
    )
    found = {one.name: one.gpus for one in representative_sets(replace(gpus(8), topology=Topology(links)))}

    assert found["numa-node-4"] == (0, 1, 2, 3)


def test_gpus_of_one_product():
    """A display card beside the others is in no set."""
    host = gpus(3)
    mixed = replace(host, gpus=(replace(H100, name="NVIDIA T400"), *host.gpus[1:]))

    assert [one.gpus for one in representative_sets(mixed)] == [(1,), (1, 2)]


def test_sizes_that_are_wanted():
    """Sizes that were not asked for are left out."""
    assert [one.name for one in representative_sets(gpus(8), (1, 8))] == ["single", "nvswitch-8"]


def test_a_host_with_very_many_gpus():
    """Of more than sixteen, sixteen are looked at: a choice of eight among seventy-two has no end."""
    links = (Link(14, 15, LinkKind.PIX), Link(16, 17, LinkKind.NVLINK, 12))
    found = representative_sets(replace(gpus(18), topology=Topology(links)), (2,))

    assert [(one.name, one.gpus) for one in found] == [("pcie-switch-2", (14, 15)), ("unknown-2", (0, 1))]


def test_given_sets_have_names_of_their_own():
    """Smallest first; one that is given twice is taken once; ranks on a CPU have no links."""
    given = [(2, 3), (0,), (0, 1), (0, 1), (1,)]

    assert [(one.name, one.gpus) for one in named_sets(given, gpus(4).topology)] == [
        ("single", (0,)),
        ("single:1", (1,)),
        ("nvswitch-2", (2, 3)),
        ("nvswitch-2:0.1", (0, 1)),
    ]
    assert [one.name for one in named_sets([(0, 1), (0,)], None)] == ["single", "cpu-2"]


@pytest.mark.parametrize(
    ("heads", "kv_heads", "ranks", "said"),
    [
        (32, 8, 4, None),
        (32, 8, 8, None),
        (32, 8, 16, None),  # two ranks share a KV head
        (32, None, 4, None),
        (32, 8, 3, "its 32 attention heads cannot be shared evenly by 3 ranks"),
        (12, 4, 3, "its 4 KV heads and 3 ranks do not divide one another"),
        (48, 6, 4, "its 6 KV heads and 4 ranks do not divide one another"),
        (30, None, 4, "its 30 attention heads cannot be shared evenly by 4 ranks"),
        (None, None, 7, None),
    ],
)
def test_models_that_cannot_be_split(heads: int | None, kv_heads: int | None, ranks: int, said: str | None):
    """Heads are shared evenly; a model whose shape is not known is the server's matter."""
    config = {"num_attention_heads": heads, "num_key_value_heads": kv_heads}

    assert why_not_split(Model("m", 100, 100, config=config), ranks) == said
