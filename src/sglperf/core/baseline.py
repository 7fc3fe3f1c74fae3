"""Baseline files: accepted launches of one area on one machine, as JSON that a reviewer can read and diff."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from sglperf.core.equivalence import Work
from sglperf.errors import BaselineError

SCHEMA_VERSION: Literal[1] = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BaselineMetric(_Frozen):
    """Rounds of each launch, in ``unit``; shape (launches, rounds), launches may differ in length."""

    unit: str
    launches: Annotated[tuple[Annotated[tuple[FiniteFloat, ...], Field(min_length=1)], ...], Field(min_length=1)]


class BaselineCase(_Frozen):
    """One server and workload.

    Attributes:
        recorded: when, ISO 8601 in UTC.
        run: the run that it was accepted from.
        client, workload_hash, finish_reasons, cached_tokens: what must be the same to compare.
        context: key into the file's ``contexts``.
        metrics: by metric name.
    """

    recorded: str
    run: str
    client: str
    workload_hash: str
    finish_reasons: dict[str, int]
    cached_tokens: int | None
    context: str
    metrics: dict[str, BaselineMetric]


class BaselineContext(_Frozen):
    """What a regression may come from: package versions and the server's resolved arguments."""

    versions: dict[str, str]
    resolved: dict[str, Any]


class Baseline(_Frozen):
    """One file: an area on a fingerprint."""

    schema_version: Literal[1] = SCHEMA_VERSION
    fingerprint_id: str
    fingerprint: dict[str, Any]
    area: str
    contexts: dict[str, BaselineContext] = {}
    cases: dict[str, BaselineCase] = {}

    def work(self, case: BaselineCase) -> Work:
        """What the recorded side did."""
        return Work(
            workload_hash=case.workload_hash,
            client=case.client,
            finish_reasons=case.finish_reasons,
            cached_tokens=case.cached_tokens,
            resolved=self.contexts[case.context].resolved,
        )

    def merged(self, other: Baseline) -> Baseline:
        """Both files' cases, this one's replaced where ``other`` has the same metric; unused contexts dropped."""
        cases = dict(self.cases)
        for name, case in other.cases.items():
            known = cases.get(name)
            same = known is not None and known.context == case.context and known.workload_hash == case.workload_hash
            metrics = {**known.metrics, **case.metrics} if known is not None and same else case.metrics
            cases[name] = case.model_copy(update={"metrics": metrics})
        contexts = {**self.contexts, **other.contexts}
        used = {case.context for case in cases.values()}
        return other.model_copy(
            update={"cases": cases, "contexts": {key: value for key, value in contexts.items() if key in used}}
        )


def context_key(context: BaselineContext) -> str:
    """12 hex digits that name the context; equal contexts have equal keys."""
    text = json.dumps(context.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def dump_baseline(baseline: Baseline) -> str:
    """The file's text: sorted, indented, one launch a line, seven significant digits."""
    text = json.dumps(_rounded(baseline.model_dump(mode="json")), indent=2, sort_keys=True, ensure_ascii=False)
    return re.sub(r"\[\s+([^\[\]{}\"]*?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text) + "\n"


def parse_baseline(text: str, origin: str, fingerprint_id: str) -> Baseline:
    """Read a file's text.

    Raises:
        BaselineError: truncated or corrupt, from a newer schema, or of another machine than ``fingerprint_id``.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise BaselineError(f"{origin}: not valid JSON ({error}): restore it from git, or delete it to record anew") from None
    if not isinstance(document, Mapping):
        raise BaselineError(f"{origin}: not a baseline file: restore it from git, or delete it to record anew")
    version = document.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BaselineError(
            f"{origin}: schema {version}, this sglperf reads up to {SCHEMA_VERSION}: upgrade sglperf, or give another --baseline-dir"
        )
    try:
        baseline = Baseline.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise BaselineError(f"{origin}: {place}: {first['msg']}: restore it from git, or delete it to record anew") from None
    dangling = {case.context for case in baseline.cases.values()} - set(baseline.contexts)
    if dangling:
        raise BaselineError(f"{origin}: contexts.{min(dangling)} is missing: restore it from git, or delete it to record anew")
    if baseline.fingerprint_id != fingerprint_id:
        raise BaselineError(
            f"{origin}: recorded on {baseline.fingerprint_id}, this machine is {fingerprint_id}: "
            "timings of two machines are not comparable; put it back where it belongs"
        )
    return baseline


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
