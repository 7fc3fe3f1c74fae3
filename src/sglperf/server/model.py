"""A model on disk: the ``config.json`` of a shape, with weights if it has any, or the user's checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from safetensors.numpy import save_file

from sglperf.core.server_config import Model
from sglperf.core.shape import shape_of
from sglperf.errors import ConfigError, StoreError
from sglperf.server.weights import SEED, Weights, random_weights

_WEIGHTS = "model.safetensors"


def materialize(model: Model, directory: Path) -> str:
    """What ``--model-path`` gets.

    For a shape, ``directory/NAME-HASH`` with its files written atomically, so that two runs may write the same ones.
    For a checkpoint, its directory or its hub name.

    Raises:
        ConfigError: the checkpoint directory does not exist, or no weights can be made for the shape.
        StoreError: a file cannot be written.
    """
    if model.path is not None:
        return _checkpoint(model.path)
    text = json.dumps(dict(model.config), indent=2, sort_keys=True) + "\n"
    digest = hashlib.sha256(text.encode() + (f"weights {SEED}".encode() if model.written else b""))
    folder = directory / f"{model.name}-{digest.hexdigest()[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if model.written and not (folder / _WEIGHTS).exists():
            _write(folder / _WEIGHTS, partial(save_file, _weights(model)))
        _write(folder / "config.json", lambda path: Path(path).write_text(text, encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"cannot write a model into {folder}: {error}. Choose a writable folder") from error
    return str(folder)


def _weights(model: Model) -> dict[str, Weights]:
    shape = shape_of(model)
    if shape is None:
        raise ConfigError(
            f"model {model.name} is no dense Llama, so no weights can be made for it: leave out weights"
        )
    return random_weights(shape)


def _checkpoint(path: str) -> str:
    local = Path(path).expanduser()
    if local.is_dir():
        return str(local.resolve())
    if path.startswith(("/", ".", "~")):
        raise ConfigError(f"no checkpoint directory {path}. Give a directory with config.json, or a hub name")
    return path


def _write(path: Path, fill: Callable[[str], object]) -> None:
    """Another process sees the whole file or none."""
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    os.close(handle)
    try:
        fill(name)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
