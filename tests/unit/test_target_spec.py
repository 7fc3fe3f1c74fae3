"""From a target's specification to the exact build that is measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sglperf.errors import TargetError
from sglperf.target import build, overlay, resolve
from sglperf.target.build import Target
from sglperf.target.environment import Environment, inspect_environment
from sglperf.target.overlay import Mode
from sglperf.target.provision import Provisioned
from sglperf.target.resolve import resolve_target

FULL = {"sglang": "0.5.23", "torch": "2.14.1", "python": "3.11.7"}


def git(where: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", "-C", str(where), *identity, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An installed sglang 0.5.23 with two compiled modules."""
    package = tmp_path / "env" / "lib" / "site-packages" / "sglang"
    for name in ("__init__.py", "srt/rust/_core.so", "srt/elsewhere/_other.so"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(f"compiled {name}")
    (package / "_version.py").write_text("__version__ = version = '0.5.23'\n")
    return package


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Sources as in SGLang's repository: no version of their own, no compiled modules."""
    package = tmp_path / "repo" / "python" / "sglang"
    (package / "srt" / "rust").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "srt" / "scheduler.py").write_text("STEP = 1\n")
    (package / "version.py").write_text(
        "from importlib.metadata import version\n__version__ = version('sglang')\n"
    )
    return tmp_path / "repo"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, site: Path) -> dict[str, Environment]:
    """Interpreters by path; `here` is this process's own."""
    known = {sys.executable: Environment(Path(sys.executable), "3.11.7", FULL, site)}

    def inspect(interpreter: Path, *, pythonpath: bool = False) -> Environment:
        assert isinstance(pythonpath, bool)
        return known[str(interpreter)]

    for room in (resolve, build, overlay):
        monkeypatch.setattr(room, "inspect_environment", inspect)
    return known


def without(packages: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in packages.items() if key != name}


def target_of(spec: str | None, tmp_path: Path) -> Target:
    return resolve_target(spec, cache=tmp_path / "cache")


@pytest.mark.parametrize("spec", [None, "sglang==0.5.23", "sglang == 0.5.23"])
def test_installed(tmp_path: Path, spec: str | None) -> None:
    """The SGLang installed here is the target when none is named, or when its version is."""
    target = target_of(spec, tmp_path)
    assert (target.version, target.import_path, target.interpreter) == ("0.5.23", None, Path(sys.executable))
    assert target.packages == FULL
    assert target.label == "sglang 0.5.23"


def test_other_version_than_installed(
    environment: dict[str, Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is not installed gets an environment of its own, made with this interpreter's version."""
    asked: list[tuple[object, ...]] = []

    def made(*arguments: object) -> Provisioned:
        asked.append(arguments)
        return Provisioned(tmp_path / "made", "sglang==0.5.20", "3.11.7", 0.0, in_use=True)

    monkeypatch.setattr(overlay, "provide", made)
    python = tmp_path / "made" / "bin" / "python"
    package = tmp_path / "made" / "site-packages" / "sglang"
    environment[str(python)] = Environment(python, "3.11.7", {**FULL, "sglang": "0.5.20"}, package)
    target = target_of("sglang==0.5.20", tmp_path)
    assert (target.version, target.interpreter, target.import_path) == ("0.5.20", python, None)
    assert asked == [
        (("sglang==0.5.20",), Path(sys.executable), "3.11.7", tmp_path / "cache" / "environments")
    ]


def wheel(folder: Path) -> Provisioned:
    """A release's package alone, as ``--no-deps --target`` leaves it."""
    metadata = folder / "sglang-0.5.22.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    asked = "".join(f"Requires-Dist: {one}\n" for one in ("torch==2.14.1", "openai==2.6.1", "timm"))
    metadata.write_text(f"Metadata-Version: 2.1\nName: sglang\n{asked}\nIts description.\n")
    return Provisioned(folder, "sglang==0.5.22 (overlay)", "3.11.7", 0.0, in_use=True)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("auto", "no environment of its own could be made (No solution found)"),
        ("overlay", "asked for by --target-mode"),
    ],
)
def test_release_as_an_overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode, why: str) -> None:
    """Where no environment can be made for a release, or an overlay is asked for, it runs over what is installed, and says what that leaves out."""

    def made(*_: object, overlay: bool = False) -> Provisioned:
        if not overlay:
            raise TargetError("`uv pip install` failed:\n  x No solution found\nCheck")
        return wheel(tmp_path / "overlay")

    monkeypatch.setattr(overlay, "provide", made)
    target = resolve_target("sglang==0.5.22", cache=tmp_path / "cache", mode=mode)
    assert (target.version, target.import_path, target.interpreter) == (
        "0.5.22",
        tmp_path / "overlay",
        Path(sys.executable),
    )
    assert target.packages == {**FULL, "sglang": "0.5.22"}
    assert target.notes == (
        f"sglang 0.5.22 runs over the packages of the installed sglang 0.5.23: {why}; "
        "left out: openai==2.6.1 (not installed), timm (not installed)",
    )


