"""What a terminal shows of servers that are compared, and of a pass kernel by kernel."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

from rich.console import Console
from samples import ask, compared, measured_round, server, started

from sglperf.core.contrast import Contrast
from sglperf.core.roofline import pass_times, pass_values
from sglperf.core.server_config import Model
from sglperf.core.shape import shape_of
from sglperf.evidence import Measured
from sglperf.measurements import Measurements
from sglperf.plan import make_plan
from sglperf.report.contrast import contrast_parts
from sglperf.report.roofline import roofline_parts
from sglperf.workload.passes import DecodePass


def text(parts: object) -> list[str]:
    buffer = StringIO()
    console = Console(file=buffer, width=100, highlight=False)
    for part in parts:
        console.print(part)
    return [line.rstrip() for line in buffer.getvalue().splitlines()]


def contrast(group: str, other: str) -> Contrast:
    figures = compared(0.8, 0.75, 0.85)
    return Contrast("llama", group, "triton", other, "decode-s8", "inter_token_latency", figures)


def test_each_pair_has_a_table_that_says_what_both_have_in_common():
    """Pages and pairs are kept apart, in whatever order their cases came."""
    shown = text(contrast_parts([contrast("page1", "fa3"), contrast("page16", "fa3"), contrast("page1", "flashinfer"), contrast("page1", "fa3")]))  # fmt: skip

    assert [line for line in shown if "against" in line] == [
        "fa3 against triton · llama · page1",
        "flashinfer against triton · llama · page1",
        "fa3 against triton · llama · page16",
    ]
    assert sum(line.startswith("decode-s8") for line in shown) == 4
    assert shown[3].split()[-5:] == ["s", "1.25", "1.18", "…", "1.33"]


def scaled(
    other: str, ranks: int, ratio: float, metric: str = "decode_throughput", **changes: int
) -> Contrast:
    figures = replace(compared(ratio, ratio - 0.04, ratio + 0.04), lower_is_better=False)
    return Contrast("llama", "scaling-page1", "single", other, "decode-s8", metric, figures, ranks=ranks, rate=True, **changes)  # fmt: skip


def test_scaling_efficiency_has_a_table_for_all_sets():
    """Speed-up over how many times as many GPUs, set under set, sorted by what was measured; nothing of latencies."""
    found = [
        scaled("nvlink-2", 2, 1.84), scaled("nvlink-2", 2, 1.9, "prefill_throughput"), scaled("cross-numa-4", 4, 2.0),
        contrast("scaling-page1", "nvlink-2"),
    ]  # fmt: skip
    shown = text(contrast_parts(found))
    begin = shown.index("scaling efficiency over single · llama · scaling-page1")

    assert [line.split() for line in shown[begin + 2 :]] == [
        ["decode-s8", "decode_throughput", "nvlink-2", "2", "1.84", "0.92", "0.90", "…", "0.94"],
        ["decode-s8", "decode_throughput", "cross-numa-4", "4", "2.00", "0.50", "0.49", "…", "0.51"],
        ["decode-s8", "prefill_throughput", "nvlink-2", "2", "1.90", "0.95", "0.93", "…", "0.97"],
    ]
    assert max(map(len, shown)) <= 100


def test_efficiency_over_several_gpus_says_so():
    """Where the smallest set has several GPUs, the title says how many."""
    shown = text(contrast_parts([scaled("nvswitch-8", 8, 1.8, reference_ranks=2)]))

    assert shown[5] == "scaling efficiency over single (TP 2) · llama · scaling-page1"
    assert shown[7].split()[3:6] == ["8", "1.80", "0.45"]


def test_servers_on_as_many_gpus_have_no_efficiency():
    """Of backends there is no second table."""
    assert not any("efficiency" in line for line in text(contrast_parts([contrast("page1", "fa3")])))


def test_a_pass_is_shown_kernel_by_kernel():
    """Calls of the whole model, shares that add up, and the machine's limits."""
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 100}  # fmt: skip
    model = Model("tiny", 100, 1024, shape)
    asked = ask("pass_kernel_time", area="kernel", config=server(model=model), workload=DecodePass(2, 32))
    said = {
        "layers": 2,
        "parts": {
            "attn": {"seconds": 3e-4, "calls": 2, "calls_in_layer": 1},
            "sampler": {"seconds": 8e-4, "calls": 1, "calls_in_layer": 0},
        },
        "pass_seconds": 2e-3,
        "copy_bytes_per_second": 1e9,
        "matmul_flops_per_second": 1e12,
    }
    known = shape_of(model)
    assert known is not None
    values = pass_values(pass_times(said), known, asked.workload.load)
    plan = make_plan([asked], launches=1, rounds=1, warmup_rounds=1, seed=0)
    rounds = [measured_round(0, values, like=asked, method="a clock")]
    measured = Measured(plan, Measurements([started(0)], rounds), {"head": {}})
    shown = text(roofline_parts(measured))

    assert [line.split()[:5] for line in shown[3:5]] == [
        ["attention", "4", "300.0", "µs", "60.0%"],
        ["sampling", "1", "800.0", "µs", "40.0%"],
    ]
    assert " ".join(shown[5:]).startswith(
        "all kernels 2.000 ms; in a pass of two layers they account for 70%"
    )
    assert "account for 70%. Of a layer, attention takes 100% and matrix products 0%. Limits" in " ".join(
        shown[5:]
    )
    assert "Timed by a clock" in " ".join(shown[5:])
