"""The client process against a server that misbehaves, and against the bad days of its own harness."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from paced_server import FIRST_ID, PacedServer

from sglperf.core.observation import ClientHealth, RequestObservation
from sglperf.errors import WorkloadError
from sglperf.workload import client as client_module
from sglperf.workload.client import StreamingClient
from sglperf.workload.heartbeat import PERIOD_NS, Heartbeat
from sglperf.workload.plan import RequestPlan, RoundPlan

PERIOD = PERIOD_NS / 1e9

HARNESS = """
import sys
from sglperf.workload.client import StreamingClient
from sglperf.workload.plan import RequestPlan, RoundPlan
with StreamingClient() as client:
    print(client.pid, flush=True)
    if sys.argv[1]:
        client.execute(sys.argv[1], RoundPlan((RequestPlan((0,), 4),), 1), timeout=60)
    else:
        sys.stdin.read()
"""

FORKING_HARNESS = """
import os, sys, time
from sglperf.workload.client import StreamingClient
from sglperf.workload.plan import RequestPlan, RoundPlan
with StreamingClient() as client:
    client.execute(sys.argv[1], RoundPlan((RequestPlan((0,), 1),), 1), timeout=20)
    child = os.fork()  # it inherits the link, as every open file
    if child:
        print(client.pid, child, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def client() -> Iterator[StreamingClient]:
    """One client for all tests: that a bad round leaves it fit for the next is part of what they check."""
    with StreamingClient() as client:
        yield client


@pytest.fixture
def server() -> Iterator[PacedServer]:
    with PacedServer() as server:
        yield server


def plan(requests: int = 1, *, tokens: int = 4, concurrency: int | None = None, prompt: int = 3) -> RoundPlan:
    """Requests whose prompts begin with 0, 1, 2, …, all due at once."""
    prompts = (tuple(range(first, first + prompt)) for first in range(requests))
    return RoundPlan(tuple(RequestPlan(ids, tokens) for ids in prompts), concurrency)


def assert_complete(request: RequestObservation, tokens: int = 4) -> None:
    assert request.error is None
    assert request.tokens == tuple(range(1, tokens + 1))
    assert request.output_ids == tuple(range(FIRST_ID, FIRST_ID + tokens))
    assert (request.completion_tokens, request.cached_tokens, request.finish_reason) == (tokens, 0, "length")
    times = (request.sent, *request.arrivals, request.finished)
    assert list(times) == sorted(times)


@pytest.mark.parametrize("behaviour", ["steady", "keep_alive", "repeating", "at_once", "torn"])
@pytest.mark.parametrize("concurrency", [None, 1, 2])
def test_a_good_answer_is_read_whatever_its_form(
    client: StreamingClient, server: PacedServer, behaviour: str, concurrency: int | None
) -> None:
    """Torn or at once, closed or kept alive, new ids or all of them: the tokens are the same, and the round ends."""
    requests, _ = client.execute(server.url(behaviour), plan(3, concurrency=concurrency), timeout=20)
    assert [request.index for request in requests] == [0, 1, 2]
    for request in requests:
        assert_complete(request)
        assert request.server == {"queue_time": 0.001}
        assert request.prompt_tokens == 3


@pytest.mark.parametrize(
    ("behaviour", "error", "tokens"),
    [
        ("reset", "connection reset by peer in mid-answer, ", 2),
        ("truncated", "the server closed the connection in mid-answer, ", 2),
        ("cut_chunk", "the server closed the connection in mid-answer, ", 1),
        ("hang_up", "the server closed the connection before any answer", 0),
        ("aborted", "the server aborted it: ", 4),
        ("refused", "the server reports: Requested token count exceeds the context length", 0),
        ("http_400", "HTTP 400: 1 validation error", 0),
        ("http_500", "HTTP 500: CUDA out of memory", 0),
        ("stall", "no token for 0.", 2),
        ("mute", "no token for 0.", 0),
    ],
)
def test_a_bad_answer_is_that_requests_error_and_nobody_elses(
    client: StreamingClient, server: PacedServer, behaviour: str, error: str, tokens: int
) -> None:
    """Each fault names its culprit, keeps the tokens that had come, and leaves the other request alone."""
    bad, good = client.execute(server.url(behaviour, "steady"), plan(2), timeout=0.7)[0]
    assert_complete(good)
    assert (bad.error or "").startswith(error)
    assert max(bad.tokens, default=0) == tokens


def test_a_round_that_times_out_ends_then_and_says_so(client: StreamingClient, server: PacedServer) -> None:
    """Unfinished requests say how long they were silent; those that never had their turn say that."""
    requests, _ = client.execute(server.url("stall"), plan(3, concurrency=2), timeout=0.3)
    errors = [request.error or "" for request in requests]
    assert all(error.startswith("no token for 0.") for error in errors[:2])
    assert all(error.endswith(" when the round's 0.3 s were over") for error in errors)
    assert errors[2].startswith("not sent")
    assert requests[2].sent == requests[2].finished


def test_a_closed_loop_keeps_its_concurrency(client: StreamingClient, server: PacedServer) -> None:
    """Never more in flight than asked, and no fewer either: answers come only to two at a time."""
    server.gathering = 2
    requests, _ = client.execute(server.url("together"), plan(8, concurrency=2), timeout=20)
    assert [request.error for request in requests] == [None] * 8
    assert server.most_in_flight == 2


def test_a_closed_loop_of_one_sends_in_order_one_after_the_other(
    client: StreamingClient, server: PacedServer
) -> None:
    """Each request is sent when the one before it has ended, on a connection that was there before the round."""
    requests, _ = client.execute(server.url("steady"), plan(4, concurrency=1), timeout=20)
    assert [prompt[0] for prompt in server.prompts] == [0, 1, 2, 3]
    assert all(later.sent >= earlier.finished for earlier, later in pairwise(requests))
    assert server.accepted_at_answers[0] == 4


def test_an_open_loop_sends_when_due_whatever_is_in_flight(
    client: StreamingClient, server: PacedServer
) -> None:
    """No request waits for another, none is sent early, and the plan's order need not be that of time."""
    server.gathering = 3
    due = (0.06, 0.0, 0.03)
    requests = tuple(RequestPlan((position,), 4, at=at) for position, at in enumerate(due))
    found, _ = client.execute(server.url("together"), RoundPlan(requests), timeout=20)
    assert [request.error for request in found] == [None] * 3
    assert [prompt[0] for prompt in server.prompts] == [1, 2, 0]
    assert all(request.sent >= at for request, at in zip(found, due, strict=True))


def test_an_open_loop_sends_nothing_before_it_is_due(client: StreamingClient, server: PacedServer) -> None:
    """Not even when everything sent so far has been answered long ago."""
    due = tuple(0.01 * position for position in range(6))
    requests = tuple(RequestPlan((position,), 4, at=at) for position, at in enumerate(due))
    found, _ = client.execute(server.url("at_once"), RoundPlan(requests), timeout=20)
    assert all(request.sent >= at for request, at in zip(found, due, strict=True))


@pytest.mark.parametrize("concurrency", [None, 3])
def test_more_requests_than_connections_held_ahead(server: PacedServer, concurrency: int | None) -> None:
    """A round larger than the stock of open connections opens the rest as it goes, each request once."""
    with StreamingClient() as client:
        requests, _ = client.execute(server.url("at_once"), plan(300, concurrency=concurrency), timeout=60)
    assert [request.error for request in requests] == [None] * 300
    assert sorted(prompt[0] for prompt in server.prompts) == list(range(300))
    assert server.accepted == 300
    assert (
        concurrency is None or server.accepted_at_answers[200] == 300
    )  # each request sent opens one more ahead


def test_a_connection_that_the_server_dropped_while_it_waited_is_opened_anew(client: StreamingClient) -> None:
    """What befalls a connection before its request is sent is no failure of the request."""
    with PacedServer(drop=frozenset({2})) as server:
        requests, _ = client.execute(server.url("steady"), plan(3, concurrency=1), timeout=20)
        assert server.accepted == 4
    for request in requests:
        assert_complete(request)


def test_nobody_listening_is_each_requests_error(client: StreamingClient) -> None:
    """The error names the address."""
    with socket.socket() as bound:  # bound, so nobody else listens there; not listening itself
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        requests, _ = client.execute(f"http://{address}", plan(2, concurrency=1), timeout=20)
    assert [request.error for request in requests] == [
        f"could not connect to {address}: connection refused"
    ] * 2


def test_a_prompt_larger_than_the_sockets_buffer_is_sent_whole(client: StreamingClient) -> None:
    """`sent` is when the last byte left, so it waits for a server that is slow to read."""
    prompt = tuple(range(1_000_000))
    with PacedServer(slow_reader=0.1) as server:
        (request,), _ = client.execute(
            server.url("steady"), RoundPlan((RequestPlan(prompt, 4),), 1), timeout=60
        )
        assert tuple(server.prompts[0]) == prompt
    assert_complete(request)
    assert request.sent >= 0.1


def test_no_socket_is_left_of_a_round(client: StreamingClient, server: PacedServer) -> None:
    """Bad rounds and good ones give back all they took."""
    urls = [server.url(name) for name in ("steady", "stall", "reset", "keep_alive", "http_400")]
    client.execute(urls[0], plan(5), timeout=20)
    assert client.pid is not None
    before = psutil.Process(client.pid).num_fds()
    for url in urls:
        client.execute(url, plan(5), timeout=0.2)
    client.execute(urls[0], plan(5), timeout=20)
    assert psutil.Process(client.pid).num_fds() == before


class _NoLoop(asyncio.AbstractEventLoop):
    """A loop that watches nothing: beats are called by the test."""

    def add_reader(self, *_: object) -> None: ...

    def remove_reader(self, *_: object) -> bool:
        return True


def test_a_beat_is_late_by_its_distance_from_when_it_was_due() -> None:
    """Beats are due at whole periods from the start, and a swallowed one is as late as its own due time says."""
    now = 0
    heartbeat = Heartbeat(_NoLoop(), clock=lambda: now)
    heartbeat.start(0)
    for now, expirations in (  # noqa: B007 - the clock reads it
        (PERIOD_NS + 5, 1),
        (4 * PERIOD_NS + 7, 3),
        (5 * PERIOD_NS + 9, 1),
    ):
        heartbeat.beat(expirations)
    assert heartbeat.lags_ns == [5, 2 * PERIOD_NS + 7, PERIOD_NS + 7, 7, 9]
    heartbeat.stop()


def test_a_client_that_was_kept_from_running_says_for_how_long(
    client: StreamingClient, server: PacedServer
) -> None:
    """Its lag covers the stop, and the beats that it missed are counted with their lateness."""
    stop_seconds = 10 * PERIOD

    def hold(position: int) -> None:
        if position == 2:
            assert client.pid is not None
            os.kill(client.pid, signal.SIGSTOP)
            time.sleep(stop_seconds)
            os.kill(client.pid, signal.SIGCONT)

    server.on_token = hold
    _, health = client.execute(server.url("steady"), plan(tokens=8), timeout=20)
    assert health.lag_max >= stop_seconds - PERIOD
    assert health.lag_p99 >= stop_seconds - 2 * PERIOD
    assert health.beats == pytest.approx(health.wall_seconds / PERIOD, abs=1)


def test_health_is_that_of_the_round_alone(client: StreamingClient, server: PacedServer) -> None:
    """What happened between rounds, such as reading the last one's answers, is not in the figures."""
    assert client.pid is not None
    before = sum(psutil.Process(client.pid).cpu_times()[:2])
    _, health = client.execute(server.url("steady"), plan(4, tokens=50, concurrency=1), timeout=20)
    spent = sum(psutil.Process(client.pid).cpu_times()[:2]) - before
    assert 0 < health.cpu_seconds <= spent + 0.02  # the process's own accounts tick in hundredths
    assert 0 <= health.lag_p99 <= health.lag_max <= health.wall_seconds
    assert type(health) is ClientHealth


def test_a_dead_client_is_an_error_and_the_next_round_has_a_new_one(server: PacedServer) -> None:
    """The message says how it ended; nothing of it is left for the next round."""
    with StreamingClient() as client:
        first = client.pid
        assert first is not None
        server.on_token = lambda _: os.kill(first, signal.SIGKILL)
        with pytest.raises(
            WorkloadError, match=rf"client \(pid {first}\) ended with signal SIGKILL during a round"
        ):
            client.execute(server.url("steady"), plan(), timeout=20)
        server.on_token = None
        (request,), _ = client.execute(server.url("steady"), plan(), timeout=20)
        assert_complete(request)
        assert client.pid not in (None, first)


def test_a_client_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last words are in the message."""
    monkeypatch.setattr(
        client_module, "COMMAND", [sys.executable, "-c", "raise SystemExit('no uvloop here')"]
    )
    with StreamingClient() as client, pytest.raises(WorkloadError, match=r"exit status 1 .*: no uvloop here"):
        client.execute("http://127.0.0.1:9", plan(), timeout=20)


def test_a_client_that_hangs_is_ended(server: PacedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness waits for a round's own timeout and a grace, never for ever, and leaves no process."""
    monkeypatch.setattr(client_module, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(client_module, "CLOSE_SECONDS", 0.1)
    with StreamingClient() as client:
        pid = client.pid
        assert pid is not None
        server.on_token = lambda _: os.kill(pid, signal.SIGSTOP)
        with pytest.raises(WorkloadError, match="did not answer within"):
            client.execute(server.url("steady"), plan(), timeout=0.5)
        assert not psutil.pid_exists(pid)


def test_a_round_without_requests_is_refused(client: StreamingClient) -> None:
    """Nothing sent is nothing measured."""
    with pytest.raises(WorkloadError, match="measures nothing"):
        client.execute("http://127.0.0.1:9", RoundPlan(()), timeout=1)


def test_the_terminals_signals_do_not_reach_the_client(client: StreamingClient) -> None:
    """Ctrl-C goes to a process group; the client is in a group and a session of its own."""
    assert client.pid is not None
    assert os.getpgid(client.pid) == os.getsid(client.pid) == client.pid


def test_closing_leaves_no_process() -> None:
    """On leaving the context the client process is gone, without having been killed."""
    with StreamingClient() as client:
        assert client._process is not None
        process = client._process
    assert process.returncode == 0
    client.close()


def _kill(harness: subprocess.Popen[str]) -> None:
    harness.kill()


def _ctrl_c(harness: subprocess.Popen[str]) -> None:
    os.killpg(harness.pid, signal.SIGINT)  # what a terminal does


@pytest.mark.parametrize("end", [_kill, _ctrl_c])
@pytest.mark.parametrize("during", ["stall", None])
def test_no_client_outlives_its_harness(
    server: PacedServer, end: Callable[[subprocess.Popen[str]], None], during: str | None
) -> None:
    """Killed or interrupted, idle or in the middle of a round: the client process ends too."""
    url = server.url(during) if during else ""
    with subprocess.Popen(
        [sys.executable, "-c", HARNESS, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as harness:
        assert harness.stdout is not None
        worker = psutil.Process(int(harness.stdout.readline()))
        while during and not server.in_flight:
            time.sleep(0.01)
        end(harness)
        worker.wait(timeout=20)
    assert harness.returncode == (-signal.SIGKILL if end is _kill else -signal.SIGINT)


def test_a_client_whose_link_another_process_holds_open_still_ends_with_its_harness(
    server: PacedServer, tmp_path: Path
) -> None:
    """A child of the harness may have inherited the link; the client then sees that its parent has changed."""
    script = tmp_path / "harness.py"
    script.write_text(FORKING_HARNESS)
    with subprocess.Popen(
        [sys.executable, script, server.url("at_once")], stdout=subprocess.PIPE, text=True
    ) as harness:
        assert harness.stdout is not None
        worker, child = (psutil.Process(int(pid)) for pid in harness.stdout.readline().split())
        harness.kill()
        try:
            worker.wait(timeout=20)
        finally:
            child.kill()


def test_the_harness_side_loads_neither_the_event_loop_nor_the_parser() -> None:
    """They belong to the client process; collecting tests must not pay for them."""
    code = "import sys, sglperf.workload.client; print(sorted({'uvloop', 'httptools', 'asyncio'} & sys.modules.keys()))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
