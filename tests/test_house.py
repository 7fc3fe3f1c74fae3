"""The house keeps its rooms apart: who never imports what (the table of the design), by reading every module."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import sglperf

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "sglperf"

CLOCKS = ("time", "datetime", "calendar", "sched")
FILES = ("os", "io", "pathlib", "shutil", "tempfile", "glob", "fcntl", "mmap", "filelock", "platformdirs")
PROCESSES = ("subprocess", "multiprocessing", "signal", "threading", "concurrent", "psutil")
NETWORK = (
    "socket", "ssl", "select", "selectors", "asyncio", "http", "urllib", "httpx", "httptools", "requests",
    "aiohttp", "uvloop", "anyio",
)  # fmt: skip
TESTS = ("pytest", "_pytest", "pytest_benchmark")
HARDWARE = ("pynvml", "cpuinfo")
DATABASES = ("sqlalchemy", "psycopg", "sqlite3")
BUILDS = ("torch", "sglang", "sgl_kernel")
OPINIONS = ("sglperf.core.statistics", "sglperf.core.verdict", "sglperf.store", "sglperf.report")


@dataclass(frozen=True)
class Room:
    """What the files below ``path`` never import: these names and all below them, apart from the exceptions.

    Files below ``without`` are not the room's.
    """

    path: str
    never: tuple[str, ...]
    but: tuple[str, ...] = ()
    without: str | None = None

    @property
    def files(self) -> list[Path]:
        place = ROOT / self.path
        found = [place] if place.suffix else sorted(place.rglob("*.py"))
        return [file for file in found if not self.without or not file.is_relative_to(ROOT / self.without)]


ROOMS = {
    room.path: room
    for room in (
        Room(
            "src/sglperf/core",
            (*TESTS, *PROCESSES, *FILES, *NETWORK, *CLOCKS, *HARDWARE, *DATABASES, "sglperf"),
            but=("sglperf.core", "sglperf.errors"),
        ),
        Room("src/sglperf/workload", OPINIONS),
        Room("src/sglperf/probes", OPINIONS),
        Room("src/sglperf/server", OPINIONS),
        Room("src/sglperf/report", ("sglperf.server", "sglperf.workload", "sglperf.store")),
        Room(
            "src/sglperf/history",
            (*TESTS, *PROCESSES, "sglperf"),
            but=("sglperf.history", "sglperf.core", "sglperf.errors"),
        ),
        Room("src/sglperf/pipeline.py", (*TESTS, "sglperf.plugin", "sglperf.cli")),
        Room("src/sglperf/workers", ("sglperf",)),
        Room("perf_tests", ("sglperf",), but=tuple(f"sglperf.{name}" for name in sglperf.__all__)),
        Room("src/sglperf", BUILDS, without="src/sglperf/workers"),  # which the target's interpreter runs
    )
}


@dataclass(frozen=True)
class Import:
    """A dotted name that a file brings in, and where."""

    line: int
    name: str


class _Imports(ast.NodeVisitor):
    """Everything imported when a module, or any of its functions, runs; what only a type checker reads is not."""

    def __init__(self, package: str) -> None:
        self._package = package
        self.found: list[Import] = []

    def visit_If(self, node: ast.If) -> None:
        only_for_types = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for child in node.orelse if only_for_types else [node.test, *node.body, *node.orelse]:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [Import(node.lineno, alias.name) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        parents = self._package.split(".")[: None if node.level < 2 else 1 - node.level] if node.level else []
        module = ".".join([*parents, *([node.module] if node.module else [])])
        self.found += [Import(node.lineno, f"{module}.{alias.name}") for alias in node.names]

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func).split(".")[-1]
        if called in ("import_module", "__import__", "importorskip") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                self.found.append(Import(node.lineno, name.value))
        self.generic_visit(node)


def imports(source: str, file: Path) -> list[Import]:
    """Absolute names, relative ones resolved by where the file lies below ``src``."""
    inside = file.relative_to(ROOT / "src") if file.is_relative_to(ROOT / "src") else Path(file.name)
    visitor = _Imports(".".join(inside.parent.parts))
    visitor.visit(ast.parse(source, str(file)))
    return visitor.found


def trespasses(room: Room, source: str, file: Path) -> Iterator[str]:
    """A message for each import that the room forbids: file, line, room and name."""
    for one in imports(source, file):
        if _below(one.name, room.never) and not _below(one.name, room.but):
            yield f"{file.relative_to(ROOT)}:{one.line}: {room.path} never imports {one.name}"


def _below(name: str, tops: tuple[str, ...]) -> bool:
    return any(name == top or name.startswith(top + ".") for top in tops)


def is_placeholder(file: Path) -> bool:
    """It is no part of the harness: a target's own interpreter imports it in place of a package."""
    return "placeholder" in file.parts


# The house as it is


@pytest.mark.parametrize("path", ROOMS)
def test_no_room_imports_what_it_must_not(path):
    """Every module keeps to the table; a message names file, line, room and import."""
    room = ROOMS[path]
    files = [file for file in room.files if not is_placeholder(file)]
    found = [
        message for file in files for message in trespasses(room, file.read_text(encoding="utf-8"), file)
    ]

    assert not found, "\n".join(found)
    assert files


