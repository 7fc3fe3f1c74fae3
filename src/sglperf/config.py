"""Settings: YAML, environment variables and options become one frozen value that knows where each entry came from.

Later layers win: built-in default < ``config/suite.yaml`` < profile < ``SGLPERF_*`` variable < option.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import (
    ValidationError,
)

from sglperf.config_folder import ConfigFolder, choose_profile, read_yaml
from sglperf.errors import ConfigError
from sglperf.settings import Settings, parse_list, parse_tp_sets, without_password


def load_settings(
    folder: ConfigFolder,
    options: Mapping[str, Any],
    environment: Mapping[str, str],
    accelerators: Sequence[str],
    server: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge all layers.

    Args:
        folder: where profiles live.
        options: command-line values by setting name; None means not given.
        environment: variables; ``SGLPERF_LAUNCHES`` sets ``launches``.
        accelerators: product names of the GPUs present, for ``--profile auto``.
        server: an entry of the profile's ``servers``, whose values come before the profile's own.
        changes: what a test insists on, whatever else is given.

    Raises:
        ConfigError: an unknown profile or name, or a bad value, with its origin.
    """
    given = {name: (value, option_name(name)) for name, value in options.items() if value is not None}
    variables = _variables(environment)
    profile, origin = given.get("profile") or variables.get("profile") or ("auto", "")
    if profile == "auto":
        profile, origin = choose_profile(folder, accelerators), "chosen by the hardware found"
    common = folder.path / "suite.yaml"
    documents = {
        str(common): read_yaml(common) if common.is_file() else {},
        **_profile_documents(folder, profile),
    }
    layers: list[dict[str, tuple[Any, str]]] = [
        *(_with_origin(document, file) for file, document in documents.items()),
        *([] if server is None else _server_layers(documents, server)),
        variables,
        given,
        _with_origin(changes or {}, "the test's own mark"),
        {"profile": (profile, origin)},
    ]
    merged: dict[str, tuple[Any, str]] = {}
    for layer in layers:
        merged |= {name: _over(merged.get(name), entry) for name, entry in layer.items()}
    return _validated(merged)


def _profile_documents(folder: ConfigFolder, name: str) -> dict[str, dict[str, Any]]:
    """File → what it says: the profile, after those that it extends."""
    documents: dict[str, dict[str, Any]] = {}
    base: Any = name
    while base is not None:
        file = str(folder.path / "profiles" / f"{base}.yaml")
        if file in documents:
            raise ConfigError(f"{file}: extends itself, by way of {' and '.join(documents)}")
        documents[file] = folder.read("profiles", base)
        base = documents[file].pop("extends", None)
        if not isinstance(base, str | None):
            raise ConfigError(f"{file}: extends is {base!r}: expected the name of a profile")
    return dict(reversed(documents.items()))


def _over(below: tuple[Any, str] | None, entry: tuple[Any, str]) -> tuple[Any, str]:
    """An entry laid over the one below; where both are mappings, such as sweeps by name, key by key."""
    value, origin = entry
    if below is not None and isinstance(below[0], dict) and isinstance(value, dict):
        return below[0] | value, origin
    return entry


def _server_layers(documents: Mapping[str, Mapping[str, Any]], name: str) -> list[dict[str, tuple[Any, str]]]:
    """What the suite and the profile say of one of the named servers."""
    known: dict[str, dict[str, Any]] = {}
    layers = []
    for file, document in documents.items():
        servers = document.get("servers") or {}
        if not isinstance(servers, dict) or not all(isinstance(one, dict) for one in servers.values()):
            raise ConfigError(f"{file}: servers is {servers!r}: expected names, each with settings")
        known |= servers
        layers.append(_with_origin(servers.get(name, {}), f"{file}, servers.{name}"))
    if name not in known:
        names = ", ".join(known) or "none"
        raise ConfigError(
            f"no settings for a server {name!r} in {' or '.join(documents)}: under servers is {names}"
        )
    return layers


def _with_origin(document: Mapping[str, Any], origin: str) -> dict[str, tuple[Any, str]]:
    return {name: (value, origin) for name, value in document.items()}


LISTS = {"attention_backends": parse_list, "page_sizes": parse_list, "tp_sets": parse_tp_sets}
"""Settings that are several values, and how a line of text is read as them."""


def _variables(environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {}
    for variable, text in environment.items():
        name = variable.removeprefix("SGLPERF_").lower()
        if variable == "SGLPERF_ORIGINS":
            raise ConfigError(f"{variable}: origins are found, not set: unset it")
        if variable.startswith("SGLPERF_") and name in Settings.model_fields:
            found[name] = (LISTS[name](text) if name in LISTS else text, variable)
    return found


_OPTION_NAMES = {
    "attention_backends": "--attention-backend",
    "page_sizes": "--page-size",
    "tp_sets": "--tp-gpus",
}


def option_name(setting: str) -> str:
    """``page_sizes`` → ``--page-size``; whether there is such an option is another matter."""
    return _OPTION_NAMES.get(setting, "--" + setting.replace("_", "-"))


def _validated(merged: Mapping[str, tuple[Any, str]]) -> Settings:
    if "origins" in merged:
        raise ConfigError(f"{merged['origins'][1]}: origins are found, not set: remove the entry")
    try:
        return Settings(
            **{name: value for name, (value, _) in merged.items()},
            origins={name: origin for name, (_, origin) in merged.items()},
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        origin = merged[name][1] if name in merged else "the profile"
        problem = (
            "unknown setting"
            if first["type"] == "extra_forbidden"
            else first["msg"].removeprefix("Value error, ")
        )
        value = merged[name][0] if name in merged else "nothing"
        value = without_password(value) if name == "history" and isinstance(value, str) else value
        raise ConfigError(f"{origin}: {name} is {value!r}: {problem}") from None


def environment_variables() -> Mapping[str, str]:
    """The process's own variables; the only place in this module that looks outside."""
    return os.environ
