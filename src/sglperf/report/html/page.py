"""The whole page of a run: what must be known first, then every case, then what stands behind it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sglperf import __version__
from sglperf.report.html import digest, phases, surroundings
from sglperf.report.html.cases import table_data
from sglperf.report.html.drawing import Plot
from sglperf.report.html.forest import forests, speedups
from sglperf.report.html.latency import curves, distributions
from sglperf.report.html.load import loads
from sglperf.report.html.parts import Section
from sglperf.report.html.passes import rooflines
from sglperf.report.html.prefix import prefixes
from sglperf.report.html.run import Run
from sglperf.report.html.scaling import efficiencies
from sglperf.report.html.series import series

_PLOTTED: tuple[tuple[str, str, tuple[Callable[[Run], Iterator[Plot]], ...]], ...] = (
    ("series", "Rounds, launch by launch", (series,)),
    ("contrasts", "Servers beside one another", (speedups, efficiencies)),
    ("distributions", "Latency distributions", (distributions,)),
    ("curves", "Inter-token latency along the KV cache", (curves,)),
    ("prefix", "Prefix cache", (prefixes,)),
    ("load", "Under load", (loads,)),
    ("phases", "One request's life", (phases.timelines,)),
    ("roofline", "Kernels beside the machine's limits", (rooflines,)),
)

_INTROS = {"phases": phases.MEANING}


def run_page(run: Run) -> str:
    """HTML of a run, one file that asks for no other."""
    targets = run.document["targets"]
    return render(
        "run.html.j2",
        title=f"sglperf · {run.document['run']}",
        run=run,
        compared=" → ".join(target["label"] for target in targets.values()),
        headline=digest.headline(run),
        counts=digest.counts(run),
        said=list(digest.said(run)),
        whys=list(digest.whys(run)),
        data=table_data(run),
        ratios=list(forests(run)),
        sections=[one for one in _sections(run) if not one.empty],
    )


def _sections(run: Run) -> Iterator[Section]:
    for name, title, draw in _PLOTTED:
        yield Section(name, title, intro=_INTROS.get(name, ""), plots=list(_drawn(run, draw)))
    yield Section("claims", "Claims", tables=list(surroundings.claims(run)))
    yield Section(
        "environment",
        "Environment",
        tables=[*surroundings.differences(run), surroundings.builds(run), *surroundings.machine(run)],
    )
    yield Section(
        "config",
        "Configuration",
        tables=[*surroundings.resolved_differences(run)],
        folded=list(surroundings.listings(run)),
    )
    yield Section(
        "gates",
        "Launches and gates",
        tables=[*surroundings.gates(run), surroundings.launches(run), surroundings.seconds(run)],
    )


def _drawn(run: Run, draw: Iterable[Callable[[Run], Iterator[Plot]]]) -> Iterator[Plot]:
    for one in draw:
        yield from one(run)


def render(template: str, **known: object) -> str:
    """Fill a template; everything in it is escaped, and nothing but the page's own script can run."""
    environment = Environment(
        loader=PackageLoader("sglperf.report.html"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    script = _own("report.js")
    digest_ = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        style=Markup(_own("report.css")),  # ours, no input
        script=Markup(script),  # ours, no input
        script_hash=digest_,
        version=__version__,
        **known,
    )


def _own(name: str) -> str:
    return (files("sglperf.report.html") / "templates" / name).read_text(encoding="utf-8")