def test_the_placeholder_needs_nothing_but_python():
    """What is put on a target's path imports the standard library only, so it runs in any interpreter."""
    files = sorted((SOURCE / "server" / "placeholder").rglob("*.py"))
    found = [
        f"{file.relative_to(ROOT)}:{one.line}: the placeholder never imports {one.name}"
        for file in files
        for one in imports(file.read_text(encoding="utf-8"), file)
        if one.name.split(".")[0] not in sys.stdlib_module_names
    ]

    assert not found, "\n".join(found)
    assert files


def test_what_every_pytest_loads_is_light():
    """Options come with every pytest of an environment, the plugin with every collection: neither pays for
    what only a measurement or a verdict needs."""
    script = (
        "import json, sys\n"
        "def tops(): return sorted({name.split('.')[0] for name in sys.modules})\n"
        "import sglperf.options; options = tops()\n"
        "import sglperf.plugin; print(json.dumps([options, tops()]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    options, plugin = map(set, json.loads(done.stdout))
    heavy = {
        "numpy",
        "scipy",
        "httpx",
        "rich",
        "orjson",
        "uvloop",
        "httptools",
        "prometheus_client",
        "matplotlib",
        "jinja2",
        "otava",
        *DATABASES,
        *HARDWARE,
        *BUILDS,
    }

    assert plugin & heavy == set()
    assert options & (heavy | {"pydantic", "yaml"}) == set()
    assert "pydantic" in plugin  # else this test looks at the wrong modules


def test_collecting_the_suite_imports_no_build_and_no_statistics():
    """A whole collection, plan included, loads neither torch nor sglang nor what only a measurement needs."""
    script = (
        "import json, sys, pytest\n"
        "code = pytest.main(['--collect-only', '-q', '--profile=cpu', '-p', 'no:cacheprovider', 'perf_tests'])\n"
        "print(json.dumps([int(code), sorted({name.split('.')[0] for name in sys.modules})]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    code, loaded = json.loads(done.stdout.splitlines()[-1])

    assert code == 0, done.stdout
    assert set(loaded) & {"numpy", "scipy", "httpx", "uvloop", *HARDWARE, *BUILDS} == set()


def test_scripts_beside_the_package_import_what_is_there():
    """No test runs all of them, and a name that moved would be missed only by whoever does."""
    files = [file for folder in ("benchmarks", ".ci", "docs") for file in (ROOT / folder).rglob("*.py")]
    asked = [
        (file.relative_to(ROOT), node.module, one.name)
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "sglperf"
        for one in node.names
    ]

    assert [one for one in asked if not _is_there(one[1], one[2])] == []
    assert {str(one[0]) for one in asked} >= {"benchmarks/gpu/tables.py", "docs/reference.py"}


def _is_there(module: str, name: str) -> bool:
    if hasattr(importlib.import_module(module), name):
        return True
    try:
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return False
    return True


# The checker: each entry of the table, broken on purpose

BROKEN = {
    "src/sglperf/core": [
        "pytest", "subprocess", "multiprocessing", "sqlalchemy", "os", "os.path", "pathlib", "tempfile", "http.client", "urllib.request",
        "httpx", "requests", "aiohttp", "socket", "asyncio", "time", "datetime", "pynvml", "sglperf", "sglperf.config",
        "sglperf.store", "sglperf.report.terminal", "sglperf.workload.plan", "sglperf.server.launch", "sglperf.probes.gpu",
        "sglperf.target.resolve", "sglperf.plan", "sglperf.measure", "sglperf.corelike",
    ],
    "src/sglperf/workload": ["sglperf.core.statistics", "sglperf.core.verdict", "sglperf.store", "sglperf.report.terminal"],
    "src/sglperf/probes": ["sglperf.core.statistics", "sglperf.core.verdict", "sglperf.store", "sglperf.report.quantity"],
    "src/sglperf/server": ["sglperf.core.statistics", "sglperf.core.verdict", "sglperf.store", "sglperf.report"],
    "src/sglperf/report": ["sglperf.server.launch", "sglperf.workload.shapes", "sglperf.store"],
    "src/sglperf/history": ["pytest", "subprocess", "sglperf.store", "sglperf.report.trend", "sglperf.evidence"],
    "src/sglperf/pipeline.py": ["pytest", "_pytest.config", "sglperf.plugin", "sglperf.cli"],
    "src/sglperf/workers": ["sglperf", "sglperf.errors", "sglperf.core.metric"],
    "perf_tests": ["sglperf", "sglperf.plan", "sglperf.core.catalogue", "sglperf.config", "sglperf.Measurement", "sglperf.*"],
    "src/sglperf": ["torch", "torch.cuda", "sglang", "sglang.srt.server_args", "sgl_kernel"],
}  # fmt: skip
ALLOWED = {
    "src/sglperf/core": [
        "sglperf.core.metric",
        "sglperf.errors",
        "math",
        "numpy",
        "timeit",
        "osmium",
        "pydantic",
    ],
    "src/sglperf/workload": ["sglperf.core.observation", "sglperf.errors", "time", "sglperf.storehouse"],
    "src/sglperf/probes": ["sglperf.core.topology", "pynvml", "sglperf.core.verdicts"],
    "src/sglperf/server": ["sglperf.core.server_config", "sglperf.probes.server_info", "subprocess"],
    "src/sglperf/report": ["sglperf.core.verdict", "sglperf.core.server_config", "rich.table"],
    "src/sglperf/history": [
        "sqlalchemy",
        "sglperf.core.history",
        "sglperf.history.schema",
        "sglperf.errors",
        "pathlib",
    ],
    "src/sglperf/pipeline.py": ["sglperf.store", "sglperf.report.document", "sglperf.client"],
    "src/sglperf/workers": ["torch", "json", "sglperformance"],
    "perf_tests": [*(f"sglperf.{name}" for name in sglperf.__all__), "pytest"],
    "src/sglperf": ["torchvision", "sglperf.server", "sglang_router"],
}


def written(name: str) -> dict[str, tuple[int, str]]:
    """Ways to import a name: the line on which it happens, and a module that does it."""
    parent, _, last = name.rpartition(".")
    ways = {
        "plain": (1, f"import {name}"),
        "renamed": (2, f"import json\nimport sys, {name} as other"),
        "a name of it": (1, f"from {name} import something"),
        "in a function": (3, f"def f():\n    if x:\n        import {name}"),
        "in an attempt": (2, f"try:\n    import {name}\nexcept ImportError:\n    pass"),
        "by a call": (2, f'import importlib\nother = importlib.import_module("{name}")'),
        "by its hidden call": (1, f'other = __import__("{name}").x'),
        "not for types": (2, f"if not typing.TYPE_CHECKING:\n    import {name}"),
        "beside types": (4, f"if TYPE_CHECKING:\n    import json\nelse:\n    import {name}"),
    }
    if last == "*":
        return {"everything": (1, f"from {parent} import *")}
    if parent:
        ways["from its parent"] = (2, f"import json\nfrom {parent} import (\n    {last},\n)")
    return ways


def example(room: Room) -> Path:
    """A file that might lie in the room."""
    return ROOT / room.path if room.path.endswith(".py") else ROOT / room.path / "example.py"


def test_every_entry_of_the_table_is_tried():
    """No room goes without a broken example and an honest one."""
    assert set(BROKEN) == set(ALLOWED) == set(ROOMS)


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in BROKEN.items() for name in names])
def test_a_forbidden_import_is_found_however_it_is_written(path, name):
    """One message with file, line, room and name, wherever in the module it stands."""
    room = ROOMS[path]
    file = example(room)

    for way, (line, source) in written(name).items():
        (message,) = trespasses(room, source, file)
        assert message.startswith(f"{file.relative_to(ROOT)}:{line}: {path} never imports {name}"), way


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, names in ALLOWED.items() for name in names]
)
def test_what_is_not_in_the_table_is_allowed(path, name):
    """A name that only begins like a forbidden one, or is an exception, raises nothing."""
    parent, _, last = name.rpartition(".")
    source = f"from {parent} import {last}" if parent else f"import {name}"

    assert list(trespasses(ROOMS[path], source, example(ROOMS[path]))) == []


