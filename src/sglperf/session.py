"""One pytest session's measurement: from settings to targets, machine and folder, then the pipeline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sglperf.config_folder import load_claims
from sglperf.core.environment_check import check_environment
from sglperf.core.fingerprint import fingerprint
from sglperf.environment import Environment
from sglperf.errors import UsageError
from sglperf.outcome import Assignment, Site
from sglperf.pipeline import run
from sglperf.probes.machine import probe_machine
from sglperf.probes.versions import read_installation
from sglperf.store import RunFolder
from sglperf.target.build import Target
from sglperf.target.resolve import resolve_target

if TYPE_CHECKING:
    import pytest

    from sglperf.settings import Settings
    from sglperf.suite import Suite


def measure_plan(config: pytest.Config, suite: Suite) -> None:
    """Execute the suite's plan and leave the outcome in ``suite.outcome``.

    Raises:
        SglperfError: nothing could be measured.
    """
    assert suite.plan is not None
    progress = ProgressLine(config)
    claims, settings, shards = load_claims(suite.folder), suite.settings, suite.shards
    installation = None
    if shards is not None:
        shards.check(suite.plan, settings)
        targets = dict(shards.targets)
        site = Site(shards.machine, shards.fingerprints, (*shards.notes, *_notes(suite)))
    else:
        progress("looking at the machine and the target")
        targets = _targets(settings, progress)
        site = _site(suite)
    if suite.piece is not None:
        installation = read_installation(targets["head"].interpreter)
    with RunFolder(settings.results_dir) as folder:
        given = Assignment(
            suite.plan,
            settings,
            targets,
            site,
            claims,
            folder,
            progress,
            piece=suite.piece,
            installation=installation,
            shards=shards,
        )
        try:
            suite.outcome = run(given)
        except KeyboardInterrupt:
            progress(
                f"interrupted; the rounds measured so far are in {folder.path / 'journal.jsonl'}", done=True
            )
            raise
        finally:
            progress.close()


def look_at_environment(suite: Suite) -> Environment:
    """This machine and the installation of the target that is judged, as ``sglperf env`` sees them; those of shards.

    Raises:
        TargetError: there is no such target.
    """
    settings, ranks = suite.settings, suite.most_ranks
    if suite.shards is not None:
        check, *others = (check_environment(*one) for one in suite.shards.environments)
        return Environment(check, settings.device, ranks, tuple(others))
    target = resolve_target(
        settings.head or settings.target, repository=settings.sglang_repo, mode=settings.target_mode
    )
    check = check_environment(probe_machine(), read_installation(target.interpreter))
    return Environment(check, settings.device, ranks)


def _targets(settings: Settings, progress: ProgressLine) -> dict[str, Target]:
    if (settings.base is None) != (settings.head is None):
        raise UsageError("--base and --head go together: give both, or --target alone")
    if settings.base is not None and settings.target is not None:
        raise UsageError(
            "--target compares with a baseline, --base and --head with each other: give one or the other"
        )
    specs = {"base": settings.base, "head": settings.head}
    if settings.base is None:
        specs = {"head": settings.target}
    targets = {}
    for side, spec in specs.items():
        progress(
            f"looking at {spec or 'the SGLang importable here'}; one that is not installed takes a minute"
        )
        targets[side] = resolve_target(spec, repository=settings.sglang_repo, mode=settings.target_mode)
    return targets


def _site(suite: Suite) -> Site:
    assert suite.plan is not None
    machine = probe_machine()
    sets = {config.label: config.tp_set if config.device == "cuda" else () for config in suite.plan.configs}
    fingerprints = {label: fingerprint(machine, gpus) for label, gpus in sets.items()}
    return Site(machine, fingerprints, _notes(suite))


def _notes(suite: Suite) -> tuple[str, ...]:
    assert suite.plan is not None
    return tuple(dict.fromkeys(note for config in suite.plan.configs for note in suite.notes[config.label]))


class ProgressLine:
    """What the run is doing: one line that is overwritten in a terminal, one line per finished step elsewhere."""

    def __init__(self, config: pytest.Config) -> None:
        self._reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._begin = time.monotonic()
        self._live = self._reporter is not None and self._reporter.isatty and config.get_verbosity() >= 0
        self._open = False

    def __call__(self, text: str, *, done: bool = False) -> None:
        """Show ``text``; ``done`` keeps the line."""
        if self._reporter is None or not (done or self._live):
            return
        line = f"[{time.monotonic() - self._begin:4.0f} s] {text}"
        if done and not self._open:
            self._reporter.ensure_newline()
        if self._live:
            self._reporter.rewrite(line if done else line[: self._reporter._tw.fullwidth - 1], erase=True)
        else:
            self._reporter.write(line)
        self._open = not done
        if done:
            self._reporter.write("\n")

    def close(self) -> None:
        """Wipe an unfinished line."""
        if self._open:
            self._reporter.rewrite("", erase=True)
            self._open = False
