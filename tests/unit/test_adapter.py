"""The adapter says what each SGLang version calls things."""

from __future__ import annotations

import pytest

from sglperf.errors import TargetError
from sglperf.target.adapter import NEWEST, OLDEST, adapter_for


@pytest.mark.parametrize("version", [f"0.5.{patch}" for patch in range(16, 24)])
def test_known_versions_are_exact(version: str) -> None:
    """Every supported release has its own names and needs no note."""
    adapter = adapter_for(version)
    assert (str(adapter.version), adapter.exact, adapter.notes) == (version, True, ())
    assert adapter.attention_backends >= {"torch_native", "flex_attention", "triton", "flashinfer", "fa3"}


@pytest.mark.parametrize(
    ("attribute", "first"),
    [
        ("freezes_garbage", 18),
        ("stage_seconds", 20),
        ("first_token_latency", 21),
        ("queue_time_sums_waits", 21),
        ("pages_on_cpu", 22),
    ],
)
def test_what_came_when(attribute: str, first: int) -> None:
    """What a version gained is there from that version on, and not before."""
    has = [getattr(adapter_for(f"0.5.{patch}"), attribute) for patch in range(16, 24)]
    assert has == [patch >= first for patch in range(16, 24)]


@pytest.mark.parametrize(
    ("attribute", "gone"),
    [("old_graph_flags", 20), ("counts_whole_pages", 20), ("get_load", 21), ("counts_every_rank", 21)],
)
def test_what_went_when(attribute: str, gone: int) -> None:
    """What a version dropped is there before that version only."""
    has = [getattr(adapter_for(f"0.5.{patch}"), attribute) for patch in range(16, 24)]
    assert has == [patch < gone for patch in range(16, 24)]


def test_what_changed_its_meaning() -> None:
    """Computed tokens were whole pages once: nothing where a page is one token, and nothing of other metrics."""
    old, new = adapter_for("0.5.19"), adapter_for("0.5.20")
    assert (old.meaning("prefill_tokens", 16), new.meaning("prefill_tokens", 16)) == ("whole pages", "tokens")
    assert old.meaning("prefill_tokens", 1) == new.meaning("prefill_tokens", 1) == ""
    assert old.meaning("decode_tokens", 16) == new.meaning("decode_tokens", 16) == ""


def test_backends_and_policies_follow_the_version() -> None:
    """Attention backends and eviction policies are those of the version."""
    assert "cutlass_mla" in adapter_for("0.5.19").attention_backends
    assert "cutlass_mla" not in adapter_for("0.5.20").attention_backends
    assert "qsa" not in adapter_for("0.5.19").attention_backends
    assert "qsa" in adapter_for("0.5.20").attention_backends
    assert "tlru" not in adapter_for("0.5.20").eviction_policies
    assert "tlru" in adapter_for("0.5.21").eviction_policies


def test_request_timings_name_what_the_version_sends() -> None:
    """Only versions that send first_token_latency are asked for it."""
    assert adapter_for("0.5.17").request_timings == ("queue_time", "e2e_latency")
    assert adapter_for("0.5.23").request_timings == ("queue_time", "e2e_latency", "first_token_latency")


@pytest.mark.parametrize("version", ["0.5.24", "0.6.0", "1.0"])
def test_newer_behaves_like_the_newest_and_says_so(version: str) -> None:
    """A newer version is taken for the newest known one, with a note that names both."""
    adapter = adapter_for(version)
    assert (adapter.version, adapter.exact) == (NEWEST, False)
    assert version in adapter.notes[0]
    assert str(NEWEST) in adapter.notes[0]


@pytest.mark.parametrize(
    "version", ["0.5.22.post1", "0.5.22rc1", "0.5.22+g123abc", "0.5.22.dev3+gabc.d20260101"]
)
def test_builds_of_a_release_count_as_it(version: str) -> None:
    """Post-releases, candidates and local builds behave like their release."""
    assert str(adapter_for(version).version) == "0.5.22"


@pytest.mark.parametrize("version", ["0.5.15", "0.4.9", "0.0.0.dev0"])
def test_older_is_refused(version: str) -> None:
    """A version older than the oldest supported one is refused, naming both."""
    with pytest.raises(TargetError, match=rf"{version}.*older than {OLDEST}"):
        adapter_for(version)


def test_not_a_version_is_refused() -> None:
    """What is not a version is refused."""
    with pytest.raises(TargetError, match="'main' is not a version"):
        adapter_for("main")
