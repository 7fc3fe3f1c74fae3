"""Builds of SGLang with one fault: copies of the installed package in which a line or two are changed."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

Edit = tuple[str, str, str]
"""A file of the package, what stands in it exactly once, and what shall stand there."""


def faulty(folder: Path, *edits: Edit) -> str:
    """``--target`` of a copy of the installed SGLang with these edits."""
    spec = importlib.util.find_spec("sglang")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    installed = Path(spec.submodule_search_locations[0])
    shutil.copytree(installed, folder / "python" / "sglang", copy_function=_link)
    for file, good, bad in edits:
        changed = folder / "python" / "sglang" / file
        text = changed.read_text()
        assert text.count(good) == 1, f"{file} of this SGLang has no such line"
        changed.unlink()  # the link, not the installed file
        changed.write_text(text.replace(good, bad))
    return f"--target={folder}"


def _link(source: str, destination: str) -> None:
    try:
        os.link(source, destination)
    except OSError:  # another file system
        shutil.copy2(source, destination)


# The radix core of 0.5.23 is compiled; its older Python twin, which is still there, can be edited.
PYTHON_CORE: Edit = (
    "srt/mem_cache/unified_cache/tree_core_registry.py",
    '    if name != "rust":\n        return name\n',
    '    return "python"\n',
)
PAGE_SHORT: Edit = (
    "srt/managers/schedule_batch.py",
    "key_limit: Optional[int] = self._compute_max_prefix_len(input_len)",
    "key_limit: Optional[int] = max(0, self._compute_max_prefix_len(input_len) - 16)",
)
PAST_THE_DIFFERENCE: Edit = (
    "srt/mem_cache/radix_cache.py",
    "                matched_tokens = lo\n",
    "                matched_tokens = min(n, lo + page_size)\n",
)
NEWEST_EVICTED: Edit = (
    "srt/mem_cache/evict_policy.py",
    "class LRUStrategy(EvictionStrategy):\n"
    "    def get_priority(self, node: TreeNode) -> float:\n"
    "        return node.last_access_time\n",
    "class LRUStrategy(EvictionStrategy):\n"
    "    def get_priority(self, node: TreeNode) -> float:\n"
    "        return -node.last_access_time\n",
)
ANSWERS_FORGOTTEN: Edit = (
    "srt/mem_cache/common.py",
    "tree_cache.checkpoint(req, up_to=owned_kv_len)",
    "tree_cache.checkpoint(req, up_to=min(owned_kv_len, len(req.origin_input_ids)))",
)
FLUSH_IGNORED: Edit = (
    "srt/managers/scheduler.py",
    "            self.tree_cache.reset()\n"
    "            self.req_to_token_pool.clear()\n"
    "            self.token_to_kv_pool_allocator.clear()\n"
    "            self.req_to_token_pool.reset_aux_cache_allocator()\n"
    "            self.grammar_manager.clear()\n",
    "            self.grammar_manager.clear()\n",
)
HALF_THE_POOL: Edit = (
    "srt/mem_cache/kv_cache_configurator.py",
    "        user_limit = get_schedule().max_total_tokens\n",
    "        user_limit = get_schedule().max_total_tokens // 2\n",
)
SLEEPS_IN_LARGE_BATCHES: Edit = (
    "srt/managers/scheduler.py",
    '        """Run a batch."""\n',
    '        """Run a batch."""\n        time.sleep(0.02 * (batch.forward_mode.is_decode() and batch.batch_size() >= 8))\n',
)
PAGE_NOT_SEEN: Edit = (
    "srt/layers/attention/torch_native_backend.py",
    "            # index for each token in the sequence.\n\n            req_pool_idx = req_pool_indices[seq_idx]\n",
    "            # index for each token in the sequence.\n\n            req_pool_idx = req_pool_indices[seq_idx]\n"
    "            end_kv = max(1, end_kv - 16)\n",
)
