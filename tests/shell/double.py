"""A double of a whole SGLang environment, for bad days that the real one does not have on demand.

``make_target`` makes an interpreter whose ``sglang.launch_server`` is this file. It streams tokens at a fixed pace, counts them, remembers prompts page by page, and misbehaves as the
variable DOUBLE_FAULT says. No figure of the project is measured on it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import sysconfig
import threading
import time
import venv
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VERSION = "0.5.23"
TOKEN_SECONDS = 0.002


def make_target(root: Path, fault: str = "") -> Path:
    """An environment below ``root`` in which this file is SGLang, with ``fault`` unless the variable names another.

    Returns its interpreter, for ``--target``.
    """
    venv.create(root, symlinks=True)
    site = next(root.glob("lib/python*/site-packages"))
    package = site / "sglang"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "version.py").write_text(f'__version__ = "{VERSION}"\n')
    (package / "launch_server.py").write_text(
        f"import os, runpy\nos.environ.setdefault('DOUBLE_FAULT', {fault!r})\n"
        f"runpy.run_path({__file__!r}, run_name='__main__')\n"
    )
    for name, version in (("sglang", VERSION), ("torch", "2.14.1")):
        metadata = site / f"{name}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return root / "bin" / "python"


def make_home(root: Path) -> Path:
    """`make_target`, whose interpreter also has everything that this one has: sglperf can run there.

    What it runs over, a checkout or a revision, is then a double too.
    """
    python = make_target(root)
    site = next(root.glob("lib/python*/site-packages"))
    (site / "ours.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
    return python


def sources(fault: str = "") -> dict[str, str]:
    """The double as a revision of SGLang's repository has it: path → text."""
    launch = f"import os, runpy\nos.environ.setdefault('DOUBLE_FAULT', {fault!r})\n"
    return {
        "python/pyproject.toml": f"[project]\nname = 'sglang'\nversion = '{VERSION}'\ndependencies = ['torch==2.14.1']\n",
        "python/sglang/__init__.py": "",
        "python/sglang/version.py": f'__version__ = "{VERSION}"\n',
        "python/sglang/launch_server.py": f"{launch}runpy.run_path({__file__!r}, run_name='__main__')\n",
    }


