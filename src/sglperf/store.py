"""Files: a run's folder, written as things happen, and baselines, shared by runs that may be at work at once."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson
from filelock import FileLock, Timeout

from sglperf.core.baseline import Baseline, dump_baseline, parse_baseline
from sglperf.core.calibration_file import CalibrationFile, dump_calibration, parse_calibration
from sglperf.errors import BaselineError, StoreError


class RunFolder:
    """``results/RUN/``: the journal, then what was made of it.

    A run's name is its start in UTC and the process that made it, so two runs at once never share one.
    """

    def __init__(self, results: Path) -> None:
        self.name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}"
        self.path = results / self.name
        try:
            self.path.mkdir(parents=True)
            self._journal: IO[bytes] = (self.path / "journal.jsonl").open("ab")
        except OSError as error:
            raise StoreError(
                f"results folder {self.path} cannot be made ({error.strerror}): give another with --results-dir"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()

    def append(self, kind: str, record: Mapping[str, Any]) -> None:
        """Add one line to the journal and hand it to the operating system at once: a killed run keeps it."""
        line = {"kind": kind, "at": time.time(), **record}
        self._write(orjson.dumps(line, default=_plain, option=_JSON) + b"\n")

    def _write(self, line: bytes) -> None:
        try:
            self._journal.write(line)
            self._journal.flush()
        except OSError as error:
            raise StoreError(
                f"{self.path / 'journal.jsonl'} cannot be written ({error.strerror}): free space, or give another --results-dir"
            ) from error

    def copy(self, line: bytes) -> None:
        """Add a line of another run's journal, as it is there."""
        self._write(line)

    def write_json(self, name: str, document: Mapping[str, Any]) -> Path:
        """Write a whole document, all or nothing."""
        return write_atomically(
            self.path / name,
            orjson.dumps(document, default=_plain, option=_JSON | orjson.OPT_INDENT_2) + b"\n",
        )


_JSON = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def write_atomically(path: Path, content: bytes) -> Path:
    """Replace ``path`` by ``content`` so that a reader, or a crash, sees the old or the new file and nothing between.

    Raises:
        StoreError: the place cannot be written.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()
        raise StoreError(
            f"{path} cannot be written ({error.strerror}): free space or change its permissions"
        ) from error
    return path


class BaselineFolder:
    """``baselines/<fingerprint>/<area>.json``."""

    def __init__(self, root: Path, fingerprint_id: str) -> None:
        self.path = root / fingerprint_id
        self._fingerprint_id = fingerprint_id

    def file(self, area: str) -> Path:
        """Where an area's baseline lives."""
        return self.path / f"{area}.json"

    def calibration(self, area: str) -> Path:
        """Where what is known of an area's noise lives."""
        return self.path / f"{area}.calibration.json"

    def read(self, area: str) -> Baseline | None:
        """The area's baseline, or None where none was ever recorded.

        Raises:
            BaselineError: there is one and it cannot be used.
        """
        file = self.file(area)
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise BaselineError(
                f"{file}: cannot be read ({error}): restore it from git, or give another --baseline-dir"
            ) from error
        return parse_baseline(text, str(file), self._fingerprint_id)

    def read_calibration(self, area: str) -> CalibrationFile | None:
        """What is known of the area's noise on this machine, or None.

        Raises:
            BaselineError: there is a file and it cannot be used.
        """
        file = self.calibration(area)
        if not file.exists():
            return None
        try:
            return parse_calibration(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise BaselineError(
                f"{file}: cannot be read ({error}): restore it from git, or delete it"
            ) from error

    def write_calibration(self, calibration: CalibrationFile) -> Path:
        """Replace the area's calibration."""
        return write_atomically(self.calibration(calibration.area), dump_calibration(calibration).encode())

    def update(self, area: str, change: Callable[[Baseline | None], Baseline]) -> Path:
        """Read, change and write the area's file while no other run does: neither loses the other's record."""
        file = self.file(area)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_name(f".{file.name}.lock"), timeout=60):
                return write_atomically(file, dump_baseline(change(self.read(area))).encode())
        except Timeout:
            raise StoreError(
                f"{file}: another run has held its lock for a minute: end that run, then try again"
            ) from None
        except OSError as error:
            raise StoreError(
                f"{file} cannot be written ({error.strerror}): give another --baseline-dir"
            ) from error


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is not for JSON")
