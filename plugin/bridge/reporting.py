"""Which outcomes are on their way to the broker: published until the PUBACK has come, and then never again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from plugin.outbox import Outbox, OutboxError, Publication

_log = logging.getLogger("hardwire.bridge")


class Reporting:
    """Keeps the window of publications in flight; what has to survive is in the outbox."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._lock = threading.Lock()  # guards both sets
        self._in_flight: set[int] = set()
        self._confirmed: set[int] = set()  # acknowledged, and not stored as such yet

    def outgoing(self, limit: int) -> list[Publication]:
        """Return what is to be published now, in order, so that at most ``limit`` are in flight; OutboxError."""
        with self._lock:
            room = limit - len(self._in_flight)
            if room <= 0:
                return []
            chosen = self._outbox.outgoing(limit=room, skip=self._in_flight | self._confirmed)
            self._in_flight.update(one.id for one in chosen)
            return chosen

    def published(self, ids: Sequence[int]) -> None:
        """Note that the broker has acknowledged these; what cannot be stored now is stored with the next call."""
        with self._lock:
            self._confirmed.update(ids)
            self._in_flight.difference_update(ids)
            if not self._confirmed:
                return
            try:
                self._outbox.published(sorted(self._confirmed))
            except OutboxError as error:
                _log.warning("event=published_not_stored count=%d problem=%r", len(self._confirmed), str(error))
            else:
                self._confirmed.clear()

    def forget_in_flight(self) -> None:
        """Publish what is in flight again."""
        with self._lock:
            self._in_flight.clear()
