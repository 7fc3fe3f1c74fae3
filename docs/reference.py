"""Tables of the reference, made from the code whenever the site is built, so that none can be out of date.

A page names one by a comment of its own line, ``<!-- made from the code: settings -->``; MkDocs calls `on_page_markdown`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
import yaml

from sglperf import options
from sglperf.cli import app
from sglperf.config import LISTS, option_name
from sglperf.config_folder import ConfigFolder, read_yaml
from sglperf.core.catalogue import METRICS
from sglperf.core.metric import Better
from sglperf.plugin import MARKERS
from sglperf.settings import Settings

ROOT = Path(__file__).parents[1]
CONFIG = ConfigFolder(ROOT / "config")
WIDE = {"options", "settings", "metrics"}
PLACE = re.compile(r"^<!-- made from the code: ([\w-]+) -->$", re.M)
# pytest has this flag itself; it is no option of ours, and a setting all the same.
STRICT = (
    "--strict",
    {
        "action": "store_true",
        "help": "also fail what is new or incomparable; pytest's own flag, which it stays",
    },
)


def on_page_markdown(markdown: str, page: Any = None, **_: object) -> str:
    """The page with its tables; where they are wide, the column beside them, of contents, is theirs.

    Raises:
        KeyError: it asks for one that there is not.
    """
    if page is not None and not WIDE.isdisjoint(PLACE.findall(markdown)):
        page.meta["hide"] = ["toc"]
    return PLACE.sub(lambda found: _shown(found[1]), markdown)


def _shown(name: str) -> str:
    made = TABLES[name]()
    return f'<div class="wide" markdown>\n\n{made}\n</div>' if name in WIDE else made


# ---- pytest: options and markers


def pytest_options() -> str:
    """Each option with its meaning, and the setting that it sets."""
    by_option = {option_name(name): name for name in Settings.model_fields}
    rows = []
    for name, given in [*_added_options(), STRICT]:
        value = f" {given['metavar']}" if "metavar" in given else ""
        setting = by_option.get(name)
        link = f"[`{setting}`](settings.md#{setting})" if setting else ""
        rows.append((f"`{name}{value}`", given["help"], link))
    return table(("option", "meaning", "setting"), rows)


def _added_options() -> list[tuple[str, dict[str, Any]]]:
    """What ``sglperf.options`` adds to pytest's own."""
    added: list[tuple[str, dict[str, Any]]] = []

    class Group:
        def addoption(self, name: str, **given: Any) -> None:
            added.append((name, given))

    class Parser:
        def getgroup(self, *_: str) -> Group:
            return Group()

        def addini(self, *_: Any, **__: Any) -> None:
            """A line of pytest's configuration is no option."""

    options.pytest_addoption(Parser())  # type: ignore[arg-type]
    return added


def markers() -> str:
    """What ``-m`` selects by, and what a test is marked with."""
    return table(("marker", "meaning"), [(f"`{name}`", meaning) for name, meaning in MARKERS.items()])


# ---- settings and profiles


def settings() -> str:
    """Each setting: its values, its default, where it is given, and what it means; an anchor for each."""
    meanings, schema = setting_meanings(), Settings.model_json_schema()["properties"]
    rows = []
    for name, field in Settings.model_fields.items():
        if name == "origins":
            continue  # found, not set
        shown = "the profile's" if field.is_required() else _value(field.default)
        option = option_name(name) if option_name(name) in _option_names() else ""
        given = "<br>".join(f"`{one}`" for one in (option, _variable(name, schema[name])) if one)
        rows.append((f'<a id="{name}"></a>`{name}`', _kind(name, schema[name]), shown, given, meanings[name]))
    return table(("setting", "values", "default", "option, variable", "meaning"), rows)


def _variable(name: str, schema: Mapping[str, Any]) -> str:
    """Mappings, and lists that have no option either, are given in files only."""
    in_files = _kind(name, schema) in ("mapping", "list") and name not in LISTS
    return "" if in_files else f"SGLPERF_{name.upper()}"


def _option_names() -> set[str]:
    return {name for name, _ in [*_added_options(), STRICT]}


def setting_meanings() -> dict[str, str]:
    """Setting → what it means, as its class says under ``Attributes``."""
    lines = (Settings.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", lines, re.M)
    return {name: re.sub(r"``", "`", " ".join(text.split())) for name, text in found}


# What a validator takes besides what the type says.
_WRITTEN = {
    "launches": "whole number, or `MIN..MAX`",
    "shard": "`K/N`",
    "tp_sets": "lists of GPU indices, or `auto`",
    "history": "file, `sqlite:///FILE`, `postgresql://USER@HOST/NAME`, or `off`",
}


def _kind(name: str, schema: Mapping[str, Any]) -> str:
    if name in _WRITTEN:
        return _WRITTEN[name]
    for one in schema.get("anyOf", ()):
        if one.get("type") != "null":
            return _kind(name, one)
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if schema.get("format") == "path":
        return "path"
    plain = {
        "integer": "whole number",
        "number": "number",
        "boolean": "`true`, `false`",
        "string": "text",
        "array": "list",
        "object": "mapping",
    }
    limits = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "exclusiveMaximum": "below {}",
        "maxLength": "at most {} characters",
    }
    said = [words.format(schema[limit]) for limit, words in limits.items() if limit in schema]
    return ", ".join([plain[schema["type"]], *said])


