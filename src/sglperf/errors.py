"""Every error sglperf raises on purpose.

    SglperfError
    ├── UsageError            what was asked for cannot be done as asked          exit 2
    │   ├── ConfigError       a file, variable or option holds a bad value
    │   ├── TargetError       no SGLang where the target says there is one
    │   └── BaselineError     a baseline file is corrupt, foreign or from the future
    ├── MeasurementError      the measurement could not be made                   exit 3
    │   ├── LaunchError       a server did not come up, or not as asked
    │   ├── ServerDied        a server that was up went away
    │   ├── WorkloadError     a workload could not be executed
    │   └── NotHere           this machine lacks what a test is about; the test is skipped
    ├── StoreError            a result could not be written                       exit 3
    │   └── HistoryError      the history's database cannot be reached or used
    │       └── AlreadyMerged shards are no longer there as they were read
    └── SampleError           numbers that no statistic may be computed from

A message names the culprit first, then the next action. Foreign exceptions are translated
where they enter; whoever catches `SglperfError` may print it without a traceback.
"""

from __future__ import annotations


class SglperfError(Exception):
    """Root of the tree. ``exit_code`` is what a command ends with when this escapes it."""

    exit_code = 3


class UsageError(SglperfError):
    """What was asked for cannot be done as asked; nothing was started."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file, environment variable or option holds a bad value."""


class TargetError(UsageError):
    """No SGLang where the target specification says there is one."""


class BaselineError(UsageError):
    """A baseline file is corrupt, truncated, from a newer schema, or of another machine."""


class MeasurementError(SglperfError):
    """The measurement could not be made; the message says what went away and what to look at."""


class LaunchError(MeasurementError):
    """A server did not come up, or did not come up as it was asked to."""


class ServerDied(MeasurementError):
    """A server that had been ready went away or stopped answering."""


class WorkloadError(MeasurementError):
    """A workload could not be executed."""


class NotHere(MeasurementError):
    """This machine lacks what a test is about. Beside others the test is skipped."""


class StoreError(SglperfError):
    """A result could not be written or read back."""


class HistoryError(StoreError):
    """The history's database cannot be reached or used; runs keep their files and can be added later."""


class AlreadyMerged(HistoryError):
    """Shards are gone from the history, or others are in their place, since they were read."""


class SampleError(SglperfError, ValueError):
    """Samples hold a value that no statistic may be computed from (NaN, infinity, ≤ 0, none)."""


class InconclusiveWarning(UserWarning):
    """A case was too noisy to be judged; the message names the effect that it could have seen."""
