"""The script of a GPU's first measurements: what each step would run, and what is kept of it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "gpu"))
import measure
from measure import STEPS, command, last_of_each, run

OPTIONS = argparse.Namespace(
    out=Path("out"),
    dry=False,
    backends="flashinfer,triton",
    other="sglang==0.5.16",
    baseline_dir=Path("kept"),
)


def words(name: str, *given: str, dry: bool = False) -> list[str]:
    """The command of a step, without the interpreter."""
    (step,) = (step for step in STEPS if step.name == name)
    options = argparse.Namespace(**{**vars(OPTIONS), "dry": dry})
    return command(step, options, given, 120.0)[3:]


def test_an_option_given_twice_counts_as_given_last():
    """An expression goes with its option."""
    given = ["-m", "decode", "--launches=8", "-k", "one and two", "--launches=2", "-k", "one"]
    assert last_of_each(given) == ["-m", "decode", "--launches=2", "-k", "one"]


def test_a_step_keeps_to_its_time_and_its_folder():
    """It may judge for 20 s after its last launch; what is added by hand comes last."""
    found = words("answers", "--page-size=16")
    assert {"--time-limit=100", "--results-dir=out/answers", "--baseline-dir=kept"} <= set(found)
    assert found[-1] == "--page-size=16"
    assert "--attention-backend=flashinfer,triton" in found


def test_a_step_names_its_own_backend():
    """Whatever other steps are to measure."""
    assert [word for word in words("flashinfer") if "backend" in word] == ["--attention-backend=flashinfer"]


def test_builds_of_a_step():
    """One that is compared with a baseline is a target, two are base and head."""
    assert "--target=out/slower-build" in words("slower")
    assert {"--base=sglang==0.5.16", f"--head={sys.executable}"} <= set(words("versions"))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_dry_run_measures_nothing_that_is_kept(step):
    """On a CPU no backend of GPUs is asked for, at most four servers are started, and baselines stay in its folder."""
    found = words(step.name, "--profile=cpu", dry=True)
    assert "--baseline-dir=out/baselines" in found
    assert not [word for word in found if word.startswith(("--attention-backend", "--ncu"))]
    assert [word for word in found if word.startswith("--launches=")] in (
        [],
        *([f"--launches={count}"] for count in (1, 2, 4)),
    )


def test_a_step_that_takes_too_long_is_interrupted(tmp_path: Path):
    """As by Ctrl-C, so that it can end what it started and say what it has."""
    script = "import time\ntry:\n    print('begun', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n    print('ended')"
    assert run([sys.executable, "-c", script], tmp_path / "log", 2.0) == 124
    assert (tmp_path / "log").read_text().split() == ["begun", "ended"]


def test_what_needs_a_look(tmp_path: Path):
    """Verdicts are counted, and those that are bad news are shown with their sentence, once."""
    cases = {
        "a/x": {"status": "regressed", "sentence": "5 % worse"},
        "a/y": {"status": "invalid", "sentence": "the server died"},
        "a/z": {"status": "invalid", "sentence": "the server died"},
        "b/x": {"status": "new", "sentence": "no baseline"},
    }
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "run.json").write_text(json.dumps({"cases": cases}))
    found = measure.document(tmp_path)
    assert measure.verdicts(found) == "2 invalid, 1 regressed, 1 new"
    assert list(measure.remarkable(found)) == [
        "a/x: regressed: 5 % worse",
        "a/y: invalid: the server died",
    ]
    assert measure.verdicts(measure.document(tmp_path / "none")) == "none: see its log"
