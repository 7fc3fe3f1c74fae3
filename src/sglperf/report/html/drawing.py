"""Plots as SVG that takes its colours from the page, so that it follows dark mode and print."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sglperf.report.quantity import quantity

# Stand-ins, each replaced by a custom property of the page's style.
INK, SOFT, GRID, BASE, HEAD, GOOD, BAD, UNSURE, BAND = (f"#0a0b{code:02x}" for code in range(1, 10))
SERIES = tuple(f"#0a0c{code:02x}" for code in range(1, 7))
_NAMES = {
    INK: "ink", SOFT: "soft", GRID: "grid", BASE: "base", HEAD: "head", GOOD: "good", BAD: "bad",
    UNSURE: "unsure", BAND: "band", **{colour: f"series-{at}" for at, colour in enumerate(SERIES)},
}  # fmt: skip
# Whoever cannot tell two colours apart has marks and dashes.
MARKS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sglperf",
    "text.parse_math": False,  # a name with two dollar signs is a name
    "font.size": 9,
    "font.family": ["DejaVu Sans"],
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
}
_GROUP_NAME = re.compile(r'<g id="[\w.-]+"')
_NOT_DRAWN = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", re.DOTALL)


@dataclass(frozen=True)
class Plot:
    """A drawing and what a reader needs beside it.

    Attributes:
        title: what it shows.
        caption: from which rounds, and how to read it.
        svg: the drawing.
        wide: whether it takes the page's whole width.
    """

    title: str
    caption: str
    svg: Markup
    wide: bool = False


@contextmanager
def drawing(width: float = 5.4, height: float = 3.0) -> Iterator[Figure]:
    """A figure of so many inches in the page's style."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06))
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        yield figure


def svg_of(figure: Figure, description: str) -> Markup:
    """The figure as an element to be put into a page; ``description`` is read aloud in its place."""
    for axes in figure.axes:
        axes.patch.set_visible(False)
    file = StringIO()
    with warnings.catch_warnings():
        # Of characters that matplotlib's own font lacks. The browser draws the text, with its fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = _NOT_DRAWN.sub("", file.getvalue())
    text = _GROUP_NAME.sub("<g", text[text.index("<svg") :])
    for colour, name in _NAMES.items():
        text = text.replace(colour, f"var(--{name})")
    head = f'<svg role="img" aria-label="{escape(description)}"'
    return Markup(text.replace("<svg", head, 1))  # matplotlib has escaped what it was given


def in_unit(unit: str) -> FuncFormatter:
    """Ticks as quantities."""
    return FuncFormatter(lambda value, _: _trimmed(value, unit))


def _trimmed(value: float, unit: str) -> str:
    if unit == "ratio":
        return f"{value:.4g}"
    number, _, rest = quantity(value, unit).rpartition(" ") if value else ("0", "", "")
    if "." in number and "e" not in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {rest}".strip()


def log_ticks(axes: Axes, which: str, low: float, high: float, show: Callable[[float], str]) -> None:
    """A logarithmic axis with few, plain labels: 1, 2 and 5 of a decade, or even steps where it spans little."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    if high / low < 4:
        axis.set_major_locator(MaxNLocator(6))
    else:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 200 else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))
    axis.set_minor_formatter(NullFormatter())


def legend(axes: Axes, **where: Any) -> None:
    """Only where there is something to tell apart."""
    handles, _ = axes.get_legend_handles_labels()
    if len(handles) > 1:
        axes.legend(**where)


def plot(figure: Figure, title: str, caption: str, *, wide: bool = False) -> Plot:
    """The finished drawing."""
    return Plot(title, caption, svg_of(figure, f"{title}. {caption}"), wide)


def shorter(name: str, most: int = 60) -> str:
    """A name that leaves room for the drawing beside it: its beginning and its end."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2 - 1) :]}"


def counted(number: int, what: str) -> str:
    """``1 round``, ``2 rounds``."""
    return f"{number} {what}{'' if number == 1 else 's'}"
