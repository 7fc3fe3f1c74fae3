"""The scripts that the workflows' jobs are made of, run as a job runs them, with doubles of tox, GitHub's command and its server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from entry import Ended

ROOT = Path(__file__).parents[2]
# Writes its words, and what it is given, down; `answers` say what it prints and how it ends.
DOUBLE = """#!{python}
import json, os, sys
from pathlib import Path
here = Path({folder!r})
words = sys.argv[1:]
given = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read().decode()
with (here / "calls.jsonl").open("a") as file:
    file.write(json.dumps([words, given]) + "\\n")
for start, (out, code) in json.loads((here / "answers.json").read_text()).items():
    if " ".join(words).startswith(start):
        sys.stdout.write(out)
        sys.stderr.write("gh: HTTP 403\\n" if code else "")
        sys.exit(code)
"""


class Double:
    """A command that does nothing but remember how it was called."""

    def __init__(self, file: Path) -> None:
        self.file, self._folder = file, file.parent / f"{file.name}-calls"
        self._folder.mkdir(parents=True)
        self.answers({})
        file.write_text(DOUBLE.format(python=sys.executable, folder=str(self._folder)))
        file.chmod(0o755)

    def answers(self, answers: Mapping[str, tuple[str, int]]) -> None:
        """First words → what it prints, and its exit code."""
        (self._folder / "answers.json").write_text(json.dumps(answers))

    @property
    def calls(self) -> list[tuple[list[str], str]]:
        """Words and standard input of each call."""
        file = self._folder / "calls.jsonl"
        return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def words(self) -> list[list[str]]:
        return [words for words, _ in self.calls]


class Checkout(NamedTuple):
    """A checkout's scripts, with doubles of what they call."""

    folder: Path
    tox: Double
    gh: Double
    run: Callable[..., Ended]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / ".ci", folder / ".ci", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for place in (folder / ".venv/bin", tmp_path / "bin"):
        place.mkdir(parents=True)
    tox, gh = Double(folder / ".venv/bin/tox"), Double(tmp_path / "bin/gh")

    def run(script: str, *arguments: str, **variables: str) -> Ended:
        path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            [str(folder / ".ci" / script), *arguments],
            cwd=folder,
            env={"PATH": path, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return Checkout(folder, tox, gh, run)


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def sglang(tmp_path: Path) -> Path:
    """A repository with a branch, a tag, and what a fork proposes."""
    folder = tmp_path / "sglang"
    folder.mkdir()
    git(folder, "init", "--quiet")
    for name, ref in (("a", "refs/tags/v1"), ("b", "refs/heads/topic"), ("c", "refs/pull/1/head")):
        git(folder, "commit", "--quiet", "--allow-empty", "-m", name)
        git(folder, "update-ref", ref, "HEAD")
    git(folder, "reset", "--quiet", "--hard", "topic")
    return folder


# ---- what is measured


def test_tox_is_given_the_environment_and_arguments(checkout: Checkout) -> None:
    """Word by word, whatever they hold, and its exit code is the script's."""
    checkout.tox.answers({"run": ("said\n", 3)})
    done = checkout.run("tox", "cpu", "--", "-m", "radix and exact", "a  'b' $c")

    assert (done.code, done.out) == (3, "said\n")
    assert checkout.tox.words == [["run", "-e", "cpu", "--", "-m", "radix and exact", "a  'b' $c"]]


def test_a_fresh_clone_gets_tox_first(checkout: Checkout, tmp_path: Path) -> None:
    """Where there is none, an environment is made as README says, once."""
    shutil.rmtree(checkout.folder / ".venv")
    maker = tmp_path / "bin" / "python3"
    maker.write_text(
        f'#!/bin/sh\necho python3 "$@" >> {tmp_path / "made"}\n'
        f"mkdir -p .venv/bin && printf '#!/bin/sh\\necho tox \"$@\"\\n' > .venv/bin/tox && chmod +x .venv/bin/tox\n"
    )
    maker.chmod(0o755)

    assert checkout.run("tox", "unit").out == "tox run -e unit\n"
    assert checkout.run("tox", "lint").out == "tox run -e lint\n"
    assert (tmp_path / "made").read_text().splitlines() == [
        "python3 -m venv --without-pip .venv",
        "python3 -m pip --python .venv/bin/python install --quiet tox-uv",
    ]


def test_the_version_of_sglang_is_the_one_that_is_pinned(checkout: Checkout) -> None:
    """Caches are named after it; without a pin the script says so."""
    done = checkout.run("sglang-version")
    file = checkout.folder / "pyproject.toml"

    assert f'cpu = ["sglang=={done.out.strip()}"]' in file.read_text().splitlines()
    assert f"sglang=={done.out.strip()}" in (ROOT / "tox.ini").read_text()
    file.write_text("[project]\n")
    done = checkout.run("sglang-version")
    assert done.code == 1
    assert "pyproject.toml has no line cpu" in done.err


def test_sglangs_repository_has_branches_and_tags(checkout: Checkout, sglang: Path, tmp_path: Path) -> None:
    """The newest ones, and nothing of pull requests."""
    where = {"SGLANG_URL": str(sglang), "SGLANG_REPO": str(tmp_path / "kept" / "sglang.git")}
    done = checkout.run("sglang-repo", **where)

    assert (done.code, done.out, done.err) == (0, f"{where['SGLANG_REPO']}\n", "")
    repo = Path(where["SGLANG_REPO"])
    assert git(repo, "for-each-ref", "--format=%(refname)").split() == [
        "refs/heads/main",
        "refs/heads/topic",
        "refs/tags/v1",
    ]
    proposed = git(sglang, "rev-parse", "refs/pull/1/head")
    git(sglang, "commit", "--quiet", "--allow-empty", "--amend", "-m", "forced")
    git(sglang, "branch", "--quiet", "-D", "topic")
    assert checkout.run("sglang-repo", **where).code == 0
    assert git(repo, "log", "-1", "--format=%s", "main") == "forced"
    assert "topic" not in git(repo, "for-each-ref")
    with pytest.raises(subprocess.CalledProcessError):
        git(repo, "cat-file", "-e", proposed)


def test_a_repository_that_cannot_be_reached(checkout: Checkout, tmp_path: Path) -> None:
    """Nothing is measured then."""
    done = checkout.run(
        "compare",
        BASE="main",
        HEAD="topic",
        SGLANG_URL=str(tmp_path / "nowhere"),
        SGLANG_REPO=str(tmp_path / "kept"),
    )

    assert done.code != 0
    assert "nowhere" in done.err
    assert checkout.tox.calls == []


def test_a_night(checkout: Checkout, sglang: Path, tmp_path: Path) -> None:
    """Profile, areas and target come from the environment; those that are not given are left out."""
    git(checkout.folder, "init", "--quiet")
    where = {"SGLANG_URL": str(sglang), "SGLANG_REPO": str(tmp_path / "kept")}
    begin = ["run", "-e", "gpu", "--"]
    for variables, arguments in (
        ({}, ["--profile=auto", "--time-limit=18000"]),
        (
            {"PROFILE": "h100", "MARKERS": "decode or tp", "SECONDS_AT_MOST": "60", "TARGET": ""},
            ["--profile=h100", "--time-limit=60", "-m", "decode or tp"],
        ),
        ({"TARGET": "sglang==0.5.22"}, ["--profile=auto", "--time-limit=18000", "--target=sglang==0.5.22"]),
        (
            {"TARGET": "main", **where},
            ["--profile=auto", "--time-limit=18000", "--target=main", f"--sglang-repo={tmp_path / 'kept'}"],
        ),
    ):
        assert checkout.run("nightly", "--baseline=extend", **variables).code == 0
        assert checkout.tox.words[-1] == [*begin, *arguments, "--baseline=extend"]


def test_a_night_on_several_machines(checkout: Checkout) -> None:
    """Each measures its part; one of one is a whole run. The merge needs no SGLang, no target and no time limit."""
    git(checkout.folder, "init", "--quiet")
    known = {"PROFILE": "h100", "MARKERS": "decode"}
    for variables, words in (
        ({"SHARD": "1/1"}, ["gpu", "--", "--profile=h100", "--time-limit=18000", "-m", "decode"]),
        ({"SHARD": ""}, ["gpu", "--", "--profile=h100", "--time-limit=18000", "-m", "decode"]),
        (
            {"SHARD": "2/4", "TARGET": "sglang==0.5.22"},
            [
                "gpu",
                "--",
                "--profile=h100",
                "--time-limit=18000",
                "-m",
                "decode",
                "--target=sglang==0.5.22",
                "--shard=2/4",
            ],
        ),
        (
            {"MERGE": "down loaded", "TARGET": "main", "SHARD": "2/4"},
            ["merge", "--", "--profile=h100", "-m", "decode", "--merge-shards=down loaded"],
        ),
    ):
        assert checkout.run("nightly", "--strict", **known, **variables).code == 0
        assert checkout.tox.words[-1] == ["run", "-e", *words, "--strict"]
    checkout.tox.answers({"run": ("", 2)})
    assert checkout.run("nightly", MERGE="downloaded").code == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [("", "of=1\nshards=[1]\n"), ("1", "of=1\nshards=[1]\n"), ("4", "of=4\nshards=[1,2,3,4]\n")],
)
def test_the_shards_of_a_night(checkout: Checkout, given: str, said: str) -> None:
    """What GitHub takes as outputs, and its expressions as JSON."""
    done = checkout.run("shards", SHARDS=given)

    assert (done.code, done.out) == (0, said)


