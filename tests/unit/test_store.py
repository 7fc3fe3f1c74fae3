"""What was measured is on disk when it exists, whole or not at all, and no run takes another's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import Timeout
from samples import FINGERPRINT, stored

from sglperf import store
from sglperf.core.baseline import Baseline, dump_baseline
from sglperf.core.verdict import Status
from sglperf.errors import BaselineError, StoreError
from sglperf.store import BaselineFolder, RunFolder, write_atomically

RECORDS = 10


@pytest.fixture
def baselines(tmp_path: Path) -> BaselineFolder:
    return BaselineFolder(tmp_path / "baselines", FINGERPRINT.id)


def journal(folder: RunFolder) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder.path / "journal.jsonl").read_text().splitlines()]


def replaced_by(baseline: Baseline):
    """A change that merges ``baseline`` into whatever is there."""
    return lambda known: baseline if known is None else known.merged(baseline)


# A run's folder


@dataclass(frozen=True)
class Fact:
    name: str
    values: tuple[float, ...]


def test_a_record_is_readable_the_moment_it_was_added(tmp_path):
    """Nothing waits in a buffer: another reader sees each line before the next is written."""
    with RunFolder(tmp_path / "results") as folder:
        folder.append("round", {"round": Fact("a", (0.1, 0.2))})
        (first,) = journal(folder)
        folder.append("end", {"status": Status.NEW, "path": Path("x"), "counts": {1: 2}})

        assert first == {"kind": "round", "at": first["at"], "round": {"name": "a", "values": [0.1, 0.2]}}
        assert journal(folder)[1] | {"at": 0} == {
            "kind": "end",
            "at": 0,
            "status": "new",
            "path": "x",
            "counts": {"1": 2},
        }


RECORDER = """
import json, sys
from pathlib import Path
from sglperf.core.baseline import parse_baseline
from sglperf.store import BaselineFolder

root, fingerprint, texts = json.loads(sys.stdin.readline())
folder = BaselineFolder(Path(root), fingerprint)
fresh = [parse_baseline(text, "stdin", fingerprint) for text in texts]
print("ready", flush=True)
sys.stdin.readline()
for one in fresh:
    folder.update("decode", lambda known: one if known is None else known.merged(one))
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from sglperf.store import RunFolder

RunFolder(Path(sys.stdin.readline().strip())).append("round", {"value": 0.1 + 0.2})
os.kill(os.getpid(), signal.SIGKILL)
"""


def started(script: str, line: str) -> subprocess.Popen[str]:
    """A process that runs the script and has been sent a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process


def test_neither_a_killed_run_nor_two_at_once_lose_a_record(tmp_path):
    """A killed run's journal holds what it had; two processes that record into one file both find all of it."""
    root = tmp_path / "baselines"
    names = {side: [f"{side}-{number}" for number in range(RECORDS)] for side in "ab"}
    texts = {
        side: [dump_baseline(stored(point=name, versions={"of": side})) for name in names[side]]
        for side in "ab"
    }
    recorders = [started(RECORDER, json.dumps([str(root), FINGERPRINT.id, texts[side]])) for side in "ab"]
    killed = started(KILLED, str(tmp_path / "results"))
    assert [process.stdout.readline() for process in recorders] == ["ready\n"] * 2
    for process in recorders:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in (*recorders, killed):
        process.communicate(timeout=60)

    assert [process.returncode for process in recorders] == [0, 0]
    both = BaselineFolder(root, FINGERPRINT.id).read("decode")
    assert both is not None
    assert set(both.cases) == {*names["a"], *names["b"]}
    assert {context.versions["of"] for context in both.contexts.values()} == {"a", "b"}

    assert killed.returncode == -signal.SIGKILL
    (written,) = (tmp_path / "results").glob("*/journal.jsonl")
    (line,) = written.read_text().splitlines()
    assert json.loads(line)["value"] == 0.1 + 0.2


def test_a_run_is_named_by_its_start_and_process(tmp_path):
    """Sortable by time, and unlike any other run's at the same second."""
    with RunFolder(tmp_path / "a" / "b") as folder:
        date, clock, process = folder.name.split("-")

        assert folder.path == tmp_path / "a" / "b" / folder.name
        assert (len(date), len(clock), process) == (8, 6, str(os.getpid()))


def test_a_document_is_valid_json_whatever_it_holds(tmp_path):
    """A figure without a bound becomes null, which every reader of JSON knows."""
    with RunFolder(tmp_path) as folder:
        path = folder.write_json("run.json", {"high": float("inf"), "p": float("nan"), "low": 0.1})

    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {"high": None, "p": None, "low": 0.1}


@pytest.mark.parametrize("place", ["taken", "taken/below"])
def test_a_results_folder_that_cannot_be_made_is_named(tmp_path, place):
    """A file stands where the folder should: path, reason, and the option that gives another."""
    (tmp_path / "taken").write_text("")

    with pytest.raises(
        StoreError, match=rf"{tmp_path}/{place}/\d.* cannot be made \(.*\): give another with --results-dir"
    ):
        RunFolder(tmp_path / place)


