"""Plots of GPU runs for a page of the documentation, as SVG that a light page shows as well as a dark one.

    python benchmarks/gpu/plots.py [--out DIR] [--backend NAME] results/gpu/STEP/RUN/run.json …

Each plot takes from all runs what it shows: backends of the one card on which most of them were measured, cards by the one
server that most of them had. Of several runs that measured the same, the one of most launches speaks. What no run has
is left out, and said. Bars are 95 % intervals over launches; a single launch tells none, so its mark is hollow.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from sglperf.core.catalogue import METRICS
from sglperf.core.estimate import Estimate, estimate
from sglperf.report.html.drawing import DASHES, INK, MARKS, SERIES, SOFT, drawing, in_unit, log_ticks, svg_of
from sglperf.report.quantity import quantity

Document = dict[str, Any]

OUT = Path(__file__).parents[2] / "docs" / "pictures" / "h100"
WIDTH = 4.8  # inches: at a telephone's width letters keep their size
BACKENDS = ("triton", "flashinfer", "fa3")  # each in its colour in every plot
SHOWN = (
    "inter_token_latency",
    "time_to_first_token",
    "attention_time",
    "attention_bandwidth_share",
    "allreduce_bus_bandwidth",
)
SERVER = re.compile(r"(?P<backend>\w+)-page(?P<page>\d+)-tp(?P<gpus>[\d.]+)(?:-(?P<group>.+))?")
DECODE, PREFILL = re.compile(r"decode-p(\d+)-n\d+-s(\d+)"), re.compile(r"prefill-p(\d+)-r\d+")
PASS, MESSAGE = re.compile(r"decode-pass-c(\d+)-s(\d+)"), re.compile(r"allreduce-n\d+-t(\d+)")


@dataclass(frozen=True)
class Point:
    """A figure of a run.

    Attributes:
        server: SGLang's version, model, page size and group: what must be alike where backends or cards are compared.
        cards: identities of the GPUs that were used.
        found: value and interval; infinite where a single launch told none.
    """

    server: tuple[str, str, str, str]
    backend: str
    cards: tuple[str, ...]
    workload: str
    metric: str
    found: Estimate
    launches: int


def main() -> None:
    """Draw each plot for which there is something."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN.JSON")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--backend", default="flashinfer", help="whose pass is drawn below the roofline")
    given = parser.parse_args()
    runs = [json.loads(name.read_text(encoding="utf-8")) for name in given.runs]
    given.out.mkdir(parents=True, exist_ok=True)
    for name, picture in drawn(runs, given.backend):
        if picture is None:
            sys.stderr.write(f"{name}: no run has it\n")
        else:
            (given.out / f"{name}.svg").write_text(standing_alone(picture), encoding="utf-8")


def drawn(runs: Sequence[Document], backend: str = "flashinfer") -> Iterator[tuple[str, Markup | None]]:
    """Name → plot, and None where no run has what it shows."""
    found = [point for run in runs for point in points(run)]
    yield "inter-token-latency", inter_token_latency(found)
    yield "context", context(found)
    yield "prefill", prefill(found)
    yield "attention", attention(found)
    yield "roofline", roofline([one for run in runs for one in run.get("passes", ())], backend)
    yield "cards", cards(found)
    yield "tensor-parallel", speedups([one for run in runs for one in run.get("contrasts", ())])
    yield "all-reduce", all_reduce(found)


def points(run: Document) -> Iterator[Point]:
    """What plots need of a run's head: rounds that failed no gate, by launch."""
    launches: dict[tuple[str, str], dict[int, list[Mapping[str, float]]]] = {}
    for one in run["rounds"]:
        if one["side"] == "head" and not one["gates"]:
            of_server = launches.setdefault((one["config"], one["workload"]), {})
            of_server.setdefault(one["launch"], []).append(one["values"])
    models = {(case["config"], case["workload"]): case["model"] for case in run["cases"].values()}
    uuids = {gpu["index"]: gpu["uuid"] for gpu in run["machine"]["gpus"]["gpus"]}
    for (config, workload), rounds in launches.items():
        server = SERVER.fullmatch(config)
        if server is None:
            continue
        for metric in SHOWN:
            values = [[one[metric] for one in launch if metric in one] for launch in rounds.values()]
            values = [launch for launch in values if launch]
            found = estimate(values, METRICS[metric], alpha=0.05)
            if found is not None:
                version = run["targets"]["head"]["version"] or ""
                alike = (version, models.get((config, workload), ""), server["page"], server["group"] or "")
                used = tuple(uuids.get(int(index), index) for index in server["gpus"].split("."))
                yield Point(alike, server["backend"], used, workload, metric, found, len(values))


