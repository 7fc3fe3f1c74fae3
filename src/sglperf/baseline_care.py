"""Baselines as a person tends them: what is there and since when, what a run offers, what is taken or removed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from sglperf.core.acceptance import OFFERED, Change, FileKey, accept, changes, chosen, outdated
from sglperf.core.baseline import Baseline, parse_baseline
from sglperf.core.validation import first_problem
from sglperf.errors import StoreError, TargetError, UsageError
from sglperf.kept_run import read_run
from sglperf.store import BaselineFolder
from sglperf.target.revision import git

_RESULTS = TypeAdapter(tuple[Baseline, ...])
_LOG_FORMAT = "%h%x00%an%x00%aI%x00%s"


@dataclass(frozen=True)
class Accepted:
    """The commit by which something came into the baselines.

    Attributes:
        commit: abbreviated hash.
        when: ISO 8601.
    """

    commit: str
    author: str
    when: str
    subject: str


@dataclass(frozen=True)
class Stored:
    """One baseline file.

    Attributes:
        commits: run → the commit that brought it in. A run without one is not committed yet.
    """

    path: Path
    baseline: Baseline
    commits: Mapping[str, Accepted]

    @property
    def key(self) -> FileKey:
        """Machine and area."""
        return self.baseline.fingerprint_id, self.baseline.area


def read_all(root: Path) -> tuple[Stored, ...]:
    """Every baseline below ``root``, by machine and area.

    Raises:
        UsageError: there is no such folder.
        BaselineError: a file cannot be used.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder: give the baselines' with --baseline-dir")
    return tuple(_stored(root, file) for file in _files(root))


def _files(root: Path) -> list[Path]:
    return [file for file in sorted(root.glob("*/*.json")) if not file.name.endswith(".calibration.json")]


def _stored(root: Path, file: Path) -> Stored:
    baseline = BaselineFolder(root, file.parent.name).read(file.stem)
    assert baseline is not None  # it was just listed
    runs = {run for case in baseline.cases.values() for run in case.records}
    return Stored(file, baseline, {run: found for run in sorted(runs) if (found := _brought_in(file, run))})


def _brought_in(file: Path, run: str) -> Accepted | None:
    """Who brought the run into the file; None where it is not committed, or no git keeps the folder."""
    try:
        log = git(file.parent, "log", f"--format={_LOG_FORMAT}", f"-S{run}", "--", file.name)
    except TargetError:
        return None
    lines = log.stdout.decode(errors="replace").splitlines() if log.returncode == 0 else []
    # The search also finds the commit that took it out, should it have come and gone: the oldest brought it.
    return Accepted(*lines[-1].split("\0", 3)) if lines else None


def at_revision(root: Path, revision: str) -> dict[FileKey, Baseline]:
    """The baselines as git has them at a revision.

    Raises:
        UsageError: git does not know the folder or the revision.
        BaselineError: a file of that time cannot be used.
    """
    listed = git(root, "ls-tree", "-r", "--name-only", revision, "--", ".")
    if listed.returncode:
        raise UsageError(
            f"{root} at {revision}: {listed.stderr.decode(errors='replace').strip()}: give a revision of the repository "
            "that keeps the baselines, or a run"
        )
    found: dict[FileKey, Baseline] = {}
    for name in listed.stdout.decode().splitlines():
        file = Path(name)
        if len(file.parts) == 2 and file.suffix == ".json" and not name.endswith(".calibration.json"):
            text = git(root, "show", f"{revision}:./{name}").stdout.decode(errors="replace")
            found[file.parts[0], file.stem] = parse_baseline(text, f"{revision}:{name}", file.parts[0])
    return found


@dataclass(frozen=True)
class Offer:
    """What a run has for the baselines.

    Attributes:
        statuses: case → what the run said of it.
        notes: what a person should know before taking it.
    """

    run: str
    files: Mapping[FileKey, Baseline]
    statuses: Mapping[str, str]
    notes: tuple[str, ...]


def read_offer(path: Path) -> Offer:
    """What a run offers.

    Raises:
        UsageError: no run of one target is there, or one of a version that kept nothing to take.
    """
    run = read_run(path)
    name = run.get("run", path)
    if set(run["targets"]) != {"head"}:
        raise UsageError(f"run {name} compares two builds: a baseline is taken from a run of one, --target")
    files = results_of(run, path)
    target = run["targets"]["head"]
    dirty = target.get("dirty_hash") is not None
    return Offer(
        run=str(name),
        files={(one.fingerprint_id, one.area): one for one in files},
        statuses={case: entry["status"] for case, entry in run["cases"].items()},
        notes=(f"{target['label']} had changes that were not committed: nobody else can measure it",)
        if dirty
        else (),
    )