@pytest.mark.parametrize("wrong", ["0", "-1", "four", "100", "2; echo of=9", "[1,2]"])
def test_shards_that_are_no_number(checkout: Checkout, wrong: str) -> None:
    """Nothing is put out that a job could take."""
    done = checkout.run("shards", SHARDS=wrong)

    assert (done.code, done.out) == (2, "")
    assert "give a number of machines" in done.err


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_night_keeps_what_it_recorded(checkout: Checkout, code: int) -> None:
    """New and changed baselines go with the results, others and locks do not; the suite's exit code is kept."""
    folder = checkout.folder / "baselines" / "h100"
    folder.mkdir(parents=True)
    for name in ("old.json", "changed.json"):
        (folder / name).write_text("{}")
    shutil.copy(ROOT / ".gitignore", checkout.folder)
    git(checkout.folder, "init", "--quiet")
    git(checkout.folder, "add", "baselines")
    git(checkout.folder, "commit", "--quiet", "-m", "baselines")
    (folder / "changed.json").write_text("{ }")
    (folder / "new one.json").write_text("{}")
    (folder / ".new one.json.lock").touch()
    checkout.tox.answers({"run": ("", code)})

    assert checkout.run("nightly").code == code
    kept = checkout.folder / "results" / "baselines" / "h100"
    assert {file.name for file in kept.iterdir()} == {"changed.json", "new one.json"}


