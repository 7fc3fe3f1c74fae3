"""Performance regression tests for the SGLang serving engine."""

from __future__ import annotations

__version__ = "0.1.0"
