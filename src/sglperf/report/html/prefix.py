"""What the prefix cache serves, and what that is worth, against the prefix's length."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from statistics import median

from matplotlib.axes import Axes

from sglperf.report.html.drawing import BAD, GOOD, HEAD, INK, Plot, drawing, in_unit, legend, plot
from sglperf.report.html.run import Kept, Run, sources

_LENGTH = re.compile(r"hit-or-miss-prefix(\d+)-")
MOST = 4


def prefixes(run: Run) -> Iterator[Plot]:
    """Of each server, time to first token with and without a hit, and the share of the prompt that came from the cache."""
    by_server: dict[str, list[tuple[int, Kept]]] = {}
    for (config, workload), rounds in run.points.items():
        named = _LENGTH.match(workload)
        if named:
            heads = [(int(named[1]), one) for one in rounds if one.side == "head"]
            by_server.setdefault(config, []).extend(heads)
    for config, hits in list(by_server.items())[:MOST]:
        if hits:
            yield _prefix(config, sorted(hits, key=lambda one: one[0]))


def _prefix(config: str, rounds: Sequence[tuple[int, Kept]]) -> Plot:
    with drawing(8.6, 2.9) as figure:
        left, right = figure.subplots(1, 2)
        _waits(left, rounds, "miss", BAD, "s", "--")
        _waits(left, rounds, "hit", GOOD, "o", "-")
        left.set_title("time to first token")
        left.set_ylim(bottom=0)
        left.yaxis.set_major_formatter(in_unit("s"))
        legend(left, loc="upper left")
        _shares(right, rounds)
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            lengths = sorted({length for length, _ in rounds})
            axes.set_xticks(lengths, [str(length) for length in lengths])
            axes.minorticks_off()
            axes.set_xlabel("tokens of the prefix")
        return plot(
            figure,
            f"Prefix cache · {config}",
            f"Left, marks are rounds and lines their medians. Right, each mark is a request that found something: cached over "
            f"prompt tokens; the line is all of the prefix. {sources([one for _, one in rounds])}.",
            wide=True,
        )


def _waits(
    axes: Axes, rounds: Sequence[tuple[int, Kept]], which: str, colour: str, mark: str, dashes: str
) -> None:
    name = f"time_to_first_token_{which}"
    found = [(length, one.values[name]) for length, one in rounds if name in one.values]
    if not found:
        return
    axes.plot(*zip(*found, strict=True), mark, color=colour, alpha=0.6, markeredgewidth=0)
    lengths = sorted({length for length, _ in found})
    middle = [median(value for at, value in found if at == length) for length in lengths]
    axes.plot(lengths, middle, linestyle=dashes, color=colour, label=which)


def _shares(axes: Axes, rounds: Sequence[tuple[int, Kept]]) -> None:
    """Cached over prompt tokens of each request that hit, beside the most that the prefix allows."""
    hits = [
        (length, prompt, cached)
        for length, one in rounds
        for prompt, cached, _ in one.requests
        if prompt and cached
    ]
    axes.set_title("share of the prompt served from the cache")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if hits:
        most = sorted({(length, length / prompt) for length, prompt, _ in hits})
        axes.plot(*zip(*most, strict=True), color=INK, linewidth=1, linestyle="--", label="all of the prefix")
        axes.plot(
            [length for length, *_ in hits],
            [cached / prompt for _, prompt, cached in hits],
            "o",
            color=HEAD,
            alpha=0.7,
            markeredgewidth=0,
            label="request",
        )
        legend(axes, loc="lower right")