def inter_token_latency(found: Iterable[Point]) -> Markup | None:
    """By streams after the prompt for which most were tried, a line for each backend."""
    chosen = _beside_one_another(found, "inter_token_latency", DECODE)
    prompts = Counter(_number(DECODE, workload) for workload in {one.workload for one in chosen})
    for prompt, _ in prompts.most_common(1):
        sized = [
            (_number(DECODE, one.workload, 2), one)
            for one in chosen
            if _number(DECODE, one.workload) == prompt
        ]
        return _by_backend(sized, f"streams, after a prompt of {prompt} tokens", "inter-token latency", "s")
    return None


def context(found: Iterable[Point]) -> Markup | None:
    """Inter-token latency of one stream by the length of its prompt, where several were tried."""
    chosen = _beside_one_another(found, "inter_token_latency", DECODE)
    sized = [(_number(DECODE, one.workload), one) for one in chosen if _number(DECODE, one.workload, 2) == 1]
    if len({prompt for prompt, _ in sized}) < 2:
        return None
    return _by_backend(sized, "tokens of the one stream's prompt", "inter-token latency", "s")


def prefill(found: Iterable[Point]) -> Markup | None:
    """Time to the first token of a cold prompt over its length, a line for each backend."""
    chosen = _beside_one_another(found, "time_to_first_token", PREFILL)
    sized = [(_number(PREFILL, one.workload), one) for one in chosen]
    return _by_backend(sized, "tokens of the prompt", "time to first token ÷ prompt", "s/tok", each=True)


def attention(found: Iterable[Point]) -> Markup | None:
    """Time of one layer's decode attention over the tokens that it reads, beside the memory's limit."""
    passes = [one for one in found if PASS.fullmatch(one.workload)]
    timed = _said_best(one for one in passes if one.metric == "attention_time")
    if not timed:
        return None
    limits = memory_limits(passes)
    common = Counter(_context(one) for one in timed if _streams(one) > 1).most_common(1)
    with drawing(WIDTH, 3.8) as figure:
        axes = figure.add_subplot()
        for backend in BACKENDS:
            of_backend = [one for one in timed if one.backend == backend]
            many = [one for one in of_backend if common and _context(one) == common[0][0]]
            _line(axes, backend, [one for one in of_backend if _streams(one) == 1], "-")
            _line(axes, backend, many, "--")
            if of_backend:
                at = BACKENDS.index(backend)
                axes.plot([], [], MARKS[at], color=SERIES[at], label=backend)
        axes.plot([], [], "-", color=SOFT, label="one stream")
        if common:
            axes.plot([], [], "--", color=SOFT, label=f"{common[0][0]} tokens each")
        axes.plot(*zip(*limits, strict=True), color=INK, linestyle=":", label="memory's limit")
        log_ticks(axes, "x", limits[0][0], limits[-1][0], lambda value: f"{value:,.0f}".replace(",", " "))
        log_ticks(
            axes, "y", limits[0][1], max(one.found[0] for one in timed), lambda value: quantity(value, "s")
        )
        axes.yaxis.set_major_formatter(in_unit("s"))
        axes.set_xlabel("tokens in the KV cache: streams × context")
        axes.legend(loc="lower right")
        return svg_of(
            figure,
            "Decode attention of one layer: time against tokens read, by backend, and the memory's limit",
        )


def memory_limits(found: Sequence[Point]) -> list[tuple[int, float]]:
    """Tokens that a layer's attention reads → the seconds that their bytes take at a copy's bandwidth: share × time."""
    times, shares = (
        {(one.backend, one.workload): one for one in _said_best(one for one in found if one.metric == name)}
        for name in ("attention_time", "attention_bandwidth_share")
    )
    return sorted((_tokens(one), one.found[0] * shares[key].found[0]) for key, one in times.items())


