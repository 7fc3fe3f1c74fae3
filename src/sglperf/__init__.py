"""Performance regression tests for the SGLang serving engine.

What a perf test needs is here; see docs/writing-tests.md. PYTEST_DONT_REWRITE: nothing is asserted here, and the command has
imported it when pytest begins, which pytest would warn of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sglperf.core.readiness import AREAS
from sglperf.core.server_config import ServerConfig as Server
from sglperf.environment import Environment
from sglperf.workload.answers import Answers
from sglperf.workload.collectives import AllReduce
from sglperf.workload.machine import MachineSpeed
from sglperf.workload.passes import DecodePass, PrefillPass
from sglperf.workload.prefixes import (
    Branching,
    Chunked,
    ColdWarm,
    Conversation,
    Eviction,
    FewShot,
    Flushed,
    HitOrMiss,
    OneTokenDifferent,
    PageEdges,
    PrefixWorkload,
    SharedPrefix,
    Together,
    UnequalUse,
)
from sglperf.workload.script import Script
from sglperf.workload.shapes import Decode, Lifecycle, Prefill, Repeat, TreeGrowth, Workload
from sglperf.workload.traced import DecodeTrace, PrefillTrace
from sglperf.workload.traffic import ClosedLoop, OpenLoop, Saturation

if TYPE_CHECKING:
    from sglperf.expecting import Expectation

__version__ = "0.1.0"

Measure = Callable[[Workload], "Expectation"]

__all__ = [
    "AREAS",
    "AllReduce",
    "Answers",
    "Branching",
    "Chunked",
    "ClosedLoop",
    "ColdWarm",
    "Conversation",
    "Decode",
    "DecodePass",
    "DecodeTrace",
    "Environment",
    "Eviction",
    "FewShot",
    "Flushed",
    "HitOrMiss",
    "Lifecycle",
    "MachineSpeed",
    "Measure",
    "OneTokenDifferent",
    "OpenLoop",
    "PageEdges",
    "Prefill",
    "PrefillPass",
    "PrefillTrace",
    "PrefixWorkload",
    "Repeat",
    "Saturation",
    "Script",
    "Server",
    "SharedPrefix",
    "Together",
    "TreeGrowth",
    "UnequalUse",
    "Workload",
]
