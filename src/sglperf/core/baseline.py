"""Baseline files: accepted launches of one area on one machine, as JSON that a reviewer can read and diff."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from sglperf.core.equivalence import Work
from sglperf.core.validation import first_problem
from sglperf.errors import BaselineError

SCHEMA_VERSION: Literal[1] = 1


class _Frozen(BaseModel):
    # Strict: what only looks like a number was not written by sglperf.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


_Launches = Annotated[
    tuple[Annotated[tuple[FiniteFloat, ...], Field(min_length=1)], ...], Field(min_length=1)
]


class BaselineMetric(_Frozen):
    """Samples of one metric, in ``unit``.

    ``samples``: run → rounds of each of its launches; shape (launches, rounds), launches may differ in length.
    The runs are keys of the case's ``records``. Launches of one run share a day and all that it brings.
    """

    unit: str
    samples: Annotated[dict[str, _Launches], Field(min_length=1)]

    @property
    def launches(self) -> tuple[tuple[float, ...], ...]:
        """All launches, run after run, in the order of the runs' names."""
        return tuple(launch for _, launches in sorted(self.samples.items()) for launch in launches)

    @property
    def runs(self) -> tuple[int, ...]:
        """How many of the launches come from each run, in the same order."""
        return tuple(len(launches) for _, launches in sorted(self.samples.items()))


class BaselineRecord(_Frozen):
    """One acceptance: when, from which run, and what must be the same to compare with its samples.

    Attributes:
        recorded: ISO 8601, UTC.
        method: how it was timed, where there is a choice.
        context: key into the file's ``contexts``.
    """

    recorded: str
    client: str
    workload_hash: str
    finish_reasons: dict[str, int]
    cached_tokens: int | None
    context: str
    method: str = ""


class BaselineCase(_Frozen):
    """One server and workload. Metrics may have been accepted from different runs, so each names its own."""

    records: dict[str, BaselineRecord]
    metrics: dict[str, BaselineMetric]

    def record(self, metric: str) -> BaselineRecord:
        """The latest acceptance of one metric; what is added to it later is of the same work."""
        return self.records[self.latest(metric)]

    def latest(self, metric: str) -> str:
        """The run of that acceptance."""
        return max(self.metrics[metric].samples, key=lambda run: (self.records[run].recorded, run))

    def merged(self, other: BaselineCase, *, extend: bool = False) -> BaselineCase:
        """Both cases' metrics. Where both have one: ``other``'s, or with ``extend`` the samples of both.

        Records that no metric names any more are dropped.
        """
        metrics = {**self.metrics, **other.metrics}
        for name in self.metrics.keys() & other.metrics.keys() if extend else ():
            both = {**self.metrics[name].samples, **other.metrics[name].samples}
            metrics[name] = BaselineMetric(unit=other.metrics[name].unit, samples=both)
        used = {run for metric in metrics.values() for run in metric.samples}
        records = {**self.records, **other.records}
        return BaselineCase(
            records={key: record for key, record in records.items() if key in used}, metrics=metrics
        )


