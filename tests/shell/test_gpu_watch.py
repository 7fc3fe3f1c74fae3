"""GPUs are watched through NVML before, while and after something is measured, on recordings that change meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import psutil
import pynvml
import pytest
from recorded_nvml import (
    HIDDEN_PIDS,
    LOST,
    MIG_GPU,
    NEIGHBOUR_BEFORE,
    NO_DRIVER,
    OLD_DRIVER,
    Fails,
    InTurn,
    RecordedNvml,
    Recording,
    ecc_errors,
    h100,
    hot,
    processes,
)

from sglperf.core.gates import gpu_gates
from sglperf.core.gpu_watch import GpuSample, GpuWatched
from sglperf.measurements import Measurements, Round
from sglperf.probes import gpu_watch
from sglperf.probes.gpu_watch import GpuWatch, watching
from sglperf.serving import replays_graphs
from sglperf.working import Working
from sglperf.workload.shapes import TreeGrowth

MADE, UP = 1, 1  # handles asked for when a watch is made, and when its servers are up


def recorded(*moments: Mapping[str, Any] | Fails) -> RecordedNvml:
    """An H100 with these moments, one for each time it is looked at."""
    return RecordedNvml(Recording((InTurn(*moments),)))


def with_pids(*pids: int) -> dict[str, Any]:
    return h100(ComputeRunningProcesses=processes(*pids))


def watched(
    nvml: RecordedNvml, *, up: bool = False, while_: Callable[[], object] = lambda: None
) -> GpuWatched:
    """What is seen of GPU 0 while that is done."""
    watch = GpuWatch((0,), nvml)
    if up:
        watch.ours_are_up()
    with watch.during() as seen:
        while_()
        (gpu,) = seen()
    return gpu


def codes(gpu: GpuWatched) -> list[str]:
    return [gate.code for gate in gpu_gates([gpu])]


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sampled in between unless a test waits for it."""
    monkeypatch.setattr(gpu_watch, "PERIOD_SECONDS", 600)


