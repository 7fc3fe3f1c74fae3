"""A repository of SGLang with sixteen commits, made from the installed package: most change nothing that is run.

It has what a wheel has but its compiled modules, which a revision takes from the installed package.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from faults import Edit
from revisions import commit, git

# A third of each batch's time is added to it, in whichever loop the scheduler runs.
SLOWER_LOOP: tuple[Edit, ...] = (
    (
        "srt/managers/scheduler.py",
        "            # Launch the current batch\n"
        "            if batch:\n"
        "                batch_result = self.run_batch(batch)\n",
        "            # Launch the current batch\n"
        "            if batch:\n"
        "                began = time.perf_counter()\n"
        "                batch_result = self.run_batch(batch)\n"
        "                time.sleep(0.3 * (time.perf_counter() - began))\n",
    ),
    (
        "srt/managers/scheduler.py",
        "            # Launch the current batch\n"
        "            if batch:\n"
        "                result = self.run_batch(batch)\n"
        "                self.process_batch_result(batch, result)\n",
        "            # Launch the current batch\n"
        "            if batch:\n"
        "                began = time.perf_counter()\n"
        "                result = self.run_batch(batch)\n"
        "                self.process_batch_result(batch, result)\n"
        "                time.sleep(0.3 * (time.perf_counter() - began))\n",
    ),
)
PAGE_DROPPED: Edit = (
    "srt/managers/schedule_batch.py",
    "key_limit: Optional[int] = self._compute_max_prefix_len(input_len)",
    "key_limit: Optional[int] = max(0, self._compute_max_prefix_len(input_len) - 16)",
)
COPY_IN_EACH_LAYER: Edit = (
    "srt/models/llama.py",
    "        hidden_states = self.mlp(hidden_states, forward_batch=forward_batch)\n",
    "        hidden_states = self.mlp(hidden_states.clone(), forward_batch=forward_batch)\n",
)
OTHER_CHUNK: Edit = (
    "srt/arg_groups/fields/schedule.py",
    'Setting this to -1 means disabling chunked prefill.",\n    ] = None',
    'Setting this to -1 means disabling chunked prefill.",\n    ] = 128',
)
REFORMATTED = "srt/managers/schedule_policy.py"
DOES_NOT_IMPORT: Edit = (
    "srt/managers/schedule_batch.py",
    "from __future__ import annotations\n",
    "from __future__ import annotations\n\nimport nothing_of_that_name\n",
)


def make_history(where: Path, changes: Mapping[int, str]) -> Path:
    """v0 and sixteen commits after it, tagged v1 to v16; beside it ``chunk`` and ``copy``, each one commit after v0.

    Args:
        changes: number of a commit → what it does: ``slower``, ``page``, ``reformat``, ``broken`` (mended by the
            next). The others add a comment, or a document.
    """
    spec = importlib.util.find_spec("sglang")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    installed = Path(spec.submodule_search_locations[0])
    package = where / "python" / "sglang"
    shutil.copytree(installed, package, ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.pyc"))
    required = [text for text in metadata.requires("sglang") or [] if "extra ==" not in text]
    project = f"[project]\nname = 'sglang'\ndynamic = ['version']\ndependencies = {required!r}\n"
    commit(where, "as released", {"python/pyproject.toml": project})
    git(where, "tag", f"v{metadata.version('sglang')}")
    git(where, "tag", "v0")
    mend: Edit | None = None
    for number in range(1, 17):
        change, files = changes.get(number), {f"docs/{number}.md": f"{number}\n"}
        if mend is not None:
            _edit(package, mend)
        mend = None
        if change == "broken":
            _edit(package, DOES_NOT_IMPORT)
            mend = (DOES_NOT_IMPORT[0], DOES_NOT_IMPORT[2], DOES_NOT_IMPORT[1])
        elif change == "reformat":
            _reformat(package / REFORMATTED)
        elif change is not None:
            for edit in _EDITS[change]:
                _edit(package, edit)
        elif number % 5:
            files = {}
            file = package / "srt" / "managers" / "io_struct.py"
            file.write_text(file.read_text() + f"\n# Comment {number}.\n")
        commit(where, change or f"number {number}", files)
        git(where, "tag", f"v{number}")
    for name in ("chunk", "copy"):
        git(where, "checkout", "-q", "-b", name, "v0")
        for edit in _EDITS[name]:
            _edit(package, edit)
        commit(where, name, {})
    git(where, "checkout", "-q", "main")
    return where


_EDITS: Mapping[str, tuple[Edit, ...]] = {
    "slower": SLOWER_LOOP,
    "page": (PAGE_DROPPED,),
    "copy": (COPY_IN_EACH_LAYER,),
    "chunk": (OTHER_CHUNK,),
}


def _edit(package: Path, edit: Edit) -> None:
    file, good, bad = edit
    text = (package / file).read_text()
    assert text.count(good) == 1, f"{file} of this SGLang has {text.count(good)} such lines"
    (package / file).write_text(text.replace(good, bad))


def _reformat(file: Path) -> None:
    """Other blank lines, and each assignment of a name to itself in parentheses: not a byte of code differs."""
    lines = file.read_text().splitlines()
    file.write_text("\n".join(["# Formatted anew.", "", *lines, "", ""]) + "\n")