def results_of(run: Mapping[str, Any], origin: Path | str) -> tuple[Baseline, ...]:
    """The results of a run's document, one for each machine and area.

    Raises:
        UsageError: it was kept by a version that kept none, or is damaged.
    """
    if "results" not in run:
        raise UsageError(f"{origin}: was kept by a version that kept no results to take: measure it anew")
    try:
        # As JSON, whose lists are tuples to a strict model; what was read into Python has lists.
        return _RESULTS.validate_json(orjson.dumps(run["results"]))
    except ValidationError as error:
        raise UsageError(f"{origin}: results.{first_problem(error)}: measure it anew") from None


@dataclass(frozen=True)
class Taken:
    """What accepting came to.

    Attributes:
        changes: what is different now.
        files: those that were written.
        left: status → how many cases of the run were not taken because of it.
    """

    run: str
    changes: tuple[Change, ...]
    files: tuple[Path, ...]
    left: Mapping[str, int]
    notes: tuple[str, ...] = ()


def take(
    offer: Offer, root: Path, patterns: Sequence[str] = (), statuses: Collection[str] = OFFERED
) -> Taken:
    """Put what is chosen of a run in the place of what the baselines have.

    Raises:
        UsageError: a pattern fits nothing that the run measured.
        BaselineError: a file that is there cannot be used.
        StoreError: a file cannot be written.
    """
    names = chosen(offer.files, offer.statuses, patterns, statuses)
    _refuse_unknown(offer, patterns)
    before = _read(root, offer.files)
    after = accept(before, offer.files, names)
    made = changes({key: before[key] for key in after if key in before}, after, offer.statuses)
    written = []
    for key in sorted({change.file for change in made}):
        part = offer.files[key].only(names)

        def merge(known: Baseline | None, part: Baseline = part) -> Baseline:
            return part if known is None else known.merged(part)

        written.append(BaselineFolder(root, key[0]).update(key[1], merge))
    offered = {name for one in offer.files.values() for name, *_ in one.metrics()}
    left = [offer.statuses[name] for name in offered - names if name in offer.statuses]
    return Taken(
        offer.run, made, tuple(written), {one: left.count(one) for one in sorted({*left})}, offer.notes
    )


def _refuse_unknown(offer: Offer, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        if not chosen(offer.files, offer.statuses, [pattern], frozenset(offer.statuses.values())):
            raise UsageError(
                f"{pattern!r} fits no case that run {offer.run} could measure: sglperf baseline diff {offer.run} lists them"
            )


def compared_with(offer: Offer, root: Path, patterns: Sequence[str] = ()) -> tuple[Change, ...]:
    """How the baselines would change if the whole run, or what fits, were taken."""
    _refuse_unknown(offer, patterns)
    everything = chosen(offer.files, offer.statuses, patterns, frozenset(offer.statuses.values()))
    before = _read(root, offer.files)
    after = accept(before, offer.files, everything)
    return changes({key: before[key] for key in after if key in before}, after, offer.statuses)


def _read(root: Path, keys: Collection[FileKey]) -> dict[FileKey, Baseline]:
    found = {key: BaselineFolder(root, key[0]).read(key[1]) for key in keys}
    return {key: baseline for key, baseline in found.items() if baseline is not None}


@dataclass(frozen=True)
class Pruned:
    """What was, or would be, removed.

    Attributes:
        files: changed, or deleted where nothing was left.
    """

    changes: tuple[Change, ...]
    files: tuple[Path, ...]


def prune(
    root: Path, patterns: Sequence[str], before: str, *, machine: str = "*", dry: bool = False
) -> Pruned:
    """Remove metrics that a pattern fits and that nothing was recorded for since ``before`` (ISO 8601, UTC).

    Raises:
        BaselineError: a file cannot be used.
        StoreError: a file cannot be written.
    """
    removed: list[Change] = []
    files = []
    for file in _files(root):
        folder = BaselineFolder(root, file.parent.name)
        known = folder.read(file.stem)
        names = (
            set() if known is None or not file.parent.match(machine) else outdated(known, patterns, before)
        )
        if known is None or not names:
            continue
        kept = known.only({name for name, *_ in known.metrics()} - names)
        key = (known.fingerprint_id, known.area)
        removed += changes({key: known}, {key: kept})
        files.append(file)
        if not dry:
            _replace(folder, file, names)
    return Pruned(tuple(removed), tuple(files))


def _replace(folder: BaselineFolder, file: Path, names: set[str]) -> None:
    """Without these names, whatever another run has added meanwhile; no file where none is left."""

    def without(known: Baseline | None) -> Baseline:
        assert known is not None
        return known.only({name for name, *_ in known.metrics()} - names)

    folder.update(file.stem, without)
    left = folder.read(file.stem)
    if left is not None and not left.cases:
        try:
            file.unlink()
        except OSError as error:
            raise StoreError(f"{file} cannot be removed ({error.strerror}): remove it by hand") from error
