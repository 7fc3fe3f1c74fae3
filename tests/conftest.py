"""What holds for every test."""

from __future__ import annotations

import signal

from hypothesis import settings

# A property is judged by its outcome, never by how long an example took.
settings.register_profile("sglperf", deadline=None)
settings.load_profile("sglperf")

# A shell ignores Ctrl-C for what it runs in the background, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
