"""``sglperf env``, run as a user runs it, on this machine and on recorded ones."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from recorded_nvml import A100_X7, LOST_GPU, NO_DRIVER, RecordedNvml, Recording

from sglperf import cli


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class Command:
    """Runs the command in this process, on a machine whose GPUs are a recording."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        self.on(NO_DRIVER)

    def on(self, recording: Recording) -> None:
        self._monkeypatch.setitem(sys.modules, "pynvml", RecordedNvml(recording))

    def __call__(self, *arguments: str) -> Ended:
        self._monkeypatch.setattr(sys, "argv", ["sglperf", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = self._capsys.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err)


@pytest.fixture
def sglperf(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def test_on_the_machine_at_hand():
    """The installed command ends with 0, says nothing on stderr, and fits 100 columns."""
    done = subprocess.run(
        [sys.executable, "-c", "from sglperf.cli import main; main()", "env"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 100
    headings = [line for line in done.stdout.splitlines() if line and not line.startswith(" ")]
    assert headings[:5] == ["Host", "GPUs", "Target", "Fingerprints", "Areas"]
    assert sys.executable in done.stdout


def test_gpus_and_their_links(sglperf: Command):
    """Seven A100 are listed with their links, and the sets that tensor parallelism is measured on, by class."""
    sglperf.on(A100_X7)
    ended = sglperf("env")

    assert ended.code == 0
    assert ended.out.count("NVIDIA A100 80GB PCIe") == 7
    assert "  0      X     NV12  NODE  NODE  SYS   SYS   SYS" in ended.out.splitlines()
    words = " ".join(ended.out.split())
    for said in (
        "nvlink-2: GPU 0,1 2x-nvidia-a100-80gb-pcie-nvlink-",
        "numa-node-4: GPU 0,1,2,3 4x-nvidia-a100-80gb-pcie-numa-node-",
        "cross-numa-4: GPU 0,1,5,6 4x-nvidia-a100-80gb-pcie-cross-numa-",
        "cross-numa-7: GPU 0,1,2,3,4,5,6 7x-nvidia-a100-80gb-pcie-cross-numa-",
    ):
        assert said in words


def test_only_what_cuda_visible_devices_leaves(sglperf: Command, monkeypatch: pytest.MonkeyPatch):
    """A bridged pair left visible is named as such."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    sglperf.on(A100_X7)

    assert "nvlink-2: GPU 5,6  2x-nvidia-a100-80gb-pcie-nvlink-" in sglperf("env").out


def test_a_lost_gpu_has_a_line_of_its_own(sglperf: Command):
    """A lost GPU does not end the command, and the one that answers is shown."""
    sglperf.on(LOST_GPU)
    ended = sglperf("env")

    assert ended.code == 0
    assert "  GPU 1 does not answer: GPU is lost" in ended.out.splitlines()
    assert ended.out.count("NVIDIA H100 80GB HBM3") == 1


def test_no_driver_is_a_normal_answer(sglperf: Command):
    """Without a driver the command ends with 0 and says why there is no GPU."""
    ended = sglperf("env")

    assert ended.code == 0
    assert "  none: no NVIDIA driver here (libnvidia-ml.so.1 is not found)" in ended.out.splitlines()


def test_json_to_a_file_comes_with_the_text(sglperf: Command, tmp_path: Path):
    """--json FILE writes the check there and still prints the text."""
    sglperf.on(A100_X7)
    ended = sglperf("env", "--json", str(tmp_path / "env.json"))
    document = json.loads((tmp_path / "env.json").read_text())

    assert ended.code == 0
    assert ended.out.startswith("Host\n")
    assert [gpu["index"] for gpu in document["gpus"]["gpus"]] == [0, 1, 2, 3, 4, 5, 6]
    assert all(named["id"] in ended.out for named in document["fingerprints"])


def test_json_to_stdout_comes_alone(sglperf: Command):
    """--json - prints JSON and nothing else."""
    ended = sglperf("env", "--json", "-")

    assert ended.code == 0
    assert json.loads(ended.out)["schema"] == 1


@pytest.mark.parametrize(
    ("file", "reason"), [("missing/env.json", "No such file or directory"), (".", "Is a directory")]
)
def test_an_unwritable_file_ends_with_3(sglperf: Command, tmp_path: Path, file: str, reason: str):
    """A file that cannot be written is named in one line, with the reason and the next action."""
    ended = sglperf("env", "--json", str(tmp_path / file))

    assert ended.code == 3
    assert ended.out == ""
    assert ended.err == (
        f"sglperf: cannot write {tmp_path / file}: {reason}. Name a file in a folder that you can write\n"
    )


@pytest.mark.parametrize("arguments", [["env"], ["env", "--json", "-"]])
def test_a_full_disk_behind_stdout_ends_with_3(arguments: list[str]):
    """What cannot be printed ends with 3 and one line, never with the code that means regressed."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from sglperf.cli import main; main()", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode == 3
    assert done.stderr == "sglperf: cannot write to standard output: No space left on device\n"


def test_ctrl_c_ends_with_130(sglperf: Command, monkeypatch: pytest.MonkeyPatch):
    """An interrupt ends with the shell's code for it and no traceback."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sglperf.probes.machine.probe_machine", interrupted)
    ended = sglperf("env")

    assert (ended.code, ended.out) == (130, "")
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "arguments", [["env", "--no-such-option"], ["env", "--json"], ["no-such-command"], ["env", "more"]]
)
def test_usage_ends_with_2(sglperf: Command, arguments: list[str]):
    """What the command does not understand ends with 2 and prints nothing on stdout."""
    ended = sglperf(*arguments)

    assert (ended.code, ended.out) == (2, "")
    assert "Traceback" not in ended.err


def test_help_names_the_command(sglperf: Command):
    """--help ends with 0 and lists env."""
    ended = sglperf("--help")

    assert ended.code == 0
    assert " env " in ended.out


def test_neither_torch_nor_sglang_is_imported():
    """The check reads metadata: nothing heavy is loaded into the process that asks."""
    program = (
        "import sys\nfrom sglperf.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "loaded = {'torch', 'sglang', 'numpy', 'scipy'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", program, "env"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