def roofline(passes: Sequence[Document], backend: str) -> Markup | None:
    """Kernels of a backend's passes below one roof, each pass in its colour; parts of less than 3 % are left out."""
    of_backend = [one for one in passes if one["config"].startswith(f"{backend}-")][: len(SERIES)]
    if not of_backend:
        return None
    bandwidth, rate = (max(one[name] for one in of_backend) for name in ("copy_bandwidth", "matmul_rate"))
    with drawing(WIDTH, 3.8) as figure:
        axes = figure.add_subplot()
        ends = (0.3, 10 * rate / bandwidth)
        axes.plot([ends[0], rate / bandwidth, ends[1]], [ends[0] * bandwidth, rate, rate], color=INK)
        for at, one in enumerate(of_backend):
            _kernels(axes, at, one)
        log_ticks(axes, "x", *ends, lambda value: f"{value:g}")
        log_ticks(axes, "y", ends[0] * bandwidth, rate, lambda value: quantity(value, "FLOP/s"))
        axes.yaxis.set_major_formatter(in_unit("FLOP/s"))
        axes.set_xlim(*ends)
        axes.set_xlabel("operations a byte that must be moved")
        axes.set_title(f"copy {quantity(bandwidth, 'B/s')}, bf16 product {quantity(rate, 'FLOP/s')}")
        axes.legend(loc="lower right")
        return svg_of(
            figure, f"Roofline of {backend}'s passes: rate of each kernel against its operations per byte"
        )


def _kernels(axes: Axes, at: int, one: Document) -> None:
    for part in one["parts"]:
        if not part["flops"] or part["share"] < 0.03:
            continue
        place = (part["flops"] / part["bytes"], part["flops"] / part["seconds"])
        axes.plot(*place, MARKS[at], color=SERIES[at], markersize=5)
        if part["name"] in ("attention", "activation"):
            below = (6, -8 if at % 2 or part["name"] == "activation" else 2)
            axes.annotate(
                part["name"], place, below, textcoords="offset points", fontsize=7, color=SERIES[at]
            )
    axes.plot([], [], MARKS[at], color=SERIES[at], label=_named(one["workload"]).replace("\n", " "))


def cards(found: Iterable[Point]) -> Markup | None:
    """Each card's latencies over the first one's, of the server that most cards had."""
    latencies = [
        one
        for one in found
        if len(one.cards) == 1
        and (
            (one.metric == "inter_token_latency" and DECODE.fullmatch(one.workload))
            or (one.metric == "time_to_first_token" and PREFILL.fullmatch(one.workload))
        )
    ]
    of_servers = [group for _, group in _by(latencies, lambda one: (one.backend, one.server))]
    chosen = max(of_servers, key=lambda group: len({one.cards for one in group}), default=[])
    of_cards = {card: _said_best(group) for (card,), group in _by(chosen, lambda one: one.cards)}
    if len(of_cards) < 2:
        return None
    first = {one.workload: one.found[0] for one in next(iter(of_cards.values()))}
    workloads = sorted(
        first,
        key=lambda name: (_named(name).partition("\n")[0], _number(re.compile(r".*?(\d+)(?:-r\d+)?"), name)),
    )
    with drawing(WIDTH, 3.2) as figure:
        axes = figure.add_subplot()
        axes.axhline(1, color=SOFT, linewidth=1)
        for at, (card, group) in enumerate(of_cards.items()):
            measured = [one for one in group if one.workload in first]
            aside = (at - (len(of_cards) - 1) / 2) * 0.2
            where = [workloads.index(one.workload) + aside for one in measured]
            over = [_over(one.found, first[one.workload]) for one in measured]
            _errors(axes, where, over, at, f"{card.partition('-')[2][:4]}, {_launches(group[0])}")
        axes.set_xticks(range(len(workloads)), [_named(name) for name in workloads])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value - 1:+.0%}" if abs(value - 1) > 1e-9 else "0")
        axes.legend(loc="best", title="card")
        return svg_of(figure, "Latencies of each card over those of the first")