def test_release_that_must_have_an_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --target-mode=venv a release that cannot have one is refused, with uv's words."""

    def made(*_: object, **__: object) -> Provisioned:
        raise TargetError("`uv pip install` failed: No solution found")

    monkeypatch.setattr(overlay, "provide", made)
    with pytest.raises(TargetError, match="No solution found"):
        resolve_target("sglang==0.5.22", cache=tmp_path / "cache", mode="venv")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("`uv pip install` failed:\n  x No solution found\n  hint: later\nCheck", "No solution found"),
        (
            "`uv pip install` failed:\n***\n\nhint: `a` depends on `b`\n\nhint: Build failures",
            "`a` depends on `b`",
        ),
        ("cannot keep an environment: disk full", "cannot keep an environment: disk full"),
    ],
)
def test_reason(said: str, reason: str) -> None:
    """Of all that uv says, the first line that names a cause."""
    assert overlay._reason(TargetError(said)) == reason


def test_version_that_is_too_old(tmp_path: Path) -> None:
    """A version older than the oldest supported is refused before an environment is made for it."""
    with pytest.raises(TargetError, match="SGLang 0.5.10 is older than 0.5.16"):
        target_of("sglang==0.5.10", tmp_path)


def test_no_sglang(environment: dict[str, Environment], tmp_path: Path) -> None:
    """An environment without SGLang is refused with what to install."""
    environment[sys.executable] = Environment(Path(sys.executable), "3.11.7", {"python": "3.11.7"}, None)
    with pytest.raises(TargetError, match=r"no SGLang can be imported.*uv pip install sglang"):
        target_of(None, tmp_path)


