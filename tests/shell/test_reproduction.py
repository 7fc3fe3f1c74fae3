"""What is printed where server and model disagree: the smallest sequence that shows it, as a script that runs.

A cache model with a fault stands in for the server, so that there is something to disagree about.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, find, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "real"))
from sequences import Step, round_plan, steps

from sglperf.core.cache_model import CacheModel, CacheShape
from sglperf.core.prediction import Departure, Prediction, Sent, SentWave, departures, predict
from sglperf.report.reproduction import reproduction
from sglperf.workload.plan import RoundPlan, spoken

SHAPE = CacheShape(16, 912)
SETTINGS = settings(
    max_examples=2000,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


def answer(prompt: tuple[int, ...], tokens: int) -> tuple[int, ...]:
    """What the stand-in says: ids that no prompt has, the same for the same prompt."""
    return tuple(3000 + (sum(prompt) + number) % 500 for number in range(tokens))


def compared(
    sequence: list[Step], server: CacheShape
) -> tuple[RoundPlan, Prediction, list[int], dict[str, Departure]]:
    """A sequence on a server of another shape, and what the model says of it."""
    plan = round_plan(sequence, longest=800)
    cache, cached, evicted = CacheModel(server), [], 0
    prompts: list[tuple[int, ...]] = []
    answers: list[tuple[int, ...]] = []
    waves = []
    for wave, requests in plan.parts():
        if wave.flush:
            cache.flush()
        for request in requests:
            prompts.append(spoken(request, prompts, answers).input_ids)
            answers.append(answer(prompts[-1], request.max_new_tokens))
            served = cache.serve(prompts[-1], answers[-1])
            cached.append(served.cached_tokens)
            evicted += served.evicted_tokens
        waves.append(SentWave((Sent(prompts[-1], answers[-1]),), flush=wave.flush))
    prediction = predict(SHAPE, waves)
    return plan, prediction, cached, departures(prediction, cached, evicted)


@pytest.mark.parametrize(
    "fault",
    [
        replace(SHAPE, enabled=False),  # nothing is kept
        replace(SHAPE, page_size=32),  # matches in pages twice as long
        replace(SHAPE, overlapped=False, rules=replace(SHAPE.rules, stores_last_token=True), page_size=8),
    ],
)
def test_smallest_sequence(fault: CacheShape) -> None:
    """Whatever sequence first shows a fault, what is printed is at most three requests of a few pages, without a flush."""
    smallest = find(steps(16), lambda sequence: bool(compared(sequence, fault)[3]), settings=SETTINGS)
    plan, *_ = compared(smallest, fault)
    assert len(plan.requests) <= 3
    assert max(plan.prompt_tokens) <= 48
    assert not any(step.flush for step in smallest)


@pytest.fixture
def address() -> Iterator[str]:
    """A server that keeps nothing, over HTTP."""
    cache = CacheModel(replace(SHAPE, enabled=False))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said: dict[str, object] = {}
            if self.path == "/generate":
                prompt = tuple(body["input_ids"])
                output = answer(prompt, body["sampling_params"]["max_new_tokens"])
                said = {
                    "output_ids": output,
                    "meta_info": {"cached_tokens": cache.serve(prompt, output).cached_tokens},
                }
            text = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_script_runs(address: str, tmp_path: Path) -> None:
    """The script sends the sequence again, turns and all, and prints what was predicted beside what comes."""
    sequence = [Step(((0, 40),), 20), Step(((1, 5),), 1, continues=0), Step(((0, 40),), 1, flush=True)]
    plan, prediction, cached, found = compared(sequence, replace(SHAPE, enabled=False))
    script = tmp_path / "script.py"
    script.write_text(reproduction(plan, SHAPE, prediction, cached, found, "python -m sglang.launch_server"))
    done = subprocess.run(
        [sys.executable, str(script), address], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "40 tokens: 0 cached, 0 predicted (0 observed)",
        "65 tokens: 0 cached, 48 predicted (0 observed)",
        "40 tokens: 0 cached, 0 predicted (0 observed)",
    ]
    text = script.read_text()
    assert text.startswith(
        "# request 1 (65 tokens, 48 shared with request 0): 0 cached, 48 predicted; 1 of 3"
    )
    assert "# page 16, pool 912 tokens, eviction lru\n" in text
    assert "[*range(1, 41)]" in text
