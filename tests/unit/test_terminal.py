"""What a person reads at the end of a run, within a terminal's 100 columns."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from samples import ask, compared, outcome, server

from sglperf.core.catalogue import DIVERGING, METRICS
from sglperf.core.metric import Kind
from sglperf.core.sequential import Looks
from sglperf.core.server_config import Model
from sglperf.core.statistics import Comparison
from sglperf.core.verdict import Status, Verdict
from sglperf.evidence import ContextChange
from sglperf.outcome import Outcome
from sglperf.report.sheet import WIDTH
from sglperf.report.terminal import summary
from sglperf.settings import Settings
from sglperf.workload.shapes import Decode

GOLDEN = Path(__file__).parent / "golden" / "summary.txt"
SETTINGS = Settings(
    profile="cpu",
    device="cpu",
    model="tiny",
    attention_backends=("torch_native",),
    page_sizes=(16,),
    tp_sets=((0,),),
    max_total_tokens=4096,
    max_running_requests=16,
    mem_fraction_static=0.3,
    launches=2,
    rounds=2,
)
OTHER = server("triton", page=1, tp_set=(0, 1))


def said(status: Status, sentence: str = "because", comparison: Comparison | None = None) -> Verdict:
    return Verdict(status, "code", sentence, comparison)


def text(run: Outcome, settings: Settings = SETTINGS, *, colour: bool = False) -> str:
    return summary(run, settings, width=WIDTH, colour=colour)


def row(run: Outcome, metric: str) -> str:
    """The table's line for a metric."""
    (line,) = (line for line in text(run).splitlines() if line.startswith(metric + " "))
    return line


def everything() -> Outcome:
    """A run with one case of each kind and status."""
    return outcome(
        (
            ask("time_to_first_token"),
            [[0.101, 0.102], [0.103]],
            [[0.1, 0.1]],
            said(Status.UNCHANGED, "within", compared(1.012, 0.995, 1.029, 0.021)),
        ),
        (
            ask("inter_token_latency"),
            [[0.00721, 0.00722], [0.0072]],
            [[0.00601], [0.006]],
            said(
                Status.REGRESSED,
                "20.1% worse: ×1.201, 95 % interval [1.150, 1.254], family p = 0.00031",
                compared(1.201, 1.15, 1.254, 0.034),
            ),
        ),
        (
            ask("inter_token_latency_p99"),
            [[0.02], [0.03]],
            [[0.02], [0.025]],
            said(Status.INCONCLUSIVE, "too noisy", compared(1.118, 0.71, 1.76, 0.584)),
        ),
        (
            ask("inter_token_latency_growth"),
            [[1.05], [1.06]],
            [[1.0]],
            said(Status.INCONCLUSIVE, "needs launches", compared(1.055, 0.0, float("inf"), float("inf"))),
        ),
        (ask("inter_token_latency_slope"), [[1.25e-7], [-1e-8]], None, None),
        (
            ask("decode_throughput"),
            [[35123.4], [35200.0]],
            [[30000.0]],
            said(Status.IMPROVED, "17.1% better: ×1.171", compared(1.171, 1.14, 1.203)),
        ),
        (
            ask("prompt_tokens"),
            [[4096.0]],
            [[4096.0]],
            said(Status.UNCHANGED, "exactly", compared(1.0, 1.0, 1.0, 0.0)),
        ),
        (ask("cached_tokens"), [[0.0]], [[288.0]], said(Status.REGRESSED, "288 → 0 tok: any change counts")),
        (
            ask("prefill_tokens"),
            [[4400.0]],
            [[4000.0]],
            said(Status.REGRESSED, "4000 → 4400 tok: any change counts", compared(1.1, 1.1, 1.1, 0.0)),
        ),
        (ask("time_to_first_token", config=OTHER), [[0.2]], None, said(Status.NEW, "no baseline")),
        (
            ask("inter_token_latency", config=OTHER),
            [],
            [[0.006]],
            said(Status.INVALID, "the server died: exit code -9\n  last line of its log\n  and another"),
        ),
        (
            ask("decode_throughput", config=OTHER),
            [[10.0]],
            [[20.0]],
            said(Status.INCOMPARABLE, "not the same work: page_size 16 → 1; cached tokens 0 → 16"),
        ),
        (
            ask("prefill_throughput", config=OTHER),
            [],
            [[20.0]],
            said(Status.INVALID, "the server died: exit code -9\n  last line of its log\n  and another"),
        ),
        (ask("inter_token_latency_slope", config=OTHER), [], None, None),
        changes={
            server().label: ContextChange(
                (), tuple(f"argument_{number} {number} → {number + 1}" for number in range(10))
            ),
            OTHER.label: ContextChange(("torch 2.11.0 → 2.14.1",), ()),
        },
        recorded=("baselines/cpu-a-cpu-4c-0123abcd/decode.json",),
        notes=("compiled modules were borrowed from the installed sglang 0.5.23",),
    )


