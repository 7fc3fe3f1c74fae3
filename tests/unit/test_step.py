"""What a traced pass consists of, on traces small enough to count by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglperf.core.step import Group, common, group_of, length, merged, most_common, step_values
from sglperf.core.trace_events import read_trace

Event = dict[str, Any]


def event(name: str, begin: float, length: float, cat: str = "cpu_op", **args: int) -> Event:
    tid = 7 if cat == "kernel" else 1
    return {
        "ph": "X",
        "cat": cat,
        "name": name,
        "pid": 1,
        "tid": tid,
        "ts": begin,
        "dur": length,
        "args": args,
    }


def step(begin: float, length: float, name: str = "DECODE bs=8") -> Event:
    return event(f"step[{name}]", begin, length, "user_annotation")


def values(events: list[Event]) -> dict[str, float]:
    trace = read_trace(events)
    assert trace is not None
    return step_values(trace)


def on_a_gpu(number: int, *, syncs: int = 1) -> list[Event]:
    """100 µs: 40 of preparing, of which the device computes during 30; 60 of waiting, it computes during 50."""
    begin, launch = 100.0 * number, 10 * number
    return [
        step(begin, 40),
        event("aten::linear", begin + 5, 10),
        event("aten::mm", begin + 6, 8),
        event("cudaLaunchKernel", begin + 7, 2, "cuda_runtime", correlation=launch),
        event("cudaLaunchKernel", begin + 30, 2, "cuda_runtime", correlation=launch + 1),
        *(
            event("cudaEventSynchronize", begin + 40 + 60 / syncs * i, 60 / syncs, "cuda_runtime")
            for i in range(syncs)
        ),
        # Both of the step before still, as far as the clock tells.
        event("nvjet_sm90_tst_64x8", begin + 10, 60, "kernel", correlation=launch),
        event("BatchDecodeWithPagedKVCacheKernel", begin + 70, 20, "kernel", correlation=launch + 1),
    ]


def test_on_a_gpu() -> None:
    """The device is idle 20 of 100 µs; of the host's 40 the first 10 are exposed."""
    found = values([one for number in range(12) for one in on_a_gpu(number)])
    counts = {name: found[f"step_{name}"] for name in ("operators", "kernels", "syncs")}
    assert counts == {"operators": 2, "kernels": 2, "syncs": 1}
    assert found["step_time"] == pytest.approx(100e-6)
    assert found["step_host_time"] == pytest.approx(40e-6)
    assert found["device_wait_share"] == pytest.approx(0.2)
    assert found["hidden_host_share"] == pytest.approx(0.75)
    shares = {
        name: found[f"step_{name}_share"] for name in ("gemm", "attention", "norm", "collective", "rest")
    }
    assert shares == pytest.approx({"gemm": 0.75, "attention": 0.25, "norm": 0, "collective": 0, "rest": 0})


def test_one_more_wait_in_each_step_is_counted() -> None:
    """An added synchronization is one more, however little time it takes."""
    found = values([one for number in range(12) for one in on_a_gpu(number, syncs=2)])
    assert found["step_syncs"] == 2


def test_a_kernel_belongs_to_the_step_that_launched_it() -> None:
    """It may run when the host is at the next one."""
    late = [event("late", 100.0 * number + 101, 1, "kernel", correlation=10 * number) for number in range(12)]
    events = [one for number in range(12) for one in on_a_gpu(number)]
    events = [one for one in events if one["cat"] != "kernel"] + late[:-1]
    assert values(events)["step_kernels"] == 1


def on_a_cpu(number: int, *, extra: int = 0) -> list[Event]:
    begin = 100.0 * number
    return [
        step(begin, 60),
        event("aten::linear", begin + 10, 20),
        event("aten::mm", begin + 12, 15),
        event("aten::scaled_dot_product_attention", begin + 40, 10),
        event("aten::empty", begin + 42, 4),
        event("aten::add", begin + 52, 6),
        *(event("aten::_local_scalar_dense", begin + 80 + i, 0.5) for i in range(1 + extra)),
    ]


def test_on_a_cpu() -> None:
    """It computes while a pass's operators run, 36 of 100 µs, and hides nothing: one thread does both."""
    found = values([one for number in range(12) for one in on_a_cpu(number)])
    assert (found["step_operators"], found["step_kernels"], found["step_syncs"]) == (6, 0, 1)
    assert found["device_wait_share"] == pytest.approx(0.64)
    assert found["step_host_time"] == pytest.approx(64e-6)
    assert found["hidden_host_share"] == 0
    # What an operator of a group calls is of that group.
    assert found["step_attention_share"] == pytest.approx(10 / 36)
    assert found["step_gemm_share"] == pytest.approx(20 / 36)


def test_what_happens_now_and_then_is_no_part_of_a_step() -> None:
    """A log line every forty steps, a page every sixteen: most steps are without."""
    events = [one for number in range(12) for one in on_a_cpu(number, extra=5 if number == 7 else 0)]
    assert (values(events)["step_operators"], values(events)["step_syncs"]) == (6, 1)


