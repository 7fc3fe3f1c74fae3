"""One rank of `collectives.py`, which starts it and asks all ranks alike.

    python collective_rank.py SOCKET RANK RANKS DEVICE MEETING [CPUS]

``MEETING`` is a file by which the ranks find one another; ``CPUS``, as ``0,1``, are those that it may use.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from time import perf_counter
from typing import Any

import torch
import torch.distributed
from link import serve

_GUARD = 64  # values on either side of a message that nothing may touch
_PATIENCE = timedelta(minutes=5)


class Rank:
    """One end of the group."""

    def __init__(self, rank: int, ranks: int, device: str, meeting: str) -> None:
        self.rank, self.ranks, self.cuda = rank, ranks, device == "cuda"
        self.device = torch.device("cuda", rank) if self.cuda else torch.device("cpu")
        if self.cuda:
            torch.cuda.set_device(self.device)
        store = torch.distributed.FileStore(meeting, ranks)
        torch.distributed.init_process_group(
            "nccl" if self.cuda else "gloo",
            store=store,
            rank=rank,
            world_size=ranks,
            timeout=_PATIENCE,
            device_id=self.device if self.cuda else None,
        )

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Check a message's sum, or time it."""
        kind = getattr(torch, request["type"])
        if request["do"] == "check":
            return self.check(request["elements"], kind, request["seed"])
        return self.time(torch.zeros(request["elements"], dtype=kind, device=self.device), request["calls"])

    def check(self, elements: int, kind: torch.dtype, seed: int) -> dict[str, Any]:
        """Sum small whole numbers, which every type holds exactly in any order, between values that stay NaN."""
        every = [part(rank, elements, seed) for rank in range(self.ranks)]
        whole = torch.full((elements + 2 * _GUARD,), torch.nan, dtype=kind, device=self.device)
        message = whole[_GUARD : _GUARD + elements]
        message.copy_(every[self.rank])
        torch.distributed.all_reduce(message)
        difference = (message.cpu().to(torch.float64) - sum(every)).abs()
        outside = torch.cat([whole[:_GUARD], whole[_GUARD + elements :]])
        # NaN is no difference that max() finds.
        error = float(difference.max()) if bool(difference.isfinite().all()) else float("inf")
        return {"error": error, "outside": int((~outside.isnan()).sum())}

    def time(self, message: torch.Tensor, calls: int) -> dict[str, Any]:
        """Calls one by one, then as many in a row. Zeros, whose sum stays zero however often it is taken."""
        for _ in range(2):
            torch.distributed.all_reduce(message)
        single = []
        for _ in range(calls):
            self._meet()
            single.append(self._seconds(lambda: torch.distributed.all_reduce(message)))
        self._meet()
        in_a_row = self._seconds(lambda: [torch.distributed.all_reduce(message) for _ in range(calls)])
        method = "CUDA events" if self.cuda else "wall clock"
        return {"seconds": single, "streamed_seconds": in_a_row / calls, "method": method}

    def _meet(self) -> None:
        torch.distributed.barrier(device_ids=[self.rank] if self.cuda else None)
        if self.cuda:
            torch.cuda.synchronize()

    def _seconds(self, work: Callable[[], object]) -> float:
        if not self.cuda:
            begin = perf_counter()
            work()
            return perf_counter() - begin
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000


def part(rank: int, elements: int, seed: int) -> torch.Tensor:
    """A rank's message: whole numbers from 0 to 15, so that the sum of sixteen ranks is exact in bf16; no two alike."""
    source = torch.Generator().manual_seed(seed + rank)
    return torch.randint(0, 16, (elements,), generator=source, dtype=torch.float64)


def main() -> None:
    rank, ranks, device, meeting = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
    if len(sys.argv) > 6:
        processors = {int(one) for one in sys.argv[6].split(",")}
        os.sched_setaffinity(0, processors)
        torch.set_num_threads(len(processors))
    serve(Rank(rank, ranks, device, meeting).answer)


if __name__ == "__main__":
    main()