def test_a_run_as_a_person_reads_it():
    """Tables by server and workload, reasons for what is not a pass, differences in context, costs, places."""
    shown = "\n".join(line.rstrip() for line in text(everything()).splitlines()) + "\n"

    assert shown == GOLDEN.read_text(encoding="utf-8")


def test_the_environment_of_the_terminal_changes_nothing(monkeypatch):
    """Width and colour are the caller's; variables meant for other programs are not asked."""
    before = text(everything())
    for name, value in {"COLUMNS": "40", "FORCE_COLOR": "1", "TERM": "dumb", "TTY_COMPATIBLE": "1"}.items():
        monkeypatch.setenv(name, value)

    assert text(everything()) == before


def test_colour_adds_nothing_but_colour():
    """With the escape codes taken out, a coloured summary is the plain one."""
    coloured = text(everything(), colour=True)

    assert "\x1b[1;31mregressed" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == text(everything())
    assert "\x1b" not in text(everything())


# Every line fits

names = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=150)
ratios = st.floats(1e-6, 1e6)
sizes = {
    "s": st.floats(1e-9, 1e5),
    "s/tok": st.floats(-10, 10),
    "tok/s": st.floats(1e-3, 1e10),
    "ratio": st.floats(1e-3, 1e5),
    "tok": st.integers(0, 10**11).map(float),
    "calls": st.integers(0, 10**6).map(float),
    "answers": st.integers(0, 10**4).map(float),
    "req": st.floats(0, 1e5),
    "req/s": st.floats(1e-3, 1e6),
    "B": st.floats(1, 1e12),
    "B/s": st.floats(1, 1e14),
    "FLOP/s": st.floats(1, 1e17),
}


@st.composite
def runs(draw: st.DrawFn) -> Outcome:
    """Any metric with any figures, under any names."""
    model = Model(draw(names), 100, 1024)
    config = server(
        draw(names),
        page=draw(st.integers(1, 10**6)),
        tp_set=tuple(range(draw(st.integers(1, 64)))),
        model=model,
    )
    cases = []
    for name in draw(st.sets(st.sampled_from(sorted(METRICS)), max_size=4)):
        values = st.lists(st.lists(sizes[METRICS[name].unit], min_size=1, max_size=2), max_size=2)
        figures = st.builds(compared, ratios, ratios, ratios | st.just(float("inf")), ratios)
        verdict = st.builds(said, st.sampled_from(Status), names, st.none() | figures)
        judged = METRICS[name].judged
        one = ask(name, config=config, workload=Decode(5, 10, 10))
        cases.append((one, draw(values), draw(st.none() | values), draw(verdict) if judged else None))
    return outcome(
        *cases,
        changes={draw(names): ContextChange((), tuple(draw(st.lists(names, min_size=1, max_size=12))))},
        recorded=tuple(draw(st.lists(names, max_size=2))),
        notes=tuple(draw(st.lists(names, max_size=2))),
        folder=draw(names),
    )


@given(runs())
def test_no_line_is_wider_than_the_terminal(run):
    """However long a name, a reason or a path, and however large a number: 100 columns, wide characters counted."""
    assert all(cell_len(line) <= WIDTH for line in text(run).splitlines())


@given(runs())
def test_no_figure_is_cut_short(run):
    """A number that loses its last digits is another number, so none in the tables ends in an ellipsis."""
    shown = text(run)

    for one in run.plan.asks:
        cells = next(line for line in shown.splitlines() if f"{one.metric} " in line)
        assert "…" not in cells.replace(" … ", " to ")


def test_long_words_are_folded_and_not_lost():
    """A path of 300 characters is broken across lines with all of its characters."""
    path = "/".join(["results", "x" * 140, "y" * 140, "end"])
    shown = text(outcome((ask(), [[0.1]], None, said(Status.NEW)), folder=path))

    assert f"kept in {path}".replace(" ", "") in shown.replace("\n", "").replace(" ", "")


# Cells


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [
        (1.0, "1.000"),
        (1.0004, "1.000"),
        (9.9994, "9.999"),
        (9.9996, "10.00"),
        (99.996, "100.0"),
        (12345.6, "12346"),
        (123456.7, "1e+05"),
        (0.001, "0.001"),
        (0.0004, "4e-04"),
        (1e-9, "1e-09"),
    ],
)
def test_ratios_fit_five_characters(ratio, shown):
    """Three decimals where it matters; never a zero for what is none, never a digit lost on the left."""
    run = outcome((ask(), [[0.1]], [[0.1]], said(Status.REGRESSED, comparison=compared(ratio, ratio, ratio))))

    assert f" {shown} {shown} … {shown} " in row(run, "inter_token_latency")


