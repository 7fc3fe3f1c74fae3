"""Pieces of the worker that takes a pass apart, in this environment's torch: its reference, and how it times."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="needs torch in this environment"
)
WORKERS = Path(__file__).parents[2] / "src" / "sglperf" / "workers"


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """A worker's module, imported as its interpreter would."""
    monkeypatch.syspath_prepend(str(WORKERS))
    names = ("model_pass", "reference", "timing", "link")
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(before)


def straightforward(q: Any, k: Any, v: Any, scaling: float) -> Any:
    """Causal attention written down at once, each query head with a copy of its keys."""
    import torch

    group, new, tokens = q.shape[1] // k.shape[1], q.shape[0], k.shape[0]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    seen = torch.ones(new, tokens, dtype=torch.bool).tril(tokens - new)
    scores = torch.einsum("qhd,khd->hqk", q, k) * scaling
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, v).reshape(new, -1)


@pytest.mark.parametrize(("new", "tokens"), [(1, 7), (5, 7), (7, 7)])
@pytest.mark.parametrize("scores", [1, 2 * 6 * 7, 2**26])
def test_attention_in_blocks(
    room: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, new: int, tokens: int, scores: int
) -> None:
    """However few scores are held at once, each new token sees what is before it and itself."""
    import torch

    reference = room("reference")
    monkeypatch.setattr(reference, "_SCORES", scores)
    source = torch.Generator().manual_seed(0)
    q = torch.randn(new, 6, 4, generator=source, dtype=torch.float64)
    k, v = torch.randn(2, tokens, 2, 4, generator=source, dtype=torch.float64)
    expected = straightforward(q, k, v, 0.5)
    assert torch.allclose(reference._attended(q, k, v, 0.5), expected, rtol=1e-12, atol=1e-12)


def test_scores_held_at_once(room: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    """No block of a long prompt has more scores than may be held: 32,000 tokens would need 262 GB."""
    import torch

    reference = room("reference")
    shapes: list[int] = []
    block = reference._block

    def noted(q: Any, k: Any, *others: Any) -> Any:
        shapes.append(q.shape[0] * q.shape[1] * k.shape[0])
        return block(q, k, *others)

    monkeypatch.setattr(reference, "_SCORES", 1000)
    monkeypatch.setattr(reference, "_block", noted)
    q, k = torch.randn(50, 4, 2), torch.randn(50, 2, 2)
    assert reference._attended(q, k, k, 1.0).shape == (50, 8)
    assert max(shapes) <= 1000
    assert sum(shapes) == 50 * 4 * 50


class Layers:
    """Stands for a model of one module, on a GPU that is not there."""

    device, layers, cupti = "cpu", 1, None

    def prepare(self, _: Any) -> None:
        """Nothing."""

    def run(self) -> None:
        """Nothing."""


class OneRound:
    """A timer whose CUPTI fails at its second call; what it was asked for is noted."""

    gpu = True
    made: list[bool | None]

    def __init__(self, _: str, *, cupti: bool | None = None) -> None:
        self.made.append(cupti)
        self.cupti, self.calls = cupti is not False, 0
        self.method = "CUPTI" if self.cupti else "events"

    def seconds(self, _: Any, __: float, **___: bool) -> float:
        self.calls += 1
        if self.cupti and self.calls == 2:
            raise self.failed("other kernels than before")
        return 1.0 if self.cupti else 2.0

    failed: type[Exception]


def test_one_method_for_a_round(
    room: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where CUPTI fails, all of the round is timed again by events, and so is every later one."""
    worker = room("model_pass")
    timer = type("Timer", (OneRound,), {"made": [], "failed": worker.CuptiFailed})
    monkeypatch.setattr(worker, "Timer", timer)
    monkeypatch.setattr(worker, "innermost", lambda _: ["one.attn", "one.norm"])
    monkeypatch.setattr(worker, "ceilings", lambda *_: {})
    monkeypatch.setattr(
        worker,
        "measured",
        lambda _, paths, timer, budget: {path: {"seconds": timer.seconds(None, budget)} for path in paths},
    )
    monkeypatch.setattr(worker, "models", [Layers()])
    for asked in ([None, False], [False]):
        timer.made.clear()
        said = worker.measure({"layers": 1, "budget": 0.1})
        assert timer.made == asked
        assert said["method"] == "events"
        assert said["pass_seconds"] == 2.0
        assert {part["seconds"] for part in said["parts"].values()} == {2.0}
    assert "timed with CUDA events instead of CUPTI: other kernels than before" in capfd.readouterr().out