class BaselineContext(_Frozen):
    """What a regression may come from: package versions, the server's resolved arguments, and GPUs by UUID."""

    versions: dict[str, str]
    resolved: dict[str, Any]
    gpus: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _without_no_gpus(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Where there are none, nothing is written, so that files of CPUs stay as they were."""
        written: dict[str, Any] = write(self)
        return written if self.gpus else {key: value for key, value in written.items() if key != "gpus"}


class Baseline(_Frozen):
    """One file: an area on a fingerprint."""

    schema_version: Literal[1] = SCHEMA_VERSION
    fingerprint_id: str
    fingerprint: dict[str, Any]
    area: str
    contexts: dict[str, BaselineContext] = {}
    cases: dict[str, BaselineCase] = {}

    def work(self, point: str, metric: str) -> Work:
        """What was done when the samples of a metric were measured."""
        record = self.cases[point].record(metric)
        return Work(
            workload_hash=record.workload_hash,
            client=record.client,
            finish_reasons=record.finish_reasons,
            cached_tokens=record.cached_tokens,
            resolved=self.contexts[record.context].resolved,
            method=record.method,
        )

    def merged(self, other: Baseline, *, extend: bool = False) -> Baseline:
        """All cases of both, as `BaselineCase.merged`. Contexts that none names any more are dropped."""
        cases = dict(self.cases)
        for name, case in other.cases.items():
            cases[name] = cases[name].merged(case, extend=extend) if name in cases else case
        contexts = {**self.contexts, **other.contexts}
        used = {record.context for case in cases.values() for record in case.records.values()}
        return other.model_copy(
            update={
                "cases": cases,
                "contexts": {key: value for key, value in contexts.items() if key in used},
            }
        )

    def only(self, names: Collection[str]) -> Baseline:
        """What is held of these metrics, ``POINT/METRIC``; whatever only others need is dropped."""
        empty = self.model_copy(update={"cases": {}, "contexts": {}})
        kept = {
            point: BaselineCase(records=case.records, metrics=metrics)
            for point, case in self.cases.items()
            if (metrics := {key: one for key, one in case.metrics.items() if f"{point}/{key}" in names})
        }
        cases = {point: BaselineCase(records={}, metrics={}).merged(case) for point, case in kept.items()}
        return empty.merged(self.model_copy(update={"cases": cases}))

    def metrics(self) -> Iterator[tuple[str, BaselineMetric, BaselineRecord]]:
        """``POINT/METRIC``, its samples, and its latest acceptance."""
        for point, case in sorted(self.cases.items()):
            for name, metric in sorted(case.metrics.items()):
                yield f"{point}/{name}", metric, case.record(name)

    def loose_ends(self) -> list[str]:
        """Keys that are named and not there."""
        records = [
            f"cases.{name}.records.{run}"
            for name, case in self.cases.items()
            for metric in case.metrics.values()
            for run in metric.samples
            if run not in case.records
        ]
        named = {record.context for case in self.cases.values() for record in case.records.values()}
        return records + [f"contexts.{key}" for key in sorted(named - set(self.contexts))]


def context_key(context: BaselineContext) -> str:
    """12 hex digits that name the context; equal contexts have equal keys."""
    text = json.dumps(context.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def dump_baseline(baseline: Baseline) -> str:
    """The file's text: sorted, indented, one launch a line, samples to seven significant digits."""
    document = baseline.model_dump(mode="json")
    for case in document["cases"].values():
        for metric in case["metrics"].values():
            for run, launches in metric["samples"].items():
                metric["samples"][run] = [[_rounded(value) for value in launch] for launch in launches]
    return "\n".join(_lines(document)) + "\n"


def _rounded(value: float) -> float:
    """Seven digits say more than a clock knows; a count stays exact."""
    return value if value.is_integer() else float(f"{value:.7g}")


def _lines(value: Any, indent: str = "") -> list[str]:
    """JSON, line by line; a list with nothing nested in it is one line, which `json` cannot be told."""
    flat = isinstance(value, list) and not any(isinstance(item, list | dict) for item in value)
    if flat or not value or not isinstance(value, list | dict):
        return [json.dumps(value, ensure_ascii=False)]
    pairs = sorted(value.items()) if isinstance(value, dict) else [(None, item) for item in value]
    lines = []
    for number, (key, item) in enumerate(pairs, start=1):
        inner = _lines(item, indent + "  ")
        name = "" if key is None else f"{json.dumps(key, ensure_ascii=False)}: "
        inner[0] = f"{indent}  {name}{inner[0]}"
        inner[-1] += "," if number < len(pairs) else ""
        lines += inner
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return [opening, *lines, indent + closing]


def parse_baseline(text: str, origin: str, fingerprint_id: str) -> Baseline:
    """Read a file's text.

    Raises:
        BaselineError: truncated or corrupt, from a newer schema, or of another machine than ``fingerprint_id``.
    """
    mend = "restore it from git, or delete it to record anew"
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{origin}: not valid JSON ({error}): {mend}") from None
    if not isinstance(document, Mapping):
        raise BaselineError(f"{origin}: not a baseline file: {mend}")
    version = document.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BaselineError(
            f"{origin}: schema {version}, this sglperf reads up to {SCHEMA_VERSION}: upgrade sglperf, or give another --baseline-dir"
        )
    try:
        baseline = Baseline.model_validate_json(text)
    except ValidationError as error:
        raise BaselineError(f"{origin}: {first_problem(error)}: {mend}") from None
    loose = baseline.loose_ends()
    if loose:
        raise BaselineError(f"{origin}: {loose[0]} is missing: {mend}")
    if baseline.fingerprint_id != fingerprint_id:
        raise BaselineError(
            f"{origin}: recorded on {baseline.fingerprint_id}, this machine is {fingerprint_id}: "
            "timings of two machines are not comparable; put it back where it belongs"
        )
    return baseline