@pytest.mark.parametrize("guard", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_imports_for_types_do_not_count(guard):
    """What only a type checker reads is not imported when the module is."""
    source = f"if {guard}:\n    import os\n    from sglperf import store\n"

    assert list(trespasses(ROOMS["src/sglperf/core"], source, example(ROOMS["src/sglperf/core"]))) == []


@pytest.mark.parametrize(
    ("path", "source", "name"),
    [
        ("src/sglperf/core", "from .. import store", "sglperf.store"),
        ("src/sglperf/core", "from ..report import terminal", "sglperf.report.terminal"),
        ("src/sglperf/core", "from . import metric", None),
        ("src/sglperf/core", "from .metric import Metric", None),
        ("src/sglperf/core", "from ..errors import UsageError", None),
        (
            "src/sglperf/report",
            "from ..server.launch import start_server",
            "sglperf.server.launch.start_server",
        ),
        ("src/sglperf/pipeline.py", "from .plugin import AREAS", "sglperf.plugin.AREAS"),
        ("src/sglperf/pipeline.py", "from . import cli", "sglperf.cli"),
        ("src/sglperf/workload", "from ..core import verdict", "sglperf.core.verdict"),
    ],
)
def test_relative_imports_are_followed(path, source, name):
    """Dots are resolved from where the file lies."""
    found = list(trespasses(ROOMS[path], source, example(ROOMS[path])))

    assert [message.rsplit(" ", 1)[1] for message in found] == ([] if name is None else [name])


def test_the_message_says_all():
    """File, line, room and import, so that it can be mended without looking anything up."""
    room = ROOMS["src/sglperf/core"]
    (message,) = trespasses(room, "import math\n\nimport time\n", SOURCE / "core" / "metric.py")

    assert message == "src/sglperf/core/metric.py:3: src/sglperf/core never imports time"
