"""Two commits of real SGLang, and the commit between them, in a repository of sixteen made from the installed package.

They take from one minute to half an hour and are nightly (`test_areas.py` compares two builds in each run of the tests); timings
need a machine with nothing else at work.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "shell"))
sys.path.insert(0, str(Path(__file__).parents[1]))
from history import make_history
from revisions import git
from suite import Ended, Suite

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sglang") is None, reason="needs SGLang in this environment"
)

REFORMAT, PAGE, BROKEN, SLOWER = 4, 6, 7, 12
SMALL = {"sweeps": {"streams": [8], "prompt_tokens": [2048]}, "launches": 4}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = {REFORMAT: "reformat", PAGE: "page", BROKEN: "broken", SLOWER: "slower"}
    return make_history(tmp_path_factory.mktemp("history") / "sglang", changes)


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path / "suite", SMALL)


def compared(suite: Suite, repository: Path, base: str, head: str, *arguments: str) -> Ended:
    return suite.run(
        f"--base={base}", f"--head={head}", f"--sglang-repo={repository}", *arguments, timeout=1500
    )


def why(ended: Ended) -> dict[str, Any]:
    (found,) = ended.run["explanations"].values()
    return dict(found)


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_copy_in_each_layer(suite: Suite, repository: Path) -> None:
    """One tensor copied in each of four layers is named by operator and count, though no timing shows it."""
    before = git(repository, "rev-parse", "HEAD"), git(repository, "status", "--porcelain")
    ended = compared(
        suite, repository, "v0", "copy", "-m", "decode", "-k", "work or throughput",
        "--launches=1", "--rounds=1", "--why=always",
    )  # fmt: skip
    assert ended.code == 0, ended.output
    assert "regressed" not in ended.statuses().values()
    found = why(ended)
    (decode,) = [one for one in found["profiles"] if one["phase"] == "decode"]
    counts = {change["name"]: change["calls"] for change in decode["changes"]}
    assert counts["aten::clone"] == [1.0, 5.0]
    assert counts["aten::copy_"][1] - counts["aten::copy_"][0] == 4
    assert "aten::clone 1 → 5" in found["sentence"]
    assert found["sentence"].endswith("one file differs: python/sglang/srt/models/llama.py +1 −1")
    assert "runs over the installed sglang" in ended.output
    assert (git(repository, "rev-parse", "HEAD"), git(repository, "status", "--porcelain")) == before


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_only_reformatted(suite: Suite, repository: Path) -> None:
    """A commit that only formats anew changes no count."""
    ended = compared(suite, repository, f"v{REFORMAT - 1}", f"v{REFORMAT}", "-m", "prefill and exact")
    assert ended.code == 0, ended.output
    assert set(ended.statuses().values()) == {"unchanged"}
    assert not ended.run["explanations"]


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_page_dropped(suite: Suite, repository: Path) -> None:
    """A commit that drops a page of prefix match is regressed by sixteen tokens, and its file is named."""
    ended = compared(suite, repository, f"v{PAGE - 1}", f"v{PAGE}", "-m", "prefill and exact", "-k", "reuse")
    assert ended.code == 1, ended.output
    assert ended.status("repeat", "cached_tokens") == "regressed"
    assert why(ended)["sentence"] == "one file differs: python/sglang/srt/managers/schedule_batch.py +1 −1"


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_commit_that_does_not_import(suite: Suite, repository: Path) -> None:
    """Its cases are invalid with the log's own words, and the base's rounds are kept."""
    ended = compared(suite, repository, "v0", f"v{BROKEN}", "-m", "prefill and exact", "-k", "reuse")
    assert ended.code == 3, ended.output
    assert set(ended.statuses().values()) == {"invalid"}
    assert "No module named 'nothing_of_that_name'" in ended.output
    assert {one["side"] for one in ended.run["rounds"]} == {"base"}


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_a_slower_loop(suite: Suite, repository: Path) -> None:
    """A scheduler loop that takes 30 % longer is regressed, and the loop itself is the likeliest cause."""
    ended = compared(
        suite,
        repository,
        f"v{SLOWER - 1}",
        f"v{SLOWER}",
        "-m",
        "decode",
        "-k",
        "throughput or test_inter_token",
    )
    assert ended.code == 1, ended.output
    assert ended.status("decode-p64-n64-s8", "decode_throughput") == "regressed"
    found = why(ended)
    assert found["sentence"].startswith(
        "likeliest cause: the scheduler's loop, outside any range or operator"
    )
    assert "one file differs: python/sglang/srt/managers/scheduler.py +4 −0" in found["sentence"]
    assert max(found["stages"], key=lambda one: one["seconds"][1] - one["seconds"][0])["name"] == "other"


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_another_default(suite: Suite, repository: Path) -> None:
    """Prompts cut into chunks of 128 by a changed default are slower, and the default is the first suspect."""
    ended = compared(suite, repository, "v0", "chunk", "-m", "prefill", "-k", "throughput")
    assert ended.code == 1, ended.output
    assert ended.status("prefill-p2048", "prefill_throughput") == "regressed"
    assert why(ended)["sentence"].startswith(
        "first suspects: server arguments chunked_prefill_size 4096 → 128"
    )


def bisected(
    suite: Suite, repository: Path, *arguments: str, ends: tuple[str, str] = ("v0", "v16")
) -> dict[str, Any]:
    process = suite.command("bisect", *ends, f"--sglang-repo={repository}", "--profile=small", *arguments)
    output, _ = process.communicate(timeout=3600)
    assert process.returncode == 0, output
    (file,) = (suite.folder / "results").glob("bisect-*/bisect.json")
    found: dict[str, Any] = json.loads(file.read_text())
    assert len(found["steps"]) <= 5
    assert found["confirmed"]["side"] == "bad"
    return found


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_bisect_a_page(suite: Suite, repository: Path) -> None:
    """The commit that drops a page is found among sixteen."""
    found = bisected(suite, repository, "-m", "prefill and exact", "-k", "reuse")
    assert found["culprit"] == git(repository, "rev-parse", f"v{PAGE}")


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_past_a_commit_that_does_not_import(suite: Suite, repository: Path) -> None:
    """Of four commits git chooses the second, which does not import: it is passed over, with its log's words."""
    ends = (f"v{PAGE - 1}", f"v{PAGE + 3}")
    found = bisected(suite, repository, "-m", "prefill and exact", "-k", "reuse", ends=ends)
    assert found["culprit"] == git(repository, "rev-parse", f"v{PAGE}")
    assert found["steps"][0]["commit"] == git(repository, "rev-parse", f"v{BROKEN}")
    assert found["steps"][0]["side"] == "unknown"
    assert "nothing_of_that_name" in found["steps"][0]["sentence"]


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_bisect_a_slower_loop(suite: Suite, repository: Path) -> None:
    """The commit that slows the loop is found among timings."""
    found = bisected(suite, repository, "-m", "decode and timing", "-k", "throughput or test_inter_token")
    assert found["culprit"] == git(repository, "rev-parse", f"v{SLOWER}")