@pytest.fixture
def child() -> Iterator[psutil.Process]:
    """A child of this process's child, as a server is, below its guardian."""
    script = (
        "import subprocess, sys\n"
        "print(subprocess.Popen([sys.executable, '-c', 'input()'], stdin=sys.stdin).pid, flush=True)\n"
        "sys.stdin.close(); import time; time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    below = psutil.Process(int(parent.stdout.readline()))
    yield below
    for process in (below, parent):
        process.kill()
    parent.communicate()


# What is seen


def test_a_sample_is_read_whole(slowly: None):
    """Clocks, reasons, temperature, power, processes and errors of one moment arrive under their names and in their units."""
    gpu = watched(
        recorded(h100(), hot(ComputeRunningProcesses=processes(42, 7), TotalEccErrors=ecc_errors(3)))
    )

    assert gpu.samples[0] == GpuSample(
        sm_clock_mhz=1155,
        memory_clock_mhz=2619,
        clock_reasons=("sw power cap", "hw thermal"),
        temperature_c=88,
        power_w=512.003,
        processes=(7, 42),
        ecc_errors=3,
    )


def test_before_and_after(slowly: None):
    """However short it was, a GPU is looked at just before and just after, and told apart in time."""
    done: list[int] = []
    nvml = recorded(h100(), h100(TemperatureV=40), h100(TemperatureV=50), h100(TemperatureV=60))
    gpu = watched(nvml, while_=lambda: done.append(nvml.handles[0]))

    assert done == [MADE + 1]
    assert [sample.temperature_c for sample in gpu.samples] == [40, 50]


def test_while(monkeypatch: pytest.MonkeyPatch):
    """What is there only in between is seen too."""
    monkeypatch.setattr(gpu_watch, "PERIOD_SECONDS", 0.005)
    nvml = recorded(h100(), h100(), hot(), h100())
    gpu = watched(nvml, while_=lambda: _until(lambda: nvml.handles[0] >= MADE + 3))

    assert [bool(sample.throttled) for sample in gpu.samples[:3]] == [False, True, False]
    assert codes(gpu) == ["gpu-throttled"]
    assert gpu.slowest_mhz == 1155
    assert gpu.hottest_c == 88


def test_nothing_is_seen_after_the_end(monkeypatch: pytest.MonkeyPatch):
    """What follows the measurement is no longer part of it, and no thread is left."""
    monkeypatch.setattr(gpu_watch, "PERIOD_SECONDS", 0.002)
    nvml = recorded(h100())
    with GpuWatch((0,), nvml).during() as seen:
        (gpu,) = seen()
        asked = nvml.handles[0]
        time.sleep(0.05)

    assert nvml.handles[0] == asked == MADE + len(gpu.samples)
    assert "gpu-watch" not in {thread.name for thread in threading.enumerate()}


def test_several_gpus_each_by_its_number(slowly: None):
    """Only the GPUs of the set are looked at, and each has its own samples."""
    nvml = RecordedNvml(Recording(tuple(h100(index, TemperatureV=30 + index) for index in range(4))))
    with GpuWatch((1, 3), nvml).during() as seen:
        gpus = seen()

    assert [(gpu.index, gpu.hottest_c) for gpu in gpus] == [(1, 31), (3, 33)]
    assert set(nvml.handles) == {1, 3}


def test_older_drivers_and_split_gpus(slowly: None):
    """What a driver or a GPU does not say is None, and what it says under an older name is read."""
    old = RecordedNvml(OLD_DRIVER)
    assert watched(old).samples[0].temperature_c == 44
    assert watched(RecordedNvml(MIG_GPU)).samples[0] == GpuSample(
        clock_reasons=("idle",), temperature_c=31, ecc_errors=0
    )


@pytest.mark.parametrize(
    ("answer", "errors"), [(Fails("NVML_ERROR_NOT_SUPPORTED"), None), (ecc_errors(0), 0), (ecc_errors(4), 4)]
)
def test_only_uncorrected_errors_since_the_driver_was_loaded(slowly: None, answer: Any, errors: int | None):
    """Corrected ones do no harm, and those of the GPU's life are over; a GPU without ECC has no count."""
    gpu = watched(recorded(h100(TotalEccErrors=answer)))

    assert [sample.ecc_errors for sample in gpu.samples] == [errors] * 2
    assert codes(gpu) == []


def test_an_error_that_comes_up(slowly: None):
    """One more at the end than at the beginning is new; what came before the beginning is not."""
    moments = [h100(TotalEccErrors=ecc_errors(count)) for count in (0, 2, 3)]

    assert watched(recorded(*moments)).new_ecc_errors == 1


def test_throttled_then_well(slowly: None):
    """A GPU that was hot when the round began is throttled; in the round after it is not."""
    nvml = recorded(h100(), hot(), h100())
    watch = GpuWatch((0,), nvml)
    with watch.during() as first:
        (hot_one,) = first()
    with watch.during() as second:
        (well,) = second()

    assert (codes(hot_one), codes(well)) == (["gpu-throttled"], [])


# A GPU that is lost


@pytest.mark.parametrize("gone", [LOST, h100(PowerUsage=LOST)], ids=["handle", "question"])
def test_lost_midway(slowly: None, gone: Mapping[str, Any] | Fails):
    """What was seen of it is kept, with the driver's words, whether its handle fails or a question."""
    gpu = watched(recorded(h100(), h100(TemperatureV=35), gone))

    assert gpu.lost == "GPU is lost"
    assert [sample.temperature_c for sample in gpu.samples] == [35]
    assert codes(gpu) == ["gpu-lost"]


def test_a_moment_is_enough_to_be_lost(monkeypatch: pytest.MonkeyPatch):
    """A GPU that answers again at the end was lost all the same."""
    monkeypatch.setattr(gpu_watch, "PERIOD_SECONDS", 0.005)
    nvml = recorded(h100(), h100(), LOST, h100())
    gpu = watched(nvml, while_=lambda: _until(lambda: nvml.handles[0] >= MADE + 3))

    assert gpu.lost == "GPU is lost"
    assert len(gpu.samples) >= 2


def test_a_lost_gpu_is_alone_in_its_loss(slowly: None):
    """The others are watched as before."""
    nvml = RecordedNvml(Recording((h100(), InTurn(h100(1), h100(1), LOST), h100(2))))
    with GpuWatch((0, 1, 2), nvml).during() as seen:
        gpus = seen()

    assert [gpu.lost for gpu in gpus] == [None, "GPU is lost", None]
    assert [len(gpu.samples) for gpu in gpus] == [2, 1, 2]


def test_without_a_driver_every_gpu_is_lost(slowly: None):
    """A library that cannot be used says why in the words of the other probes."""
    with GpuWatch((0, 1), RecordedNvml(NO_DRIVER)).during() as seen:
        gpus = seen()

    assert [(gpu.index, gpu.samples) for gpu in gpus] == [(0, ()), (1, ())]
    assert {gpu.lost for gpu in gpus} == {"no NVIDIA driver here (libnvidia-ml.so.1 is not found)"}


# Neighbours


def test_one_that_was_there_before(slowly: None):
    """A process that was on the GPU when the watch was made is never the run's, though it stays while servers start."""
    gpu = watched(RecordedNvml(NEIGHBOUR_BEFORE), up=True)

    assert gpu.foreign == (4242,)
    assert codes(gpu) == ["gpu-shared"]


def test_one_that_was_there_before_beside_ours(slowly: None):
    """Only the neighbour is foreign."""
    gpu = watched(recorded(with_pids(4242), with_pids(4242, 77, 78)), up=True)

    assert gpu.foreign == (4242,)


def test_those_that_came_while_servers_were_starting_are_ours(slowly: None):
    """In a container their numbers mean nothing here, but when they came does."""
    pids = (5_000_001, 5_000_002)

    assert watched(recorded(h100(), with_pids(*pids)), up=True).foreign == ()


def test_one_that_comes_midway(slowly: None):
    """Whoever appears once the servers are up is a neighbour, and one that leaves again was there."""
    ours = with_pids(5_000_001)
    comes = watched(recorded(h100(), ours, ours, with_pids(5_000_001, 4242)), up=True)
    leaves = watched(recorded(h100(), ours, with_pids(5_000_001, 4242, 11), ours), up=True)

    assert comes.foreign == (4242,)
    assert leaves.foreign == (11, 4242)


def test_before_anything_is_up_everybody_is_foreign(slowly: None):
    """Until the run says that its servers are up it has none."""
    assert watched(recorded(h100(), with_pids(77))).foreign == (77,)


def test_ours_are_told_per_gpu(slowly: None):
    """A process of the run that appears on another GPU than its own is a neighbour there."""
    one = InTurn(h100(), with_pids(77), with_pids(77))
    other = InTurn(
        h100(1),
        h100(1, ComputeRunningProcesses=processes(88)),
        h100(1, ComputeRunningProcesses=processes(88, 77)),
    )
    watch = GpuWatch((0, 1), RecordedNvml(Recording((one, other))))
    watch.ours_are_up()
    with watch.during() as seen:
        gpus = seen()

    assert [gpu.foreign for gpu in gpus] == [(), (77,)]


def test_real_descendants_are_preferred(slowly: None, child: psutil.Process):
    """Where the driver numbers processes as they are numbered here, who only came at the same time is a neighbour."""
    gpu = watched(recorded(h100(), with_pids(child.pid, 5_000_001)), up=True)

    assert gpu.foreign == (5_000_001,)


def test_descendants_of_whom(slowly: None, child: psutil.Process):
    """The root may be another: what is not below it is not the run's."""
    watch = GpuWatch((0,), recorded(h100(), with_pids(child.pid, 5_000_001)))
    watch.ours_are_up(child)
    with watch.during() as seen:
        (gpu,) = seen()

    assert gpu.foreign == ()  # none is below: so the numbers are taken for another machine's


def test_servers_that_come_up_later_are_ours_from_then_on(slowly: None):
    """A worker that opens its GPU at its first request is told so afterwards; the newest word counts."""
    watch = GpuWatch((0,), recorded(h100(), h100(), with_pids(77)))
    watch.ours_are_up()
    watch.ours_are_up()
    with watch.during() as seen:
        (gpu,) = seen()

    assert gpu.foreign == ()


def test_hidden_pids(slowly: None):
    """Where processes are hidden nobody is held against the GPU, and the sample says that it does not know."""
    gpu = watched(RecordedNvml(HIDDEN_PIDS), up=True)

    assert [sample.processes for sample in gpu.samples] == [None, None]
    assert codes(gpu) == []


def test_graphics_are_no_neighbours(slowly: None):
    """A desktop draws on a GPU without computing."""
    assert watched(recorded(h100(GraphicsRunningProcesses=processes(1313)))).foreign == ()


# Cooling down


def test_cooling_waits_until_it_is_well():
    """It looks again at each period, and no longer once nothing slows the GPU down."""
    watch, slept = GpuWatch((0,), recorded(h100(), hot(), hot(), h100(), hot())), []
    watch.cool(600, sleep=slept.append)

    assert slept == [gpu_watch.PERIOD_SECONDS] * 2


def test_any_hot_gpu_is_waited_for():
    """One of the set is enough."""
    nvml = RecordedNvml(Recording((h100(), InTurn(h100(1), hot(), hot(), h100(1)))))
    slept: list[float] = []
    GpuWatch((0, 1), nvml).cool(600, sleep=slept.append)

    assert len(slept) == 2


def test_what_stays_hot_is_not_waited_for_again():
    """Each round of a run would wait in vain."""
    watch, slept = GpuWatch((0,), recorded(hot())), []
    watch.cool(0, sleep=slept.append)
    watch.cool(600, sleep=slept.append)

    assert slept == []


def test_cooling_gives_up_in_time():
    """A GPU that stays hot is waited for no longer than was said."""
    begin = time.monotonic()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        time.sleep(0.01)

    GpuWatch((0,), recorded(hot())).cool(0.1, sleep=sleep)

    assert slept
    assert 0.1 <= time.monotonic() - begin < 5


@pytest.mark.parametrize(
    "gpu", [h100(), h100(CurrentClocksEventReasons=pynvml.nvmlClocksEventReasonSwPowerCap), LOST]
)
def test_nothing_to_wait_for(gpu: Mapping[str, Any] | Fails):
    """A GPU that is well, at its power cap, or gone is not waited for."""

    def sleep(_: float) -> None:
        raise AssertionError("waited")

    GpuWatch((0,), recorded(h100(), gpu)).cool(600, sleep=sleep)


# The library


@pytest.mark.parametrize(
    "recording",
    [
        Recording((h100(),)),
        Recording((InTurn(h100(), h100(), LOST),)),
        Recording((LOST,)),
        HIDDEN_PIDS,
        OLD_DRIVER,
        MIG_GPU,
        NO_DRIVER,
    ],
    ids=["well", "lost-midway", "lost", "hidden", "old", "mig", "no-driver"],
)
def test_nothing_is_changed_and_the_library_is_left_tidy(slowly: None, recording: Recording):
    """Only questions are asked, and the library is shut down as often as it was initialized."""
    nvml = RecordedNvml(recording)
    watch = GpuWatch((0,), nvml)
    watch.ours_are_up()
    with watch.during() as seen:
        seen()
    watch.cool(0.01)

    asked = {call for call in nvml.calls if call not in ("nvmlInit", "nvmlShutdown")}
    assert all("Get" in call for call in asked)
    assert nvml.opened == 0
    failed = recording.start is not None
    assert nvml.calls.count("nvmlInit") > 0
    assert nvml.calls.count("nvmlShutdown") == (0 if failed else nvml.calls.count("nvmlInit"))


def test_held_open_while_watching(slowly: None):
    """The library is not loaded anew for each sample, and is closed once the block ends."""
    nvml = recorded(h100())
    with GpuWatch((0,), nvml).during():
        assert nvml.opened == 1
    assert nvml.opened == 0


def test_a_round_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch):
    """Its error passes through; thread and library are closed."""
    monkeypatch.setattr(gpu_watch, "PERIOD_SECONDS", 0.002)
    nvml = recorded(h100())
    with pytest.raises(KeyboardInterrupt), GpuWatch((0,), nvml).during():
        raise KeyboardInterrupt
    assert nvml.opened == 0
    assert "gpu-watch" not in {thread.name for thread in threading.enumerate()}


