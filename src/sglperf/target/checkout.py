"""An SGLang checkout: where its package is, what git says of it, and a snapshot to measure.

What is measured is a copy in the user's cache, keyed by content. So an edit during a run does not
change what the run's later launches measure, nothing is ever written into the checkout (not even
``__pycache__``), and the compiled modules that only a wheel holds can be put beside the sources.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sglperf.errors import TargetError

_KEEP_UNUSED_SECONDS = 7 * 24 * 3600
_IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", ".git")


@dataclass(frozen=True)
class GitFacts:
    """What git says of a package directory: the commit, and a hash of what differs from it."""

    commit: str
    dirty_hash: str | None
    describe: str | None


@dataclass(frozen=True)
class Snapshot:
    """A copy of a package, ready for PYTHONPATH.

    Attributes:
        import_path: the directory that holds ``sglang/``.
        version: what ``sglang.__version__`` is there.
        content: hash of everything in it, 12 hex digits.
        borrowed: compiled modules taken from the installed package, relative to ``sglang/``.
    """

    import_path: Path
    version: str
    content: str
    borrowed: tuple[str, ...]


def find_package(checkout: Path) -> Path | None:
    """The ``sglang`` package of a checkout (``python/sglang``) or of an import path (``sglang``)."""
    for candidate in (checkout / "python" / "sglang", checkout / "sglang"):
        if (candidate / "__init__.py").is_file():
            return candidate
    return None


def git_facts(package: Path) -> GitFacts | None:
    """Commit and local changes of ``package``, or None where git does not track it (or is not there)."""
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(package, "rev-parse", "HEAD")
    if commit is None:
        return None
    describe = _git(package, "describe", "--tags", "--match", "v[0-9]*")
    return GitFacts(commit.strip(), _dirty_hash(package), describe.strip() if describe else None)


def _dirty_hash(package: Path) -> str | None:
    difference = _git(package, "diff", "HEAD", "--binary", "--", ".") or ""
    untracked = (_git(package, "ls-files", "--others", "--exclude-standard", "-z") or "").split("\0")
    digest = hashlib.sha256(difference.encode("utf-8", "surrogateescape"))
    for name in sorted(filter(None, untracked)):
        digest.update(name.encode() + b"\0" + (package / name).read_bytes())
    return digest.hexdigest()[:12] if difference or any(untracked) else None


def _git(where: Path, *arguments: str) -> str | None:
    # Without optional locks, `git` does not refresh (write) the index of the user's checkout.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", os.fspath(where), *arguments],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            env=environment,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def take_snapshot(
    package: Path, installed: Path | None, installed_version: str, git: GitFacts | None, cache: Path
) -> Snapshot:
    """Copy ``package`` into ``cache`` unless this content is already there.

    Args:
        package: the ``sglang`` directory of a checkout.
        installed: the installed ``sglang`` directory that compiled modules may be taken from.
        installed_version: its version; the version of a checkout that does not know its own.
        git: what git says of the checkout.
        cache: directory that snapshots are kept in.

    Raises:
        TargetError: the checkout cannot be read, or the cache cannot be written.
    """
    try:
        borrowed = tuple(_missing_modules(package, installed))
        content = _content_hash(package, borrowed, installed)
        version = _own_version(package) or _derived_version(installed_version, git, content)
        destination = cache / content
        if not destination.is_dir():
            _copy(package, destination, borrowed, installed, version)
        os.utime(destination)
        _forget_unused(cache)
    except OSError as error:
        raise TargetError(
            f"cannot take a snapshot of {package} in {cache}: {error}. "
            "Make both readable and the cache writable, or set XDG_CACHE_HOME"
        ) from error
    return Snapshot(destination, version, content, borrowed)


def _missing_modules(package: Path, installed: Path | None) -> Iterator[str]:
    """Compiled modules the installed package has and the checkout has room for but lacks."""
    if installed is None:
        return
    for module in sorted(installed.rglob("*.so")):
        relative = module.relative_to(installed)
        if (package / relative.parent).is_dir() and not (package / relative).exists():
            yield relative.as_posix()


def _content_hash(package: Path, borrowed: tuple[str, ...], installed: Path | None) -> str:
    digest = hashlib.sha256()
    for path in sorted(_files(package)):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    for name in borrowed:
        assert installed is not None
        digest.update(name.encode() + b"\0" + hashlib.sha256((installed / name).read_bytes()).digest())
    return digest.hexdigest()[:12]


def _files(package: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(package):
        folders[:] = [name for name in folders if name not in {"__pycache__", ".git"}]
        yield from (Path(folder, name) for name in names if not name.endswith(".pyc"))


def _own_version(package: Path) -> str | None:
    """The version written in ``_version.py`` or ``version.py``; None where it is computed on import."""
    for name in ("_version.py", "version.py"):
        path = package / name
        text = path.read_text("utf-8") if path.is_file() else ""
        found = re.search(r"""^__version__\b[^'"\n]*=\s*['"]([^'"]+)['"]""", text, re.MULTILINE)
        if found:
            return found.group(1)
    return None


def _derived_version(installed_version: str, git: GitFacts | None, content: str) -> str:
    """A version for sources that would otherwise report the *installed* package's as their own.

    It is written into the snapshot, so that the running server's answer proves which code it runs.
    """
    described = re.match(r"v([0-9][^-]*)", git.describe) if git and git.describe else None
    base = described.group(1) if described else installed_version.split("+")[0]
    commit = f"g{git.commit[:9]}." if git else ""
    return f"{base}+{commit}c{content}"


def _copy(
    package: Path, destination: Path, borrowed: tuple[str, ...], installed: Path | None, version: str
) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".", dir=destination.parent))
    copy = work / "sglang"
    try:
        shutil.copytree(package, copy, ignore=_IGNORED)
        for name in borrowed:
            assert installed is not None
            shutil.copy2(installed / name, copy / name)
        if _own_version(package) is None:
            parts = repr(tuple(version.split(".")))
            text = f"__version__ = version = {version!r}\n__version_tuple__ = version_tuple = {parts}\n"
            (copy / "_version.py").write_text(text, "utf-8")
        work.chmod(0o755)
        _publish(work, destination)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(work: Path, destination: Path) -> None:
    try:
        work.rename(destination)
    except OSError:
        # Another run was faster with the same content.
        if not destination.is_dir():
            raise


def _forget_unused(cache: Path) -> None:
    oldest = time.time() - _KEEP_UNUSED_SECONDS
    for snapshot in cache.iterdir():
        if snapshot.stat().st_mtime < oldest:
            shutil.rmtree(snapshot, ignore_errors=True)