def test_only_whole_batches_count() -> None:
    """While a batch fills or drains its steps are others; a step ends where the next begins, if that is one of its kind."""
    filling = [step(-400, 60, "DECODE bs=2"), *[event("aten::add", -300 + i, 0.5) for i in range(40)]]
    events = [*filling, *(one for number in range(12) for one in on_a_cpu(number))]
    assert values(events)["step_operators"] == 6
    assert values(events)["step_time"] == pytest.approx(100e-6)


def test_prefill_ends_with_its_pass() -> None:
    """After it the server waits for the next prompt."""
    events = [
        one
        for number in range(3)
        for one in (
            step(1000.0 * number, 50, "EXTEND bs=1 toks=64"),
            event("aten::mm", 1000.0 * number + 5, 30),
            event("aten::rsqrt", 1000.0 * number + 36, 10),
            event("aten::add", 1000.0 * number + 500, 10),
        )
    ]
    found = values(events)
    assert found["step_operators"] == 2
    assert found["step_gemm_share"] == pytest.approx(0.75)
    assert found["step_norm_share"] == pytest.approx(0.25)
    assert "device_wait_share" not in found


def test_one_pass_is_no_step() -> None:
    """Nothing says when it was over."""
    assert values(on_a_cpu(0)) == {}


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("void flashinfer::BatchDecodeWithPagedKVCacheKernel<...>", Group.ATTENTION),
        ("void flash::device_kernel<flash::FlashAttnFwdSm90<...cutlass::gemm...>>", Group.ATTENTION),
        ("_fwd_grouped_kernel_stage1", Group.ATTENTION),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", Group.ATTENTION),
        ("nvjet_sm90_tst_128x64_64x9_1x2_h_bz_TNT", Group.GEMM),
        ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu>", Group.GEMM),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float>", Group.GEMM),
        ("aten::addmm", Group.GEMM),
        ("void flashinfer::norm::FusedAddRMSNormKernel<8u, __nv_bfloat16>", Group.NORM),
        ("aten::rsqrt", Group.NORM),
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL", Group.COLLECTIVE),
        ("void sglang::cross_device_reduce_1stage<__nv_bfloat16, 2>", Group.COLLECTIVE),
        ("c10d::allreduce_", Group.COLLECTIVE),
        ("void flashinfer::activation::act_and_mul_kernel<__nv_bfloat16>", Group.REST),
        ("aten::mul", Group.REST),
        ("void act_and_mul_kernel<__nv_bfloat16>", Group.REST),
        ("aten::embedding", Group.REST),
    ],
)
def test_groups(name: str, group: Group) -> None:
    """A kernel's name says what it is for."""
    assert group_of(name) is group


def test_most_common() -> None:
    """Of two counts that are as frequent, the smaller."""
    assert most_common([3, 3, 9, 9, 1]) == 3


spans = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda ends: (min(ends), max(ends))), max_size=8
)


@given(spans, spans)
def test_spans_are_sets_of_moments(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    """Merging keeps what is covered; what two have in common is their intersection."""

    def covered(these: list[tuple[float, float]]) -> set[int]:
        return {moment for begin, end in these for moment in range(int(begin), int(end))}

    one, other = merged(list(some)), merged(list(others))
    assert covered(one) == covered(list(some))
    assert length(one) == len(covered(one))
    assert covered(common(one, other)) == covered(one) & covered(other)


def recorded(name: str) -> dict[str, float]:
    """Steps of SGLang 0.5.17 serving the shape of Llama 3 8B to eight streams on H100, from `pytest -m tp -k test_step`."""
    content = gzip.decompress((Path(__file__).parents[1] / "data" / name).read_bytes())
    return values(json.loads(content)["traceEvents"])


def test_a_recorded_step_on_one_gpu() -> None:
    """32 layers of 14 kernels, with what is before and after them: the host waits once, and its work is hidden."""
    found = recorded("trace_h100_decode.json.gz")
    assert [found[f"step_{name}"] for name in ("operators", "kernels", "syncs")] == [130, 471, 1]
    assert found["step_gemm_share"] == pytest.approx(0.837, abs=0.001)
    assert found["step_attention_share"] == pytest.approx(0.088, abs=0.001)
    assert found["step_collective_share"] == 0
    assert found["hidden_host_share"] > 0.95


def test_a_recorded_step_on_two_gpus() -> None:
    """Two all-reduces a layer and one for the embedding, and the logits gathered, are most of what is more."""
    found = recorded("trace_2xh100_decode.json.gz")
    assert [found[f"step_{name}"] for name in ("operators", "kernels", "syncs")] == [136, 471 + 66, 1]
    assert found["step_collective_share"] == pytest.approx(0.133, abs=0.001)
    assert found["step_gemm_share"] == pytest.approx(0.661, abs=0.001)