def speedups(contrasts: Iterable[Document]) -> Markup | None:
    """What more GPUs bring, of paired launches."""
    scaled = [one for one in contrasts if one["ranks"] > one["reference_ranks"]]
    if not scaled:
        return None
    with drawing(WIDTH, 1.0 + 0.26 * len(scaled)) as figure:
        axes = figure.add_subplot()
        ideal = scaled[0]["ranks"] / scaled[0]["reference_ranks"]
        axes.axvline(1, color=SOFT, linewidth=1)
        axes.axvline(ideal, color=SOFT, linewidth=1, linestyle="--")
        for at, one in enumerate(scaled):
            value, low, high = one["speedup"]
            left, right = max(low or 0, 0.5), min(high or math.inf, 1.25 * ideal)
            axes.plot(
                [left, right], [at, at], color=SERIES[0], linewidth=1.6, solid_capstyle="butt", clip_on=True
            )
            axes.plot([value], [at], "o", color=SERIES[0])
        axes.set_yticks(
            range(len(scaled)),
            [
                f"{one['metric'].replace('_', ' ')}, {_named(one['workload'])}".replace("\n", " ")
                for one in scaled
            ],
        )
        axes.set_ylim(len(scaled) - 0.5, -0.5)
        axes.set_xlim(0.5, 1.25 * ideal)
        axes.xaxis.set_major_formatter(lambda value, _: f"×{value:g}")
        axes.tick_params(axis="y", length=0, labelsize=7)
        axes.grid(visible=False, axis="y")
        return svg_of(figure, f"{scaled[0]['other']} against {scaled[0]['reference']}: how many times better")


def all_reduce(found: Iterable[Point]) -> Markup | None:
    """Bus bandwidth of one of many in a row, by message."""
    timed = _said_best(one for one in found if one.metric == "allreduce_bus_bandwidth")
    if not timed:
        return None
    with drawing(WIDTH, 2.8) as figure:
        axes = figure.add_subplot()
        for at, (ranks, of_set) in enumerate(_by(timed, lambda one: len(one.cards))):
            placed = sorted((_number(MESSAGE, one.workload), one.found) for one in of_set)
            _errors(
                axes,
                [tokens for tokens, _ in placed],
                [one for _, one in placed],
                at,
                f"{ranks} GPUs",
                dashes="-",
            )
        log_ticks(axes, "x", 1, 1e4, lambda value: f"{value:g}")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(in_unit("B/s"))
        axes.set_xlabel("tokens whose hidden states are added up")
        axes.legend(loc="upper left")
        return svg_of(figure, "Bus bandwidth of an all-reduce against the tokens of its message")