def test_a_driver_that_goes_away(slowly: None):
    """A library that can no longer be initialized makes its GPUs lost, and the round is not an error."""
    nvml = recorded(h100())
    watch = GpuWatch((0,), nvml)
    with watch.during() as seen:
        nvml.recording = Recording((h100(),), start=Fails("NVML_ERROR_DRIVER_NOT_LOADED"))
        (gpu,) = seen()

    assert (len(gpu.samples), gpu.lost) == (1, "the NVIDIA driver is installed but not loaded")


def test_on_a_cpu_there_is_nothing_to_watch():
    """Without GPUs the block is entered all the same, and what was seen is nothing."""
    with watching(None) as seen:
        assert seen() == ()


def test_watching_is_during(slowly: None):
    """With GPUs it is their watch."""
    with watching(GpuWatch((0,), recorded(h100()))) as seen:
        assert [gpu.index for gpu in seen()] == [0]


def test_this_machines_watch(monkeypatch: pytest.MonkeyPatch):
    """The set's order does not matter, and the library is the one that is installed."""
    nvml = RecordedNvml(Recording((h100(0), h100(1))))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    watch = gpu_watch.watch_gpus({1, 0})

    assert (watch.indices, watch.nvml) == ((0, 1), nvml)


# Rounds in workers