@pytest.mark.parametrize(
    ("effect", "shown"),
    [
        (0.0, "±0.0%"),
        (0.0213, "±2.1%"),
        (0.5, "±50.0%"),
        (9.99, "±999.0%"),
        (10.0, "nothing"),
        (float("inf"), "nothing"),
    ],
)
def test_what_could_have_been_seen(effect, shown):
    """A share; where not even a tenfold change would have been, nothing."""
    run = outcome((ask(), [[0.1]], [[0.1]], said(Status.INCONCLUSIVE, comparison=compared(1, 1, 1, effect))))

    assert row(run, "inter_token_latency").rstrip().endswith(f" {shown} inconclusive")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("metric", ["inter_token_latency", "cached_tokens"])
def test_a_sample_that_is_no_number_is_shown(metric, value):
    """A case that is invalid for its samples has a row like any other."""
    run = outcome((ask(metric), [[value]], [[1.0]], said(Status.INVALID, "head: a sample is nan")))

    assert f"{value:g} " in row(run, metric)


@pytest.mark.parametrize(
    "metric", [name for name, metric in METRICS.items() if metric.kind is Kind.EXACT and name != DIVERGING]
)
def test_counts_have_no_interval(metric):
    """A count is shown on both sides, with its ratio where it changed, and nothing that noise would need."""
    changed = outcome(
        (ask(metric), [[110.0]], [[100.0]], said(Status.REGRESSED, comparison=compared(1.1, 1.1, 1.1)))
    )
    same = outcome((ask(metric), [[100.0]], [[100.0]], said(Status.UNCHANGED, comparison=compared(1, 1, 1))))

    unit = METRICS[metric].unit
    assert row(changed, metric).split() == [metric, "100", unit, "110", unit, "1.100", "regressed"]
    assert row(same, metric).split() == [metric, "100", unit, "100", unit, "unchanged"]


# Reasons


def test_cases_with_one_reason_share_it():
    """A server that died is told once, with the number of cases that it took along."""
    metrics = ("time_to_first_token", "inter_token_latency", "decode_throughput")
    shown = text(
        outcome(*((ask(metric), [], None, said(Status.INVALID, "the server died")) for metric in metrics))
    )

    told = " ".join(shown.split())
    assert told.count("the server died") == 1
    assert f"invalid: {ask(metrics[0]).name} and 2 more: the server died" in told


def test_counts_of_verdicts_come_first_after_the_tables():
    """One line says how the run went, the worst first."""
    lines = text(everything()).splitlines()

    assert "3 regressed, 1 improved, 2 unchanged, 2 inconclusive, 1 incomparable, 1 new, 2 invalid" in lines


@pytest.mark.parametrize(
    ("mode", "recorded", "shown"),
    [
        ("compare", ("a.json", "b.json"), "recorded as baseline: a.json, b.json"),
        ("off", (), "no baseline read or recorded (--baseline off)"),
        ("compare", (), None),
    ],
)
def test_what_became_of_the_baseline_is_said(mode, recorded, shown):
    """What was recorded and where, or that the option kept it from being read."""
    run = outcome((ask(), [[0.1]], None, said(Status.NEW)), recorded=recorded)
    lines = text(run, SETTINGS.model_copy(update={"baseline": mode})).splitlines()

    assert [line for line in lines if "baseline" in line] == ([shown] if shown else [])


def test_a_range_of_launches_is_shown_with_its_first_look():
    """Where launches are added while a verdict is open, the line says from which count to which."""
    done = outcome((ask(), [[1.0]], [[1.0]], said(Status.UNCHANGED)))
    ranged = replace(done, plan=replace(done.plan, launches=8, fewest_launches=3), looks=Looks(4, 8))

    assert "(1 configuration × 4 to 8 launches)" in text(ranged)


def test_starts_are_configs_times_launches():
    """The costs name the server starts, whatever the number of tests."""
    run = outcome(
        (ask("time_to_first_token"), [[0.1]], None, said(Status.NEW)),
        (ask("inter_token_latency"), [[0.1]], None, said(Status.NEW)),
        (ask(config=OTHER), [[0.1]], None, said(Status.NEW)),
        launches=3,
    )

    assert (
        "6 server starts (2 configurations × 3 launches); 100 s: starts 60 s, load 30 s, warm-up 5 s"
        in text(run)
    )


@pytest.mark.parametrize(
    ("runs", "said_so"), [((2,), "holds 1 run:"), ((2, 2), "holds 2 runs:"), ((1,) * 4, ""), (None, "")]
)
def test_beside_a_change_against_one_day_it_says_that_days_differ(runs: tuple[int, ...] | None, said_so: str):
    """Until the baseline knows how its runs differ, and only where something is said to have changed."""
    for status in (Status.REGRESSED, Status.UNCHANGED):
        done = outcome((ask(), [[1.0]], [[1.0]], said(status)))
        (name,) = done.questions
        question = done.questions[name]
        assert question.base is not None
        with_runs = replace(question, base=replace(question.base, runs=runs))
        words = " ".join(text(replace(done, questions={name: with_runs})).split())

        assert ("another day may differ" in words) == bool(said_so and status is Status.REGRESSED)
        assert said_so in words or status is Status.UNCHANGED
