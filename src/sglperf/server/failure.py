"""What a server's log says about why it ended."""

from __future__ import annotations

import re
import signal
from pathlib import Path

_TAIL_BYTES = 200_000
_EXCEPTION = re.compile(
    r"^(?:\[[^\]]*\]\s*)?(?:ERROR:\s*)?((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)\b.*)"
)
_ARGPARSE = re.compile(r"^[\w. -]+: error: (.+)")
# Indented lines are code under a traceback or argparse's usage; the rest follows from the failure itself.
_NOISE = re.compile(
    r"^\s*$|^\s{2}|^#|^usage:|^Traceback|Warning|Ignore import error|leaked (semaphore|shared_memory)|"
    r"Killed$|(?i:sigquit)|kill_process_tree|crash diagnostics|py-spy"
)

# Cause of failure → what to do next. The first that matches the tail wins, so the specific come first.
_HINTS = (
    (r"invalid choice: .*", "choose one that this SGLang knows"),
    (r"unrecognized arguments", "this SGLang does not know the argument; remove it from the profile or choose another version"),
    (r"address already in use|Errno 98|EADDRINUSE", "the port was taken by another process; start again"),
    (r"CUDA out of memory|OutOfMemoryError|Not enough (GPU )?memory|not enough memory", "lower mem_fraction_static or max_total_tokens, choose a smaller model or more GPUs"),
    (r"Cannot allocate memory|MemoryError|DefaultCPUAllocator", "the host ran out of memory; choose a smaller model or pool"),
    (r"requires SM|requires? (an? )?(NVIDIA|CUDA|GPU)|not supported on|only supports?", "this device cannot do that; choose another attention backend or argument"),
    (r"libnuma", "install libnuma (Debian: apt install libnuma1)"),
    (r"(no|No|find) .*(C|C\+\+|c\+\+) compiler|gcc.*not found|g\+\+.*not found|InvalidCxxCompiler", "install a C++ compiler (Debian: apt install g++)"),
    (r"Python\.h", "install Python's headers (Debian: apt install python3-dev)"),
    (r"PlaceholderCalledError", "this path needs the real sgl_kernel; choose torch_native or flex_attention on a CPU"),
    (r"ModuleNotFoundError|ImportError|already used by a Transformers config|has no attribute", "sources and installed packages may not fit together; use an environment made for this SGLang"),
    (r"No space left on device", "free some disk space"),
    (r"LocalEntryNotFound|couldn't connect to 'https://huggingface|is not a local folder", "check the model's path or name, and the network"),
)  # fmt: skip


def last_lines(log: Path, count: int = 8) -> list[str]:
    """The last lines worth showing, oldest first; noise left out, each cut to 300 characters."""
    useful = [line for line in _tail(log) if not _NOISE.search(line)]
    return [line[:300] for line in useful[-count:]]


def cause(log: Path) -> str | None:
    """The line that says why: argparse's complaint, else the last exception."""
    lines = _tail(log)
    for line in reversed(lines):
        if found := _ARGPARSE.match(line):
            return found.group(1)[:500]
    exceptions = [found.group(1)[:500] for line in lines if (found := _EXCEPTION.match(line))]
    return exceptions[-1] if exceptions else None


def explain(log: Path) -> str:
    """Cause, next action and last lines, for the end of an error message."""
    why = cause(log)
    shown = last_lines(log)
    said = why or (shown[-1] if shown else "it wrote nothing")
    lines = [said, f"next: {_hint(why or chr(10).join(shown), why is not None)}", "last log lines:"]
    lines += [f"  {line}" for line in shown or ["(none)"]]
    return "\n  ".join([*lines, f"whole log: {log}"])


def exit_words(code: int) -> str:
    """``exit status 2``, or ``killed by SIGKILL`` for a negative code."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _hint(text: str, explained: bool) -> str:
    silent = (
        "look at the whole log, and whether the host ran out of memory (dmesg): no exception is in the log"
    )
    fallback = "look at the whole log" if explained else silent
    return next((advice for pattern, advice in _HINTS if re.search(pattern, text)), fallback)


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