class WorkerJob:
    """What a round in a worker needs of its run, and where it leaves what it found."""

    def __init__(self) -> None:
        self.side, self.launch = "head", 0
        self.plan = SimpleNamespace(rounds=1)
        self.settings = SimpleNamespace(
            round_retries=1, round_timeout=5, start_timeout=5, foreign_cpu_share=1.0
        )
        self.target = SimpleNamespace()
        self.measurements = Measurements()
        self.config = SimpleNamespace(label="triton-page1-tp0")
        self.kept: list[tuple[Round, Any]] = []

    def says(self, _: str) -> None:
        pass

    def measured(self, round_: Round, observation: Any) -> None:
        self.kept.append((round_, observation))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker is sent is no matter here."""
    monkeypatch.setattr("sglperf.working.request", lambda *_: {})
    monkeypatch.setattr(gpu_watch, "COOLING_SECONDS", 0)


def in_a_worker(nvml: RecordedNvml | None) -> WorkerJob:
    """A warm-up and a round of a worker on that GPU."""
    job: Any = WorkerJob()
    worker: Any = SimpleNamespace(ask=lambda *_: {"match": [1e-6] * 3, "evict": [1e-6] * 3})
    load: Any = SimpleNamespace(workload=TreeGrowth(nodes=1000), timed=True)
    working = Working(job, worker, None if nvml is None else GpuWatch((0,), nvml))
    working.warm_up(load)
    working.round(load, 0)
    return job


def test_a_worker_opens_its_gpu_when_it_is_first_asked(slowly: None, asked: None):
    """After its warm-up its own process is no neighbour, and what was seen of the GPU is kept with the answer."""
    ((round_, observation),) = in_a_worker(recorded(h100(), with_pids(77))).kept

    assert round_.gates == ()
    assert round_.values
    assert [gpu.index for gpu in observation["gpus"]] == [0]
    assert len(observation["gpus"][0].samples) == 2


@pytest.mark.parametrize(
    ("moments", "gates"),
    [
        ([hot(), hot(), h100()], [["gpu-throttled"], []]),
        ([hot()], [["gpu-throttled"]] * 2),
        ([with_pids(42)], [["gpu-shared"]] * 2),
        ([LOST], [["gpu-lost"]] * 2),
    ],
    ids=["hot-at-first", "hot", "neighbour", "lost"],
)
def test_a_round_in_a_worker_is_gated(slowly: None, asked: None, moments: list[Any], gates: list[list[str]]):
    """A round on a disturbed or broken GPU yields no time, and is repeated a bounded number of times."""
    kept = in_a_worker(recorded(h100(), h100(), *moments)).kept

    assert [[gate.code for gate in round_.gates] for round_, _ in kept] == gates
    assert [bool(round_.values) for round_, _ in kept] == [not failed for failed in gates]


def test_a_worker_on_a_cpu(asked: None):
    """Nothing is watched, and nothing is held against it."""
    ((round_, observation),) = in_a_worker(None).kept

    assert (round_.gates, observation["gpus"]) == ((), ())


# Whether a server is meant to replay graphs


@pytest.mark.parametrize(
    ("device", "resolved", "graphs"),
    [
        ("cuda", {}, True),
        ("cuda", {"disable_cuda_graph": False, "cuda_graph_config.decode.backend": "full"}, True),
        ("cuda", {"cuda_graph_config.prefill.backend": "disabled"}, True),
        ("cuda", {"disable_cuda_graph": True}, False),
        ("cuda", {"disable_cuda_graph": False, "cuda_graph_config.decode.backend": "disabled"}, False),
        ("cpu", {"cuda_graph_config.decode.backend": "full"}, False),
    ],
)
def test_who_asks_for_no_graphs(device: str, resolved: Mapping[str, object], graphs: bool):
    """Old and new names of the switch are understood, in whatever way it was set; a CPU has no graphs."""
    assert replays_graphs(device, resolved) is graphs


def _until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    assert condition()