def profiles() -> str:
    """What the suite and each profile set, one value a cell; then the files themselves."""
    names = CONFIG.names("profiles")
    files = {
        "suite": read_yaml(CONFIG.path / "suite.yaml"),
        **{name: CONFIG.read("profiles", name) for name in names},
    }
    mapped = {
        name for document in files.values() for name, value in document.items() if isinstance(value, dict)
    }
    rows = [
        (
            f"[`{name}`](#{name})",
            *(_value(document[name]) if name in document else "" for document in files.values()),
        )
        for name in Settings.model_fields
        if name not in mapped | {"description"} and any(name in document for document in files.values())
    ]
    shown = [table(("setting", *(f"`{name}`" for name in files)), rows)]
    for name in files:
        file = CONFIG.path / ("suite.yaml" if name == "suite" else f"profiles/{name}.yaml")
        body = "".join(f"    {line}\n" for line in file.read_text(encoding="utf-8").splitlines())
        shown.append(f'??? note "{file.relative_to(ROOT)}"\n\n    ```yaml\n{body}    ```\n')
    return "\n".join(shown)


# ---- commands


def commands() -> str:
    """Each command of ``sglperf`` with its arguments and options."""
    return "\n".join(_command(path, command) for path, command in every_command())


def every_command() -> Iterator[tuple[str, Any]]:
    """``sglperf baseline accept`` and the like, each with what it runs."""
    pending = [("sglperf", typer.main.get_command(app))]
    while pending:
        path, one = pending.pop(0)
        inner = getattr(one, "commands", None)
        if inner is None:
            yield path, one
        else:
            pending[:0] = [(f"{path} {name}", command) for name, command in sorted(inner.items())]


def _command(path: str, command: Any) -> str:
    given = [one for one in command.params if "--help" not in one.opts]
    named = [_written(one) for one in given if one.param_type_name == "argument"]
    further = "[PYTEST'S ARGUMENTS]" if command.context_settings.get("ignore_unknown_options") else ""
    usage = " ".join(filter(None, [path, *named, "[OPTIONS]" * (len(named) < len(given)), further]))
    rows = [(f"`{_written(one)}`", _default(one), getattr(one, "help", None) or "") for one in given]
    body = table(("argument, option", "default", "meaning"), rows) if rows else ""
    words = " ".join((command.help or "").split())
    return f"### `{path}`\n\n{words}\n\n```text\n{usage}\n```\n\n{body}\n"


def _written(one: Any) -> str:
    """As it is typed: ``--of RUN``, ``[RUN]...``."""
    if one.param_type_name == "argument":
        return str(one.metavar or one.name.upper())
    value = "" if one.is_flag else f" {one.metavar or _METAVARS[one.type_descriptor.annotation]}"
    return f"{', '.join(one.opts)}{value}"


_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


def _default(one: Any) -> str:
    if one.required:
        return "required"
    return "" if one.default is None or one.default is False or one.default == "" else _value(one.default)


# ---- metrics


def metrics() -> str:
    """Each metric: name, unit, which way is better, its kind, whether it is judged, and what it is."""
    rows = [
        (
            f"`{one.name}`",
            one.unit,
            "" if one.better is Better.SAME and not one.judged else one.better.value,
            one.kind.value if one.judged else f"{one.kind.value}, shown only",
            one.meaning,
        )
        for one in METRICS.values()
    ]
    return table(("metric", "unit", "better", "kind", "meaning"), rows)


# ---- Markdown


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    cells = [list(head), ["---"] * len(head), *(list(map(_cell, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"


def _cell(text: str) -> str:
    """On one line, without what would end a cell: in code, where Markdown knows no escape, as HTML."""
    text = re.sub(
        r"`([^`]*\|[^`]*)`", lambda found: f"<code>{html.escape(found[1])}</code>", " ".join(text.split())
    )
    return text.replace("|", "&#124;")


def _value(value: Any) -> str:
    """As it is written in YAML, short."""
    if value is None:
        return "none"
    if value in ("", (), [], {}):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list | tuple):
        return f"`{yaml.safe_dump([list(one) if isinstance(one, tuple) else one for one in value], default_flow_style=True, width=1000).strip()}`"
    return f"`{value}`"


TABLES: Mapping[str, Callable[[], str]] = {
    "options": pytest_options,
    "markers": markers,
    "settings": settings,
    "profiles": profiles,
    "commands": commands,
    "metrics": metrics,
}
