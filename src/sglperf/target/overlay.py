"""Builds of what is not installed here: in an environment of their own, or over the packages that are installed."""

from __future__ import annotations

from dataclasses import replace
from email.parser import Parser
from pathlib import Path
from typing import Literal

from sglperf.core.requirements import unmet
from sglperf.errors import TargetError
from sglperf.target.adapter import adapter_for
from sglperf.target.build import Target, default_cache, from_checkout, from_environment
from sglperf.target.environment import Environment, inspect_environment
from sglperf.target.provision import provide
from sglperf.target.revision import Revision, export, export_whole, native_changes

Mode = Literal["auto", "overlay", "venv"]

_MOST_NAMED = 6


def from_revision(
    repository: Path, name: str, commit: str, environment: Environment, cache: Path | None, mode: Mode
) -> Target:
    """An overlay where the revision differs from what is installed in Python only, else an environment of its own.

    Raises:
        TargetError: it is no SGLang, there is nothing that it could run over, or its environment cannot be made.
    """
    if environment.sglang is None or "sglang" not in environment.packages:
        raise TargetError(
            f"{environment.interpreter} has no installed SGLang for revision {name} to run over. "
            "Install one there (uv pip install sglang), or give another interpreter"
        )
    installed = environment.packages["sglang"]
    revision = export(repository, name, commit, (cache or default_cache()).parent / "sources")
    missing = tuple(unmet(revision.requirements, environment.everything))
    native = native_changes(repository, commit, installed)
    reasons = [f"it requires {', '.join(one.said for one in missing)}"] if missing else []
    reasons += (
        [f"native code differs from {installed}'s ({native[0]}, {len(native)} in all)"] if native else []
    )
    label = f"{name}@{commit[:9]}" if not commit.startswith(name) else commit[:9]
    if mode == "venv" or (mode == "auto" and reasons):
        why = "; ".join(reasons) or "asked for by --target-mode"
        # Compiled modules are linked to torch.
        build = bool(native) or any(one.name == "torch" for one in missing)
        target = _in_its_own(repository, revision, environment, cache, build=build)
        notes = (f"{label} has an environment of its own: {why}", *target.notes)
        return replace(target, label=label, commit=commit, notes=notes)
    target = from_checkout(revision.package, environment, cache, revision.facts)
    unknown = (
        ()
        if native is not None
        else (f"no tag v{installed} there, so whether native code differs is unknown",)
    )
    note = (
        f"{label} runs over the installed sglang {installed}: {'; '.join(reasons) or 'only Python differs'}"
    )
    return replace(target, label=label, notes=(note, *unknown, *target.notes))


def _in_its_own(
    repository: Path, revision: Revision, environment: Environment, cache: Path | None, *, build: bool
) -> Target:
    """The revision in an environment with what it requires.

    Where its compiled modules are the installed release's, nothing is built: its sources run over an environment with
    its requirements, which revisions that require the same share. Else the whole repository is exported, since the
    build finds its crates beside the package, and built.
    """
    places = environment.interpreter, environment.python, _environments(cache)
    if not build:
        made = provide(revision.requirements, *places)
        inner = inspect_environment(made.interpreter)
        return from_checkout(revision.package, inner, cache, revision.facts, environment.sglang)
    tree = export_whole(repository, revision, (cache or default_cache()).parent / "sources")
    version = (
        (revision.facts.describe or f"v{environment.packages['sglang']}").removeprefix("v").split("-")[0]
    )
    # The exported tree has no history to take a version from.
    variables = {"SETUPTOOLS_SCM_PRETEND_VERSION": f"{version}+g{revision.facts.commit[:9]}"}
    made = provide((str(tree / "python"),), *places, variables=variables)
    return from_environment(inspect_environment(made.interpreter), cache)


def _environments(cache: Path | None) -> Path | None:
    return cache and cache / "environments"


def from_release(version: str, python: Path, cache: Path | None, mode: Mode) -> Target:
    """A release as installed here, else in an environment of its own, else over the packages of what is installed.

    Raises:
        TargetError: it is too old, or can be had in none of these ways.
    """
    environment = inspect_environment(python)
    if environment.packages.get("sglang") == version:
        return from_environment(environment, cache)
    adapter_for(version)  # refuses what is too old, before minutes go into it
    why = "asked for by --target-mode"
    if mode != "overlay":
        try:
            made = provide((f"sglang=={version}",), python, environment.python, _environments(cache))
            return from_environment(inspect_environment(made.interpreter), cache)
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
        (f"sglang=={version}",),
        environment.interpreter,
        environment.python,
        _environments(cache),
        overlay=True,
    )
    (metadata,) = made.folder.glob("sglang-*.dist-info/METADATA")
    asked = Parser().parsestr(metadata.read_text("utf-8")).get_all("Requires-Dist", [])
    missing = [one.said for one in unmet(asked, environment.everything)]
    left_out = f"; left out: {', '.join(missing[:_MOST_NAMED])}" if missing else ""
    left_out += f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
    installed = environment.packages.get("sglang", "a checkout")
    note = f"sglang {version} runs over the packages of the installed sglang {installed}: {why}{left_out}"
    return Target(
        label=f"sglang {version}",
        interpreter=environment.interpreter,
        import_path=made.folder,
        version=version,
        package=made.folder / "sglang",
        packages={**environment.packages, "sglang": version},
        notes=(note, *adapter_for(version).notes),
    )
