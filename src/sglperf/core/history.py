"""What the history keeps of a run, as values: each result with the series that it continues."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sglperf.core.baseline import Baseline, BaselineContext, BaselineRecord
from sglperf.core.catalogue import METRICS
from sglperf.core.equivalence import WORK_ARGUMENTS, context_differences
from sglperf.core.launches import Launches, center
from sglperf.core.machine import short_names
from sglperf.core.metric import Kind

Context = Mapping[str, Mapping[str, Any]]
"""Versions, resolved arguments and machine: what may differ between comparable runs, and then explains."""

Meaning = Callable[[BaselineContext, str], str]
"""What the version of a context counts under a metric's name; empty where versions agree."""


@dataclass(frozen=True)
class Entry:
    """One metric of one run.

    Attributes:
        machine, area, name: fingerprint, area, and ``MODEL/CONFIG/WORKLOAD/METRIC``.
        work: 12 hex digits; equal where two results may be compared, as `sglperf.core.equivalence` has it.
        value: the figure that stands for the launches.
        status: the run's verdict on it; empty for a figure without one.
        context: key of what may differ and then explains.
    """

    machine: str
    area: str
    name: str
    unit: str
    work: str
    value: float
    launches: Launches
    status: str
    context: str

    @property
    def series(self) -> str:
        """16 hex digits that name the series; results of one may be compared."""
        return _digest([self.machine, self.name, self.unit, self.work])[:16]


def entries(
    results: Sequence[Baseline], statuses: Mapping[str, str], machine: Mapping[str, Any], meaning: Meaning
) -> tuple[Entry, ...]:
    """Everything that a run measured, in the order of the names.

    Args:
        statuses: case name → verdict.
        machine: `machine_context`.
    """
    return tuple(
        Entry(
            machine=baseline.fingerprint_id,
            area=baseline.area,
            name=name,
            unit=metric.unit,
            work=_work(record, baseline.contexts[record.context], name.rpartition("/")[2], meaning),
            value=center(metric.launches),
            launches=metric.launches,
            status=statuses.get(name, ""),
            context=_context_key(baseline.contexts[record.context], machine),
        )
        for baseline in results
        for name, metric, record in baseline.metrics()
    )


def _work(record: BaselineRecord, context: BaselineContext, metric: str, meaning: Meaning) -> str:
    """A count shows what differs, so only the workload and what is counted bind it; a timing is bound by all."""
    bound: list[object] = [record.workload_hash, meaning(context, metric)]
    if metric not in METRICS or METRICS[metric].kind is Kind.TIMING:
        resolved = {name: context.resolved.get(name) for name in WORK_ARGUMENTS}
        bound += [record.client, record.method, record.finish_reasons, record.cached_tokens, resolved]
    return _digest(bound)[:12]


def run_key(run: str, results: Sequence[Baseline]) -> str:
    """Names a run by what it measured, so that it is added once, whenever and from wherever it is added."""
    return _digest([run, [one.model_dump(mode="json") for one in results]])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def contexts(results: Sequence[Baseline], machine: Mapping[str, Any]) -> dict[str, Context]:
    """Key, as entries name it → versions, resolved arguments, and what of the machine may differ between runs."""
    return {
        _context_key(context, machine): _whole(context, machine)
        for baseline in results
        for context in baseline.contexts.values()
    }


def _context_key(context: BaselineContext, machine: Mapping[str, Any]) -> str:
    return _digest(_whole(context, machine))[:12]


def _whole(context: BaselineContext, machine: Mapping[str, Any]) -> Context:
    gpus = {"gpus": short_names(context.gpus)} if context.gpus else {}
    return {"versions": context.versions, "resolved": context.resolved, "machine": {**machine, **gpus}}


def machine_context(document: Mapping[str, Any]) -> dict[str, Any]:
    """Kernel, governor and driver of a run's machine, as far as they are known."""
    host, gpus = document.get("host") or {}, document.get("gpus") or {}
    said = {
        "kernel": host.get("kernel"),
        "governor": host.get("governor"),
        "driver": gpus.get("driver"),
        "cuda-driver": gpus.get("cuda"),
    }
    return {name: value for name, value in said.items() if value is not None}


def differences(before: Context, after: Context) -> tuple[str, ...]:
    """Everything that differs between two full contexts, as ``name before → after``."""
    return tuple(
        one
        for part in ("versions", "resolved", "machine")
        for one in context_differences(before.get(part, {}), after.get(part, {}))
    )