def test_a_full_disk_is_said(tmp_path):
    """A record that cannot be written ends the run with a message, for evidence comes before opinion."""
    with RunFolder(tmp_path) as folder:
        folder._journal.close()
        folder._journal = open("/dev/full", "ab", buffering=0)  # noqa: PTH123, SIM115 (closed by the folder)

        with pytest.raises(
            StoreError, match=r"journal.jsonl cannot be written \(No space left.*\): free space, or"
        ):
            folder.append("round", {})


# Whole files


def test_a_file_is_replaced_whole(tmp_path):
    """Folders are made, the old content is gone, and nothing else lies beside the new."""
    path = tmp_path / "deep" / "er" / "file"
    for content in (b"first, longer", b"second"):
        assert write_atomically(path, content) == path

    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    """Out of space half-way: the old content is still there, no half of a new one is, and the path is named."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(
        StoreError, match=rf"^{path} cannot be written \(No space left on device\): free space or"
    ):
        write_atomically(path, b"new")

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["taken/file", "folder"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place):
    """A file where a folder should be, or a folder where the file should be; nothing is left behind."""
    (tmp_path / "taken").write_text("kept")
    (tmp_path / "folder").mkdir()

    with pytest.raises(StoreError, match=rf"^{tmp_path}/{place} cannot be written"):
        write_atomically(tmp_path / place, b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "taken"]
    assert (tmp_path / "taken").read_text() == "kept"


# Baselines


def test_what_was_never_recorded_is_none(baselines):
    """No file is no error: the case is new."""
    assert baselines.read("decode") is None


def test_a_record_is_found_under_its_machine_and_area(baselines, tmp_path):
    """One file for each area on each machine; another area's is another file."""
    path = baselines.update("decode", replaced_by(stored()))

    assert path == tmp_path / "baselines" / FINGERPRINT.id / "decode.json"
    assert baselines.read("decode") == stored()
    assert baselines.read("prefill") is None


def test_a_change_sees_what_is_there(baselines):
    """The second update is given what the first one wrote."""
    baselines.update("decode", replaced_by(stored(point="a")))
    baselines.update("decode", replaced_by(stored(point="b")))

    found = baselines.read("decode")
    assert found is not None
    assert set(found.cases) == {"a", "b"}


def test_a_damaged_file_is_never_written_over(baselines):
    """An update that cannot read what is there leaves it to be repaired, and the lock free."""
    file = baselines.update("decode", replaced_by(stored()))
    file.write_text(dump_baseline(stored())[:-20])
    damaged = file.read_bytes()

    for _ in range(2):
        with pytest.raises(BaselineError, match=f"^{file}: not valid JSON"):
            baselines.update("decode", replaced_by(stored(point="b")))
    assert file.read_bytes() == damaged


def test_a_file_of_another_machine_is_never_written_over(tmp_path):
    """A copied file is refused on update as on reading."""
    here, there = BaselineFolder(tmp_path, FINGERPRINT.id), BaselineFolder(tmp_path, "there-12345678")
    there.file("decode").parent.mkdir()
    there.file("decode").write_bytes(here.update("decode", replaced_by(stored())).read_bytes())

    with pytest.raises(BaselineError, match=f"recorded on {FINGERPRINT.id}, this machine is there-12345678"):
        there.update("decode", replaced_by(stored()))


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_named(baselines, content):
    """Bytes that are no text, or a folder in the file's place: path and remedy."""
    file = baselines.file("decode")
    file.parent.mkdir(parents=True)
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)

    with pytest.raises(
        BaselineError,
        match=rf"^{file}: cannot be read .*: restore it from git, or give another --baseline-dir$",
    ):
        baselines.read("decode")


@pytest.mark.parametrize("below", ["", "below"])
def test_a_baseline_folder_that_cannot_be_made_is_named(tmp_path, below):
    """A file stands in the way: reading and recording both say so, with the option that gives another."""
    (tmp_path / "taken").write_text("")
    folder = BaselineFolder(tmp_path / "taken" / below, FINGERPRINT.id)

    with pytest.raises(
        StoreError, match=rf"^{folder.file('decode')} cannot be written .*: give another --baseline-dir$"
    ):
        folder.update("decode", replaced_by(stored()))
    with pytest.raises(BaselineError, match=rf"^{folder.file('decode')}: cannot be read .*--baseline-dir$"):
        folder.read("decode")


def test_a_lock_that_is_never_freed_is_said(baselines, monkeypatch):
    """Another run that hangs with the lock is named as the culprit, after a minute."""
    patience = []

    class Held:
        def __init__(self, path: Path, timeout: float) -> None:
            patience.append(timeout)
            self._path = path

        def __enter__(self) -> None:
            raise Timeout(str(self._path))

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(store, "FileLock", Held)
    with pytest.raises(
        StoreError, match=r"decode.json: another run has held its lock for a minute: end that run"
    ):
        baselines.update("decode", replaced_by(stored()))
    assert patience == [60]