def standing_alone(picture: Markup) -> str:
    """With colours of its own, light or dark as the reader's system is, on a ground of its own."""
    css = (files("sglperf.report.html") / "templates" / "report.css").read_text(encoding="utf-8")
    light, dark = (
        " ".join(re.findall(r"--(?:page|ink|soft|grid|series-\d): #\w+;", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    )
    style = (
        f"<style>:root {{ {light} }} @media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }} "
        "text { font-family: system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif !important; }</style>"
        '<rect width="100%" height="100%" rx="4" style="fill: var(--page)"/>'
    )
    return re.sub(r"(<svg[^>]*>)", lambda head: head[1] + style, picture, count=1)


def _beside_one_another(found: Iterable[Point], metric: str, workload: re.Pattern[str]) -> list[Point]:
    """Of one card and one kind of server, those of most backends, then of most workloads.

    Of two that are alike in these, servers that one run measured in pairs go first, then those of most launches.
    """
    fitting = [
        one
        for one in found
        if one.metric == metric and workload.fullmatch(one.workload) and len(one.cards) == 1
    ]
    groups = [list(group) for _, group in _by(fitting, lambda one: (one.cards, one.server))]
    most = max(
        groups,
        key=lambda group: (
            len({one.backend for one in group}),
            len({one.workload for one in group}),
            "backends" in group[0].server,
            sum(one.launches for one in group),
        ),
        default=[],
    )
    return _said_best(most)


def _said_best(found: Iterable[Point]) -> list[Point]:
    """Of each backend, set and workload, the point of most launches."""
    best: dict[object, Point] = {}
    for one in found:
        key = (one.backend, len(one.cards), one.workload)
        if key not in best or one.launches > best[key].launches:
            best[key] = one
    return list(best.values())


def _by(found: Iterable[Point], key: Callable[[Point], Any]) -> list[tuple[Any, list[Point]]]:
    groups: dict[Any, list[Point]] = {}
    for one in found:
        groups.setdefault(key(one), []).append(one)
    return list(groups.items())


def _by_backend(
    sized: Sequence[tuple[int, Point]], across: str, title: str, unit: str, *, each: bool = False
) -> Markup | None:
    """Figures side by side for each size of the workload, so that intervals do not lie upon one another."""
    backends = [name for name in BACKENDS if any(one.backend == name for _, one in sized)]
    if not backends:
        return None
    sizes = sorted({size for size, _ in sized})
    with drawing(WIDTH, 3.0) as figure:
        axes = figure.add_subplot()
        for index, backend in enumerate(backends):
            placed = sorted(
                ((size, one) for size, one in sized if one.backend == backend), key=lambda both: both[0]
            )
            where = [sizes.index(size) + (index - (len(backends) - 1) / 2) * 0.12 for size, _ in placed]
            values = [_over(one.found, size if each else 1) for size, one in placed]
            at = BACKENDS.index(backend)
            _errors(axes, where, values, at, f"{backend}, {_launches(placed[0][1])}", dashes=DASHES[at])
        axes.set_xticks(range(len(sizes)), [f"{size:,}".replace(",", " ") for size in sizes])
        axes.set_xlim(-0.5, len(sizes) - 0.5)
        axes.yaxis.set_major_formatter(in_unit(unit))
        axes.set_xlabel(across)
        axes.set_title(title)
        axes.legend(loc="best")
        return svg_of(figure, f"{title} by {across}, for each backend")


def _line(axes: Axes, backend: str, chosen: Sequence[Point], dashes: str) -> None:
    placed = sorted((_tokens(one), one.found) for one in chosen)
    at = BACKENDS.index(backend)
    _errors(axes, [where for where, _ in placed], [found for _, found in placed], at, dashes=dashes)


def _errors(
    axes: Axes,
    where: Sequence[float],
    found: Sequence[Estimate],
    at: int,
    label: str = "",
    *,
    dashes: Any = "",
) -> None:
    """Marks with their intervals; hollow where a single launch told none."""
    colour, mark = SERIES[at], MARKS[at]
    axes.plot(where, [value for value, *_ in found], color=colour, linestyle=dashes, linewidth=1)
    for place, (value, low, high) in zip(where, found, strict=True):
        known = math.isfinite(high)
        if known:
            axes.plot([place, place], [low, high], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([place], [value], mark, color=colour, markerfacecolor=colour if known else "none")
    if label:
        axes.plot([], [], mark, color=colour, linestyle=dashes, label=label)


def _over(found: Estimate, divisor: float) -> Estimate:
    value, low, high = found
    return value / divisor, low / divisor, high / divisor


def _launches(one: Point) -> str:
    return f"{one.launches} launch{'' if one.launches == 1 else 'es'}"


def _number(workload: re.Pattern[str], label: str, which: int = 1) -> int:
    found = workload.fullmatch(label)
    assert found is not None
    return int(found[which])


def _context(one: Point) -> int:
    return _number(PASS, one.workload)


def _streams(one: Point) -> int:
    return _number(PASS, one.workload, 2)


def _tokens(one: Point) -> int:
    return _context(one) * _streams(one)


def _named(workload: str) -> str:
    """``decode-p512-n256-s8`` → ``decode × 8``, in two lines."""
    if found := DECODE.fullmatch(workload):
        return f"decode\n× {found[2]}"
    if found := PASS.fullmatch(workload):
        return f"decode\n× {found[2]}, {found[1]} tokens"
    if found := re.fullmatch(r"prefill-p(?:ass-c)?(\d+)-.*", workload):
        return f"prefill\n{found[1]}"
    return workload


if __name__ == "__main__":
    main()
