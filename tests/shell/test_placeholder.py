"""The stand-in for sgl_kernel steps aside for the real one, and never lets a call pass."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sglperf.server.environment import PLACEHOLDER

SPAWN = """
import multiprocessing, sys
def child():
    import sgl_kernel.flash_attn
    from sgl_kernel import rmsnorm
    print("child has", rmsnorm, flush=True)
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""


def run(program: str, real: Path | None, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run ``program`` with the placeholder first on its path, and ``real`` behind it."""
    script = tmp_path / "program.py"
    script.write_text(program)
    path = os.pathsep.join(map(str, filter(None, [PLACEHOLDER, real])))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A real sgl_kernel: a CUDA build that loads, with a submodule, without CPU kernels."""
    package = tmp_path / "site" / "sgl_kernel"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from sgl_kernel import elementwise\nrmsnorm = elementwise.rmsnorm\n"
    )
    (package / "elementwise.py").write_text("def rmsnorm(): return 'real'\n")
    return tmp_path / "site"


@pytest.fixture
def broken(real: Path) -> Path:
    """A real sgl_kernel whose library does not load, after part of it did."""
    (real / "sgl_kernel" / "__init__.py").write_text(
        "from sgl_kernel import elementwise\n"
        "raise ImportError('Tried:\\n- libcuda.so.1: cannot open shared object file\\n- No module common_ops')\n"
    )
    return real


def test_real_one_is_used_where_it_loads(real: Path, tmp_path: Path) -> None:
    """Where the real package imports, it is what the program gets, silently."""
    done = run("import sgl_kernel as k; print(k.rmsnorm(), k.__file__)", real, tmp_path)
    assert done.stdout == f"real {real}/sgl_kernel/__init__.py\n"
    assert done.stderr == ""


def test_names_the_real_one_lacks_are_stood_in_for(real: Path, tmp_path: Path) -> None:
    """A CPU kernel that a loading CUDA build lacks can be imported, and raises when called."""
    done = run("from sgl_kernel import assign_req_to_token_pool_cpu as f\nf()", real, tmp_path)
    assert "sgl_kernel.assign_req_to_token_pool_cpu was called" in done.stderr
    assert done.returncode == 1


def test_stands_in_where_the_real_one_does_not_load(broken: Path, tmp_path: Path) -> None:
    """Where the real package fails to load, one line says why, and imports of names and submodules work."""
    program = (
        "import sgl_kernel, sgl_kernel.kvcacheio\n"
        "from sgl_kernel import rmsnorm\n"
        "from sgl_kernel.scalar_type import scalar_types\n"
        "from sgl_kernel.elementwise import rmsnorm as other\n"
        "print(scalar_types.uint4b8, hasattr(sgl_kernel, '__version__'))\n"
    )
    done = run(program, broken, tmp_path)
    assert done.returncode == 0
    assert done.stdout == "<sglperf placeholder for sgl_kernel.scalar_type.scalar_types.uint4b8> False\n"
    assert done.stderr == (
        "sglperf: a placeholder stands in for sgl_kernel, which does not load: "
        "libcuda.so.1: cannot open shared object file\n"
    )


@pytest.mark.parametrize("call", ["sgl_kernel.rmsnorm(1)", "sgl_kernel.flash_attn.forward(q=1)"])
def test_calls_raise_by_name(broken: Path, tmp_path: Path, call: str) -> None:
    """A call of anything raises an error that names the function and the placeholder."""
    done = run(f"import sgl_kernel, sgl_kernel.flash_attn\n{call}", broken, tmp_path)
    assert done.returncode == 1
    assert f"{call.split('(')[0]} was called, but sgl_kernel is sglperf's placeholder" in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("sgl_kernel") is not None, reason="sgl_kernel is installed here")
def test_works_where_none_is_installed(tmp_path: Path) -> None:
    """Without any sgl_kernel installed the placeholder stands in as well."""
    done = run("from sgl_kernel import rmsnorm; print(rmsnorm)", None, tmp_path)
    assert done.stdout == "<sglperf placeholder for sgl_kernel.rmsnorm>\n"
    assert "it is not installed" in done.stderr


def test_works_in_spawned_children(broken: Path, tmp_path: Path) -> None:
    """A process spawned by multiprocessing, as SGLang's scheduler is, gets the placeholder too."""
    done = run(SPAWN, broken, tmp_path)
    assert done.stdout == "child has <sglperf placeholder for sgl_kernel.rmsnorm>\n"
