"""Runs as they are kept, made up: documents and journals of any size, for the report's tests and its benchmark."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sglperf.core.catalogue import METRICS
from sglperf.core.timeline import PHASES

MACHINE = {"host": {"cpu_model": "A CPU", "cores": 4, "memory_bytes": 8}, "gpus": {"gpus": []}}
TARGET = {
    "label": "sglang 0.5.23", "version": "0.5.23", "commit": None, "interpreter": "/opt/bin/python", "import_path": None,
    "dirty_hash": None, "packages": {"sglang": "0.5.23", "torch": "2.11.0"}, "notes": [],
}  # fmt: skip


def case(
    metric: str = "inter_token_latency", *, status: str = "unchanged", ratio: float | None = 1.0, **known: Any
) -> dict[str, Any]:
    """A case of two launches of two rounds, with an interval about ``ratio``, and no comparison where that is None."""
    middle = 1.0 if ratio is None else ratio
    found = METRICS[metric]
    comparison = {
        "ratio": middle, "low": middle / 1.05, "high": middle * 1.05, "p_family": 0.01, "detectable_effect": 0.06,
    }  # fmt: skip
    return {
        "area": "decode",
        "model": "tiny",
        "config": "torch_native-page16-tp0",
        "workload": "decode-p64-n8-s1",
        "metric": {
            "name": metric, "unit": found.unit, "better": found.better, "kind": found.kind, "meaning": found.meaning,
        },
        "base": None if ratio is None else [[0.005, 0.0051], [0.0049, 0.005]],
        "head": [[0.005 * middle, 0.0051 * middle], [0.0049 * middle, 0.005 * middle]],
        "status": status,
        "code": "a-code",
        "sentence": f"a sentence on {status}",
        "comparison": None if ratio is None else comparison,
        **known,
    }  # fmt: skip


def round_of(
    one: Mapping[str, Any], launch: int, index: int, side: str = "head", **known: Any
) -> dict[str, Any]:
    """A round that holds the case's value."""
    values = {one["metric"]["name"]: one[side][launch][index]} if one[side] else {}
    return {
        "side": side, "config": one["config"], "workload": one["workload"], "launch": launch, "index": index,
        "values": values, "gates": [], "finish_reasons": {"length": 1}, "seconds": 0.5, **known,
    }  # fmt: skip


def document(*cases: Mapping[str, Any], **known: Any) -> dict[str, Any]:
    """``run.json`` of these cases, with a round for each of their values."""
    named = {
        "/".join((one["model"], one["config"], one["workload"], one["metric"]["name"])): one for one in cases
    }
    configs = list(dict.fromkeys(one["config"] for one in cases))
    return {
        "schema_version": 1,
        "run": "20260102-030405-6",
        "fingerprints": {config: {"id": "cpu-a-cpu-4c"} for config in configs},
        "machine": MACHINE,
        "settings": {"min_effect": 0.05, "launches": 2, "origins": {"launches": "--launches"}},
        "targets": {"head": TARGET},
        "seconds": {"total": 100.0},
        "launches": [
            {"side": "head", "config": config, "index": launch, "startup_seconds": 30.0, "version": "0.5.23",
             "resolved": {"page_size": 16, "config": config}, "kv_capacity_tokens": 4096}
            for config in configs for launch in range(2)
        ],
        "rounds": [
            round_of(one, launch, index)
            for one in cases
            for launch, rounds in enumerate(one["head"])
            for index in range(len(rounds))
        ],
        "failures": [],
        "cases": named,
        "context_differences": {},
        "explanations": {},
        "contrasts": [],
        "figures": [],
        "claims": [],
        "passes": [],
        "nsight": [],
        **known,
    }  # fmt: skip


def observation(requests: int = 3, tokens: int = 12, *, prompt: int = 64, cached: int = 0) -> dict[str, Any]:
    """What the client saw of requests that were sent at once: a token every 5 ms, and a little more each time."""
    return {
        "requests": [
            {
                "index": at, "sent": 0.001 * at,
                "arrivals": [0.02 + 0.001 * at + 0.005 * token + 0.0001 * token**2 for token in range(tokens)],
                "tokens": list(range(1, tokens + 1)), "finished": 1.0, "prompt_tokens": prompt, "completion_tokens": tokens,
                "cached_tokens": cached if at % 2 else 0, "finish_reason": "length",
            }
            for at in range(requests)
        ]
    }  # fmt: skip


def journal(document_: Mapping[str, Any], seen: Mapping[str, Any] | None = None) -> Iterator[bytes]:
    """Lines of a run's journal: its beginning, then each round, with what the client saw."""
    yield json.dumps({"kind": "run", "at": 0}).encode()
    for one in document_["rounds"]:
        yield json.dumps(
            {"kind": "round", "at": 0, "round": one, "observation": seen or observation()},
            separators=(",", ":"),
        ).encode()


