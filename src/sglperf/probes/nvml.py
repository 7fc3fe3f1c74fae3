"""NVIDIA's management library (NVML): opened, closed, and asked about one device, read only.

The library answers "not supported" for whatever a GPU, driver or account lacks; that is None here.
What remains an error is a device that failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_NO_ANSWER = (
    "NVML_ERROR_INVALID_ARGUMENT",
    "NVML_ERROR_NOT_SUPPORTED",
    "NVML_ERROR_NO_PERMISSION",
    "NVML_ERROR_NOT_FOUND",
    "NVML_ERROR_FUNCTION_NOT_FOUND",
    "NVML_ERROR_NO_DATA",
    "NVML_ERROR_ARGUMENT_VERSION_MISMATCH",
    "NVML_ERROR_DEPRECATED",
)
_NO_DRIVER = {
    "NVML_ERROR_LIBRARY_NOT_FOUND": "no NVIDIA driver here (libnvidia-ml.so.1 is not found)",
    "NVML_ERROR_DRIVER_NOT_LOADED": "the NVIDIA driver is installed but not loaded",
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": "the NVIDIA driver and its library differ in version (reboot)",
    "NVML_ERROR_NO_PERMISSION": "no permission to use the NVIDIA driver (/dev/nvidia*)",
}


@dataclass(frozen=True)
class Device:
    """One GPU's handle and the library that answers for it (`pynvml`, or a double with its functions)."""

    nvml: Any
    handle: Any

    def ask(self, function: str, *arguments: Any) -> Any:
        """The answer, or None where this GPU, driver or account has none.

        Raises:
            NVMLError: the GPU itself failed (lost, needs a reset, unknown error).
        """
        call = getattr(self.nvml, function, None)
        if call is None:  # an older nvidia-ml-py
            return None
        try:
            return call(self.handle, *arguments)
        except self.nvml.NVMLError as error:
            if error.value in {getattr(self.nvml, name) for name in _NO_ANSWER}:
                return None
            raise


@contextmanager
def initialized(nvml: Any) -> Iterator[None]:
    """NVML, initialized and shut down again whatever happens between."""
    nvml.nvmlInit()
    try:
        yield
    finally:
        nvml.nvmlShutdown()


def why_no_driver(nvml: Any, error: Any) -> str:
    """Why the library could not be used, in words that say what to look at."""
    named = {getattr(nvml, code): words for code, words in _NO_DRIVER.items()}
    return named.get(error.value, f"the NVIDIA driver does not answer ({error})")


def decoded(text: str | bytes) -> str:
    """NVML's strings, which some structures hold as bytes."""
    return text.decode() if isinstance(text, bytes) else text


def pci_bus(info: Any) -> str:
    """The bus id of NVML's PCI structure as ``/sys`` spells it: ``0000:18:00.0``; empty without one."""
    return "" if info is None else decoded(info.busId).lower()[-len("0000:00:00.0") :]
