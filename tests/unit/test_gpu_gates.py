"""What GPUs did while a round ran decides what of it may be believed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import observed, paced

from sglperf.core.gates import Asked, Gate, Limits, failed_gates, gpu_gates
from sglperf.core.gpu_watch import GpuSample, GpuWatched
from sglperf.core.observation import RoundObservation

GOOD = paced(0.2, [0.01, 0.01, 0.01])
COLD = Asked((32,), (4,), cold=True)
WELL = GpuSample(1980, 2619, ("idle",), 40, 310.5, (7,), 0)
HOT = replace(WELL, sm_clock_mhz=1155, clock_reasons=("sw power cap", "hw thermal"), temperature_c=88)
LOST = GpuWatched(2, (WELL,), lost="GPU is lost")


def watched(*samples: GpuSample, index: int = 0, foreign: tuple[int, ...] = ()) -> GpuWatched:
    return GpuWatched(index, samples, foreign)


def codes(*gpus: GpuWatched) -> list[str]:
    return [gate.code for gate in gpu_gates(gpus)]


def round_of(*gpus: GpuWatched, **changes: object) -> RoundObservation:
    return replace(observed(GOOD), gpus=gpus, **changes)


def failed(round_: RoundObservation, asked: Asked = COLD) -> list[str]:
    return [gate.code for gate in failed_gates(round_, asked, Limits())]


def test_a_gpu_left_alone_passes():
    """Cool, at its clocks, with nobody else's process: no gate, in a round or by itself."""
    gpu = watched(WELL, WELL, WELL)

    assert gpu_gates([gpu, replace(gpu, index=1)]) == ()
    assert failed(round_of(gpu)) == []


def test_nothing_seen_is_nothing_held_against_it():
    """A driver that says nothing about a GPU, or a run on a CPU, fails no gate."""
    assert codes(watched(GpuSample(), GpuSample())) == []
    assert codes(watched()) == []
    assert codes() == []


# Throttling


@pytest.mark.parametrize(
    ("reason", "counts"),
    [
        ("hw slowdown", True),
        ("sw thermal", True),
        ("hw thermal", True),
        ("hw power brake", True),
        ("sw power cap", False),
        ("idle", False),
        ("applications clocks", False),
        ("sync boost", False),
        ("display clock", False),
    ],
)
def test_which_reasons_spoil_a_timing(reason, counts):
    """Heat and brakes do; a power cap is part of the machine, and so are clocks that somebody set."""
    gpu = watched(WELL, replace(WELL, clock_reasons=(reason,)))

    assert codes(gpu) == ["gpu-throttled"] * counts
    assert gpu.throttled == (reason,) * counts


@pytest.mark.parametrize("moment", range(3))
def test_one_moment_is_enough(moment):
    """A GPU slowed down at the beginning, in between or at the end was slowed down."""
    samples = [WELL] * 3
    samples[moment] = HOT

    assert codes(watched(*samples)) == ["gpu-throttled"]


def test_what_is_said_of_a_slow_gpu():
    """The GPU, its reasons once each in order of appearance, the lowest clock it was slowed down to, its highest temperature."""
    idle = replace(WELL, sm_clock_mhz=345)
    braked = replace(WELL, sm_clock_mhz=900, clock_reasons=("hw slowdown", "hw thermal"), temperature_c=85)

    assert gpu_gates([watched(idle, HOT, braked, HOT, index=3)]) == (
        Gate(
            "gpu-throttled",
            "GPU 3 was slowed down (hw thermal, hw slowdown) to 900 MHz at 88 °C: see to its cooling and power",
            timing_only=True,
        ),
    )


