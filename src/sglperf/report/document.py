"""``run.json``: everything about a run in one versioned document. Schema: docs/formats.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sglperf import __version__
from sglperf.core.claim import Checked
from sglperf.core.contrast import Contrast
from sglperf.core.explanation import Explanation
from sglperf.report.roofline import pass_entries

if TYPE_CHECKING:
    from sglperf.outcome import Outcome, Site
    from sglperf.settings import Settings
    from sglperf.target.build import Target

SCHEMA_VERSION = 1


def run_document(
    outcome: Outcome, settings: Settings, targets: Mapping[str, Target], site: Site
) -> dict[str, Any]:
    """Build the document; plain values, ready for JSON. Raw arrivals stay in the journal."""
    measurements = outcome.measured.measurements
    return {
        "schema_version": SCHEMA_VERSION,
        "sglperf": __version__,
        "run": outcome.run,
        **({} if outcome.shard is None else {"shard": outcome.shard}),
        **({} if not outcome.shards else {"shards": list(outcome.shards)}),
        "fingerprints": {
            config: {"id": fingerprint.id, **fingerprint.to_dict()}
            for config, fingerprint in site.fingerprints.items()
        },
        "machine": asdict(site.machine),
        "settings": settings.model_dump(mode="json"),
        "targets": {side: asdict(target) for side, target in targets.items()},
        "family_size": outcome.plan.family_size,
        "looks": {"fewest": outcome.looks.fewest, "most": outcome.looks.most},
        "seconds": dict(outcome.seconds),
        "launches": [asdict(launch) for launch in measurements.launches],
        "rounds": [asdict(round_) for round_ in measurements.rounds],
        "failures": [
            {"side": side, "config": config, **asdict(gate)}
            for (side, config), gate in measurements.failures.items()
        ],
        "cases": {name: _case(outcome, name) for name in outcome.verdicts},
        "context_differences": {label: list(change.every) for label, change in outcome.changes.items()},
        "explanations": {label: _explanation(one) for label, one in outcome.explanations.items()},
        "contrasts": [_contrast(one) for one in outcome.contrasts],
        "figures": [asdict(one) for one in outcome.figures],
        "claims": [claim_entry(one) for one in outcome.claims],
        "passes": list(pass_entries(outcome.measured)),
        "nsight": [asdict(one) for one in outcome.looks_deeper],
        "results": [one.model_dump(mode="json") for one in outcome.results],
        "baselines_recorded": list(outcome.recorded),
    }


def _case(outcome: Outcome, name: str) -> dict[str, Any]:
    question, verdict = outcome.questions[name], outcome.verdicts[name]
    ask = next(ask for ask in outcome.plan.asks if ask.name == name)
    return {
        "area": ask.area,
        "model": ask.config.model.name,
        "config": ask.config.label,
        "workload": ask.workload.label,
        "metric": asdict(question.metric),
        "base": None if question.base is None else [list(launch) for launch in question.base.launches],
        "head": [list(launch) for launch in question.head.launches],
        "status": verdict.status.value,
        "code": verdict.code,
        "sentence": verdict.sentence,
        "comparison": None if verdict.comparison is None else asdict(verdict.comparison),
    }


def _contrast(one: Contrast) -> dict[str, Any]:
    efficiency = None if one.efficiency is None else list(one.efficiency)
    return {**asdict(one), "speedup": list(one.speedup), "efficiency": efficiency}


def claim_entry(checked: Checked) -> dict[str, Any]:
    """A claim, its standing and the figures that it rests on."""
    return {
        "name": checked.name,
        **checked.claim.model_dump(mode="json"),
        "standing": checked.standing.value,
        "reason": checked.reason,
        "measured": [{**asdict(one), "standing": standing.value} for one, standing in checked.figures],
    }


def _explanation(explanation: Explanation) -> dict[str, Any]:
    return {"sentence": explanation.sentence, **asdict(explanation)}
