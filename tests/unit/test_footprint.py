"""Whether two servers fit on a GPU, from the shapes of real models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sglperf.config_folder import ConfigFolder
from sglperf.core.footprint import fit_together, gpu_bytes
from sglperf.core.server_config import Model, ServerConfig
from sglperf.models import load_model

CONFIG = ConfigFolder(Path(__file__).parents[2] / "config")
GIB = 2**30


def server(model: Model, tokens: int, ranks: int = 1) -> ServerConfig:
    return ServerConfig(model, "cuda", "triton", 1, tuple(range(ranks)), tokens, 128, 0.85)


def test_an_8b_model_as_seen_on_an_h100():
    """Weights of 14.96 GiB and a pool of 16 GiB: what SGLang's log says of Llama 3 8B with 131,072 tokens."""
    llama = load_model(CONFIG, "llama-3-8b")
    empty, full = gpu_bytes(server(llama, 0)), gpu_bytes(server(llama, 131072))
    assert empty is not None
    assert full is not None
    assert (full - empty) / GIB == pytest.approx(16.0)
    assert (empty - 5 * GIB) / GIB == pytest.approx(14.96, abs=0.05)
    assert fit_together([server(llama, 131072)] * 2, 80 * GIB)
    assert not fit_together([server(llama, 262144)] * 2, 80 * GIB)
    assert not fit_together([server(llama, 131072)] * 2, 40 * GIB)


def test_ranks_share():
    """Two ranks hold half each."""
    llama = load_model(CONFIG, "llama-3-8b")
    one, two = gpu_bytes(server(llama, 131072)), gpu_bytes(server(llama, 131072, 2))
    assert one is not None
    assert two is not None
    assert two - 5 * GIB == pytest.approx((one - 5 * GIB) / 2, rel=1e-6)


def test_what_nobody_knows_does_not_fit():
    """A checkpoint, or experts, of which the shape does not tell."""
    llama = load_model(CONFIG, "llama-3-8b")
    assert gpu_bytes(server(Model("x", 100, 1024, path="org/x"), 1000)) is None
    assert not fit_together([server(Model("x", 100, 1024, path="org/x"), 1000)] * 2, 1000 * GIB)
    experts = replace(llama, config={**llama.config, "num_local_experts": 8})
    assert gpu_bytes(server(experts, 1000)) is None
