"""A model on disk: the ``config.json`` of a shape with dummy weights, or the user's checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from sglperf.core.server_config import Model
from sglperf.errors import ConfigError, StoreError


def materialize(model: Model, directory: Path) -> str:
    """What ``--model-path`` gets.

    For a shape with dummy weights, ``directory/NAME-HASH`` with its ``config.json`` written atomically,
    so that two runs may write the same one. For a checkpoint, its directory or its hub name.

    Raises:
        ConfigError: the checkpoint directory does not exist.
        StoreError: the file cannot be written.
    """
    if model.path is not None:
        return _checkpoint(model.path)
    text = json.dumps(dict(model.config), indent=2, sort_keys=True) + "\n"
    folder = directory / f"{model.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "config.json", text)
    except OSError as error:
        raise StoreError(f"cannot write {folder}/config.json: {error}. Choose a writable folder") from error
    return str(folder)


def _checkpoint(path: str) -> str:
    local = Path(path).expanduser()
    if local.is_dir():
        return str(local.resolve())
    if path.startswith(("/", ".", "~")):
        raise ConfigError(f"no checkpoint directory {path}. Give a directory with config.json, or a hub name")
    return path


def _write(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
