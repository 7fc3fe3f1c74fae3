"""``run.json`` holds everything about a run, in plain values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from machines import CPU_ONLY, H100_X8
from samples import FINGERPRINT, ask, compared, outcome, server

from sglperf import __version__
from sglperf.config import load_settings
from sglperf.config_folder import ConfigFolder
from sglperf.core.gates import Gate
from sglperf.core.verdict import Status, Verdict
from sglperf.evidence import ContextChange
from sglperf.outcome import Outcome, Site
from sglperf.report.document import run_document
from sglperf.store import RunFolder
from sglperf.target.build import Target

SHIPPED = ConfigFolder(Path(__file__).parents[2] / "config")
OTHER = server("triton", page=1, tp_set=(0, 1))
SITE = Site(H100_X8, {server().label: FINGERPRINT, OTHER.label: FINGERPRINT})
TARGET = Target("sglang 0.5.23", Path("/opt/env/bin/python"), None, "0.5.23", packages={"sglang": "0.5.23"})
SLOWER = Verdict(Status.REGRESSED, "significant-worse", "slower", compared(1.2, 1.1, 1.3))
UNSURE = Verdict(Status.INCONCLUSIVE, "needs-launches", "why", compared(1.0, 0.0, float("inf"), float("inf")))


def a_run() -> Outcome:
    found = outcome(
        (ask("inter_token_latency"), [[0.006, 0.0061], [0.006]], [[0.005], [0.005]], SLOWER),
        (ask("time_to_first_token"), [[0.1], [0.1]], [[0.1]], UNSURE),
        (ask("inter_token_latency_slope"), [[1e-7], [2e-7]], None, None),
        (ask("cached_tokens", config=OTHER), [], None, Verdict(Status.INVALID, "server-died", "gone")),
        changes={server().label: ContextChange(("torch 2.11.0 → 2.14.1",), ())},
        recorded=("baselines/x/decode.json",),
    )
    found.measured.measurements.failures["head", OTHER.label] = Gate("server-died", "gone")
    return found


def document(found: Outcome | None = None, site: Site = SITE) -> dict[str, Any]:
    settings = load_settings(SHIPPED, {"profile": "cpu", "launches": "2"}, {}, ())
    return run_document(found or a_run(), settings, {"head": TARGET}, site)


def written(tmp_path: Path, site: Site = SITE) -> dict[str, Any]:
    """As it is read back from the run's folder, where a number that is none would be refused."""
    with RunFolder(tmp_path) as folder:
        path = folder.write_json("run.json", document(site=site))
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)


@pytest.mark.parametrize("machine", [CPU_ONLY, H100_X8])
def test_the_document_can_be_written_and_read(tmp_path, machine):
    """On every machine it becomes JSON that any reader takes."""
    found = written(tmp_path, Site(machine, SITE.fingerprints))

    assert found["schema_version"] == 1
    assert found["sglperf"] == __version__
    assert len(found["machine"]["gpus"]["gpus"]) == len(machine.gpus.gpus)


def test_a_case_tells_all_that_its_verdict_rests_on(tmp_path):
    """Where it belongs, both sides' rounds launch by launch, metric, verdict and figures."""
    case = written(tmp_path)["cases"][ask().name]

    assert {
        key: case[key] for key in ("area", "model", "config", "workload", "status", "code", "sentence")
    } == {
        "area": "decode",
        "model": "tiny",
        "config": "torch_native-page16-tp0",
        "workload": "decode-p32-n4-s1",
        "status": "regressed",
        "code": "significant-worse",
        "sentence": "slower",
    }
    assert (case["base"], case["head"]) == ([[0.005], [0.005]], [[0.006, 0.0061], [0.006]])
    assert (case["metric"]["name"], case["metric"]["unit"], case["metric"]["better"]) == (
        "inter_token_latency",
        "s",
        "lower",
    )
    assert {key: case["comparison"][key] for key in ("ratio", "low", "high", "detectable_effect")} == {
        "ratio": 1.2,
        "low": 1.1,
        "high": 1.3,
        "detectable_effect": 0.02,
    }


def test_a_bound_that_there_is_not_is_null(tmp_path):
    """An interval without an upper end is no number in JSON, and no zero either."""
    comparison = written(tmp_path)["cases"][ask("time_to_first_token").name]["comparison"]

    assert (comparison["low"], comparison["high"], comparison["detectable_effect"]) == (0.0, None, None)


def test_a_case_without_samples_is_there(tmp_path):
    """What could not be measured is not left out, and says why."""
    found = written(tmp_path)
    case = found["cases"][ask("cached_tokens", config=OTHER).name]

    assert (case["status"], case["head"], case["base"], case["comparison"]) == ("invalid", [], None, None)
    assert found["failures"] == [
        {
            "side": "head",
            "config": OTHER.label,
            "code": "server-died",
            "sentence": "gone",
            "timing_only": False,
            "metrics": None,
        }
    ]


def test_verdicts_are_all_there_and_in_order(tmp_path):
    """One entry for each verdict, in the plan's order; a figure without one is in the rounds."""
    found = written(tmp_path)

    assert list(found["cases"]) == list(a_run().verdicts)
    assert [r["values"] for r in found["rounds"] if "inter_token_latency_slope" in r["values"]] == [
        {"inter_token_latency_slope": 1e-7},
        {"inter_token_latency_slope": 2e-7},
    ]
    assert found["family_size"] == 2


def test_the_run_can_be_retraced(tmp_path):
    """Target, settings with the origin of each, servers started, machine, seconds, context, files."""
    found = written(tmp_path)

    assert found["targets"]["head"]["interpreter"] == "/opt/env/bin/python"
    assert found["settings"]["launches"] == 2
    assert found["settings"]["origins"]["launches"] == "--launches"
    assert found["fingerprints"][OTHER.label] == {"id": FINGERPRINT.id, **FINGERPRINT.to_dict()}
    assert [(launch["config"], launch["index"]) for launch in found["launches"]] == [
        (config.label, index) for config in (server(), OTHER) for index in range(2)
    ]
    assert found["seconds"]["total"] == 100.4
    assert found["context_differences"] == {server().label: ["torch 2.11.0 → 2.14.1"]}
    assert found["baselines_recorded"] == ["baselines/x/decode.json"]
    assert found["run"] == "20260102-030405-6"


def test_the_document_is_the_runs_own():
    """Changing it changes nothing of what it was made from."""
    found = a_run()
    document(found)["rounds"][0]["values"].clear()

    assert found.measured.measurements.rounds[0].values == {"inter_token_latency": 0.006}
