"""Environments made on demand: a release of SGLang with what it requires, through uv, in the user's cache.

An environment is known by what determines it: the requirement, the interpreter and the platform. Two runs
that want the same one make it once; one that was left half made is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock
from platformdirs import user_cache_path

from sglperf.errors import TargetError

# Written last: an environment without it is not complete.
_PROOF = "sglperf.json"
_USES = "sglperf-uses"
_LAST_LINES = 6
_LONGEST = 200  # characters of a command in a message


@dataclass(frozen=True)
class Provisioned:
    """An environment in the cache.

    Attributes:
        folder: where it is.
        requirement: what was installed, ``sglang==0.5.22``.
        python: version of its interpreter.
        used: when it was last asked for, seconds since 1970.
        in_use: whether a run that asked for it is still alive.
    """

    folder: Path
    requirement: str
    python: str
    used: float
    in_use: bool

    @property
    def interpreter(self) -> Path:
        """The Python to run."""
        return self.folder / "bin" / "python"

    @property
    def size(self) -> int:
        """Bytes on disk. Files that uv shares with its own cache are counted here too."""
        inodes = {}
        for folder, _, names in os.walk(self.folder):
            for name in names:
                status = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - twice as fast over 60,000 files
                inodes[status.st_ino] = status.st_blocks * 512
        return sum(inodes.values())


def environments_folder() -> Path:
    """Where they are kept."""
    return user_cache_path("sglperf") / "environments"


def provide(
    requirements: Sequence[str],
    python: Path,
    python_version: str,
    cache: Path | None = None,
    *,
    overlay: bool = False,
    variables: Mapping[str, str] | None = None,
) -> Provisioned:
    """The environment with these requirements, made if it is not there yet, which takes a minute.

    Args:
        requirements: in pip's words, ``sglang==0.5.22``, or a folder to be built.
        python: the interpreter that it is made with.
        python_version: that interpreter's version, ``3.11.2``.
        overlay: only the package itself, in a folder for the path of another environment's interpreter.
        variables: what a build must find in its environment.

    Raises:
        TargetError: it cannot be made, with uv's last words; nothing is left of it.
    """
    folder = (cache or environments_folder()) / _key(requirements, python_version, overlay)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not (folder / _PROOF).is_file():
                _make(folder, requirements, python, python_version, overlay, variables or {})
            _note_use(folder)
    except OSError as error:
        raise TargetError(
            f"cannot keep an environment for {_named(requirements)} in {folder}: {error}. Make it writable, or set XDG_CACHE_HOME"
        ) from error
    return _read(folder)


def _named(requirements: Sequence[str]) -> str:
    first, *others = requirements
    return f"{first} and {len(others)} more" if others else first


def _key(requirements: Sequence[str], python_version: str, overlay: bool) -> str:
    parts = (
        sorted(requirements),
        overlay,
        python_version,
        platform.machine(),
        platform.system(),
        platform.libc_ver()[0],
    )
    name = "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in requirements[0])
    return f"{name}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:8]}"


def _make(
    folder: Path,
    requirements: Sequence[str],
    python: Path,
    python_version: str,
    overlay: bool,
    variables: Mapping[str, str],
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    install = ("pip", "install", "--quiet")
    try:
        if overlay:
            place = ("--no-deps", "--python", str(python), "--target", str(folder))
            _uv(*install, *place, *requirements, variables=variables)
        else:
            _uv("venv", "--quiet", "--python", str(python), str(folder))
            interpreter = str(folder / "bin" / "python")
            _uv(*install, "--python", interpreter, *requirements, variables=variables)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    name = f"{_named(requirements)} (overlay)" if overlay else _named(requirements)
    proof = {"requirement": name, "python": python_version, "made": time.time()}
    (folder / _PROOF).write_text(json.dumps(proof), "utf-8")


def _uv(*arguments: str, variables: Mapping[str, str] | None = None) -> None:
    from uv import find_uv_bin

    # pip trusts the system's certificates; behind a company's proxy uv must too.
    environment = {"UV_SYSTEM_CERTS": "1", **os.environ, **(variables or {})}
    command = [find_uv_bin(), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=environment, check=False
    )
    if done.returncode:
        said = "\n".join(
            (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-_LAST_LINES:]
        )
        raise TargetError(
            f"`uv {shlex.join(arguments)[:_LONGEST]}` failed, so there is no environment to measure: {said}\n"
            "Check the version and the package index, or give the path of an interpreter that has it"
        )


def _note_use(folder: Path) -> None:
    me = psutil.Process()
    uses = folder / _USES
    uses.mkdir(exist_ok=True)
    (uses / f"{me.pid}-{me.create_time():.0f}").touch()
    os.utime(folder / _PROOF)


def _in_use(folder: Path) -> bool:
    alive = False
    for use in (folder / _USES).glob("*-*"):
        pid, _, created = use.name.partition("-")
        try:
            alive = alive or f"{psutil.Process(int(pid)).create_time():.0f}" == created
        except psutil.Error:
            use.unlink(missing_ok=True)
    return alive


def _read(folder: Path) -> Provisioned:
    proof = json.loads((folder / _PROOF).read_text("utf-8"))
    used = (folder / _PROOF).stat().st_mtime
    return Provisioned(folder, proof["requirement"], proof["python"], used, _in_use(folder))


def provided(cache: Path | None = None) -> list[Provisioned]:
    """Every complete environment, the most recently used first."""
    folder = cache or environments_folder()
    found = [_read(proof.parent) for proof in folder.glob(f"*/{_PROOF}")]
    return sorted(found, key=lambda one: one.used, reverse=True)


def prune(unused_seconds: float, cache: Path | None = None) -> Iterator[Provisioned]:
    """Remove environments that nobody asked for in so many seconds, and yield each; those in use stay.

    Raises:
        TargetError: one cannot be removed.
    """
    oldest = time.time() - unused_seconds
    for one in provided(cache):
        with FileLock(one.folder.with_suffix(".lock")):
            if one.used > oldest or _in_use(one.folder):
                continue
            try:
                (
                    one.folder / _PROOF
                ).unlink()  # first, so that what is half removed is not taken for complete
                shutil.rmtree(one.folder)
            except OSError as error:
                raise TargetError(f"cannot remove {one.folder}: {error}. Make it writable") from error
        yield one
