"""What the workflows on GitHub promise: least rights, pinned actions, no fork's code on a machine of our own.

actionlint, zizmor and shellcheck look at the same files in ``tox -e lint``.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = {file.name: file for file in sorted((ROOT / ".github/workflows").iterdir())}
ACTIONS = sorted((ROOT / ".github/actions").glob("*/action.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
# What may start a job on a machine of our own: time, and who may write to the repository.
TRUSTED = {"schedule", "workflow_dispatch"}


def read(file: Path) -> dict[Any, Any]:
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


def triggers(workflow: dict[Any, Any]) -> set[str]:
    return set(workflow[True])  # YAML takes the word "on" for a truth


def jobs() -> Iterator[tuple[str, dict[str, Any], dict[Any, Any]]]:
    for name, file in WORKFLOWS.items():
        workflow = read(file)
        for job, content in workflow["jobs"].items():
            yield f"{name}: {job}", content, workflow


JOBS = list(jobs())
each_job = pytest.mark.parametrize(
    ("job", "workflow"), [(job, workflow) for _, job, workflow in JOBS], ids=[name for name, _, _ in JOBS]
)


def own_machine(job: dict[str, Any]) -> bool:
    """Anything but a plain name of GitHub's counts as our own."""
    return not (isinstance(job["runs-on"], str) and re.fullmatch(r"ubuntu-\d\d\.\d\d", job["runs-on"]))


def steps(job: dict[str, Any]) -> list[dict[str, Any]]:
    return list(job["steps"])


def test_the_workflows_are_there():
    """One for changes, one for nights, one by hand; and jobs of both kinds, else nothing below is tried."""
    assert set(WORKFLOWS) == {"ci.yml", "nightly.yml", "compare.yml"}
    assert {own_machine(job) for _, job, _ in JOBS} == {True, False}


@pytest.mark.parametrize(
    "file", [*WORKFLOWS.values(), *ACTIONS], ids=lambda file: file.relative_to(ROOT).as_posix()
)
def test_each_action_is_pinned_by_its_commit(file):
    """A tag can be moved, a commit cannot; the version is said beside it."""
    uses = [line.split("uses:")[1].strip() for line in file.read_text().splitlines() if "uses:" in line]

    assert uses
    for one in uses:
        assert one.startswith("./.github/") or PINNED.fullmatch(one), one


def test_one_action_has_one_version():
    """The same commit, and the same version beside it, wherever it is used."""
    text = "\n".join(file.read_text() for file in (*WORKFLOWS.values(), *ACTIONS))
    pins = set(re.findall(r"uses: ([\w.-]+/[\w./-]+)@(.*)", text))

    assert len({action for action, _ in pins}) == len(pins)


@each_job
def test_each_job_says_what_it_may(job, workflow):
    """Nothing is granted to a whole workflow; a job may read, and write only what it is for."""
    assert workflow["permissions"] == {}
    writes = {name for name, right in job["permissions"].items() if right != "read"}
    assert job["permissions"]["contents"] == "read"
    assert writes <= {"issues", "pull-requests"}
    if "pull_request" in triggers(workflow) or own_machine(job):
        assert not writes


@each_job
def test_no_fork_reaches_a_machine_of_our_own(job, workflow):
    """Neither by a trigger that a fork can pull, nor in a copy of the repository."""
    if own_machine(job):
        assert triggers(workflow) <= TRUSTED
        assert "!github.event.repository.fork" in job["if"]


def test_no_trigger_runs_a_forks_code_with_rights():
    """These run what a pull request brings, with the rights of the repository."""
    for workflow in map(read, WORKFLOWS.values()):
        assert not triggers(workflow) & {"pull_request_target", "workflow_run", "issue_comment"}


def test_there_are_no_secrets():
    """But the token that GitHub makes for a job, and that only where it writes."""
    for name, file in WORKFLOWS.items():
        assert not re.search(r"\bsecrets\b", file.read_text(encoding="utf-8")), name
    for name, job, _ in JOBS:
        writes = "write" in job["permissions"].values()
        assert ("github.token" in str(job)) == writes, name


