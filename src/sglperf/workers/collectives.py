"""Times all-reduces of a TP set through torch.distributed: NCCL on GPUs, gloo on a CPU. Standard library only.

    python collectives.py SOCKET SERVER_ARGUMENTS...

It starts one process for each rank (``collective_rank.py``) with the server's environment, and asks them all at once, in
the protocol in which it is asked itself.

Request ``{"elements": of the message, "type": torch's name of theirs, "budget": seconds for each timing, "seed"}``.
Answer ``{"seconds": median of single calls, each begun when the one before has ended on every rank, "streamed_seconds":
a call of many in a row, "calls": of each timing, "error": largest difference from the exact sum, over all ranks,
"outside": values beside the message that were changed, "method": how it was timed}``; a call takes the mean of what it
takes on each rank, as in NCCL-tests.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
from pathlib import Path
from statistics import mean, median
from typing import Any

from link import serve

_RANK = Path(__file__).with_name("collective_rank.py")
_FEWEST, _MOST = 5, 200  # calls of a timing


class Ranks:
    """The processes, one for each rank, each behind a socket of its own; they end when this process does."""

    def __init__(self, count: int, device: str) -> None:
        place = Path(sys.argv[1]).resolve().parent  # private to this launch
        with contextlib.ExitStack() as stack:
            addresses = [str(place / f"rank-{rank}") for rank in range(count)]
            listeners = [stack.enter_context(_listening(address)) for address in addresses]
            group = [str(count), device, str(place / "meeting")]
            self.processes = [
                subprocess.Popen([sys.executable, str(_RANK), address, str(rank), *group, *_processors(rank)])
                for rank, address in enumerate(addresses)
            ]
            # Each connects once it has met all the others.
            self.links = [self._accepted(listener) for listener in listeners]
        self._heard = [b""] * count
        self._heard_of_all()  # that they are ready

    def _accepted(self, listener: socket.socket) -> socket.socket:
        while True:
            try:
                return listener.accept()[0]
            except TimeoutError:
                self._check_alive()

    def ask(self, request: dict[str, Any]) -> list[Any]:
        """Every rank's answer, by rank."""
        for link in self.links:
            with contextlib.suppress(OSError):  # then it has ended, and is found to have below
                link.sendall(json.dumps(request).encode() + b"\n")
        return [said["answer"] for said in self._heard_of_all()]

    def _heard_of_all(self) -> list[Any]:
        """A line of each rank, in whatever order they come: one that has ended leaves the others waiting for it.

        Raises:
            RuntimeError: a rank failed, or ended.
        """
        said: dict[int, Any] = {}
        with selectors.DefaultSelector() as waiting:
            for rank, link in enumerate(self.links):
                waiting.register(link, selectors.EVENT_READ, rank)
            while len(said) < len(self.links):
                for key, _ in waiting.select():
                    said |= self._heard_of(key.data)
        return [line for _, line in sorted(said.items())]

    def _heard_of(self, rank: int) -> dict[int, Any]:
        """What it says, by its number; empty while its line is not complete."""
        name, chunk = f"rank {rank} of {len(self.links)}", b""
        with contextlib.suppress(ConnectionError):
            chunk = self.links[rank].recv(1 << 16)
        if not chunk:
            raise RuntimeError(f"{name} ended")
        line, newline, rest = (self._heard[rank] + chunk).partition(b"\n")
        self._heard[rank] = rest if newline else line
        if not newline:
            return {}
        said = json.loads(line)
        if "error" in said:
            raise RuntimeError(f"{name}: {said['error']}")
        return {rank: said}

    def _check_alive(self) -> None:
        for rank, process in enumerate(self.processes):
            if process.poll() is not None:
                raise RuntimeError(f"rank {rank} ended while starting ({process.returncode})")


def _listening(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    listener.settimeout(0.1)
    return listener


def _processors(rank: int) -> list[str]:
    """The rank's share of the CPUs, where a server of this environment binds its ranks: ``0,1``."""
    shares = os.environ.get("SGLANG_CPU_OMP_THREADS_BIND", "").split("|")
    return [shares[rank]] if rank < len(shares) and shares[rank] else []


def measure(ranks: Ranks, request: dict[str, Any]) -> dict[str, Any]:
    """Check the message's sum, see how long a call takes, then time as many as there is time for."""
    message = {name: request[name] for name in ("elements", "type")}
    checked = ranks.ask({**message, "do": "check", "seed": request["seed"]})
    tried = max(max(one["seconds"]) for one in ranks.ask({**message, "do": "time", "calls": 3}))
    calls = min(max(int(request["budget"] / tried), _FEWEST), _MOST)
    timed = ranks.ask({**message, "do": "time", "calls": calls})
    return {
        "seconds": median(map(mean, zip(*(one["seconds"] for one in timed), strict=True))),
        "streamed_seconds": mean(one["streamed_seconds"] for one in timed),
        "calls": calls,
        "error": max(one["error"] for one in checked),
        "outside": sum(one["outside"] for one in checked),
        "method": timed[0]["method"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--tp-size", type=int)
    parser.add_argument("--device")
    known, _ = parser.parse_known_args(sys.argv[2:])
    ranks = Ranks(known.tp_size, known.device)
    serve(lambda request: measure(ranks, request))


if __name__ == "__main__":
    main()
