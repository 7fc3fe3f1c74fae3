"""One forward pass of the target's own model, taken apart: each of its modules is checked, then timed by itself.

    python model_pass.py SOCKET SERVER_ARGUMENTS...

The model is loaded by the target's own one-batch benchmark with a server's arguments, so attention backend, KV pool,
linear layers and sampler are those of such a server. A pass is run for what it calls, and run again with each module
checked and timed where it is called, on the arguments that it gets there.

Request ``{"layers", "phase", "streams", "context", "new", "seed", "budget"}``: ``streams`` sequences
of which ``context`` tokens are in the KV cache when the pass ends; a ``prefill`` pass computes the last ``new`` of
each, a ``decode`` pass one. ``budget`` is how many seconds to spend on each timing; 0 times nothing. ``look`` is for a
tool that this process runs under, and is answered with nothing: it shows one call of the module of that name, or of
the whole pass where the name is empty. Answer::

    {"method": how it was timed, "layers": how many the model was loaded with,
     "parts": {name: {"calls": in the pass, "calls_in_layer": in one of its layers, "seconds": median of a call,
                      "error": difference from float64, root mean square over root mean square; null without a reference,
                      "tolerance": how large that may be}},
     "pass_seconds": the pass as a whole, "copy_bytes_per_second", "matmul_flops_per_second": of this machine now}
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from link import serve
from reference import difference
from timing import CuptiFailed, Timer, ceilings

_LAYER = re.compile(r"\.layers\.(\d+)\.")

Wrapper = Callable[[str, torch.nn.Module, Callable[..., Any]], Callable[..., Any]]


class Model:
    """A model as the target's one-batch benchmark loads it, on one device, with the pass that was run last."""

    def __init__(self, arguments: list[str], layers: int) -> None:
        self.bench = importlib.import_module("sglang.benchmark.one_batch")
        vars(self.bench)["get_tokenizer"] = lambda *_, **__: None  # prompts are token ids
        override = json.dumps({"num_hidden_layers": layers})
        self.runner = load(self.bench, [*arguments, "--json-model-override-args", override])
        self.layers, self.vocabulary = layers, int(self.runner.model_config.vocab_size)
        self.device = str(self.runner.device)
        self.batch: Any = None
        self.ready: tuple[Any, ...] = ()
        self.cupti: bool | None = None  # until it has failed: wherever it is installed

    def prepare(self, request: Mapping[str, Any]) -> None:
        """Bring the sequences to where the pass begins, and run it once."""
        asked = tuple(request[name] for name in ("phase", "streams", "context", "new", "seed"))
        if asked == self.ready:
            return
        bench, runner, source = self.bench, self.runner, random.Random(request["seed"])
        runner.req_to_token_pool.clear()
        runner.token_to_kv_pool_allocator.clear()
        decode = request["phase"] == "decode"
        length = request["context"] - decode
        kept = 0 if decode else length - request["new"]
        # The benchmark computes a prompt up to its cut, and the rest, of at least one token, in a second pass.
        prompts = [
            [source.randrange(self.vocabulary) for _ in range(length if kept else length + 1)]
            for _ in range(request["streams"])
        ]
        settings = bench.BenchArgs(batch_size=(len(prompts),), cut_len=kept or length)
        tokenizer = SimpleNamespace(encode=list)
        ids, requests = bench.prepare_inputs_for_correctness_test(settings, tokenizer, prompts)
        with replaced(runner, "forward", self._noting_batch(runner.forward)):
            following, _, batch = bench.extend(requests, runner)
            if decode:
                bench.decode(following, batch, runner)
            elif kept:
                bench.prepare_extend_inputs_for_correctness_test(settings, ids, requests, runner)
                bench.extend(requests, runner)
        self.ready = asked

    def _noting_batch(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def note(batch: Any, *arguments: Any, **keywords: Any) -> Any:
            self.batch = batch
            return forward(batch, *arguments, **keywords)

        return note

    def run(self) -> None:
        """The pass once more: it writes the same keys and values into the same slots."""
        output = self.runner.forward(self.batch)
        self.runner.sample(getattr(output, "logits_output", output), self.batch)

    @contextlib.contextmanager
    def wrapped(self, wrapper: Wrapper) -> Iterator[None]:
        """With every module's forward method wrapped."""
        modules = {**dict(self.runner.model.named_modules()), "sampler": self.runner.sampler}
        with contextlib.ExitStack() as stack:
            for path, module in modules.items():
                stack.enter_context(replaced(module, "forward", wrapper(path, module, module.forward)))
            yield


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another attribute of one object, until the end of the block."""
    had, before = name in vars(owner), vars(owner).get(name)
    object.__setattr__(owner, name, value)
    try:
        yield
    finally:
        if had:
            object.__setattr__(owner, name, before)
        else:
            object.__delattr__(owner, name)


class _Loaded(Exception):
    """Ends the benchmark once it has its model."""


def load(bench: Any, arguments: list[str]) -> Any:
    """The model runner. The benchmark's own main function makes it, so each version does it in its own way."""
    parser = argparse.ArgumentParser()
    bench.ServerArgs.add_cli_args(parser)
    settings = bench.ServerArgs.from_cli_args(parser.parse_args(arguments))
    loaded: list[Any] = []

    def load_and_leave(*given: Any) -> None:
        loaded.append(load_model(*given)[0])
        raise _Loaded

    load_model = bench.load_model
    with replaced(bench, "load_model", load_and_leave), contextlib.suppress(_Loaded):
        bench.main(settings, bench.BenchArgs())
    return getattr(loaded[0], "torch_runner", loaded[0])


def layer_of(path: str) -> int | None:
    """Which layer a module is in; None for one that is in none."""
    found = _LAYER.search(f".{path}.")
    return int(found[1]) if found else None


def innermost(model: Model) -> list[str]:
    """Paths of the modules that a pass calls and that call no other module, call by call."""
    calls: list[str] = []

    def note(path: str, _: torch.nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **keywords: Any) -> Any:
            before = len(calls)
            result = forward(*arguments, **keywords)
            if len(calls) == before:
                calls.append(path)
            return result

        return noted

    with model.wrapped(note):
        model.run()
    return calls


def measured(model: Model, paths: set[str], timer: Timer, budget: float) -> dict[str, dict[str, Any]]:
    """These modules, each checked and timed at its first call in a pass."""
    found: dict[str, dict[str, Any]] = {}

    def look(path: str, module: torch.nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def looked(*arguments: Any, **keywords: Any) -> Any:
            if path in paths and path not in found:
                found[path] = difference(module, forward, model.runner, copied(arguments), keywords)
                if timer.gpu:
                    torch.cuda.empty_cache()  # what float64 took is a neighbour's too
                own = copied(arguments)  # it may write into them
                if budget:
                    found[path]["seconds"] = timer.seconds(lambda: forward(*own, **keywords), budget)
            return forward(*arguments, **keywords)

        return looked

    with model.wrapped(look):
        model.run()
    return found


def show(model: Model, name: str) -> None:
    """One pass in which the profiler's range is open for the last call of a module, or for all of it."""
    paths = [path for path in innermost(model) if part_name(path) == name]  # which also warms it up

    def opened(path: str, _: torch.nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def seen(*arguments: Any, **keywords: Any) -> Any:
            if path != paths[-1]:
                return forward(*arguments, **keywords)
            with torch.cuda.profiler.profile():
                return forward(*arguments, **keywords)

        return seen

    if not name:
        with torch.cuda.profiler.profile():
            model.run()
    elif paths:
        with model.wrapped(opened):
            model.run()
    torch.cuda.synchronize()


def copied(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments whose tensors are their own."""
    return tuple(one.clone() if isinstance(one, torch.Tensor) else one for one in arguments)


models: list[Model] = []


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """One pass, part by part."""
    with torch.no_grad():
        return _measured(request)


def _measured(request: dict[str, Any]) -> dict[str, Any]:
    if not models:
        models.append(Model(sys.argv[2:], request["layers"]))
    model, budget = models[0], request["budget"]
    model.prepare(request)
    if "look" in request:
        show(model, request["look"])
        return {}
    calls = innermost(model)
    try:
        timer, parts, machine = timed(model, calls, Timer(model.device, cupti=model.cupti), budget)
    except CuptiFailed as error:
        # One method for all of a round, and from here on for all rounds: they are compared with each other.
        print(f"timed with CUDA events instead of CUPTI: {error}", flush=True)
        model.cupti = False
        timer, parts, machine = timed(model, calls, Timer(model.device, cupti=False), budget)
    names = Counter(part_name(path) for path in calls)
    in_layers = Counter(part_name(path) for path in calls if layer_of(path) is not None)
    return {
        "method": timer.method,
        "layers": model.layers,
        "parts": {
            part_name(path): {
                **part,
                "calls": names[part_name(path)],
                "calls_in_layer": in_layers[part_name(path)] // model.layers,
            }
            for path, part in parts.items()
        },
        **machine,
    }


def timed(
    model: Model, calls: list[str], timer: Timer, budget: float
) -> tuple[Timer, dict[str, dict[str, Any]], dict[str, float]]:
    """The parts of a pass, and the pass as a whole beside what the machine can do.

    Raises:
        CuptiFailed: by CUPTI they cannot be timed.
    """
    # Of a part that every layer has, the last layer's; some layers share theirs, and it counts for the first.
    chosen = {part_name(path): path for path in calls}
    parts = measured(model, set(chosen.values()), timer, budget)
    if not budget:
        return timer, parts, {}
    return (
        timer,
        parts,
        {
            "pass_seconds": timer.seconds(model.run, budget, graph=False),
            **ceilings(timer, model.device, budget),
        },
    )


def part_name(path: str) -> str:
    """What a module is called in every layer."""
    return path.rpartition(".")[2]


if __name__ == "__main__":
    serve(measure)
