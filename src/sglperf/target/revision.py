"""A git revision of an SGLang repository: its sources, and whether they can run over an installed SGLang.

The repository is only read: sources come from ``git archive``, so neither its work tree nor its index is touched.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from sglperf.errors import TargetError
from sglperf.target.checkout import GitFacts

# What is compiled into the wheel, or is a wheel of its own: of another revision it needs a build.
_NATIVE = re.compile(r"^(rust|sgl-kernel|proto)/|\.(rs|cu|cuh|cc|cpp|cxx|c|h|hpp|proto|pyx)$")
# What decides which code runs; a commit that touches none of it changes nothing that is measured.
RUN_PATHS = ("python", "rust", "proto")
_SOURCES = ("python/sglang", "python/pyproject.toml")


@dataclass(frozen=True)
class Revision:
    """A revision as it was asked for.

    Attributes:
        name: as it was asked for.
        facts: its commit and its place after the nearest tag.
        project: the exported folder with ``sglang/`` and ``pyproject.toml``.
        requirements: of its package, in pip's words.
    """

    name: str
    facts: GitFacts
    project: Path
    requirements: tuple[str, ...]

    @property
    def package(self) -> Path:
        """Its ``sglang`` directory."""
        return self.project / "sglang"


def find_revision(repository: Path, name: str) -> str | None:
    """The full commit that ``name`` stands for there; None where it stands for none."""
    found = git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return found.stdout.decode().strip() or None if found.returncode == 0 else None


def unknown_revision(repository: Path, name: str) -> str:
    """Why a name stands for no commit of a repository, and what to do."""
    if git(repository, "rev-parse", "--git-dir").returncode:
        return f"{repository} is no git repository: give the path of an SGLang clone with --sglang-repo"
    if is_shallow(repository):
        return (
            f"no revision {name!r} in {repository}, which is a shallow clone: fetch the rest "
            f"(git -C {repository} fetch --unshallow --tags)"
        )
    return f"no revision {name!r} in {repository}: fetch it (git -C {repository} fetch --tags), or check its name"


def export(repository: Path, name: str, commit: str, cache: Path) -> Revision:
    """The revision's sources, from the cache or written there.

    Raises:
        TargetError: it holds no SGLang, or the cache cannot be written.
    """
    folder = cache / commit
    try:
        if not folder.is_dir():
            _extract(repository, name, commit, folder)
        document = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, tarfile.TarError) as error:
        raise TargetError(f"cannot read revision {name} of {repository} into {folder}: {error}") from error
    requirements = tuple(map(str, document.get("project", {}).get("dependencies", ())))
    described = git(repository, "describe", "--tags", "--match", "v[0-9]*", commit)
    describe = described.stdout.decode().strip() if described.returncode == 0 else None
    return Revision(name, GitFacts(commit, None, describe), folder, requirements)


def export_whole(repository: Path, revision: Revision, cache: Path) -> Path:
    """Everything that the revision holds, for a build; from the cache or written there.

    Raises:
        TargetError: the cache cannot be written.
    """
    folder = cache / f"{revision.facts.commit}-whole"
    try:
        if not folder.is_dir():
            archive = git(repository, "archive", "--format=tar", revision.facts.commit)
            _unpack(archive.stdout, folder, ".")
    except (OSError, tarfile.TarError) as error:
        raise TargetError(f"cannot write revision {revision.name} to {folder}: {error}") from error
    return folder


def _extract(repository: Path, name: str, commit: str, folder: Path) -> None:
    archive = git(repository, "archive", "--format=tar", commit, "--", *_SOURCES)
    if archive.returncode:
        raise TargetError(
            f"revision {name} ({commit[:9]}) of {repository} has no {' and '.join(_SOURCES)}: "
            "is this SGLang's repository?"
        )
    _unpack(archive.stdout, folder, "python")


def _unpack(archive: bytes, folder: Path, part: str) -> None:
    """Put one part of a tar archive at ``folder``, all or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # the first Pythons 3.11 have none
            tar.extractall(work / "tree")
        try:
            (work / "tree" / part).rename(folder)
        except OSError:  # another run was faster with the same commit
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def native_changes(repository: Path, commit: str, installed: str) -> tuple[str, ...] | None:
    """Native files that differ between the installed release's tag and ``commit``; None where there is no such tag."""
    changed = git(repository, "diff", "--name-only", f"v{installed}", commit, "--")
    if changed.returncode:
        return None
    return tuple(
        file for file in changed.stdout.decode(errors="replace").splitlines() if _NATIVE.search(file)
    )


def changed_files(repository: Path, base: str, head: str) -> tuple[str, ...]:
    """What differs between two commits in what is run, as ``python/sglang/x.py +3 −1``; nothing where git does not say."""
    found = git(repository, "diff", "--numstat", "-z", "--no-renames", base, head, "--", *RUN_PATHS)
    if found.returncode:
        return ()
    lines = (line.split("\t") for line in found.stdout.decode(errors="replace").split("\0") if line)
    return tuple(
        f"{name} binary" if added == "-" else f"{name} +{added} −{removed}" for added, removed, name in lines
    )


def is_shallow(repository: Path) -> bool:
    """Whether a part of its history was never fetched."""
    return git(repository, "rev-parse", "--is-shallow-repository").stdout.strip() == b"true"


def git(where: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git there, without writing anything.

    Raises:
        TargetError: there is no git.
    """
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        return subprocess.run(
            ["git", "-C", os.fspath(where), *arguments], capture_output=True, env=environment, check=False
        )
    except OSError as error:
        raise TargetError(f"cannot run git on {where}: {error}. Install git") from error
