"""What a target's interpreter has installed, asked of it without importing any of it.

The question is a standard-library script run with ``-I``, so neither the current directory nor
``PYTHONPATH`` answers in the installation's place.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from sglperf.core.machine import Installation
from sglperf.core.requirements import unmet
from sglperf.errors import TargetError

DISTRIBUTIONS = (
    "sglang",
    "sglang-kernel",
    "sgl-kernel",
    "torch",
    "triton",
    "flashinfer-python",
    "transformers",
    "numpy",
)
_SECONDS_TO_ANSWER = 30  # a cold network file system; 0.1 s is usual
# A half-removed distribution leaves a folder without metadata, whose version is None.
_QUESTION = """
import json, os, platform, sys, sysconfig
from importlib import metadata
def version(name):
    try:
        return metadata.version(name)
    except Exception:
        return None
found = {name: version(name) for name in sys.argv[1:]}
found["python"] = platform.python_version()
try:
    requires = metadata.requires("sglang") or []
except Exception:
    requires = []
everything = {}
for one in metadata.distributions() if requires else ():
    try:
        everything.setdefault(one.metadata["Name"].lower().replace("_", "-").replace(".", "-"), one.version)
    except Exception:
        pass
headers = os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
print()
print(json.dumps({"versions": {k: v for k, v in found.items() if v}, "headers": headers, "requires": requires,
                  "everything": everything}))
"""


def read_versions(interpreter: Path) -> dict[str, str]:
    """Installed versions by distribution name, of `DISTRIBUTIONS`, and ``python``.

    Raises:
        TargetError: the interpreter is not there, cannot run, or does not answer.
    """
    return dict(read_installation(interpreter).versions)


def read_installation(interpreter: Path) -> Installation:
    """Versions, whether SGLang's requirements are met, and whether extensions can be compiled against the interpreter.

    Raises:
        TargetError: the interpreter is not there, cannot run, or does not answer.
    """
    answer = _ask(interpreter)
    lacking = tuple(one.said for one in unmet(answer["requires"], answer["everything"]))
    return Installation(str(interpreter), answer["versions"], answer["headers"], lacking)


def _ask(interpreter: Path) -> dict[str, Any]:
    command = [str(interpreter), "-I", "-c", _QUESTION, *DISTRIBUTIONS]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_SECONDS_TO_ANSWER,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        # Start-up hooks of an environment may print first; ours is the last line.
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise TargetError(
            f"{interpreter} does not answer as a Python interpreter ({_reason(error)}); "
            "name the python of the environment that holds SGLang"
        ) from error
    return answer


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"exit status {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer in {_SECONDS_TO_ANSWER} s"
    return error.strerror or str(error) if isinstance(error, OSError) else "its answer is not JSON"