def test_a_comparison(checkout: Checkout, sglang: Path, tmp_path: Path) -> None:
    """Releases need no repository; whatever a build is called is one word of the suite's."""
    where = {"SGLANG_URL": str(sglang), "SGLANG_REPO": str(tmp_path / "kept")}
    releases = {"BASE": "sglang==0.5.22", "HEAD": "sglang==0.5.23", "PROFILE": "h200", "MARKERS": "tp"}
    assert checkout.run("compare", "-k", "streams8 and latency", **releases).code == 0
    assert checkout.tox.words[-1].pop() == "streams8 and latency"
    assert checkout.tox.words[-1][-2:] == ["-k", "streams8 and latency"]
    assert checkout.tox.words[-1][4:-2] == [
        "--profile=h200", "--time-limit=18000", "-m", "tp", "--base=sglang==0.5.22", "--head=sglang==0.5.23"
    ]  # fmt: skip
    hostile = "$(touch here); `touch here` --strict"
    assert checkout.run("compare", BASE="sglang==0.5.22", HEAD=hostile, **where).code == 0
    assert checkout.tox.words[-1][4:] == [
        "--profile=auto", "--time-limit=18000", "-m", "decode or prefill", f"--sglang-repo={tmp_path / 'kept'}",
        "--base=sglang==0.5.22", f"--head={hostile}",
    ]  # fmt: skip
    assert not (checkout.folder / "here").exists()
    checkout.tox.answers({"run": ("", 1)})
    assert checkout.run("compare", **releases).code == 1


