"""sglperf's stand-in for sgl_kernel on a machine without CUDA.

SGLang imports names of sgl_kernel on its CPU path even where it calls none of them, and the CUDA build
that a plain `pip install sglang` brings cannot load without a driver. This package, put first on
PYTHONPATH for CPU servers only, first tries the real one. Where that loads, it is used as it is; only
names it lacks (the ``*_cpu`` kernels of a CUDA build) are stood in for. Where it does not load, every
name is. Whatever stands in raises a clear error when called, so it can never take part in a measurement.
"""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path


class PlaceholderCalledError(RuntimeError):
    """A function of sgl_kernel was called that only exists as sglperf's placeholder."""


class _StandIn:
    """A function, or a namespace such as ``scalar_types``: any attribute, but no call."""

    def __init__(self, name):
        self.__name__ = self.__qualname__ = name

    def __call__(self, *_args, **_kwargs):
        raise PlaceholderCalledError(
            f"{self.__name__} was called, but sgl_kernel is sglperf's placeholder for CPU servers: the real "
            "library could not be loaded. Choose an attention backend that needs no sgl_kernel on a CPU "
            "(torch_native, flex_attention), or install a CPU build of sglang-kernel."
        )

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandIn(f"{self.__name__}.{name}")

    def __repr__(self):
        return f"<sglperf placeholder for {self.__name__}>"


def _attribute_of(module):
    def stand_in(name):
        if name.startswith("__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return _StandIn(f"{module}.{name}")

    return stand_in


class _Submodules:
    """Finder and loader of ``sgl_kernel.anything``, asked last."""

    @staticmethod
    def find_spec(name, _path=None, _target=None):
        if not name.startswith("sgl_kernel."):
            return None
        return importlib.machinery.ModuleSpec(name, _Submodules, is_package=True)

    @staticmethod
    def create_module(_spec):
        return None

    @staticmethod
    def exec_module(module):
        module.__getattr__ = _attribute_of(module.__name__)


def _real_spec():
    here = Path(__file__).resolve().parent.parent
    places = [place for place in sys.path if Path(place).resolve() != here]
    return importlib.machinery.PathFinder.find_spec("sgl_kernel", places)


def _short(error):
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    telling = [line for line in lines if "cannot open shared object" in line or "undefined symbol" in line]
    return (telling or lines[-1:] or [repr(error)])[0][:200]


def _load_real():
    """Put the real package into sys.modules; the reason why it could not be, else None."""
    own = sys.modules["sgl_kernel"]
    spec = _real_spec()
    if spec is None or spec.loader is None:
        return "it is not installed"
    real = importlib.util.module_from_spec(spec)
    sys.modules["sgl_kernel"] = real
    try:
        spec.loader.exec_module(real)
    except Exception as error:
        for name in [name for name in sys.modules if name.startswith("sgl_kernel.")]:
            del sys.modules[name]
        sys.modules["sgl_kernel"] = own
        return _short(error)
    if "__getattr__" not in vars(real):
        real.__getattr__ = _attribute_of("sgl_kernel")
    return None


_reason = _load_real()
if _reason is not None:
    sys.meta_path.append(_Submodules)
    __getattr__ = _attribute_of("sgl_kernel")
    print(f"sglperf: a placeholder stands in for sgl_kernel, which does not load: {_reason}", file=sys.stderr)
