"""A double of ``python -m sglang.launch_server``, for faults only: nothing it answers is a measurement.

It understands the arguments that a launch passes, starts helper processes as SGLang does, and then
misbehaves as the environment variable FAKE_FAULT says. `fake_target` makes a Target of it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VERSION = "0.5.23"

# A helper that leaves its parent and its session and refuses to be asked: the worst of children.
_STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    os._exit(0)
os.setsid()
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(600)
"""


def fake_target(directory: Path, version: str = VERSION) -> object:
    """A Target whose ``sglang.launch_server`` is this file, laid out below ``directory``."""
    from sglperf.target.build import Target

    package = directory / "sglang"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    run = f"import runpy\nrunpy.run_path({__file__!r}, run_name='__main__')\n"
    (package / "launch_server.py").write_text(run)
    return Target("fake", Path(sys.executable), directory, version)


def main() -> None:
    arguments = _parse()
    fault = os.environ.get("FAKE_FAULT", "")
    _start_helpers()
    if fault == "dies":
        print("Loading weights", flush=True)
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
    if fault == "hangs":
        print("Waiting for a lock that nobody gives back", flush=True)
        time.sleep(600)
    if fault == "refuses-sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = ThreadingHTTPServer((arguments.host, arguments.port), _handler(_info(arguments, fault)))
    server.serve_forever()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sglang serve", allow_abbrev=False)
    for name in ("model-path", "served-model-name", "host", "device", "attention-backend", "load-format"):
        parser.add_argument(f"--{name}")
    for name in ("port", "page-size", "tp-size", "max-total-tokens", "max-running-requests", "random-seed"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--mem-fraction-static", type=float)
    parser.add_argument("--sampling-backend", choices=["pytorch", "flashinfer"])
    parser.add_argument("--grammar-backend")
    for name in ("skip-tokenizer-init", "enable-metrics", "incremental-streaming-output"):
        parser.add_argument(f"--{name}", action="store_true")
    for name in ("skip-server-warmup", "sleep-on-idle"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


def _start_helpers() -> None:
    """The pid of the stubborn one goes where FAKE_PIDS says."""
    if path := os.environ.get("FAKE_PIDS"):
        subprocess.run([sys.executable, "-c", _STUBBORN, path], check=True)


def _info(arguments: argparse.Namespace, fault: str) -> Mapping[str, object]:
    info = {name: value for name, value in vars(arguments).items() if value is not None}
    info |= {"version": VERSION, "max_total_num_tokens": arguments.max_total_tokens, "internal_states": [{}]}
    if fault == "snaps-page":
        info["page_size"] = 64
    if fault == "other-version":
        info["version"] = "0.5.17"
    if fault == "somebody-else":
        info["served_model_name"] = "llama-of-a-colleague"
    return info


def _handler(info: Mapping[str, object]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(json.dumps(info).encode())

        def do_POST(self) -> None:
            if self.path == "/crash":
                print("RuntimeError: the scheduler hit an illegal memory access", file=sys.stderr, flush=True)
                os._exit(1)
            self._answer(b"{}")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


if __name__ == "__main__":
    main()
