"""What a Python environment holds, asked of its own interpreter in one short call.

The question runs in the *target's* interpreter with the standard library only: package metadata is
read, nothing of the packages is imported, so it costs a tenth of a second instead of SGLang's ten.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sglperf.errors import TargetError

PACKAGES = (
    "sglang",
    "sglang-kernel",
    "sgl-kernel",
    "torch",
    "triton",
    "flashinfer-python",
    "transformers",
)

# An empty entry of sys.path is the current directory, where any folder named sglang would answer.
# A package without an origin is a namespace: a plain folder of that name, not SGLang.
_QUESTION = """
import sys
sys.path[:] = [p for p in sys.path if p]
import json, os, platform
from importlib import metadata, util
import re
everything = {}
for found in metadata.distributions():
    name = found.metadata["Name"]
    if name:
        everything.setdefault(re.sub(r"[-_.]+", "-", name).lower(), found.version)
packages = {name: everything[name] for name in json.loads(sys.argv[1]) if name in everything}
spec = util.find_spec("sglang")
places = list(spec.submodule_search_locations or []) if spec and spec.origin else []
print(json.dumps({
    "python": platform.python_version(), "packages": packages, "everything": everything, "sglang": places[:1]
}))
"""


@dataclass(frozen=True)
class Environment:
    """An interpreter and what it can import.

    Attributes:
        interpreter: as it was named; symlinks are kept, since a virtual environment is one.
        python: its version, ``3.11.2``.
        packages: installed version by distribution name, of those in `PACKAGES`; also ``python``.
        sglang: the directory of the ``sglang`` package it would import, or None.
        everything: installed version of every distribution, by its name in lower case with dashes.
    """

    interpreter: Path
    python: str
    packages: Mapping[str, str]
    sglang: Path | None
    everything: Mapping[str, str] = field(default_factory=dict)


def inspect_environment(interpreter: Path, *, pythonpath: bool = False, timeout: float = 30.0) -> Environment:
    """Ask ``interpreter`` for its packages.

    ``pythonpath`` says whether this process's PYTHONPATH counts. It does for "the SGLang importable
    here"; it must not decide what another environment is said to hold. Packages installed with
    ``pip install --user`` count always, because the server sees them.

    Raises:
        TargetError: it is not there, cannot be run, or does not answer as a Python would.
    """
    answer = _ask(interpreter, [] if pythonpath else ["-E"], timeout)
    packages = {**answer["packages"], "python": answer["python"]}
    sglang = Path(answer["sglang"][0]) if answer["sglang"] else None
    return Environment(interpreter, answer["python"], packages, sglang, answer["everything"])


def _ask(interpreter: Path, flags: list[str], timeout: float) -> dict[str, Any]:
    command = [os.fspath(interpreter), *flags, "-c", _QUESTION, json.dumps(PACKAGES)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TargetError(f"cannot run {interpreter} as a Python interpreter: {error}. {_NEXT}") from error
    try:
        # Start-up hooks of an environment may print first; the answer is the last line.
        answer: dict[str, Any] = dict(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError) as error:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise TargetError(
            f"{interpreter} does not answer as a Python interpreter would: {said}. {_NEXT}"
        ) from error
    return answer


_NEXT = "Name the python of the environment SGLang is installed in, e.g. .venv/bin/python"
