"""The reference that the site makes from the code: nothing is missing on it, and each word is the code's own."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from sglperf.cli import app
from sglperf.config import load_settings
from sglperf.config_folder import ConfigFolder
from sglperf.core.catalogue import METRICS
from sglperf.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = {"options": "options.md", "markers": "options.md", "settings": "settings.md", "profiles": "settings.md", "commands": "commands.md", "metrics": "metrics.md"}  # fmt: skip


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(reference: ModuleType) -> dict[str, str]:
    """Page → its text, tables and all, as MkDocs gets it."""
    return {
        name: reference.on_page_markdown((ROOT / "docs" / name).read_text(encoding="utf-8"), page=None)
        for name in set(PAGES.values())
    }


def first_cells(text: str) -> list[str]:
    """The code at the beginning of each row of a table."""
    return re.findall(r"^\| (?:<a [^>]*></a>)?`([^`]+)`", text, re.M)


def test_every_table_has_its_page(reference, pages):
    """Each that can be made stands on one page, and no page waits for one."""
    asked = [
        (name, page.name)
        for page in (ROOT / "docs").glob("*.md")
        for name in re.findall(r"<!-- made from the code: ([\w-]+)", page.read_text(encoding="utf-8"))
    ]

    assert sorted(asked) == sorted(PAGES.items()) == sorted((name, PAGES[name]) for name in reference.TABLES)
    assert not any("<!-- made from" in text for text in pages.values())


def test_every_option_of_pytest(pages, pytestconfig):
    """As pytest itself has them, not as the page's maker found them."""
    ours = next(one for one in pytestconfig._parser._groups if one.name == "sglperf")
    names = [option.names()[0] for option in ours.options]
    shown = [cell.split()[0] for cell in first_cells(pages["options.md"])]

    assert len(names) > 15
    assert set(names) | {"--strict"} <= set(shown)
    assert all(
        option.attrs()["help"] in pages["options.md"].replace("&#124;", "|") for option in ours.options
    )


def test_every_marker(pages, pytestconfig):
    """Those that a session of the suite registers."""
    registered = {
        re.split(r"[:(]", line)[0]
        for line in pytestconfig.getini("markers")
        if "performance suite" in line or "statistic" in line
    }
    shown = {re.split(r"[(]", cell)[0] for cell in first_cells(pages["options.md"])}

    assert {"decode", "radix", "tp", "exact", "timing"} <= registered
    assert registered <= shown
    assert {"sweep", "server", "gpu", "nightly"} <= shown


def test_every_setting_is_explained(reference, pages):
    """Each has words of its own in the code, its variable, and an anchor to be linked to."""
    meanings = reference.setting_meanings()
    assert set(meanings) == set(Settings.model_fields)

    shown = [cell for cell in first_cells(pages["settings.md"]) if cell in Settings.model_fields]
    for name in set(Settings.model_fields) - {"origins"}:
        assert name in shown
        assert f'<a id="{name}"></a>' in pages["settings.md"]


def test_variables_are_those_that_can_be_given(pages):
    """A plain value of each variable that is shown is understood, or refused for its value; no other one is shown."""
    shown = re.findall(r"`SGLPERF_(\w+)`", pages["settings.md"])
    folder = ConfigFolder(ROOT / "config")
    fits = {"device": "cpu", "target_mode": "venv", "why": "off", "baseline": "off", "history": "off", "tp_sets": "0;0,1", "chunked_prefill_tokens": "64", "mem_fraction_static": "0.4", "alpha": "0.04", "min_effect": "0.1", "profile": "quick", "shard": "2/4"}  # fmt: skip
    for variable in shown:
        name = variable.lower()
        value = fits.get(name, "1")
        assert (
            load_settings(folder, {}, {f"SGLPERF_{variable}": value}, ()).origin(name)
            == f"SGLPERF_{variable}"
        )
    assert {"LAUNCHES", "PAGE_SIZES", "HTML_REPORT"} <= set(shown)
    assert not {"SWEEPS", "SERVERS", "SERVER_ARGUMENTS"} & set(shown)


def test_every_profile_is_shown(pages):
    """Each file whole, and each of its plain values in a cell."""
    for file in [ROOT / "config" / "suite.yaml", *(ROOT / "config" / "profiles").glob("*.yaml")]:
        assert all(line in pages["settings.md"] for line in file.read_text(encoding="utf-8").splitlines())
    (row,) = re.findall(r"^\| \[`page_sizes`\].*", pages["settings.md"], re.M)
    assert row.count("`[1]`") == 4
    assert row.count("`[16]`") == 1


def test_every_command(pages):
    """Those of the program, the commands of a command too, each option with its words."""
    text = pages["commands.md"]
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert f"### `sglperf {name}`" in text
    for group in app.registered_groups:
        for command in group.typer_instance.registered_commands:
            name = command.name or command.callback.__name__
            assert f"### `sglperf {group.name} {name}`" in text
    for option in ("--of RUN", "--a-side N", "--older-than DAYS", "--json FILE", "--step", "RUN..."):
        assert f"`{option}`" in text, option
    assert "<code>[RUN&#124;REVISION]</code>" in text


def test_every_metric(pages):
    """With its unit, kind and meaning."""
    for metric in METRICS.values():
        (row,) = re.findall(rf"^\| `{metric.name}` \| {metric.unit} \|.*", pages["metrics.md"], re.M)
        assert metric.meaning in row.replace("&#124;", "|")
        assert f"| {metric.kind.value}" in row
        assert metric.judged is not row.__contains__("shown only")


def test_a_page_that_asks_for_no_such_table(reference):
    """The site is not built."""
    with pytest.raises(KeyError, match="nothing"):
        reference.on_page_markdown("<!-- made from the code: nothing -->")
