"""The SGLang build that will be measured, made from what is there: an environment, or a checkout over one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sglperf.errors import TargetError
from sglperf.target.adapter import Adapter, adapter_for
from sglperf.target.checkout import GitFacts, Snapshot, find_package, git_facts, take_snapshot
from sglperf.target.environment import Environment, inspect_environment


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
        package: its ``sglang`` directory, as it is run; None where that is not known.
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
    package: Path | None = None
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


def from_directory(directory: Path, python: Path, cache: Path | None) -> Target:
    """A checkout, run by ``python``, or a virtual environment.

    Raises:
        TargetError: it is neither, or cannot run there.
    """
    package = find_package(directory)
    if package is not None:
        return from_checkout(package, inspect_environment(python), cache)
    inner = directory / "bin" / "python"
    if inner.exists():
        return from_environment(inspect_environment(Path(os.path.abspath(inner))), cache)  # noqa: PTH100
    raise TargetError(
        f"{directory} is neither an SGLang checkout (no python/sglang/ or sglang/ in it) nor a virtual "
        "environment (no bin/python). Give one of them, or a path to an interpreter"
    )


def from_environment(environment: Environment, cache: Path | None) -> Target:
    """The SGLang that an interpreter imports; one that lies outside its packages is a checkout.

    Raises:
        TargetError: there is none.
    """
    if environment.sglang is None:
        raise TargetError(
            f"no SGLang can be imported by {environment.interpreter}. Install it there "
            "(uv pip install sglang), or give --target an interpreter or a checkout that has it"
        )
    installed = environment.packages.get("sglang")
    if installed is None or not _is_site(environment.sglang):
        return from_checkout(environment.sglang, environment, cache)
    return Target(
        label=f"sglang {installed}",
        interpreter=environment.interpreter,
        import_path=None,
        version=installed,
        package=environment.sglang,
        packages=environment.packages,
        notes=adapter_for(installed).notes,
    )


def _is_site(package: Path) -> bool:
    return package.parent.name in {"site-packages", "dist-packages"}


def from_checkout(
    package: Path,
    environment: Environment,
    cache: Path | None,
    known: GitFacts | None = None,
    donor: Path | None = None,
) -> Target:
    """A snapshot of sources, over the packages of an environment.

    Args:
        package: the ``sglang`` directory.
        known: what git says of it; asked for where it is not given.
        donor: the ``sglang`` directory that compiled modules are taken from; the environment's where none is given.

    Raises:
        TargetError: the environment has not what SGLang needs, or the sources cannot be copied.
    """
    if "torch" not in environment.packages:
        raise TargetError(
            f"{environment.interpreter} has no torch, so the checkout {package.parent} cannot run there. "
            "Install SGLang's dependencies (uv pip install sglang), or give another interpreter"
        )
    facts = known or git_facts(package)
    donor = donor or (environment.sglang if environment.sglang != package else None)
    installed = environment.packages.get("sglang", "0")
    snapshot = take_snapshot(package, donor, installed, facts, cache or default_cache())
    return Target(
        label=_checkout_label(package, facts, snapshot),
        interpreter=environment.interpreter,
        import_path=snapshot.import_path,
        version=snapshot.version,
        commit=facts.commit if facts else None,
        dirty_hash=facts.dirty_hash if facts else None,
        content=snapshot.content,
        origin=package,
        package=snapshot.import_path / "sglang",
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


def default_cache() -> Path:
    """Where snapshots of checkouts are kept."""
    from platformdirs import user_cache_path

    return user_cache_path("sglperf") / "snapshots"
