"""A round is played wave by wave; a double stands in for the client, since no byte is sent."""

from __future__ import annotations

from dataclasses import replace

from samples import request

from sglperf.core.observation import ClientHealth, RequestObservation
from sglperf.workload.plan import RequestPlan, RoundPlan, Wave
from sglperf.workload.rounds import play


class Echo:
    """A client to which every server answers with the prompt's last token, again and again."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.parts: list[RoundPlan | str] = []
        self._fails_at, self._asked = fails_at, 0

    def execute(
        self,
        base_url: str,
        plan: RoundPlan,
        *,
        timeout: float,
    ) -> tuple[tuple[RequestObservation, ...], ClientHealth]:
        del base_url, timeout
        self.parts.append(plan)
        seen = []
        for index, one in enumerate(plan.requests):
            failed = "refused" if self._asked == self._fails_at else None
            self._asked += 1
            answer = (one.input_ids[-1],) * one.max_new_tokens
            seen.append(replace(request([0.1], index=index, output_ids=answer), error=failed))
        return tuple(seen), ClientHealth(0.001 * len(self.parts), 0.002, 10, 0.5, 2.0, realtime=True)


PLAN = RoundPlan(
    (
        RequestPlan((1, 2), 2),
        RequestPlan((3,), 1),
        RequestPlan((4,), 1, continues=0),
        RequestPlan((5,), 1, continues=2),
    ),
    1,
    (Wave(0, 2), Wave(2), Wave(3, flush=True)),
)


def test_turns_hold_all_that_was_said() -> None:
    """A later turn's prompt is the earlier prompt, its answer, and the new text; a flush comes before its wave."""
    client = Echo()
    found = play(client, "url", PLAN, timeout=10, flush=lambda: client.parts.append("flush"))
    assert found.prompts == ((1, 2), (3,), (1, 2, 2, 2, 4), (1, 2, 2, 2, 4, 4, 5))
    assert [part if isinstance(part, str) else part.concurrency for part in client.parts] == [
        2,
        1,
        "flush",
        1,
    ]


def test_waves_follow_one_another_on_one_clock() -> None:
    """Requests keep their place in the round, and times count from its beginning."""
    found = play(Echo(), "url", PLAN, timeout=10, flush=lambda: None)
    assert [one.index for one in found.requests] == [0, 1, 2, 3]
    assert [one.arrivals[0] for one in found.requests] == [0.1, 0.1, 2.1, 4.1]
    assert [one.sent for one in found.requests] == [0.0, 0.0, 2.0, 4.0]
    assert found.client == ClientHealth(0.003, 0.002, 30, 1.5, 6.0, realtime=True)


def test_nothing_follows_a_failure() -> None:
    """After a request that failed no later wave is played: its prompts would be made up."""
    found = play(Echo(fails_at=1), "url", PLAN, timeout=10, flush=lambda: None)
    assert [one.error for one in found.requests] == [None, "refused"]