def test_a_comparison_of_one_build_is_none(checkout: Checkout) -> None:
    """It says which variable is missing."""
    done = checkout.run("compare", BASE="sglang==0.5.22")

    assert done.code != 0
    assert "name the build that is judged" in done.err
    assert checkout.tox.calls == []


# ---- what is said of it


def summary(folder: Path, run: str, text: str) -> None:
    (folder / run).mkdir(parents=True)
    (folder / run / "summary.md").write_text(text)


def test_a_jobs_page(checkout: Checkout) -> None:
    """All runs, the newest first; none is said, too."""
    assert checkout.run("job_summary.py").out == "No run was kept in `results`: the job's log says why.\n"
    summary(checkout.folder / "results", "20260101-000000-1", "older ±\n")
    summary(checkout.folder / "results", "20260102-000000-1", "newer\n")
    assert checkout.run("job_summary.py").out == "newer\n\nolder ±\n"
    assert checkout.run("job_summary.py", "results/20260101-000000-1").out == "older ±\n"


@pytest.mark.parametrize("line", ["| é@x | 1.000 |\n"])
def test_a_page_and_a_comment_are_cut_where_github_would_refuse_them(checkout: Checkout, line: str) -> None:
    """At the end of a line, what was folded closed, and it is said."""
    text = "# run\n<details><summary>All</summary>\n\n" + line * 80_000 + "</details>\n"
    summary(checkout.folder / "results", "1", text)
    page = checkout.run("job_summary.py").out
    assert checkout.run("comment.py", "results", NUMBER="1").code == 0
    ((_, comment),) = checkout.gh.calls

    for cut, limit, whole in ((page, 1024 * 1024, line), (comment, 65_536, line.replace("@", "@\u200b"))):
        assert limit - 200 < len(cut.encode()) <= limit
        shown, end = cut.split("\n\n</details>\n\n")
        assert end == "Cut here; the rest is in the artifacts.\n"
        assert f"{shown}\n".endswith(whole)


def test_a_comment(checkout: Checkout) -> None:
    """The newest run's summary, with a link, on the number that was given; names notify nobody."""
    text = "## run\n- by @octocat, see #12 and GH-7 <img src=x>\n- \\<b> \\#3\n\n<details><summary>All</summary>\n\n| a |\n\n</details>\n"
    summary(checkout.folder / "results", "20260101-000000-1", "older\n")
    summary(checkout.folder / "results", "20260102-000000-1", text)
    assert checkout.run("comment.py", "results", NUMBER="42", LINK="https://example.org/1").code == 0
    ((words, body),) = checkout.gh.calls

    assert words == [
        "api", "--silent", "--method=POST", "repos/{owner}/{repo}/issues/42/comments", "--field=body=@-"
    ]  # fmt: skip
    assert body.splitlines() == [
        "[Measured here](https://example.org/1), with all that was kept.",
        "",
        "## run",
        "- by @\u200boctocat, see #\u200b12 and GH-\u200b7 &lt;img src=x>",
        "- \\<b> \\#\u200b3",
        *text.splitlines()[3:],
    ]


