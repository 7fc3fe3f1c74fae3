"""A build of SGLang that is slower by a known amount: the logits of each pass are computed twice.

A decode step reads all weights once, and with the head's a second time it moves that many bytes more. So a step that
memory binds takes longer by their share: 7.0 % on Llama 3 8B (1.05 of 15.0 GB), whose head no cache holds.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

FILE = "srt/models/llama.py"
ONCE = "                return self.logits_processor(\n"
TWICE = (
    "                self.logits_processor(\n"
    "                    input_ids, hidden_states, self.lm_head, forward_batch, aux_hidden_states\n"
    "                )\n"
)


def slower_build(folder: Path) -> None:
    """A checkout of the installed SGLang with that change, at ``folder``; left as it is where there is one."""
    if folder.exists():
        return
    spec = importlib.util.find_spec("sglang")
    if spec is None or spec.origin is None:
        raise SystemExit(
            "no SGLang here that could be made slower: install it, or leave the step out (--only)"
        )
    unfinished = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    package = unfinished / "python" / "sglang"
    shutil.copytree(Path(spec.origin).parent, package, copy_function=_link)
    text = (package / FILE).read_text()
    if text.count(ONCE) != 1:
        raise SystemExit(f"{FILE} of this SGLang has no such line: {ONCE.strip()}")
    (package / FILE).unlink()  # the link, not the installed file
    (package / FILE).write_text(text.replace(ONCE, TWICE + ONCE))
    unfinished.rename(folder)


def _link(source: str, destination: str) -> None:
    try:
        os.link(source, destination)
    except OSError:  # another file system
        shutil.copy2(source, destination)
