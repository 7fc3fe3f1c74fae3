"""A double of `pynvml`: what runs with this folder on its path asks a recording, whatever GPUs are here.

It takes the place of the whole module. Constants and the exception are the real module's; the variable
DOUBLE_NVML names the recording of `recorded_nvml`, and without it there is no driver.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent


def _real() -> Any:
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != _HERE]
    spec = PathFinder.find_spec("pynvml", elsewhere)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sys.modules["pynvml"] = _real()  # which `recorded_nvml` imports
sys.path.insert(0, str(_HERE.parent))
import recorded_nvml


class HereNvml(recorded_nvml.RecordedNvml):
    """Its GPUs are leased by their UUID: one that no other test's run has, and this test's runs have in common.

    With DOUBLE_CARD it is another GPU of the same product.
    """

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        card = os.environ.get("DOUBLE_CARD", "0")
        return f"GPU-{card}{os.getppid():07d}-{handle:04d}-4000-8000-000000000000"


# What an import statement gets is what is here at its end.
sys.modules["pynvml"] = HereNvml(getattr(recorded_nvml, os.environ.get("DOUBLE_NVML", "NO_DRIVER")))