def test_interpreter(environment: dict[str, Environment], site: Path, tmp_path: Path) -> None:
    """A path to an interpreter, or to its virtual environment, names what is installed there."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    environment[str(python)] = Environment(python, "3.12.1", {**FULL, "sglang": "0.5.17"}, site)
    for spec in (python, python.parent.parent):
        target = target_of(str(spec), tmp_path)
        assert (target.interpreter, target.version) == (python, "0.5.17")


@pytest.mark.parametrize("spec", ["v0.5.20", "main", "a1b2c3d4e5", "origin/main"])
def test_revision_without_repository(tmp_path: Path, spec: str) -> None:
    """What may be a revision is one of no repository until --sglang-repo names one."""
    with pytest.raises(
        TargetError, match=rf"no file or directory '{spec}'. If it is a git revision.*--sglang-repo=PATH"
    ):
        target_of(spec, tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    """A path with nothing at it, or a folder with neither sources nor environment, is refused."""
    with pytest.raises(TargetError, match="no file or directory '/nowhere/sglang'"):
        target_of("/nowhere/sglang", tmp_path)
    with pytest.raises(TargetError, match=r"neither an SGLang checkout .* nor a virtual environment"):
        target_of(str(tmp_path), tmp_path)


def test_too_old(environment: dict[str, Environment], site: Path, tmp_path: Path) -> None:
    """An SGLang older than the oldest supported one is refused when the target is resolved."""
    old = {**FULL, "sglang": "0.4.10"}
    environment[sys.executable] = Environment(Path(sys.executable), "3.11.7", old, site)
    with pytest.raises(TargetError, match=r"0.4.10 is older than 0.5.16"):
        target_of(None, tmp_path)


def test_checkout_is_measured_as_a_snapshot(checkout: Path, tmp_path: Path) -> None:
    """A checkout is copied with the compiled modules it has room for, and nothing is written into it."""
    before = {path: path.stat().st_mtime_ns for path in checkout.rglob("*")}
    target = target_of(str(checkout), tmp_path)
    assert target.import_path is not None
    snapshot = target.import_path / "sglang"
    assert (snapshot / "srt" / "scheduler.py").read_text() == "STEP = 1\n"
    assert (snapshot / "srt" / "rust" / "_core.so").read_text() == "compiled srt/rust/_core.so"
    assert not (snapshot / "srt" / "elsewhere").exists()
    assert "1 compiled modules come from the installed sglang 0.5.23" in target.notes
    assert {path: path.stat().st_mtime_ns for path in checkout.rglob("*")} == before


def test_snapshot_proves_itself_by_its_version(checkout: Path, tmp_path: Path) -> None:
    """Sources that would report the installed version get one of their own, from base, commit and content."""
    target = target_of(str(checkout), tmp_path)
    assert target.version == f"0.5.23+c{target.content}"
    assert target.import_path is not None
    namespace: dict[str, object] = {}
    exec((target.import_path / "sglang" / "_version.py").read_text(), namespace)
    assert namespace["__version__"] == target.version
    assert target.packages["sglang"] == target.version


@pytest.mark.parametrize(
    ("name", "text"),
    [("_version.py", "__version__ = version = '0.5.22'\n"), ("version.py", '__version__: str = "0.5.22"\n')],
)
def test_checkout_with_a_version_keeps_it(checkout: Path, tmp_path: Path, name: str, text: str) -> None:
    """A version written in the sources is theirs."""
    (checkout / "python" / "sglang" / name).write_text(text)
    assert target_of(str(checkout), tmp_path).version == "0.5.22"


def test_import_path_works_like_a_checkout(checkout: Path, tmp_path: Path) -> None:
    """The directory that holds ``sglang/`` names the same sources as the repository."""
    whole = target_of(str(checkout), tmp_path)
    inner = target_of(str(checkout / "python"), tmp_path)
    assert (inner.content, inner.import_path) == (whole.content, whole.import_path)


def test_edit_makes_another_snapshot(checkout: Path, tmp_path: Path) -> None:
    """An edit changes the content and leaves the earlier snapshot as it was; undoing it finds it again."""
    source = checkout / "python" / "sglang" / "srt" / "scheduler.py"
    first = target_of(str(checkout), tmp_path)
    source.write_text("STEP = 2\n")
    second = target_of(str(checkout), tmp_path)
    source.write_text("STEP = 1\n")
    third = target_of(str(checkout), tmp_path)
    assert first.content == third.content != second.content
    assert first.import_path is not None
    assert (first.import_path / "sglang" / "srt" / "scheduler.py").read_text() == "STEP = 1\n"
    assert first.key == second.key


def test_bytecode_is_no_edit(checkout: Path, tmp_path: Path) -> None:
    """Bytecode that a run of the checkout left behind neither changes its content nor is copied."""
    clean = target_of(str(checkout), tmp_path)
    cached = checkout / "python" / "sglang" / "__pycache__" / "scheduler.cpython-311.opt"
    cached.parent.mkdir()
    cached.write_bytes(b"code")
    assert target_of(str(checkout), tmp_path).content == clean.content


def test_git_facts_are_recorded(checkout: Path, tmp_path: Path) -> None:
    """Commit, tag and local changes of a checkout are recorded; an untracked file counts as a change."""
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "one")
    git(checkout, "tag", "v0.5.21")
    commit = git(checkout, "rev-parse", "HEAD")
    clean = target_of(str(checkout), tmp_path)
    assert (clean.commit, clean.dirty_hash) == (commit, None)
    assert clean.version == f"0.5.21+g{commit[:9]}.c{clean.content}"
    assert clean.label == f"repo@{commit[:9]}"
    (checkout / "python" / "sglang" / "new.py").write_text("x = 1\n")
    untracked = target_of(str(checkout), tmp_path)
    (checkout / "python" / "sglang" / "new.py").unlink()
    (checkout / "python" / "sglang" / "__init__.py").write_text("x = 1\n")
    edited = target_of(str(checkout), tmp_path)
    assert untracked.dirty_hash
    assert edited.dirty_hash
    assert untracked.dirty_hash != edited.dirty_hash
    assert edited.label == f"repo@{commit[:9]}+local"


def test_enclosing_repository_is_not_the_checkouts(checkout: Path, tmp_path: Path) -> None:
    """Sources that merely lie inside somebody's repository get no commit from it."""
    git(tmp_path, "init", "-q")
    (tmp_path / "note").touch()
    git(tmp_path, "add", "note")
    git(tmp_path, "commit", "-q", "-m", "unrelated")
    assert target_of(str(checkout), tmp_path).commit is None


