"""Observations, cases and outcomes made up for the tests of the main road."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from sglperf.core.baseline import (
    Baseline,
    BaselineCase,
    BaselineContext,
    BaselineMetric,
    BaselineRecord,
    context_key,
)
from sglperf.core.catalogue import METRICS
from sglperf.core.equivalence import Work
from sglperf.core.figure import Figure
from sglperf.core.fingerprint import Fingerprint
from sglperf.core.judgement import Evidence, Question
from sglperf.core.observation import ClientHealth, RequestObservation, RoundObservation
from sglperf.core.sequential import Looks
from sglperf.core.server_config import Model, ServerConfig
from sglperf.core.statistics import Comparison, compare
from sglperf.core.verdict import Verdict
from sglperf.evidence import Measured
from sglperf.measurements import Launch, Measurements, Round
from sglperf.outcome import Outcome
from sglperf.plan import Ask, make_plan
from sglperf.workload.shapes import Decode, Workload

TINY = Model("tiny", vocab_size=100, context_length=1024)
FINGERPRINT = Fingerprint("cpu", "A CPU", "Vendor family 1 model 2 stepping 3", 4, 8)
WORK = Work("0123456789abcdef", "1", {"length": 1}, 0, {"page_size": 16, "attention_backend": "torch_native"})
A100 = "NVIDIA A100-SXM4-80GB"
SHAPE = Decode(streams=1, prompt_tokens=32, new_tokens=4)


def request(
    arrivals: Sequence[float], tokens: Sequence[int] | None = None, *, sent: float = 0.0, **changes: Any
) -> RequestObservation:
    """A request whose chunks carry a token each, unless ``tokens`` counts them otherwise."""
    arrivals = tuple(map(float, arrivals))
    tokens = tuple(range(1, len(arrivals) + 1)) if tokens is None else tuple(tokens)
    known: dict[str, Any] = {
        "index": 0,
        "sent": sent,
        "arrivals": arrivals,
        "tokens": tokens,
        "finished": arrivals[-1] if arrivals else sent,
        "prompt_tokens": 32,
        "completion_tokens": tokens[-1] if tokens else 0,
        "cached_tokens": 0,
        "finish_reason": "length",
    }
    return RequestObservation(**known | changes)


def paced(first: float, gaps: Sequence[float], **changes: Any) -> RequestObservation:
    """A request with its first token at ``first`` and the others ``gaps`` apart."""
    return request(tuple(accumulate(gaps, initial=first)), **changes)


def observed(
    *requests: RequestObservation,
    lag: float = 0.0,
    counters: Mapping[str, float] | None = None,
    foreign_cpu: float | None = None,
) -> RoundObservation:
    """A round of these requests; ``lag`` is the client's."""
    return RoundObservation(requests, ClientHealth(lag, lag, 100, 0.1, 1.0), counters or {}, foreign_cpu)


def server(
    backend: str = "torch_native", page: int = 16, tp_set: tuple[int, ...] = (0,), **changes: Any
) -> ServerConfig:
    known: dict[str, Any] = {
        "model": TINY,
        "device": "cpu",
        "max_total_tokens": 4096,
        "max_running_requests": 16,
        "mem_fraction_static": 0.3,
    }
    return ServerConfig(attention_backend=backend, page_size=page, tp_set=tp_set, **known | changes)


def ask(
    metric: str = "inter_token_latency",
    *,
    area: str = "decode",
    config: ServerConfig | None = None,
    workload: Workload = SHAPE,
) -> Ask:
    return Ask(area, config or server(), workload, metric)


def measured_round(
    launch: int, values: Mapping[str, float], *, index: int = 0, like: Ask | None = None, **changes: Any
) -> Round:
    like = like or ask()
    known: dict[str, Any] = {
        "side": "head",
        "config": like.config.label,
        "workload": like.workload.label,
        "gates": (),
        "finish_reasons": {"length": 1},
        "seconds": 0.5,
    }
    return Round(launch=launch, index=index, values=dict(values), **known | changes)