def full_run(**changes: Any) -> tuple[dict[str, Any], list[bytes]]:
    """A run that has something of everything that a page can show, and its journal."""
    worse = case(status="regressed", ratio=1.3)
    values = {
        "time_to_first_token": 0.02, "inter_token_latency": 0.005, "inter_token_latency_slope": 1e-6,
        **{f"phase_{name}": 0.002 for name in PHASES},
    }  # fmt: skip
    rounds: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (round_of(worse, launch, index, values=values), observation())
        for launch in range(2)
        for index in range(2)
    ]
    load = {
        "batch_sizes": [1.0, 4.0, 3.0],
        "probes": [{"rate": 5.0, "share": 1.0}, {"rate": 9.0, "share": 0.4}],
    }
    rounds.append(
        (round_of(worse, 0, 0, workload="saturation-c16", values={"saturation_rate": 6.1}, **load), {})
    )
    for prefix in (64, 256):
        hit = {"time_to_first_token_hit": 0.01, "time_to_first_token_miss": 0.01 + prefix / 1e4}
        rounds.append(
            (
                round_of(worse, 0, 0, workload=f"hit-or-miss-prefix{prefix}-pairs3", values=hit),
                observation(tokens=1, prompt=prefix + 16, cached=prefix),
            )
        )
    gate = {"code": "host-busy", "sentence": "something else used 42% of the processors", "metrics": None}
    rounds.append((round_of(worse, 1, 1, values={}, gates=[gate]), observation()))
    contrast = {
        "model": "tiny", "group": "scaling", "reference": "single", "workload": "decode-p64-n8-s1", "links": "nvlink",
        "metric": "decode_throughput",
    }  # fmt: skip
    contrasts = [
        {**contrast, "other": f"nvlink-{ranks}", "ranks": ranks, "speedup": [0.9 * ranks, 0.8 * ranks, None],
         "efficiency": [0.9, 0.8, None]}
        for ranks in (2, 4)
    ]  # fmt: skip
    kernels = [
        {"name": name, "calls": 2, "seconds": 1e-4, "share": 0.5, "bytes": 10**6, "flops": flops, "limit_share": 0.5,
         "binding": "memory"}
        for name, flops in (("attention", 10**6), ("gate_up_proj", 10**9))
    ]  # fmt: skip
    passes = [
        {"config": worse["config"], "workload": "decode-pass-c64-b1", "method": "wall clock", "rounds": 2,
         "copy_bandwidth": 1e11, "matmul_rate": 1e13, "parts": kernels}
    ]  # fmt: skip
    claim = {
        "name": "a-claim", "standing": "holds", "statement": "It is fast", "reason": "", "source": "a report", "measured": [],
    }  # fmt: skip
    why = {
        "sentence": "likeliest cause: the scheduler loop", "workload": worse["workload"], "arguments": [], "versions": [],
        "files": ["scheduler.py +4 −0"], "stages": [{"name": "other", "seconds": [0.1, 0.2]}],
        "profiles": [{"phase": "decode", "traces": 1, "steps": [0.005, 0.007], "changes": [
            {"part": "operator", "name": "aten::mm", "calls": [2.0, 2.0], "seconds": [0.001, None]}]}],
    }  # fmt: skip
    made = document(
        worse,
        case("decode_throughput", status="inconclusive", ratio=0.97),
        case("prefill_tokens", ratio=1.0),
        case("time_to_first_token", status="new", ratio=None),
        contrasts=contrasts,
        passes=passes,
        claims=[claim],
        explanations={worse["config"]: why},
        context_differences={worse["config"]: ["torch 2.11.0 → 2.14.1"]},
        **changes,
    )
    made["rounds"] = [one for one, _ in rounds]
    lines = [json.dumps({"kind": "run", "at": 0}).encode()]
    lines += [
        json.dumps(
            {"kind": "round", "at": 0, "round": one, "observation": seen}, separators=(",", ":")
        ).encode()
        for one, seen in rounds
    ]
    return made, lines


def large_run(metrics: int, *, launches: int = 4, rounds: int = 3, seed: int = 1) -> dict[str, Any]:
    """A run of so many metrics, ten to a workload; their values are drawn."""
    draw = random.Random(seed)
    names = [name for name, metric in METRICS.items() if metric.judged][:10]
    cases = []
    for at in range(metrics):
        ratio = draw.lognormvariate(0, 0.05)
        status = "regressed" if ratio > 1.1 else "improved" if ratio < 0.9 else "inconclusive"
        made = case(names[at % len(names)], status=status, ratio=ratio)
        made["workload"] = f"decode-p64-n8-s{at // len(names)}"
        made["sentence"] = f"×{ratio:.3f}, 95 % interval [{ratio / 1.05:.3f}, {ratio * 1.05:.3f}]"
        for side in ("base", "head"):
            made[side] = [[draw.lognormvariate(-5, 0.1) for _ in range(rounds)] for _ in range(launches)]
        cases.append(made)
    whole = document(*cases)
    by_round: dict[tuple[str, int, int], dict[str, Any]] = {}
    for one in whole["rounds"]:
        known = by_round.setdefault((one["workload"], one["launch"], one["index"]), one)
        known["values"].update(one["values"])
    whole["rounds"] = list(by_round.values())
    return whole


def keep(folder: Path, document_: Mapping[str, Any], lines: list[bytes] | None) -> Path:
    """A run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(document_), encoding="utf-8")
    if lines is not None:
        (folder / "journal.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return folder