def test_editable_install_is_a_checkout(
    environment: dict[str, Environment], checkout: Path, tmp_path: Path
) -> None:
    """SGLang installed in editable mode is measured as the checkout it is."""
    package = checkout / "python" / "sglang"
    environment[sys.executable] = Environment(Path(sys.executable), "3.11.7", FULL, package)
    target = target_of(None, tmp_path)
    assert target.origin == package
    assert target.content is not None


def test_checkout_needs_torch(environment: dict[str, Environment], checkout: Path, tmp_path: Path) -> None:
    """A checkout in an environment without SGLang's dependencies is refused."""
    bare = Environment(Path(sys.executable), "3.11.7", without(FULL, "torch"), None)
    environment[sys.executable] = bare
    with pytest.raises(TargetError, match=r"has no torch.*Install SGLang's dependencies"):
        target_of(str(checkout), tmp_path)


def test_unwritable_cache(checkout: Path, tmp_path: Path) -> None:
    """A cache that cannot be written is named."""
    (tmp_path / "cache").touch()
    with pytest.raises(TargetError, match=r"cannot take a snapshot of .*XDG_CACHE_HOME"):
        target_of(str(checkout), tmp_path)


def test_interpreter_is_asked_without_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether and where SGLang is installed is found out without running any of its code."""
    package = tmp_path / "sglang"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert inspect_environment(Path(sys.executable), pythonpath=True).sglang == package
    assert inspect_environment(Path(sys.executable)).sglang != package


def test_folder_of_that_name_is_not_sglang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder named sglang on the path or in the current directory is not taken for the package."""
    (tmp_path / "on-path" / "sglang").mkdir(parents=True)
    (tmp_path / "current" / "sglang").mkdir(parents=True)
    (tmp_path / "current" / "sglang" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "on-path"))
    monkeypatch.chdir(tmp_path / "current")
    found = inspect_environment(Path(sys.executable), pythonpath=True).sglang
    assert found is None or tmp_path not in found.parents


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/echo", "/etc/hostname"])
def test_not_an_interpreter(program: str) -> None:
    """What is not a Python is named, with what to give instead."""
    with pytest.raises(TargetError, match=rf"{program}.*Python interpreter.*\.venv/bin/python"):
        inspect_environment(Path(program))


# Git revisions


@pytest.fixture
def repository(checkout: Path) -> Path:
    """Two commits: v0.5.23, and one that changes a line of Python."""
    (checkout / "python" / "pyproject.toml").write_text(
        "[project]\nname = 'sglang'\ndependencies = ['torch==2.14.1', 'nothing-here; python_version < \"3\"']\n"
    )
    (checkout / "python/sglang/srt/rust/__init__.py").touch()
    (checkout / "rust").mkdir()
    (checkout / "rust" / "lib.rs").write_text("// one\n")
    git(checkout, "init", "-q")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-qm", "one")
    git(checkout, "tag", "v0.5.23")
    commit(checkout, "python/sglang/srt/scheduler.py", "STEP = 2\n")
    return checkout


def commit(repository: Path, file: str, text: str) -> str:
    (repository / file).write_text(text)
    git(repository, "commit", "-qam", file)
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def full(environment: dict[str, Environment]) -> None:
    """The installed environment tells all that it has."""
    here = environment[sys.executable]
    environment[sys.executable] = replace(here, everything={"sglang": "0.5.23", "torch": "2.14.1"})


def revision_of(repository: Path, spec: str, tmp_path: Path, mode: Mode = "auto") -> Target:
    return resolve_target(spec, cache=tmp_path / "cache" / "snapshots", repository=repository, mode=mode)


@pytest.mark.usefixtures("full")
def test_revision_that_differs_in_python(repository: Path, tmp_path: Path) -> None:
    """Its sources run over what is installed, and say so; neither work tree nor index of the repository is touched."""
    (repository / "python" / "sglang" / "srt" / "scheduler.py").write_text("STEP = 3  # not committed\n")
    before = git(repository, "status", "--porcelain")
    target = revision_of(repository, "HEAD", tmp_path)
    head = git(repository, "rev-parse", "HEAD")
    assert (target.label, target.commit, target.dirty_hash) == (f"HEAD@{head[:9]}", head, None)
    assert target.import_path is not None
    assert (target.import_path / "sglang/srt/scheduler.py").read_text() == "STEP = 2\n"
    assert (target.import_path / "sglang/srt/rust/_core.so").exists()
    assert target.notes[0] == f"{target.label} runs over the installed sglang 0.5.23: only Python differs"
    assert target.version.startswith(f"0.5.23+g{head[:9]}.")
    assert git(repository, "status", "--porcelain") == before


