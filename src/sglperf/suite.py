"""What one pytest session knows: settings, the servers that its tests are about, then the plan and the outcome."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from sglperf.config_folder import ConfigFolder
from sglperf.configurations import server_configs
from sglperf.core.machine import Gpus
from sglperf.core.server_config import ServerConfig
from sglperf.models import load_model
from sglperf.plan import Ask, Plan
from sglperf.settings import Settings
from sglperf.tensor_parallel import choose_sets
from sglperf.workload.shapes import Workload

if TYPE_CHECKING:
    from sglperf.merging import Shards
    from sglperf.outcome import Outcome
    from sglperf.sharding import Piece


@dataclass
class Suite:
    """What one pytest session knows: settings, the asks of the collected items, then the outcome.

    Attributes:
        gpus: of this machine, looked at once.
        notes: what a person should be told of a server config's choice, by its label.
        processors: that ranks on a CPU may have; None for those of this process.
        piece: the shard that this session measures; None for a whole run.
        shards: those whose measurements it judges; None where it measures.
    """

    settings: Settings
    folder: ConfigFolder
    settings_of: Callable[[str | None, Mapping[str, Any]], Settings]
    gpus: Callable[[], Gpus]
    plan: Plan | None = None
    outcome: Outcome | None = None
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    processors: int | None = None
    piece: Piece | None = None
    shards: Shards | None = None
    _named: dict[str, Settings] = field(default_factory=dict)

    def settings_for(self, node: Any) -> Settings:
        """What holds for a test: the profile's settings, or those of the server that its ``server`` mark names."""
        mark = node.get_closest_marker("server")
        if mark is None:
            return self.settings
        if len(mark.args) != 1:
            raise pytest.UsageError(
                f"{node.nodeid}: server takes one name, of an entry of the profile's servers; got {mark.args}"
            )
        name = mark.args[0]
        if name not in self._named:
            self._named[name] = self.settings_of(name, {})
        return self._named[name]

    def configs(self, node: Any) -> tuple[ServerConfig, ...]:
        """The servers that a test is parametrized by: the profile's own, or those of its ``server`` mark."""
        plain, mark = self.settings_for(node), node.get_closest_marker("server")
        if mark is None:
            return self._configs(plain, "")
        found: list[ServerConfig] = []
        for values in itertools.product(*map(_several, mark.kwargs.values())):
            changes = dict(zip(mark.kwargs, values, strict=True))
            words = [_word(name, value) for name, value in changes.items()]
            found += self._configs(self.settings_of(mark.args[0], changes), "-".join([mark.args[0], *words]))
        return tuple(found)

    @property
    def most_ranks(self) -> int:
        """Of the profile's largest TP set."""
        model = load_model(self.folder, self.settings.model)
        return max(
            len(one.gpus) for one in choose_sets(self.settings, model, self.gpus, self.processors).sets
        )

    def _configs(self, settings: Settings, variant: str) -> tuple[ServerConfig, ...]:
        model = load_model(self.folder, settings.model)
        chosen = choose_sets(settings, model, self.gpus, self.processors)
        configs = server_configs(settings, model, variant, chosen.sets)
        self.notes |= {config.label: chosen.notes for config in configs}
        return configs


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _word(name: str, value: Any) -> str:
    """A changed setting as a word of the server's label."""
    if isinstance(value, bool):
        return name.replace("_", "-") if value else f"no-{name.replace('_', '-')}"
    return str(value)


SUITE = pytest.StashKey[Suite]()
ASK = pytest.StashKey[Ask]()


def whole_workload(settings: Settings, workload: Workload) -> Workload:
    """The workload with its open lengths filled from the settings."""
    return workload.filled(settings.workloads.get(workload.kind, {}))
