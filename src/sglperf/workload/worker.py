"""The client process: ``python -m sglperf.workload.worker`` with one end of a socket pair as standard input.

It plays one round per message for as long as the other end is open. A process of its own shares no
interpreter lock with the harness, gets no signal from the harness's terminal, and collects no garbage
in a round.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
from collections.abc import Mapping
from typing import Any, cast

import orjson
import uvloop

from sglperf.workload.channel import Deframer, frame
from sglperf.workload.connection import Address
from sglperf.workload.load import Load
from sglperf.workload.parse import observe

ORPHAN_CHECK_SECONDS = 1.0


def main() -> None:
    """Serve the harness until it is gone."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection per request
    gc.disable()
    gc.freeze()
    uvloop.run(serve(socket.socket(fileno=0)))


async def serve(harness: socket.socket) -> None:
    """Answer rounds until the harness closes its end, which ends this process at once, round or not."""
    link = HarnessLink()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(die)
    await loop.create_unix_connection(lambda: link, sock=harness)
    exit_with_parent(os.getppid())
    while True:
        settings = orjson.loads(await link.frames.get())
        requests = [await link.frames.get() for _ in settings["due"]]
        link.answer(orjson.dumps(await play(settings, requests)))
        del requests
        gc.collect()  # while the harness is busy with the answer


async def play(settings: Mapping[str, Any], requests: list[bytes]) -> dict[str, object]:
    """One round: send, record, and only then read what was recorded."""
    load = Load(resolve(*settings["address"]), requests, settings["due"], settings["concurrency"])
    health = await load.play(settings["timeout"])
    observations = [observe(i, recording, load.start_ns) for i, recording in enumerate(load.recordings)]
    return {"requests": observations, "client": health}


def resolve(host: str, port: int) -> Address:
    """Family and address to connect to; where a name has several, the first."""
    try:
        family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        return socket.AF_INET, (host, port)  # connecting fails for the same reason, request by request
    return family, (str(target[0]), port)


class HarnessLink(asyncio.Protocol):
    """The harness's end, as seen from here.

    Attributes:
        frames: what it sent, in order.
    """

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self._deframer = Deframer()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop when connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, not derived from it

    def data_received(self, data: bytes) -> None:
        """Called by the loop with what one read brought."""
        for content in self._deframer.feed(data):
            self.frames.put_nowait(content)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - either way there is nobody to serve
        """Called by the loop when the harness closed its end or died."""
        os._exit(0)

    def answer(self, content: bytes) -> None:
        """Send one frame back."""
        assert self._transport is not None
        self._transport.write(frame(content))


def die(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A mistake of ours in a callback would otherwise be logged and leave the harness waiting."""
    loop.default_exception_handler(context)
    os._exit(1)


def exit_with_parent(parent: int) -> None:
    """End this process if its parent is no longer ``parent``.

    The closed socket pair says so first, unless another child of the harness has inherited its end.
    """
    if os.getppid() != parent:
        os._exit(0)
    asyncio.get_running_loop().call_later(ORPHAN_CHECK_SECONDS, exit_with_parent, parent)


if __name__ == "__main__":
    main()