@pytest.mark.parametrize(
    ("clock", "temperature", "said"),
    [
        (None, None, "(hw thermal): see"),
        (1155, None, "(hw thermal) to 1155 MHz: see"),
        (None, 88, "(hw thermal) to 88 °C: see"),
        (0, 0, "(hw thermal) to 0 MHz at 0 °C: see"),
    ],
)
def test_what_it_does_not_say_is_left_out(clock, temperature, said):
    """A GPU without a clock or a thermometer is named without."""
    sample = GpuSample(sm_clock_mhz=clock, temperature_c=temperature, clock_reasons=("hw thermal",))
    (gate,) = gpu_gates([watched(sample, GpuSample())])

    assert said in gate.sentence


# Neighbours


def test_a_neighbour_spoils_timings():
    """Every foreign process is named by its pid, with what to do."""
    assert gpu_gates([watched(WELL, foreign=(42, 4242), index=1)]) == (
        Gate(
            "gpu-shared",
            "another process computes on GPU 1 (pid 42, 4242): end it, or choose another with --tp-gpus",
            timing_only=True,
        ),
    )


# Memory errors


@pytest.mark.parametrize(
    ("counts", "new"),
    [
        ((0, 0, 0), 0),
        ((3, 3), 0),  # they were there before
        ((0, 1), 1),
        ((3, 3, 5), 2),
        ((3, 5, 5), 2),
        ((5,), 0),
        ((None, 5, 6), 1),
        ((2, None, 4, None), 2),
        ((None, None), 0),
    ],
)
def test_only_errors_that_rose_count(counts, new):
    """What a GPU had counted when the round began is no matter; neither is a moment at which it did not say."""
    gpu = watched(*(replace(WELL, ecc_errors=count) for count in counts))

    assert gpu.new_ecc_errors == new
    assert codes(gpu) == ["gpu-ecc"] * (new > 0)


def test_wrong_memory_spoils_counts_too():
    """An uncorrected error is no matter of timing: what was computed may be wrong."""
    (gate,) = gpu_gates([watched(WELL, replace(WELL, ecc_errors=2), index=5)])

    assert gate == Gate(
        "gpu-ecc",
        "GPU 5 had 2 uncorrected memory errors: what it computed may be wrong. Choose another with --tp-gpus",
    )
    assert not gate.timing_only


# Lost GPUs


def test_a_lost_gpu_spoils_everything():
    """The driver's words are kept, and where to look."""
    (gate,) = gpu_gates([LOST])

    assert gate.code == "gpu-lost"
    assert gate.sentence.startswith("GPU 2 no longer answers (GPU is lost): see dmesg")
    assert not gate.timing_only


def test_a_gpu_that_was_never_seen_can_be_lost():
    """It needs no sample, and an empty word of the driver is one."""
    assert codes(GpuWatched(0, (), lost="GPU is lost")) == ["gpu-lost"]
    assert codes(GpuWatched(0, (), lost="")) == ["gpu-lost"]


# Order


def test_the_gravest_first():
    """What spoils counts precedes what spoils timings, whichever GPU it was."""
    hot = watched(HOT, foreign=(42,))
    wrong = watched(WELL, replace(WELL, ecc_errors=1), index=1)

    gates = gpu_gates([hot, wrong, LOST])

    assert [gate.code for gate in gates] == ["gpu-ecc", "gpu-lost", "gpu-throttled", "gpu-shared"]
    assert [gate.timing_only for gate in gates] == [False, False, True, True]


def test_the_same_gpu_lost_and_wrong():
    """That it is gone is said first."""
    gone = replace(LOST, samples=(WELL, replace(HOT, ecc_errors=1)))

    assert codes(gone) == ["gpu-lost", "gpu-ecc", "gpu-throttled"]


def test_a_broken_gpu_outranks_everything_that_follows_from_it():
    """Where a GPU broke, that it was hot or the cache warm is no further news; a failed request is."""
    gone = replace(LOST, samples=(HOT,), foreign=(42,))
    warm = replace(GOOD, cached_tokens=16)
    reset = replace(GOOD, error="connection reset")

    assert failed(round_of(gone, requests=(warm,))) == ["gpu-lost"]
    assert failed(round_of(gone, requests=(reset,))) == ["request-failed", "gpu-lost"]


