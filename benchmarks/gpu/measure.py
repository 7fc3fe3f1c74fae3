"""Everything that is worth knowing of one GPU, step by step: from a first look to baselines and their noise.

    python benchmarks/gpu/measure.py --list
    python benchmarks/gpu/measure.py [--only STEP,STEP] [--seconds N] [--out DIR] [PYTEST OPTION ...]
    python benchmarks/gpu/measure.py --dry --profile=cpu

Steps come in order of worth. Each is a command that a person could type (`--list` prints them), runs under a time limit
of its own, and keeps what it measured below ``DIR/STEP`` whatever becomes of the next. A step that was done is not done
again: the same command goes on where it was. What follows the options is added to each pytest command
(``--profile=h100``). ``--dry`` makes every step as small as it can be: it measures nothing, and
shows that all of it works.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from slower import slower_build

ROOT = Path(__file__).parents[2]
PYTEST = (sys.executable, "-m", "pytest")
SGLPERF = (sys.executable, "-c", "from sglperf.cli import main; main()")
ENDING_SECONDS = 60.0
JUDGING_SECONDS = 20.0  # of a step, for what comes after its last launch


@dataclass(frozen=True)
class Step:
    """One of them.

    Attributes:
        shows: what is known once it is done.
        words: of its pytest command line.
        seconds: after which it is ended.
        gpu: further words, on a GPU.
        small: what ``--dry`` puts instead; of an option that is given twice, the last counts.
        target: which build; ``slower`` is one that was made slower, ``installed`` the one that is importable.
        base: which build it is compared with, launch by launch, if not with a baseline; ``other`` is ``--other``.
        learns: whether the run's noise is learnt: its launches judged against each other, half against half.
    """

    name: str
    shows: str
    words: tuple[str, ...]
    seconds: float
    gpu: tuple[str, ...] = ()
    small: tuple[str, ...] = ()
    target: str = "installed"
    base: str | None = None
    learns: bool = False


ONE_LAUNCH = ("--launches=1", "--rounds=1")
FIRST = ("-k", "streams1- and inter_token_latency")
STEPS = (
    Step(
        "kernels-first",
        "each kernel of a decode step is right, and how near the GPU's limits it comes",
        ("-m", "kernel", "-k", "decode_step and (batch1- or batch32-)", "--page-size=1", "--launches=3", "--rounds=1"),
        300,
        small=(*ONE_LAUNCH, "-k", "decode_step and batch1-"),
    ),
    Step(
        "answers",
        "backends give the same greedy tokens, from the prefix cache too",
        ("-m", "backend", "-k", "same_answers", "--page-size=1"),
        240,
        small=("--page-size=16",),
    ),
    Step(
        "flashinfer",
        "baselines of decoding and prefill on FlashInfer; eight launches of one build teach the noise",
        ("-m", "decode or prefill", "--launches=8", "--rounds=4", "--baseline=record"),
        590,
        gpu=("--attention-backend=flashinfer",),
        small=("--launches=4", "--rounds=1", *FIRST),
        learns=True,
    ),
    Step(
        "fa3",
        "baselines of decoding and prefill on FlashAttention-3, which SGLang takes by itself on Hopper",
        ("-m", "decode or prefill", "--launches=5", "--rounds=4", "--baseline=record"),
        590,
        gpu=("--attention-backend=fa3",),
        small=("--launches=2", "--rounds=1", *FIRST),
    ),
    Step(
        "radix",
        "the prefix cache serves and gives up what its model says, to the token, on pages of 1, 16 and 64",
        ("-m", "radix and exact", "-k", "radix- and not cache_off"),
        300,
        gpu=("--attention-backend=flashinfer",),
        small=("-k", "cold_and_warm"),
    ),
    Step(
        "overlap",
        "what overlap scheduling is worth",
        ("-m", "overlap", "-k", "streams1- or streams32-", "--launches=2", "--rounds=4"),
        300,
        gpu=("--attention-backend=flashinfer",),
        small=(*ONE_LAUNCH, "-k", "streams1- and throughput"),
    ),
    Step(
        "slower",
        "a build made slower by 7 % on purpose (logits twice) is called regressed against that baseline",
        ("-m", "decode", "-k", "streams1- and (latency or throughput)", "--launches=3", "--rounds=3"),
        300,
        gpu=("--attention-backend=flashinfer",),
        small=("--launches=2", "--rounds=1", *FIRST),
        target="slower",
    ),
    Step(
        "triton",
        "baselines of decoding and prefill on Triton",
        ("-m", "decode or prefill", "--launches=5", "--rounds=4", "--baseline=record"),
        590,
        gpu=("--attention-backend=triton",),
        small=("--launches=2", "--rounds=1", *FIRST),
    ),
    Step(
        "serving",
        "a request's phases, and many users at once: throughput, latency, goodput, saturation",
        ("-m", "lifecycle or serving", "--launches=3", "--rounds=2", "--baseline=record"),
        590,
        gpu=("--attention-backend=flashinfer",),
        small=(*ONE_LAUNCH, "-k", "lifecycle and test_phases"),
    ),
    Step(
        "kernels",
        "each kernel by batch and by context, decoding and prefilling",
        ("-m", "kernel", "--page-size=1", "--launches=3", "--rounds=2"),
        590,
        small=(*ONE_LAUNCH, "-k", "extend"),
    ),
    Step(
        "nsight",
        "what decode attention waits for, by Nsight Compute",
        ("-m", "kernel", "-k", "decode_attention and context2048", "--page-size=1", "--launches=1", "--rounds=1"),
        240,
        gpu=("--ncu=attention",),
        small=ONE_LAUNCH,
    ),
    Step(
        "speedup",
        "what the prefix cache saves of the time to the first token, by the length of the prefix",
        ("-m", "radix", "-k", "speedup", "--launches=3", "--rounds=4"),
        300,
        gpu=("--attention-backend=flashinfer",),
        small=(*ONE_LAUNCH, "-k", "speedup and prefix64-"),
    ),
    Step(
        "versions",
        "another release beside this one (--other)",
        ("-m", "decode or prefill", "-k", "not work and not reuse", "--launches=3", "--rounds=4"),
        590,
        gpu=("--attention-backend=flashinfer",),
        small=("--launches=2", "--rounds=1", *FIRST),
        base="other",
    ),
    Step(
        "backends",
        "attention backends side by side, by batch and by context",
        ("-m", "backend", "-k", "not same_answers", "--launches=3", "--rounds=4"),
        590,
        small=(*ONE_LAUNCH, "-k", "by_batch and batch1- and latency"),
    ),
    *(
        Step(
            f"page{size}",
            f"decoding and prefill on pages of {size} tokens",
            ("-m", "decode or prefill", f"--page-size={size}", "--launches=5", "--rounds=4", "--baseline=record"),
            590,
            small=("--launches=2", "--rounds=1", *FIRST),
        )
        for size in (16, 64)
    ),
    Step(
        "policies",
        "each eviction policy keeps what it is there to keep, and a server without a cache serves nothing from it",
        ("-m", "radix and exact", "-k", "policies or cache_off or priority"),
        590,
        gpu=("--attention-backend=flashinfer",),
        small=("-k", "policies and lfu"),
    ),
)  # fmt: skip


def main() -> None:
    """Take the steps, then print one table."""
    options, words = arguments()
    if options.list:
        listing(options, words)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    environment(options.out)
    for step in chosen(options.only):
        left = options.seconds - (time.monotonic() - begin)
        file = options.out / step.name / "step.json"
        if file.exists():
            continue
        if left < min(step.seconds, options.least):
            say(f"{step.name}: left out, {left:.0f} s remain")
            continue
        take(step, options, words, min(step.seconds, left))
    summary(options.out)


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """Ours, and what is handed on to pytest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--list", action="store_true", help="print the steps with their commands")
    add("--only", default="", metavar="STEP,…", help="these steps, in this order")
    add("--out", type=Path, default=ROOT / "results" / "gpu", metavar="DIR", help="where results are kept")
    add("--seconds", type=float, default=1e9, metavar="N", help="all steps together may take this long")
    add(
        "--least", type=float, default=60, metavar="N", help="begin no step with fewer seconds left than this"
    )
    add(
        "--backends", default="", metavar="A,B", help="attention backends, where a step does not name its own"
    )
    add(
        "--baseline-dir",
        type=Path,
        default=ROOT / "baselines",
        metavar="DIR",
        help="where baselines are kept",
    )
    add("--other", default="sglang==0.5.16", metavar="SPEC", help="the build that `versions` compares with")
    add("--dry", action="store_true", help="each step as small as it can be")
    return parser.parse_known_args()


