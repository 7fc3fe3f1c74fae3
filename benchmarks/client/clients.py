"""One client plays one round against the paced source: ``clients.py NAME PORT STREAMS CORE``.

Prints JSON: processor time per chunk in µs, delay's median and p99 in ms, chunks a second as they were sent.
None of the clients decodes JSON before the round is over, and all run at the priority our client would take,
so what differs is the way from the socket to the timestamp.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import socket
import sys
from collections.abc import Iterable
from time import monotonic_ns, process_time

import uvloop

from sglperf.workload.health import run_first
from sglperf.workload.heartbeat import quantile
from sglperf.workload.load import Load
from sglperf.workload.parse import observe
from sglperf.workload.plan import RequestPlan
from sglperf.workload.request import http_request

SENT = re.compile(rb'"output_ids":\[(\d+)\]')
Stamped = tuple[int, bytes]
Result = tuple[float, list[tuple[int, int]]]  # processor seconds; per chunk, sent and stamped, ns


async def ours(port: int, streams: int) -> Result:
    load = Load((socket.AF_INET, ("127.0.0.1", port)), [request(port)] * streams, [0.0] * streams, streams)
    health = await load.play(600)
    found = [observe(i, recording, 0) for i, recording in enumerate(load.recordings)]
    assert not any(one.error for one in found), found[0].error
    chunks = [
        (sent, round(at * 1e9))
        for one in found
        for sent, at in zip(one.output_ids, one.arrivals, strict=True)
    ]
    return health.cpu_seconds, chunks


async def floor(port: int, streams: int) -> Result:
    """Not a client: nothing but reading and stamping, no framing, to see what the way itself costs."""
    loop, over, left = asyncio.get_running_loop(), asyncio.Event(), streams
    reads: list[Stamped] = []

    class Reader(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            reads.append((monotonic_ns(), data))

        def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the floor asks nothing
            nonlocal left
            left -= 1
            if not left:
                over.set()

    run_first()
    opened = [await loop.create_connection(Reader, "127.0.0.1", port) for _ in range(streams)]
    before = process_time()
    for transport, _ in opened:
        transport.write(request(port))
    await over.wait()
    return process_time() - before, with_sent(reads)


async def aiohttp_lines(port: int, streams: int) -> Result:
    import aiohttp

    lines: list[Stamped] = []

    async def stream(session: aiohttp.ClientSession) -> None:
        async with session.post(
            f"http://127.0.0.1:{port}/generate", json={"input_ids": [1, 2, 3]}
        ) as response:
            lines.extend([(monotonic_ns(), line) async for line in response.content])

    run_first()
    timeout, connector = aiohttp.ClientTimeout(total=None), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        before = process_time()
        await asyncio.gather(*(stream(session) for _ in range(streams)))
        return process_time() - before, with_sent(lines)


async def httpx_lines(port: int, streams: int) -> Result:
    import httpx

    lines: list[tuple[int, str]] = []

    async def stream(client: httpx.AsyncClient) -> None:
        url = f"http://127.0.0.1:{port}/generate"
        async with client.stream("POST", url, json={"input_ids": [1, 2, 3]}) as response:
            lines.extend([(monotonic_ns(), line) async for line in response.aiter_lines()])

    run_first()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as client:
        before = process_time()
        await asyncio.gather(*(stream(client) for _ in range(streams)))
        return process_time() - before, with_sent((at, line.encode()) for at, line in lines)


def request(port: int) -> bytes:
    return http_request(f"http://127.0.0.1:{port}", RequestPlan((1, 2, 3), 1))


def with_sent(stamped: Iterable[Stamped]) -> list[tuple[int, int]]:
    return [(int(sent), at) for at, data in stamped for sent in SENT.findall(data)]


def summary(cpu_seconds: float, chunks: list[tuple[int, int]]) -> tuple[float, float, float, float]:
    sent = [sent for sent, _ in chunks]
    delays = [stamped - sent for sent, stamped in chunks]
    rate = (len(sent) - 1) / (max(sent) - min(sent)) * 1e9
    return cpu_seconds / len(sent) * 1e6, quantile(delays, 0.5) / 1e6, quantile(delays, 0.99) / 1e6, rate


CLIENTS = {
    "floor": (floor, uvloop.run),
    "ours": (ours, uvloop.run),
    "aiohttp-uvloop": (aiohttp_lines, uvloop.run),
    "aiohttp-asyncio": (aiohttp_lines, asyncio.run),
    "httpx-uvloop": (httpx_lines, uvloop.run),
}

if __name__ == "__main__":
    name, port, streams, core = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    gc.disable()
    play, run = CLIENTS[name]
    cpu_seconds, chunks = run(play(int(port), int(streams)))
    print(json.dumps(summary(cpu_seconds, chunks)))
