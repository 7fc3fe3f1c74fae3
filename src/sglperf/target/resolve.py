"""From a target's specification to the exact SGLang build that will be measured."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from sglperf.errors import TargetError
from sglperf.target.build import Target, from_directory, from_environment
from sglperf.target.environment import inspect_environment
from sglperf.target.overlay import Mode, from_release, from_revision
from sglperf.target.revision import find_revision, unknown_revision

_PINNED = re.compile(r"sglang\s*==\s*(?P<version>[^\s,;]+)$")
# Anything git might take; a path is written with a leading ``/``, ``.`` or ``~``.
_REVISION = re.compile(r"[\w][\w./~^@{}-]*")


def resolve_target(
    spec: str | None = None,
    *,
    interpreter: Path | None = None,
    cache: Path | None = None,
    repository: Path | None = None,
    mode: Mode = "auto",
) -> Target:
    """The build that ``spec`` names.

    Args:
        spec: None (the SGLang importable here), ``sglang==X`` (as installed here, else in an environment of its
            own, made on demand), a path to a Python interpreter, a path to a checkout (a directory with
            ``python/sglang/`` or ``sglang/``), or a revision of ``repository``.
        interpreter: the Python for a checkout, a revision or a pinned version; default this process's.
        cache: where snapshots of checkouts are kept; default the user's cache.
        repository: where a spec that is none of these is looked up as a git revision.
        mode: for a release or a revision: ``overlay`` runs its package over what the installed SGLang requires,
            ``venv`` makes an environment for it. ``auto`` makes one for a release wherever that can be done, and for
            a revision only where it differs in more than Python.

    Raises:
        TargetError: there is no SGLang at ``spec``; the message says what to do instead.
    """
    python = interpreter or Path(sys.executable)
    if spec is None:
        return from_environment(inspect_environment(python, pythonpath=interpreter is None), cache)
    if pinned := _PINNED.match(spec.strip()):
        return from_release(pinned["version"], python, cache, mode)
    path = Path(spec).expanduser()
    if path.is_dir():
        return from_directory(path, python, cache)
    if path.exists():
        return from_environment(inspect_environment(Path(os.path.abspath(path))), cache)  # noqa: PTH100
    commit = find_revision(repository, spec) if repository and _REVISION.fullmatch(spec) else None
    if repository is None or commit is None:
        raise TargetError(_not_there(spec, repository))
    return from_revision(repository, spec, commit, inspect_environment(python), cache, mode)


def _not_there(spec: str, repository: Path | None) -> str:
    choices = "Give an interpreter, a checkout directory, sglang==VERSION"
    if repository is not None:
        return f"no file or directory {spec!r}, and {unknown_revision(repository, spec)}. {choices}"
    if _REVISION.fullmatch(spec):
        return (
            f"no file or directory {spec!r}. If it is a git revision, say of which repository: "
            f"--sglang-repo=PATH. {choices}, or a revision"
        )
    return f"no file or directory {spec!r}. {choices}"
