"""The worker's end: one JSON line in, one JSON line out, until the harness hangs up. Standard library only."""

from __future__ import annotations

import json
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any


def serve(answer: Callable[[dict[str, Any]], Any]) -> None:
    """Answer requests over the Unix socket that the command line names."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(sys.argv[1])
        lines = link.makefile("rw", encoding="utf-8")
        _say(lines, {"ready": True})
        for line in lines:
            try:
                _say(lines, {"answer": answer(json.loads(line))})
            except Exception as error:
                traceback.print_exc()
                _say(lines, {"error": f"{type(error).__name__}: {error}"})


def _say(lines: Any, content: object) -> None:
    lines.write(json.dumps(content) + "\n")
    lines.flush()
