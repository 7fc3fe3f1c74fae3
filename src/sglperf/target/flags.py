"""Which command-line flags a build of SGLang takes, read from its sources: nothing of it is imported.

Until 0.5.19 they are the fields of ``ServerArgs`` in ``server_args.py``, from 0.5.20 on those of the structs in
``arg_groups/fields``; a few more are added by hand. A field is a flag where its annotation, ``A[type, ...]``, holds
a help text or an ``Arg(...)``, which may name it otherwise, give it aliases, or keep it off the command line.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

_ANNOTATED = ("A", "Annotated")


def flags_of(package: Path) -> frozenset[str] | None:
    """Every ``--flag`` of the ``sglang`` package in this folder; None where it keeps them otherwise.

    A flag's unambiguous beginning is taken for it by argparse; `unknown_flags` knows.
    """
    server_args = package / "srt" / "server_args.py"
    files = [server_args, *sorted((package / "srt" / "arg_groups" / "fields").glob("*.py"))]
    try:
        trees = [ast.parse(file.read_bytes()) for file in files]
    except (OSError, SyntaxError, ValueError):
        return None
    found = frozenset(name for tree in trees for name in _names(tree))
    return found if "--model-path" in found and "--port" in found else None


def _names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield from _of_field(node.target.id, node.annotation)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "add_argument":
            yield from _texts(node.args)


def _of_field(field: str, annotation: ast.expr) -> Iterator[str]:
    if not isinstance(annotation, ast.Subscript) or getattr(annotation.value, "id", None) not in _ANNOTATED:
        return
    parts = annotation.slice.elts[1:] if isinstance(annotation.slice, ast.Tuple) else []
    argument = next((part for part in parts if _called(part) == "Arg"), None)
    if argument is None:
        if any(not isinstance(part, ast.Call) for part in parts):  # a help text
            yield _flag(field)
        return
    assert isinstance(argument, ast.Call)
    given = {word.arg: word.value for word in argument.keywords}
    if _constant(given.get("no_cli")) is True:
        return
    name = _constant(given.get("cli_name")) or _flag(field)
    yield str(name)
    if "aliases" in given:
        yield from _texts(getattr(given["aliases"], "elts", ()))
    if "action" in given and getattr(given["action"], "attr", "") == "BooleanOptionalAction":
        yield f"--no-{str(name).removeprefix('--')}"


def _called(node: ast.expr) -> str | None:
    return getattr(node.func, "id", None) if isinstance(node, ast.Call) else None


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _constant(node: ast.expr | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _texts(nodes: Iterable[ast.expr]) -> Iterator[str]:
    return (text for node in nodes if isinstance(text := _constant(node), str))


def unknown_flags(words: Iterable[str], flags: frozenset[str]) -> Iterator[str]:
    """Of a command line's words those that are flags and that this build refuses, each with why.

    argparse takes any unambiguous beginning of a flag for the flag.
    """
    for word in words:
        name = word.split("=", 1)[0]
        if not name.startswith("--") or name in flags:
            continue
        meant = sorted(flag for flag in flags if flag.startswith(name))
        if not meant:
            yield name
        elif len(meant) > 1:
            yield f"{name} (it could be {' or '.join(meant[:4])})"
