"""What a worker is asked for a workload, and what its answer comes to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sglperf.core.catalogue import METRICS
from sglperf.core.collectives import Message, allreduce_values, message_of
from sglperf.core.derive import growth
from sglperf.core.gates import Gate
from sglperf.core.roofline import PARTS, WHOLE_LAYER, WHOLE_PASS, beyond_limits, pass_times, pass_values
from sglperf.core.server_config import ServerConfig
from sglperf.core.shape import shape_of
from sglperf.plan import Load
from sglperf.settings import Settings
from sglperf.target.build import Target
from sglperf.workload.collectives import AllReduce
from sglperf.workload.machine import MachineSpeed
from sglperf.workload.passes import Pass
from sglperf.workload.shapes import TreeGrowth, Workload

# Enough for the first layer, whose norm has no residual yet, and one that is like all others.
_LAYERS = 2
# What the worker calls it → the metric.
_SPEEDS = {
    "copy_bytes_per_second": "copy_bandwidth",
    "matmul_flops_per_second": "matmul_rate",
    "launch_seconds": "launch_overhead",
    "python_seconds": "python_time",
    "to_device_bytes_per_second": "host_to_device_bandwidth",
    "from_device_bytes_per_second": "device_to_host_bandwidth",
}


@dataclass(frozen=True)
class Answer:
    """What a worker's answer comes to.

    Attributes:
        values: by metric name.
        gates: why it cannot be believed.
        method: how it was timed, where there is a choice.
    """

    values: Mapping[str, float]
    gates: tuple[Gate, ...] = ()
    method: str = ""

    def believable(self, gates: Sequence[Gate]) -> dict[str, float]:
        """The values, as far as gates leave them standing."""
        return {
            name: value for name, value in self.values.items() if not any(gate.spoils(name) for gate in gates)
        }


def request(settings: Settings, config: ServerConfig, target: Target, load: Load) -> dict[str, Any]:
    """What the workload's worker is sent for one round."""
    workload = load.workload
    if isinstance(workload, TreeGrowth):
        return {
            "nodes": workload.sizes,
            "page_size": config.page_size,
            "seed": settings.seed,
            "unified": target.adapter.unified_radix_cache,
        }
    if isinstance(workload, MachineSpeed):
        return {"device": config.device, "budget": settings.kernel_seconds}
    if isinstance(workload, AllReduce):
        message = _message(config, workload)
        return {
            "elements": message.elements,
            "type": message.type,
            "seed": settings.seed,
            "budget": settings.kernel_seconds,
        }
    assert isinstance(workload, Pass)
    return {
        **workload.request,
        "layers": _LAYERS,
        "seed": settings.seed,
        "budget": settings.kernel_seconds,
    }


def answered(config: ServerConfig, workload: Workload, said: Any) -> Answer:
    """The answer to that."""
    if isinstance(workload, TreeGrowth):
        return Answer(growth(workload.sizes, said["match"], said["evict"]))
    if isinstance(workload, MachineSpeed):
        return Answer(
            {_SPEEDS[name]: value for name, value in said.items() if name in _SPEEDS}, method=said["method"]
        )
    if isinstance(workload, AllReduce):
        times = said["seconds"], said["streamed_seconds"]
        values = allreduce_values(_message(config, workload), workload.ranks, *times)
        return Answer(values, tuple(_wrong_sum(said)), said["method"])
    assert isinstance(workload, Pass)
    shape = shape_of(config.model)
    assert shape is not None, "see sglperf.plan.check_ask"
    values = pass_values(pass_times(said), shape, workload.load)
    return Answer(values, (*_wrong(said["parts"]), *_beyond(values)), said["method"])


def _message(config: ServerConfig, workload: AllReduce) -> Message:
    assert workload.tokens is not None
    message = message_of(config.model, workload.tokens)
    assert message is not None, "see sglperf.plan.check_ask"
    return message


def _wrong_sum(said: Mapping[str, Any]) -> Iterator[Gate]:
    """How fast something else than the sum is computed is no matter. Whole numbers are summed without any error."""
    names = tuple(name for name in METRICS if name.startswith("allreduce_"))
    if said["error"] != 0:
        sentence = f"the all-reduce is off from the exact sum of the ranks' messages by {said['error']:g}"
        yield Gate("collective-wrong", f"{sentence}: it computes something else", metrics=names)
    if said["outside"]:
        sentence = f"the all-reduce changed {said['outside']} values beside its message"
        yield Gate("collective-wrong", f"{sentence}: it writes where it must not", metrics=names)


def _wrong(parts: Mapping[str, Mapping[str, Any]]) -> Iterator[Gate]:
    """Parts that do not compute what they should: how fast they do it is no matter, nor how long a pass takes."""
    for module, part in parts.items():
        name, error = PARTS.get(module, module), part["error"]
        if error is not None and not error <= part["tolerance"]:
            own = (f"{name}_time", f"{name}_limit_share", f"{name}_bandwidth_share")
            layer = WHOLE_LAYER if part["calls_in_layer"] else ()
            yield Gate(
                "kernel-wrong",
                f"{name} is off from its float64 reference by {error:.2%} (root mean square), more than "
                f"{part['tolerance']:.2%}: it computes something else",
                metrics=(*own, *layer, *WHOLE_PASS),
            )


def _beyond(values: Mapping[str, float]) -> Iterator[Gate]:
    """Parts faster than what bounds them: then that was measured wrong, and no share of it means anything."""
    for name, share in beyond_limits(values).items():
        shares = tuple(one for one in values if one.endswith(("_limit_share", "_bandwidth_share")))
        yield Gate(
            "beyond-limit",
            f"{name} takes {1 / share:.0%} of the shortest time that the limits measured beside it allow: they are none",
            metrics=shares,
        )
