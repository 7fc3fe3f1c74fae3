"""A model by its name: a shape of the config folder, a local checkpoint, or one of the hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sglperf.config_folder import ConfigFolder
from sglperf.core.server_config import Model
from sglperf.errors import ConfigError


def load_model(folder: ConfigFolder, name: str) -> Model:
    """A shape from ``models/``, a local checkpoint directory, or a hub name with a slash.

    Raises:
        ConfigError: none of these.
    """
    if name in folder.names("models"):
        document = folder.read("models", name)
        shape = _shape(name, document.get("config"), folder.path / "models" / f"{name}.yaml")
        return replace(shape, written=_written(folder, name, document))
    directory = Path(name).expanduser()
    if (directory / "config.json").is_file():
        shape = _shape(directory.name, _read_json(directory / "config.json"), directory / "config.json")
        return Model(directory.name, shape.vocab_size, shape.context_length, path=str(directory.resolve()))
    if directory.exists() or "/" not in name or name.startswith((".", "/", "~")):
        known = ", ".join(folder.names("models"))
        raise ConfigError(
            f"unknown model {name!r}: give one of {known}, a directory with a config.json, or a hub name"
        )
    # The hub's own config is the server's to read; ids below this bound exist in every current vocabulary.
    return Model(name.replace("/", "--"), vocab_size=32000, context_length=4096, path=name)


def _written(folder: ConfigFolder, name: str, document: Mapping[str, Any]) -> bool:
    weights = document.get("weights", "dummy")
    if weights not in ("dummy", "random"):
        raise ConfigError(
            f"{folder.path / 'models' / name}.yaml: weights is {weights!r}: give dummy or random"
        )
    return bool(weights == "random")


def _read_json(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: not readable as JSON ({error})") from error


def _shape(name: str, config: object, origin: Path) -> Model:
    if not isinstance(config, dict):
        raise ConfigError(f"{origin}: no 'config' mapping with the model's shape")
    try:
        return Model(name, int(config["vocab_size"]), int(config["max_position_embeddings"]), config=config)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{origin}: needs whole numbers vocab_size and max_position_embeddings ({error})"
        ) from None