def chosen(names: str) -> list[Step]:
    """The steps of these names; all for none."""
    known = {step.name: step for step in STEPS}
    unknown = [name for name in names.split(",") if name and name not in known]
    if unknown:
        raise SystemExit(f"no step {', '.join(unknown)}: there are {', '.join(known)}")
    return [known[name] for name in names.split(",") if name] or list(STEPS)


def listing(options: argparse.Namespace, words: Sequence[str]) -> None:
    """Each step with its command."""
    for step in chosen(options.only):
        say(f"{step.name}: {step.shows} (up to {step.seconds:.0f} s)")
        say(
            f"    {' '.join(quoted(word) for word in command(step, options, words, step.seconds)).replace(sys.executable, 'python')}"
        )


def quoted(word: str) -> str:
    """As a shell wants it."""
    return f"'{word}'" if " " in word or ";" in word else word


def command(step: Step, options: argparse.Namespace, words: Sequence[str], seconds: float) -> list[str]:
    """Of one step. Where two builds are compared, it is what `sglperf compare` runs."""
    builds = {
        "installed": sys.executable,
        "other": options.other,
        "slower": str(options.out / "slower-build"),
    }
    target = [f"--target={builds[step.target]}"] if step.target != "installed" else []
    if step.base:
        target = [f"--base={builds[step.base]}", f"--head={builds[step.target]}"]
    backends = [f"--attention-backend={options.backends}"] if options.backends else []
    on_gpu = [] if "--profile=cpu" in words else [*backends, *step.gpu]
    own = last_of_each([*step.words, *on_gpu, *(step.small if options.dry else ())])
    limit = f"--time-limit={max(seconds - JUDGING_SECONDS, 1):.0f}"
    kept = [f"--results-dir={options.out / step.name}", f"--baseline-dir={baselines(options)}"]
    return [*PYTEST, *own, *target, limit, *kept, *words]