@each_job
def test_each_job_ends(job, workflow):
    """By itself, and two of a kind never side by side."""
    assert 0 < job["timeout-minutes"] <= 360
    assert workflow["concurrency"]["group"]
    assert "cancel-in-progress" in workflow["concurrency"]


@each_job
def test_a_checkout_leaves_no_token_behind(job, workflow):
    """What runs afterwards could read it."""
    checkouts = [step for step in steps(job) if step.get("uses", "").startswith("actions/checkout@")]

    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@each_job
def test_a_step_is_a_script_that_a_person_can_run(job, workflow):
    """One line that begins with a script of .ci; what is given from outside comes as a variable."""
    for run in (step["run"] for step in steps(job) if "run" in step):
        script = run.split()[0]
        assert "\n" not in run.strip()
        assert "${{" not in run
        assert script.startswith(".ci/")
        assert os.access(ROOT / script, os.X_OK), script


def test_the_environments_are_toxs():
    """Each one that a job names is in tox.ini."""
    known = configparser.ConfigParser(interpolation=None)
    known.read(ROOT / "tox.ini")
    sections = " ".join(known.sections())
    runs = [
        step["run"] for _, job, _ in JOBS for step in steps(job) if step.get("run", "").startswith(".ci/tox")
    ]
    named = {run.split()[1] for run in runs}

    assert {"lint", "types", "unit", "docs", "test", "cpu", "issues"} == named
    for one in named - {"cpu"}:
        assert f"testenv:{one}" in sections
    assert "testenv:{cpu,gpu}" in sections


def test_machines_are_named_after_profiles():
    """Each that can be chosen is a profile, and actionlint knows it as a label."""
    compare = read(WORKFLOWS["compare.yml"])
    offered = set(compare[True]["workflow_dispatch"]["inputs"]["profile"]["options"])
    labels = set(read(ROOT / ".github/actionlint.yaml")["self-hosted-runner"]["labels"])

    assert offered | {"gpu"} == labels
    assert offered <= {file.stem for file in (ROOT / "config/profiles").glob("*.yaml")}
    assert "h100" in read(WORKFLOWS["nightly.yml"])["jobs"]["measure"]["strategy"]["matrix"]["profile"]


def test_results_are_kept_however_a_run_ends():
    """A regression, which is exit code 1, is what the results are for."""
    for name, job, _ in JOBS:
        kept = [step for step in steps(job) if step.get("uses", "").startswith("actions/upload-artifact@")]
        assert all("!cancelled()" in step["if"] and step["with"]["path"] == "results/" for step in kept), name
        assert bool(kept) == own_machine(job) or name in ("ci.yml: exact", "nightly.yml: merge")


def test_shards_meet_before_issues_are_touched():
    """What shards keep is no result; the merge takes those of its profile, and the issues what it made of them."""
    known = read(WORKFLOWS["nightly.yml"])["jobs"]
    names = {
        job: [step["with"] for step in known[job]["steps"] if "artifact@" in step.get("uses", "")]
        for job in ("measure", "merge", "issues")
    }

    assert names["measure"][0]["name"].startswith(
        "${{ needs.split.outputs.of == '1' && 'results' || 'shard' }}-"
    )
    assert all(
        names[job][-1]["overwrite"] for job in ("measure", "merge")
    )  # "Re-run failed jobs" has the same names
    assert names["merge"][0]["pattern"] == "shard-${{ matrix.profile }}-[0-9]*"
    assert names["merge"][1]["name"] == "results-${{ matrix.profile }}"
    assert names["issues"][0]["pattern"] == "results-*"
    assert set(known["issues"]["needs"]) == {"measure", "merge"}
    assert set(known["merge"]["needs"]) == {"split", "measure"}
    assert (
        known["merge"]["strategy"]["matrix"]["profile"] == known["measure"]["strategy"]["matrix"]["profile"]
    )
