"""The folder of YAML files: the suite's own settings, profiles, models' shapes, claims."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    ValidationError,
)

from sglperf.core.claim import Claim
from sglperf.core.validation import first_problem
from sglperf.errors import ConfigError
from sglperf.settings import AUTO


@dataclass(frozen=True)
class ConfigFolder:
    """The folder with ``suite.yaml``, ``profiles/``, ``models/`` and ``claims/``."""

    path: Path

    def names(self, kind: str) -> list[str]:
        """Names available under ``profiles`` or ``models``."""
        return sorted(file.stem for file in (self.path / kind).glob("*.yaml"))

    def read(self, kind: str, name: str) -> dict[str, Any]:
        """One named document.

        Raises:
            ConfigError: no such document, or not a YAML mapping.
        """
        file = self.path / kind / f"{name}.yaml"
        if not re.fullmatch(r"[\w.-]+", name) or not file.is_file():
            known = ", ".join(self.names(kind)) or "none"
            raise ConfigError(f"unknown {kind.rstrip('s')} {name!r}: {self.path / kind} has {known}")
        return read_yaml(file)


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML mapping from a file; any other content is a ConfigError that names the place."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{file}: expected a mapping of names to values, found {type(document).__name__}")
    odd = next((name for name in document if not isinstance(name, str)), None)
    if odd is not None:
        raise ConfigError(
            f"{file}: {odd!r} is no name: put it in quotes (YAML reads on, off, yes and no as true or false)"
        )
    return document


def config_folder(root: Path) -> ConfigFolder:
    """The suite's own ``config/`` under ``root``, else the one that came with the package."""
    packaged = Path(__file__).parent / "_config"
    for folder in (root / "config", packaged, Path(__file__).parents[2] / "config"):
        if (folder / "profiles").is_dir():
            return ConfigFolder(folder)
    raise ConfigError(f"no config/profiles under {root}, and none came with the package: reinstall sglperf")


def choose_profile(folder: ConfigFolder, accelerators: Sequence[str]) -> str:
    """The profile for this machine: the one whose ``matches`` finds the GPU's product name, ``gpu``, or ``cpu``."""
    if not accelerators:
        return "cpu"
    fitting = []
    for name in folder.names("profiles"):
        document = folder.read("profiles", name)
        if not _fits(document.get("matches"), accelerators, folder.path / "profiles" / f"{name}.yaml"):
            continue
        sets = document.get("tp_sets", ())
        wanted = {gpu for one in ([] if sets == AUTO else sets) for gpu in one}
        if wanted <= set(range(len(accelerators))):
            fitting.append((len(wanted), name))
    return max(fitting)[1] if fitting else "gpu"


def _fits(pattern: object, accelerators: Sequence[str], origin: Path) -> bool:
    """Whether a profile's ``matches`` finds every product name, as a word of its own: H200 is not in GH200."""
    if not pattern:
        return False
    if not isinstance(pattern, str):
        raise ConfigError(f"{origin}: matches is {pattern!r}: expected a regular expression in quotes")
    try:
        return all(re.search(rf"\b(?:{pattern})\b", product) for product in accelerators)
    except re.error as error:
        raise ConfigError(f"{origin}: matches is {pattern!r}: not a regular expression ({error})") from None


def load_claims(folder: ConfigFolder) -> dict[str, Claim]:
    """Every statement of ``claims/``, by its file's name.

    Raises:
        ConfigError: one of them is not understood.
    """
    claims = {}
    for name in folder.names("claims"):
        try:
            claims[name] = Claim.model_validate(folder.read("claims", name))
        except ValidationError as error:
            raise ConfigError(f"{folder.path / 'claims' / name}.yaml: {first_problem(error)}") from None
    return claims