def started(index: int, *, side: str = "head", config: str | None = None, **resolved: object) -> Launch:
    """A server that came up."""
    arguments = {"page_size": 16, "attention_backend": "torch_native", **resolved}
    return Launch(side, config or server().label, index, 30.0, "0.5.23", arguments, 4096)


def stored(
    metrics: Mapping[str, Sequence[Sequence[float]]] | None = None,
    *,
    point: str | None = None,
    unit: str = "s",
    versions: Mapping[str, str] | None = None,
    resolved: Mapping[str, Any] | None = None,
    gpus: tuple[str, ...] = (),
    run: str = "20260101-000000-1",
    **changes: Any,
) -> Baseline:
    """A baseline with one case."""
    context = BaselineContext(
        versions=dict(versions or {"sglang": "0.5.22"}), resolved=dict(resolved or WORK.resolved), gpus=gpus
    )
    launches = {"inter_token_latency": ((0.005, 0.0051), (0.0049,))} if metrics is None else metrics
    known: dict[str, Any] = {
        "recorded": "2026-01-01T00:00:00Z",
        "client": "1",
        "workload_hash": WORK.workload_hash,
        "finish_reasons": {"length": 1},
        "cached_tokens": 0,
        "context": context_key(context),
    }
    metrics = {
        name: BaselineMetric(unit=unit, samples={run: tuple(tuple(map(float, launch)) for launch in values)})
        for name, values in launches.items()
    }
    record = BaselineRecord(**known | changes)
    return Baseline(
        fingerprint_id=FINGERPRINT.id,
        fingerprint=FINGERPRINT.to_dict(),
        area="decode",
        contexts={record.context: context},
        cases={point or ask().point: BaselineCase(records={run: record}, metrics=metrics)},
    )


def figure(low: float = 1.14, high: float = 1.16, **changes: Any) -> Figure:
    """One server 15 % faster than another, on an A100."""
    known: dict[str, Any] = {
        "model": "llama",
        "config": "flashinfer-page1-tp0-backends",
        "page_size": 1,
        "server": "flashinfer",
        "over": "triton",
        "workload": "decode-p512-n64-s8",
        "metric": "inter_token_latency",
        "value": 1.15,
        "launches": 5,
        "machine": "1x-a100",
        "gpu": A100,
        "tp_size": 1,
        "links": "single",
        "sglang": "0.5.23",
        "run": "20260101-000000-1",
    }
    return Figure(low=low, high=high, **known | changes)


def compared(ratio: float, low: float, high: float, effect: float = 0.02) -> Comparison:
    """A comparison that came to these figures."""
    plain = compare([[1.0], [1.0]], [[1.0], [1.0]])
    return replace(plain, ratio=ratio, low=low, high=high, detectable_effect=effect)


Rounds = Sequence[Sequence[float]]


def outcome(
    *cases: tuple[Ask, Rounds, Rounds | None, Verdict | None], launches: int = 2, **changes: Any
) -> Outcome:
    """What a run came to: each case with head's rounds, base's, and the verdict, None for a figure without one."""
    plan = make_plan([one for one, *_ in cases], launches=launches, rounds=2, warmup_rounds=1, seed=0)
    measurements = Measurements(
        launches=[started(i, config=config.label) for config in plan.configs for i in range(launches)]
    )
    questions, verdicts = {}, {}
    for one, head, base, verdict in cases:
        measurements.rounds += [
            measured_round(launch, {one.metric: value}, index=index, like=one)
            for launch, rounds in enumerate(head)
            for index, value in enumerate(rounds)
        ]
        if verdict is not None:
            before = None if base is None else Evidence(base, WORK)
            questions[one.name] = Question(METRICS[one.metric], Evidence(head, WORK), before)
            verdicts[one.name] = verdict
    known: dict[str, Any] = {
        "changes": {},
        "recorded": (),
        "looks": Looks(launches, launches),
        "run": "20260102-030405-6",
        "folder": "results/20260102-030405-6",
        "seconds": {"total": 100.4, "start": 60.0, "load": 30.0, "warm-up": 5.0},
    }
    measured = Measured(plan, measurements, {"head": {"sglang": "0.5.23"}})
    return Outcome(plan=plan, measured=measured, questions=questions, verdicts=verdicts, **known | changes)