NEEDS = "[project]\ndependencies = ['torch=={}', '{}']\n"


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("file", "text", "why", "builds"),
    [
        (
            "rust/lib.rs",
            "// two\n",
            "native code differs from 0.5.23's (rust/lib.rs, 1 in all)",
            True,
        ),
        (
            "python/pyproject.toml",
            NEEDS.format("2.15.0", "torch"),
            "it requires torch==2.15.0 (2.14.1 is installed)",
            True,
        ),
        (
            "python/pyproject.toml",
            NEEDS.format("2.14.1", "helion>=1"),
            "it requires helion>=1 (not installed)",
            False,
        ),
    ],
)
def test_revision_that_needs_an_environment(
    repository: Path,
    environment: dict[str, Environment],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    text: str,
    why: str,
    builds: bool,
) -> None:
    """Where native code or requirements changed it gets an environment of its own, with the reason.

    It is built, from the whole repository, only where compiled modules would not fit; else its sources run over an
    environment with its requirements. An overlay on demand says what it leaves out.
    """
    head = commit(repository, file, text)
    asked: list[Sequence[str]] = []

    def made(
        requirements: Sequence[str], *_: object, variables: Mapping[str, str] | None = None
    ) -> Provisioned:
        asked.append(requirements)
        assert (variables is not None) == builds
        assert not variables or variables["SETUPTOOLS_SCM_PRETEND_VERSION"] == f"0.5.23+g{head[:9]}"
        return Provisioned(tmp_path / "made", "", "3.11.7", 0.0, in_use=True)

    monkeypatch.setattr(overlay, "provide", made)
    python = tmp_path / "made" / "bin" / "python"
    inside = tmp_path / "made" / "site-packages" / "sglang" if builds else None
    environment[str(python)] = Environment(python, "3.11.7", FULL, inside)
    target = revision_of(repository, head, tmp_path)
    assert (target.interpreter, target.commit, target.label) == (python, head, head[:9])
    assert target.notes[0] == f"{head[:9]} has an environment of its own: {why}"
    sources = tmp_path / "cache" / "sources"
    if builds:
        assert asked == [(str(sources / f"{head}-whole" / "python"),)]
        assert (sources / f"{head}-whole" / "rust" / "lib.rs").is_file()
    else:
        assert asked == [("torch==2.14.1", "helion>=1")]
        assert target.import_path is not None
        assert (target.import_path / "sglang/srt/rust/_core.so").exists()
    over = revision_of(repository, head, tmp_path, mode="overlay")
    assert over.notes[0] == f"{head[:9]} runs over the installed sglang 0.5.23: {why}"


@pytest.mark.usefixtures("full")
def test_repository_without_the_release(repository: Path, tmp_path: Path) -> None:
    """Without the installed release's tag nobody knows whether native code differs, and that is said."""
    git(repository, "tag", "-d", "v0.5.23")
    target = revision_of(repository, "HEAD", tmp_path)
    assert target.notes[1] == "no tag v0.5.23 there, so whether native code differs is unknown"


@pytest.mark.parametrize("spec", ["v0.1.2", "no-such-branch", "--output=x"])
def test_no_such_revision(repository: Path, tmp_path: Path, spec: str) -> None:
    """A spec that is nothing anywhere is refused, naming the repository that was looked at."""
    with pytest.raises(
        TargetError,
        match=f"no file or directory '{spec}', and no revision '{spec}' in {repository}: fetch it",
    ):
        revision_of(repository, spec, tmp_path)


@pytest.mark.usefixtures("full")
def test_repository_of_something_else(repository: Path, tmp_path: Path) -> None:
    """A commit without SGLang's sources is refused with what was looked for."""
    git(repository, "rm", "-rqf", "python")
    git(repository, "commit", "-qm", "gone")
    with pytest.raises(
        TargetError, match="has no python/sglang and python/pyproject.toml: is this SGLang's repository"
    ):
        revision_of(repository, "HEAD", tmp_path)
