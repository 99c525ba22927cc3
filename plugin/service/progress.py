"""Who is at work and who hangs: each thread is heard of within the time that it has promised, or it hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

PATIENCE_S: Final[Mapping[str, float]] = {
    # Connecting asks the system's resolver first, which has time-outs of its own.
    "mqtt": 300.0,
    # One transaction: another thread may have the outbox for a minute, and so may a worn SD card.
    "intake": 300.0,
    "desk": 300.0,
    # The chip is reset and asks for a lease.
    "chip": 300.0,
    # The longest silence that SMTP allows is that after the final dot, ten minutes (RFC 5321 §4.5.3.2.6).
    "courier": 900.0,
}
"""By a thread's name up to the first hyphen: for how long it may be silent."""


class Progress:
    """Threads say ``beat``; whoever supervises asks ``silent``. For several threads."""

    def __init__(
        self, patience_s: Mapping[str, float] = PATIENCE_S, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._heard: dict[str, float] = {}

    def beat(self, thread: str) -> None:
        """Note that ``thread`` is at work."""
        self._heard[thread] = self._clock()

    def gone(self, thread: str) -> None:
        """Note that ``thread`` has come to its end and will not be heard of any more."""
        self._heard.pop(thread, None)

    def silent(self) -> dict[str, float]:
        """Return the threads that hang, each with the seconds for which nothing was heard of it."""
        now = self._clock()
        silence_s = {thread: now - heard for thread, heard in self._heard.copy().items()}
        return {
            thread: since_s
            for thread, since_s in silence_s.items()
            if since_s > self._patience_s[thread.partition("-")[0]]
        }
