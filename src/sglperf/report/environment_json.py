"""The environment check for programs: ``sglperf env --json``."""

from __future__ import annotations

import orjson

from sglperf.core.environment_check import EnvironmentCheck
from sglperf.core.machine import context

SCHEMA = 1  # raised when a name is dropped or changes its meaning


def environment_json(check: EnvironmentCheck) -> str:
    """The whole check, indented, with a newline at its end.

    ``schema``, ``host``, ``gpus`` and ``installation`` as in `sglperf.core.machine`; ``context``;
    ``fingerprints`` as ``id``, ``name``, ``gpu_set`` and ``fingerprint``; ``areas`` and ``cautions``.
    """
    document = {
        "schema": SCHEMA,
        "host": check.machine.host,
        "gpus": check.machine.gpus,
        "installation": check.installation,
        "context": context(check.machine, check.installation),
        "fingerprints": [
            {
                "id": named.fingerprint.id,
                "name": named.name,
                "gpu_set": named.gpu_set,
                "fingerprint": named.fingerprint,
            }
            for named in check.sets
        ],
        "areas": check.areas,
        "cautions": check.cautions,
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