@pytest.mark.parametrize("number", ["", "0", "x", "1/../2", "1 2", "-1", "１", "12345678901"])
def test_a_comment_goes_to_a_number(checkout: Checkout, number: str) -> None:
    """Anything else could be another address."""
    done = checkout.run("comment.py", "results", NUMBER=number)

    assert done.code == 2
    assert repr(number) in done.err
    assert checkout.gh.calls == []


def test_a_comment_that_github_refuses(checkout: Checkout) -> None:
    """The job fails with it."""
    checkout.gh.answers({"api": ("", 1)})

    assert checkout.run("comment.py", "results", NUMBER="1").code == 1


# ---- issues


def keep(folder: Path, *, area: str = "decode", profile: str = "h100", **statuses: str) -> None:
    """A run as an artifact holds it: case → status."""
    metric = {"name": "inter_token_latency", "unit": "s", "kind": "timing"}
    cases = {
        name: {
            "area": area, "config": "c", "metric": metric, "base": [[1.0]], "head": [[1.5]], "status": status,
            "comparison": {"ratio": 1.5, "low": 1.4, "high": 1.6},
        }
        for name, status in statuses.items()
    }  # fmt: skip
    document: dict[str, Any] = {
        "schema_version": 1, "run": f"20260101-000000-{area}", "settings": {"profile": profile}, "cases": cases,
        "targets": {"head": {"label": "sglang 0.5.23"}}, "fingerprints": {"c": {"id": "1x"}}, "explanations": {},
    }  # fmt: skip
    place = folder / f"results-{profile}" / area
    place.mkdir(parents=True)
    (place / "run.json").write_text(json.dumps(document))


def open_issues(gh: Double, *issues: dict[str, Any], **answers: tuple[str, int]) -> None:
    named = {" ".join(name.split("_")): answer for name, answer in answers.items()}
    gh.answers({**named, "issue list": (json.dumps(issues), 0)})


LIST = [
    "issue",
    "list",
    "--label=performance-regression",
    "--state=open",
    "--limit=1000",
    "--json=number,body",
]
LABEL = ["label", "create", "performance-regression"]


def test_an_issue_for_each_area(checkout: Checkout) -> None:
    """Two profiles share one; its text is given as it is, and the label is there by then."""
    runs = checkout.folder / "downloaded"
    keep(runs, a="regressed", b="regressed", c="unchanged")
    keep(runs, profile="h200", a="regressed")
    keep(runs, area="tp", d="regressed")
    keep(runs, area="radix", e="unchanged")
    open_issues(checkout.gh)
    done = checkout.run("file_issues.py", "downloaded", LINK="https://example.org/1")

    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == ["open: decode, 3 of 4 regressed", "open: tp, 1 of 1 regressed"]
    assert [words[:3] for words in checkout.gh.words] == [
        LIST[:3], LABEL, ["issue", "create", "--title=Performance regression: decode"],
        LABEL, ["issue", "create", "--title=Performance regression: tp"],
    ]  # fmt: skip
    assert checkout.gh.words[0] == LIST
    words, body = checkout.gh.calls[2]
    assert words[3:] == ["--label=performance-regression", "--body-file=-"]
    assert body.startswith("<!-- sglperf:regressed area=decode cases=")
    assert "### `h100`" in body
    assert "### `h200`" in body
    assert "[Measured here](https://example.org/1)" in body


