"""Before anything starts: what one side lacks would else be found after the other was measured."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from sglperf.deeper import check_looks
from sglperf.errors import UsageError
from sglperf.plan import Plan
from sglperf.predicting import check_predictable
from sglperf.server.arguments import refused_arguments
from sglperf.settings import Settings
from sglperf.target.build import Target


def preflight(plan: Plan, settings: Settings, targets: Mapping[str, Target]) -> None:
    """Refuse a plan that a target, or this machine, cannot carry out.

    Raises:
        UsageError: which one, what it lacks, and what to change.
    """
    _check_backends(plan, targets)
    _check_arguments(plan, settings, targets)
    _check_predictions(plan, targets)
    check_looks(plan, settings)


def _check_backends(plan: Plan, targets: Mapping[str, Target]) -> None:
    for target in targets.values():
        known = target.adapter.attention_backends
        for config in plan.configs:
            if target.adapter.exact and config.attention_backend not in known:
                raise UsageError(
                    f"unknown attention backend {config.attention_backend!r}: {target.label} has {', '.join(sorted(known))}"
                )
            here = target.adapter.cpu_backends
            if config.device == "cpu" and config.attention_backend not in here:
                raise UsageError(
                    f"attention backend {config.attention_backend!r} needs a GPU: on a CPU there are "
                    f"{', '.join(sorted(here))} (triton through its interpreter). Choose with --attention-backend"
                )


def _check_arguments(plan: Plan, settings: Settings, targets: Mapping[str, Target]) -> None:
    """A server argument that a build does not take would end its start."""
    refused = {
        (target.label, flag): None
        for target, config in product(targets.values(), plan.configs)
        for flag in refused_arguments(target, config)
    }
    if refused:
        listed = "; ".join(f"{label} does not take {flag}" for label, flag in refused)
        raise UsageError(
            f"{listed}. Change server_arguments ({settings.origin('server_arguments')}), or give other targets"
        )


def _check_predictions(plan: Plan, targets: Mapping[str, Target]) -> None:
    """Rounds of which the cache model can say nothing, and policies that a side lacks."""
    for target, config in product(targets.values(), plan.configs):
        policies = target.adapter.eviction_policies
        if target.adapter.exact and config.eviction_policy not in (None, *policies):
            raise UsageError(
                f"unknown eviction policy {config.eviction_policy!r}: {target.label} has {', '.join(policies)}"
            )
        for load in plan.loads(config):
            if load.workload.predicted:
                check_predictable(config, target.adapter, load.round)
