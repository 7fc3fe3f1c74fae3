"""A set of GPUs is as close as its most distant pair."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sglperf.core.topology import Link, LinkClass, LinkKind, Topology

CLASSES = {
    LinkKind.NVSWITCH: LinkClass.NVSWITCH,
    LinkKind.NVLINK: LinkClass.NVLINK,
    LinkKind.PSB: LinkClass.PCIE_SWITCH,
    LinkKind.PIX: LinkClass.PCIE_SWITCH,
    LinkKind.PXB: LinkClass.PCIE_SWITCH,
    LinkKind.PHB: LinkClass.NUMA_NODE,
    LinkKind.NODE: LinkClass.NUMA_NODE,
    LinkKind.SYS: LinkClass.CROSS_NUMA,
    LinkKind.UNKNOWN: LinkClass.UNKNOWN,
}
FARTHEST_LAST = list(CLASSES)
# Three pairs of GPUs 0, 1, 2.
triangles = st.lists(st.sampled_from(list(LinkKind)), min_size=3, max_size=3).map(
    lambda kinds: Topology(
        tuple(Link(a, b, k) for (a, b), k in zip([(0, 1), (0, 2), (1, 2)], kinds, strict=True))
    )
)


@pytest.mark.parametrize(("kind", "link_class"), CLASSES.items())
def test_a_pair_has_the_class_of_its_link(kind: LinkKind, link_class: LinkClass):
    """Every kind of link has its class."""
    assert Topology((Link(0, 1, kind),)).link_class((0, 1)) is link_class


@settings(deadline=None)
@given(triangles)
def test_the_most_distant_pair_decides(topology: Topology):
    """A set's class is that of its most distant pair."""
    farthest = max((link.kind for link in topology.links), key=FARTHEST_LAST.index)

    assert topology.link_class((0, 1, 2)) is CLASSES[farthest]


@settings(deadline=None)
@given(triangles, st.permutations([0, 1, 2]))
def test_order_does_not_matter(topology: Topology, order: list[int]):
    """Neither the order of a set nor a GPU named twice changes its class."""
    assert topology.link_class([*order, order[0]]) is topology.link_class((0, 1, 2))
    assert topology.link(order[0], order[1]) == topology.link(order[1], order[0])


def test_one_gpu_is_single():
    """A set of one has no link."""
    assert Topology().link_class((3,)) is LinkClass.SINGLE
    assert Topology().fewest_nvlinks((3,)) == 0


def test_a_pair_that_was_not_probed_is_unknown():
    """A missing link is unknown, not close and not far."""
    topology = Topology((Link(0, 1, LinkKind.NVLINK, 12),))

    assert topology.link(0, 2) == Link(0, 2, LinkKind.UNKNOWN)
    assert topology.link_class((0, 1, 2)) is LinkClass.UNKNOWN


def test_a_broken_nvlink_shows():
    """The fewest NVLinks of any pair count; a pair without any makes it none."""
    pairs = (
        Link(0, 1, LinkKind.NVSWITCH, 18),
        Link(0, 2, LinkKind.NVSWITCH, 17),
        Link(1, 2, LinkKind.NVSWITCH, 17),
    )

    assert Topology(pairs).fewest_nvlinks((0, 1)) == 18
    assert Topology(pairs).fewest_nvlinks((0, 1, 2)) == 17
    assert Topology((*pairs[:2], Link(1, 2, LinkKind.SYS))).fewest_nvlinks((0, 1, 2)) == 0


def test_labels_are_those_of_nvidia_smi():
    """NVLinks are labelled by their number, PCIe paths by their name."""
    assert Link(0, 1, LinkKind.NVSWITCH, 18).label == "NV18"
    assert Link(0, 1, LinkKind.PXB).label == "PXB"
