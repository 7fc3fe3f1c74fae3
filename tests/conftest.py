"""What holds for every test: a property is judged by its outcome, never by how long an example took."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("sglperf", deadline=None)
settings.load_profile("sglperf")