def test_the_next_nights(checkout: Checkout) -> None:
    """The same issue is rewritten; what comes and goes is a comment; once all is fine it is closed."""
    runs = checkout.folder / "downloaded"

    def night(*issues: dict[str, Any], **statuses: str) -> list[tuple[list[str], str]]:
        shutil.rmtree(runs, ignore_errors=True)
        keep(runs, **statuses)
        before = len(checkout.gh.calls)
        open_issues(checkout.gh, *issues)
        done = checkout.run("file_issues.py", "downloaded")
        assert (done.code, done.err) == (0, "")
        return checkout.gh.calls[before + 1 :]

    *_, (_, body) = night(a="regressed", b="unchanged")
    issue = {"number": 8, "body": body.replace("\n", "\r\n")}
    ((words, same),) = night(issue, a="regressed", b="unchanged")
    assert (words, same) == (["issue", "edit", "8", "--body-file=-"], body)
    (first, body), (second, comment) = night(issue, a="regressed", b="regressed")
    assert (first, second) == (
        ["issue", "edit", "8", "--body-file=-"],
        ["issue", "comment", "8", "--body-file=-"],
    )
    assert comment.startswith("Regressed, too: `b`")
    issue = {"number": 8, "body": body}
    ((words, _),) = night(issue, a="inconclusive", b="regressed")
    assert words[:3] == ["issue", "edit", "8"]
    (first, comment), (second, _) = night(issue, a="unchanged", b="improved")
    assert first == ["issue", "comment", "8", "--body-file=-"]
    assert comment.startswith("Fine again, each of 2 metrics: `a`")
    assert second == ["issue", "close", "8", "--reason=completed"]
    assert night(issue | {"body": "A person's own text"}, a="unchanged", b="unchanged") == []


def test_a_quiet_night(checkout: Checkout) -> None:
    """Nothing is regressed, and nothing is touched."""
    keep(checkout.folder / "downloaded", a="unchanged", b="invalid", c="new")
    open_issues(checkout.gh)

    assert checkout.run("file_issues.py", "downloaded").code == 0
    assert checkout.gh.words == [LIST]


def test_a_night_without_a_run(checkout: Checkout) -> None:
    """Nothing is known then; the job that measured has failed by itself."""
    done = checkout.run("file_issues.py", "downloaded")

    assert done.code == 0
    assert "nothing is opened or closed" in done.out
    assert checkout.gh.calls == []


def test_a_rehearsal(checkout: Checkout) -> None:
    """It says what it would do, and asks only which issues are open."""
    keep(checkout.folder / "downloaded", a="regressed")
    open_issues(checkout.gh)
    done = checkout.run("file_issues.py", "--dry-run", "downloaded")

    assert (done.code, done.out) == (0, "open: decode, 1 of 1 regressed\n")
    assert checkout.gh.words == [LIST]


def test_what_github_refuses_is_said_and_the_rest_is_done(checkout: Checkout) -> None:
    """One area's issue does not stand in the way of another's."""
    runs = checkout.folder / "downloaded"
    keep(runs, a="regressed")
    keep(runs, area="tp", d="regressed")
    open_issues(checkout.gh, **{"issue_create_--title=Performance regression: decode": ("", 1)})
    done = checkout.run("file_issues.py", "downloaded")

    assert done.code == 1
    assert (
        "decode: gh issue create --title=Performance regression: decode ended with 1: gh: HTTP 403"
        in done.err
    )
    assert checkout.gh.words[-1][2] == "--title=Performance regression: tp"


def test_issues_that_cannot_be_listed(checkout: Checkout) -> None:
    """Without them every night would open new ones, so nothing is done."""
    keep(checkout.folder / "downloaded", a="regressed")
    checkout.gh.answers({"issue list": ("", 1)})
    done = checkout.run("file_issues.py", "downloaded")

    assert done.code == 1
    assert "gh issue list" in done.err
    assert "HTTP 403" in done.err
    assert checkout.gh.words == [LIST]


def test_a_run_that_cannot_be_read(checkout: Checkout) -> None:
    """The others' issues are opened, and the job fails."""
    keep(checkout.folder / "downloaded", a="regressed")
    broken = checkout.folder / "downloaded" / "results-h200"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    open_issues(checkout.gh)
    done = checkout.run("file_issues.py", "downloaded")

    assert done.code == 1
    assert "left out: downloaded/results-h200/run.json: not a run" in done.err
    assert checkout.gh.words[-1][:2] == ["issue", "create"]
