"""Commands that the documentation writes down: each is one that the programs have, with options that they take."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from sglperf.cli import app
from sglperf.plugin import MARKERS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Of plugins that run beside the suite in places, not of every pytest.
ELSEWHERE = {"--numprocesses"}


def written(page: Path) -> Iterator[list[str]]:
    """Each command of ``pytest`` or ``sglperf`` on a page, in words: lines of shell, and code within a sentence."""
    text = page.read_text(encoding="utf-8")
    shell = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    for line in [
        *"".join(shell).splitlines(),
        *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S)),
    ]:
        found = re.match(r"""(?:.*(?:&& |-- |["']))?((?:pytest|sglperf) .*)""", line)
        if found:
            yield words_of(re.sub(r"\s#\s.*", "", found[1]).replace("…", ""))


def words_of(text: str) -> list[str]:
    """As a shell would take it; what stands in another command's quotes ends with them."""
    try:
        return shlex.split(text)
    except ValueError:
        return shlex.split(text[: max(text.rfind("'"), text.rfind('"'))])


def options(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if re.match(r"--\w", word)}


COMMANDS = [(page.name, words) for page in PAGES for words in written(page)]
each_command = pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)}" for page, words in COMMANDS]
)


def parts(words: list[str]) -> tuple[Any, list[str]]:
    """The command of ``sglperf`` that is meant, and what is left for it."""
    one: Any = typer.main.get_command(app)
    while getattr(one, "commands", None) and words and words[0] in one.commands:
        one, words = one.commands[words[0]], words[1:]
    return one, words


@each_command
def test_it_is_there(page, words, pytestconfig):
    """The command, and every long option."""
    known = {"--help", *pytestconfig._parser.optparser._option_string_actions} | ELSEWHERE
    if words[0] == "sglperf" and not words[1].startswith("--"):
        command, rest = parts(words[1:])
        assert not rest or not getattr(command, "commands", None), f"{rest[0]} is no command of sglperf"
        own = {name for one in command.params for name in one.opts} | {"--help"}
        passing = command.context_settings.get("ignore_unknown_options", False)
        assert options(rest) <= (own | known if passing else own)
    else:
        assert options(words) <= known


@each_command
def test_its_areas_are_there(page, words):
    """Every word of ``-m`` is a marker."""
    for at, word in enumerate(words):
        if word == "-m":
            names = set(re.findall(r"\w+", words[at + 1])) - {"and", "or", "not"}
            assert names <= {re.split(r"\W", name)[0] for name in MARKERS}


def test_there_are_commands_to_look_at():
    """Of every kind, else nothing above is tried."""
    assert len(COMMANDS) > 80
    assert {"pytest", "sglperf"} == {words[0] for _, words in COMMANDS}
    assert {"compare", "bisect", "baseline", "init"} <= {
        words[1] for _, words in COMMANDS if words[0] == "sglperf"
    }
