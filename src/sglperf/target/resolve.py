"""From a target's specification to the exact SGLang build that will be measured."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.parser import Parser
from pathlib import Path
from typing import Literal

from sglperf.errors import TargetError
from sglperf.target.adapter import Adapter, adapter_for
from sglperf.target.checkout import GitFacts, Snapshot, find_package, git_facts, take_snapshot
from sglperf.target.environment import Environment, inspect_environment
from sglperf.target.provision import provide
from sglperf.target.revision import export, find_revision, native_changes, unmet

Mode = Literal["auto", "overlay", "venv"]

_MOST_NAMED = 6

_PINNED = re.compile(r"sglang\s*==\s*(?P<version>[^\s,;]+)$")
# Anything git might take; a path is written with a leading ``/``, ``.`` or ``~``.
_REVISION = re.compile(r"[\w][\w./~^@{}-]*")


@dataclass(frozen=True)
class Target:
    """An SGLang build under test.

    Attributes:
        label: short name for tables: ``sglang 0.5.23``, ``my-checkout@1a2b3c4d5+local``.
        interpreter: the Python that runs it.
        import_path: directory to put first on PYTHONPATH, or None for the installed package.
        version: what the running server must say its version is.
        commit: full git commit of a checkout, or None.
        dirty_hash: hash of a checkout's uncommitted changes; None where there are none or no git.
        content: hash of a checkout's files; None for an installed package.
        origin: the checkout's package directory; None for an installed package.
        packages: installed version by distribution name, and ``python``.
        notes: what a reader should know, e.g. that compiled modules were borrowed.
    """

    label: str
    interpreter: Path
    import_path: Path | None
    version: str
    commit: str | None = None
    dirty_hash: str | None = None
    content: str | None = None
    origin: Path | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Name of this target's JIT caches, 12 hex digits.

        Edits of one checkout share them, since what is compiled is looked up by its own source;
        two checkouts, or a checkout and an installed package, do not.
        """
        packages = {name: version for name, version in self.packages.items() if name != "sglang"}
        build = str(self.origin) if self.origin else self.version
        parts = [str(self.interpreter), build, *(f"{name}={packages[name]}" for name in sorted(packages))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    @property
    def adapter(self) -> Adapter:
        """What this version calls its flags, endpoints and counters."""
        return adapter_for(self.version)


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
        return _from_environment(inspect_environment(python, pythonpath=interpreter is None), cache)
    if pinned := _PINNED.match(spec.strip()):
        return _pinned(pinned["version"], python, cache, mode)
    path = Path(spec).expanduser()
    if path.is_dir():
        return _from_directory(path, python, cache)
    if path.exists():
        return _from_environment(inspect_environment(Path(os.path.abspath(path))), cache)  # noqa: PTH100
    commit = find_revision(repository, spec) if repository and _REVISION.fullmatch(spec) else None
    if repository is None or commit is None:
        raise TargetError(_not_there(spec, repository))
    return _from_revision(repository, spec, commit, inspect_environment(python), cache, mode)


def _not_there(spec: str, repository: Path | None) -> str:
    choices = "Give an interpreter, a checkout directory, sglang==VERSION"
    if repository is not None:
        return (
            f"no file or directory {spec!r}, and no revision of {repository}. {choices}, or a revision of it"
        )
    if _REVISION.fullmatch(spec):
        return (
            f"no file or directory {spec!r}. If it is a git revision, say of which repository: "
            f"--sglang-repo=PATH. {choices}, or a revision"
        )
    return f"no file or directory {spec!r}. {choices}"


def _from_revision(
    repository: Path, name: str, commit: str, environment: Environment, cache: Path | None, mode: Mode
) -> Target:
    """An overlay where the revision differs from what is installed in Python only, else an environment of its own."""
    if environment.sglang is None or "sglang" not in environment.packages:
        raise TargetError(
            f"{environment.interpreter} has no installed SGLang for revision {name} to run over. "
            "Install one there (uv pip install sglang), or give another interpreter"
        )
    installed = environment.packages["sglang"]
    revision = export(repository, name, commit, (cache or _default_cache()).parent / "sources")
    missing = tuple(unmet(revision.requirements, environment.everything))
    native = native_changes(repository, commit, installed)
    reasons = [f"it requires {', '.join(missing)}"] if missing else []
    reasons += (
        [f"native code differs from {installed}'s ({native[0]}, {len(native)} in all)"] if native else []
    )
    label = f"{name}@{commit[:9]}" if not commit.startswith(name) else commit[:9]
    if mode == "venv" or (mode == "auto" and reasons):
        why = "; ".join(reasons) or "asked for by --target-mode"
        made = provide(
            str(revision.project), environment.interpreter, environment.python, _environments(cache)
        )
        target = _from_environment(inspect_environment(made.interpreter), cache)
        notes = (f"{label} has an environment of its own: {why}", *target.notes)
        return replace(target, label=label, commit=commit, notes=notes)
    target = _from_checkout(revision.package, environment, cache, revision.facts)
    unknown = (
        ()
        if native is not None
        else (f"no tag v{installed} there, so whether native code differs is unknown",)
    )
    note = (
        f"{label} runs over the installed sglang {installed}: {'; '.join(reasons) or 'only Python differs'}"
    )
    return replace(target, label=label, notes=(note, *unknown, *target.notes))


def _environments(cache: Path | None) -> Path | None:
    return cache and cache / "environments"


def _pinned(version: str, python: Path, cache: Path | None, mode: Mode) -> Target:
    environment = inspect_environment(python)
    if environment.packages.get("sglang") == version:
        return _from_environment(environment, cache)
    adapter_for(version)  # refuses what is too old, before minutes go into it
    why = "asked for by --target-mode"
    if mode != "overlay":
        try:
            made = provide(f"sglang=={version}", python, environment.python, _environments(cache))
            return _from_environment(inspect_environment(made.interpreter), cache)
        except TargetError as error:
            if mode == "venv" or environment.sglang is None:
                raise
            why = f"no environment of its own could be made ({_reason(error)})"
    return _release_overlay(version, environment, cache, why)


def _reason(error: TargetError) -> str:
    """Of all that uv says, the first line that names a cause."""
    lines = [line.strip() for line in str(error).splitlines()]
    causes = (
        line.removeprefix(mark)
        for line in lines
        for mark in ("hint: ", "error: ", "x ", "× ")
        if line.startswith(mark)
    )
    return next(causes, lines[0])


def _release_overlay(version: str, environment: Environment, cache: Path | None, why: str) -> Target:
    """A release's package alone, over the packages of the SGLang that is installed here."""
    if environment.sglang is None:
        raise TargetError(
            f"{environment.interpreter} has no SGLang that sglang {version} could run over. Install one there, "
            "or leave --target-mode=overlay out"
        )
    made = provide(
        f"sglang=={version}", environment.interpreter, environment.python, _environments(cache), overlay=True
    )
    (metadata,) = made.folder.glob("sglang-*.dist-info/METADATA")
    asked = Parser().parsestr(metadata.read_text("utf-8")).get_all("Requires-Dist", [])
    missing = list(unmet(asked, environment.everything))
    left_out = f"; left out: {', '.join(missing[:_MOST_NAMED])}" if missing else ""
    left_out += f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
    installed = environment.packages.get("sglang", "a checkout")
    note = f"sglang {version} runs over the packages of the installed sglang {installed}: {why}{left_out}"
    return Target(
        label=f"sglang {version}",
        interpreter=environment.interpreter,
        import_path=made.folder,
        version=version,
        packages={**environment.packages, "sglang": version},
        notes=(note, *adapter_for(version).notes),
    )


def _from_directory(directory: Path, python: Path, cache: Path | None) -> Target:
    package = find_package(directory)
    if package is not None:
        return _from_checkout(package, inspect_environment(python), cache)
    inner = directory / "bin" / "python"
    if inner.exists():
        return _from_environment(inspect_environment(Path(os.path.abspath(inner))), cache)  # noqa: PTH100
    raise TargetError(
        f"{directory} is neither an SGLang checkout (no python/sglang/ or sglang/ in it) nor a virtual "
        "environment (no bin/python). Give one of them, or a path to an interpreter"
    )


def _from_environment(environment: Environment, cache: Path | None) -> Target:
    if environment.sglang is None:
        raise TargetError(
            f"no SGLang can be imported by {environment.interpreter}. Install it there "
            "(uv pip install sglang), or give --target an interpreter or a checkout that has it"
        )
    installed = environment.packages.get("sglang")
    if installed is None or not _is_site(environment.sglang):
        return _from_checkout(environment.sglang, environment, cache)
    return Target(
        label=f"sglang {installed}",
        interpreter=environment.interpreter,
        import_path=None,
        version=installed,
        packages=environment.packages,
        notes=adapter_for(installed).notes,
    )


def _is_site(package: Path) -> bool:
    return package.parent.name in {"site-packages", "dist-packages"}


def _from_checkout(
    package: Path, environment: Environment, cache: Path | None, known: GitFacts | None = None
) -> Target:
    if "torch" not in environment.packages:
        raise TargetError(
            f"{environment.interpreter} has no torch, so the checkout {package.parent} cannot run there. "
            "Install SGLang's dependencies (uv pip install sglang), or give another interpreter"
        )
    facts = known or git_facts(package)
    donor = environment.sglang if environment.sglang != package else None
    installed = environment.packages.get("sglang", "0")
    snapshot = take_snapshot(package, donor, installed, facts, cache or _default_cache())
    return Target(
        label=_checkout_label(package, facts, snapshot),
        interpreter=environment.interpreter,
        import_path=snapshot.import_path,
        version=snapshot.version,
        commit=facts.commit if facts else None,
        dirty_hash=facts.dirty_hash if facts else None,
        content=snapshot.content,
        origin=package,
        packages={**environment.packages, "sglang": snapshot.version},
        notes=(*_borrowing(snapshot, installed), *adapter_for(snapshot.version).notes),
    )


def _checkout_label(package: Path, facts: GitFacts | None, snapshot: Snapshot) -> str:
    root = package.parent.parent if package.parent.name == "python" else package.parent
    if facts is None:
        return f"{root.name}@{snapshot.content[:9]}"
    return f"{root.name}@{facts.commit[:9]}{'+local' if facts.dirty_hash else ''}"


def _borrowing(snapshot: Snapshot, installed: str) -> tuple[str, ...]:
    if not snapshot.borrowed:
        return ()
    count = len(snapshot.borrowed)
    return (f"{count} compiled modules come from the installed sglang {installed}",)


def _default_cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("sglperf") / "snapshots"