class State:
    """What the server remembers between requests."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.faults = os.environ.get("DOUBLE_FAULT", "").split("+")
        self.traces: Path | None = None
        self.lock = threading.Lock()
        self.requests = 0
        self.pages: set[tuple[int, ...]] = set()
        self.counters = {"prefill_compute": 0, "prefill_cache": 0, "decode": 0}
        self.generated = 0

    def info(self) -> dict[str, Any]:
        info = {name: value for name, value in vars(self.arguments).items() if value is not None}
        info |= {
            "version": VERSION,
            "max_total_num_tokens": self.arguments.max_total_tokens,
            "internal_states": [{}],
        }
        info["chunked_prefill_size"] = 2048 if "other-default" in self.faults else 4096
        return info

    def metrics(self) -> str:
        lines = ["# TYPE sglang:realtime_tokens_total counter"]
        lines += [
            f'sglang:realtime_tokens_total{{mode="{mode}"}} {value}' for mode, value in self.counters.items()
        ]
        lines += [
            "# TYPE sglang:generation_tokens_total counter",
            f"sglang:generation_tokens_total {self.generated}",
        ]
        if "no-graph-fits" in self.faults:
            lines += [
                "# TYPE sglang:cuda_graph_passes_total counter",
                f'sglang:cuda_graph_passes_total{{mode="decode_none"}} {self.counters["decode"]}',
            ]
        return "\n".join(lines) + "\n"

    def write_trace(self) -> None:
        """Ten steps of decoding, and as many of prefill, of a millisecond each, five where this is slow: then a copy in each takes four."""
        assert self.traces is not None
        slow = "slow" in self.faults
        length = 5000 if slow else 1000
        spans = [("step[DECODE bs=1]", "user_annotation", 0, length), ("aten::mm", "cpu_op", 100, 500)]
        spans += [("aten::copy_", "cpu_op", 700, 4000)] if slow else []
        events = [
            {"ph": "X", "pid": 1, "tid": 1, "name": name, "cat": cat, "ts": step * length + at, "dur": lasts}
            for step in range(10)
            for name, cat, at, lasts in spans
        ]
        text = json.dumps({"traceEvents": events}).encode()
        for mode in ("DECODE", "EXTEND"):
            found = gzip.compress(text.replace(b"DECODE", mode.encode()))
            (self.traces / f"double-TP-0-{mode}.trace.json.gz").write_bytes(found)

    def admit(self, prompt: list[int], new_tokens: int) -> int:
        """Count a request and return how many of its prompt tokens are cached."""
        page = self.arguments.page_size
        with self.lock:
            self.requests += 1
            ends = range(page, len(prompt), page)
            cached = max((end for end in ends if tuple(prompt[:end]) in self.pages), default=0)
            if "page-short" in self.faults:
                cached = max(cached - page, 0)
            self.pages |= {tuple(prompt[:end]) for end in ends}
            self.counters["prefill_compute"] += len(prompt) - cached
            self.counters["prefill_cache"] += cached
            self.counters["decode"] += new_tokens - 1
            self.generated += new_tokens
        return cached


def handler(state: State) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = state.metrics() if self.path == "/metrics" else json.dumps(state.info())
            self.whole(body.encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/generate":
                self.stream(json.loads(body))
                return
            if self.path == "/start_profile":
                state.traces = Path(json.loads(body)["output_dir"])
            elif self.path == "/stop_profile":
                if "no-trace" not in state.faults:
                    state.write_trace()
                if "dies-of-its-profiler" in state.faults:
                    os._exit(1)
            else:
                with state.lock:
                    state.pages.clear()
            self.whole(b"{}")

        def stream(self, request: dict[str, Any]) -> None:
            prompt, new_tokens = request["input_ids"], request["sampling_params"]["max_new_tokens"]
            came = time.time() + (-0.5 if "clock-behind" in state.faults else 0)
            cached = state.admit(prompt, new_tokens)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            for position in range(new_tokens):
                time.sleep(TOKEN_SECONDS * (5 if "slow" in state.faults else 1))
                if position == 1 and state.requests > 8:
                    misbehave(state.faults)
                meta = {
                    "prompt_tokens": len(prompt),
                    "completion_tokens": position + 1,
                    "cached_tokens": cached,
                    "num_retractions": 0,
                    "queue_time": 0.001,
                    "finish_reason": {"type": "length"} if position + 1 == new_tokens else None,
                    "request_received_ts": came,
                    "api_server_dispatch_finish_ts": came + 0.0001,
                    "forward_entry_time": came + 0.0002,
                    "prefill_finished_time": came + 0.0003,
                }
                self.wfile.write(
                    b"data: " + json.dumps({"output_ids": [7], "meta_info": meta}).encode() + b"\n\n"
                )
                self.wfile.flush()
            self.wfile.write(b"data: [DONE]\n\n")

        def whole(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def misbehave(faults: list[str]) -> None:
    """In the middle of a stream, once the warm-up is over."""
    if "dies-mid-round" in faults:
        print("RuntimeError: an illegal memory access was encountered", file=sys.stderr, flush=True)
        os._exit(1)
    if "hangs-mid-round" in faults:
        time.sleep(600)


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("model-path", "served-model-name", "host", "device", "attention-backend", "load-format"):
        parser.add_argument(f"--{name}")
    for name in ("port", "page-size", "tp-size", "max-total-tokens", "max-running-requests", "random-seed"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--mem-fraction-static", type=float)
    known, _ = parser.parse_known_args()
    fault = os.environ.get("DOUBLE_FAULT", "")
    if fault == "dies-on-start":
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
    if fault == "hangs-on-start":
        time.sleep(600)
    ThreadingHTTPServer(("127.0.0.1", known.port), handler(State(known))).serve_forever()


if __name__ == "__main__":
    main()