def test_a_disturbed_gpu_stands_among_the_others():
    """Slow and shared GPUs are told besides a warm cache and a busy host, and before the client."""
    disturbed = watched(HOT, foreign=(42,))
    round_ = replace(observed(replace(GOOD, cached_tokens=1), lag=1.0, foreign_cpu=0.9), gpus=(disturbed,))

    assert failed(round_) == ["cache-not-cold", "host-busy", "gpu-throttled", "gpu-shared", "client-lag"]


def test_a_failed_request_hides_a_disturbed_gpu():
    """A request that failed is the matter, not the heat."""
    assert failed(round_of(watched(HOT), requests=(replace(GOOD, error="HTTP 500"),))) == ["request-failed"]


# Graphs

GRAPHS = replace(COLD, graphs=True)
FALLBACK = "cuda_graph_passes_total{mode=decode_none}"


@pytest.mark.parametrize(
    ("counters", "asked", "expected"),
    [
        ({FALLBACK: 3.0}, GRAPHS, ["graph-fallback"]),
        ({FALLBACK: 1.0}, GRAPHS, ["graph-fallback"]),
        ({FALLBACK: 0.0}, GRAPHS, []),
        ({}, GRAPHS, []),
        ({FALLBACK: 3.0}, COLD, []),  # a server without graphs is as it was asked for
        ({"cuda_graph_passes_total{mode=decode_cuda_graph}": 3.0}, GRAPHS, []),
        ({"cuda_graph_passes_total{mode=prefill_none}": 3.0}, GRAPHS, []),
        ({"cuda_graph_passes_total": 3.0}, GRAPHS, []),
    ],
)
def test_decode_passes_outside_graphs(counters, asked, expected):
    """One is too many where all are meant to replay a graph; a prefill needs none."""
    assert failed(round_of(counters=counters), asked) == expected


def test_a_fallback_spoils_timings_only():
    """The same tokens come out; the sentence counts the passes and names the flag."""
    (gate,) = failed_gates(round_of(counters={FALLBACK: 12.0}), GRAPHS, Limits())

    assert gate.timing_only
    assert gate.sentence.startswith("12 decode passes ran outside CUDA graphs")
    assert "--cuda-graph-max-bs-decode" in gate.sentence


# Any watch

gpu_samples = st.builds(
    GpuSample,
    sm_clock_mhz=st.none() | st.integers(0, 3000),
    clock_reasons=st.lists(st.sampled_from(["idle", "hw thermal", "sw power cap", "?"]), max_size=3).map(
        tuple
    ),
    temperature_c=st.none() | st.integers(-10, 120),
    ecc_errors=st.none() | st.integers(0, 9),
)


@given(
    st.lists(
        st.builds(
            GpuWatched,
            st.integers(0, 7),
            st.lists(gpu_samples, max_size=4).map(tuple),
            st.sets(st.integers(1, 99), max_size=2).map(lambda pids: tuple(sorted(pids))),
            st.none() | st.just("GPU is lost"),
        ),
        max_size=3,
        unique_by=lambda gpu: gpu.index,
    )
)
def test_any_watch_gets_an_answer(gpus: list[GpuWatched]):
    """Whatever was seen, sentences are one line each, name their GPU, and what spoils counts comes first."""
    gates = gpu_gates(gpus)

    assert len(set(gates)) == len(gates)
    assert all("\n" not in gate.sentence for gate in gates)
    assert all(any(f"GPU {gpu.index} " in gate.sentence for gpu in gpus) for gate in gates)
    assert [gate.timing_only for gate in gates] == sorted(gate.timing_only for gate in gates)
    clean = all(
        gpu.lost is None and not gpu.foreign and not gpu.throttled and not gpu.new_ecc_errors for gpu in gpus
    )
    assert clean == (not gates)