def last_of_each(words: Sequence[str]) -> list[str]:
    """Options, each as it was given last; ``-m`` and ``-k`` take the word that follows."""
    pairs: dict[str, list[str]] = {}
    following = iter(words)
    for word in following:
        name = word.partition("=")[0]
        pairs[name] = [word, next(following)] if name in ("-m", "-k") else [word]
    return [word for pair in pairs.values() for word in pair]


def baselines(options: argparse.Namespace) -> Path:
    """Where they are kept; of what measures nothing, not among the accepted ones."""
    kept: Path = options.out / "baselines" if options.dry else options.baseline_dir
    return kept


def take(step: Step, options: argparse.Namespace, words: Sequence[str], seconds: float) -> None:
    """One step, and what became of it."""
    folder = options.out / step.name
    folder.mkdir(exist_ok=True)
    if step.target == "slower":
        slower_build(options.out / "slower-build")
    line = command(step, options, words, seconds)
    say(f"{step.name}: {step.shows}")
    begin = time.monotonic()
    code = run(line, folder / "log", seconds)
    taken = time.monotonic() - begin
    done = {"command": line, "code": code, "seconds": taken, "limit": seconds, "dry": options.dry}
    if step.learns and (found := document(folder)):
        done["learnt"] = learn(folder, found, options)
    (folder / "step.json").write_text(json.dumps(done, indent=1))
    say(f"{step.name}: exit code {code} after {taken:.0f} s")


def learn(folder: Path, run_: dict[str, Any], options: argparse.Namespace) -> int:
    """The noise that the step's launches show; exit code of `sglperf calibrate`."""
    half = max(len({launch["index"] for launch in run_["launches"]}) // 2, 2)
    line = [
        "calibrate",
        f"--of={folder / run_['run']}",
        f"--a-side={half}",
        f"--baseline-dir={baselines(options)}",
    ]
    return run([*SGLPERF, *line], folder / "noise", 120)


def environment(out: Path) -> None:
    """What this machine is and lacks."""
    if not (out / "environment.json").exists():
        run([*SGLPERF, "env", f"--json={out / 'environment.json'}"], out / "environment", 120)


def run(line: Sequence[str], log: Path, seconds: float) -> int:
    """Run it to its end or until its time is over; its exit code. Interrupted, pytest ends its servers and keeps its rounds."""
    with log.open("ab") as output:
        process = subprocess.Popen(line, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            return process.wait(seconds)
        except BaseException as reason:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if isinstance(reason, subprocess.TimeoutExpired):
                return 124
            raise


def document(folder: Path) -> dict[str, Any]:
    """The step's run; empty where it came to nothing."""
    found = sorted(folder.glob("*/run.json"), key=os.path.getmtime)
    known: dict[str, Any] = json.loads(found[-1].read_text()) if found else {}
    return known


def summary(out: Path) -> None:
    """One line a step, and what needs a look."""
    table = Table(title="Steps", title_justify="left")
    for column in ("step", "exit", "seconds", "verdicts"):
        table.add_column(column)
    for step in STEPS:
        file = out / step.name / "step.json"
        if not file.exists():
            table.add_row(step.name, "–", "", "not taken")
            continue
        done = json.loads(file.read_text())
        dry = ", dry" if done["dry"] else ""
        table.add_row(
            step.name, str(done["code"]), f"{done['seconds']:.0f}{dry}", verdicts(document(out / step.name))
        )
    console = Console(width=110)
    for step in STEPS:
        for line in remarkable(document(out / step.name)):
            console.print(f"{step.name}: {line}", markup=False, highlight=False)
    console.print(table)


def verdicts(run_: dict[str, Any]) -> str:
    """``33 new, 2 regressed``."""
    counts = Counter(case["status"] for case in run_.get("cases", {}).values())
    return ", ".join(f"{count} {status}" for status, count in counts.most_common()) or "none: see its log"


def remarkable(run_: dict[str, Any]) -> Iterator[str]:
    """Verdicts that are not good news."""
    seen = set()
    for name, case in run_.get("cases", {}).items():
        if case["status"] in ("regressed", "invalid") and case["sentence"] not in seen:
            seen.add(case["sentence"])
            yield f"{name}: {case['status']}: {case['sentence'][:300]}"


def say(text: str) -> None:
    """At once, so that a log that is cut off ends with what was begun last."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
