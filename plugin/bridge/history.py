"""What was settled long ago is forgotten bit by bit, between letters."""

from __future__ import annotations

import logging
import threading
from typing import Final

from plugin.outbox import Outbox, OutboxError

_log = logging.getLogger("hardwire.bridge")

PRUNE_EVERY_S: Final = 60.0
PRUNE_STEPS: Final = 10  # at a time: alerts that come fast must not outrun it, and mail must not wait long


class History:
    """Decides when the outbox forgets. Several threads may call."""

    def __init__(self, outbox: Outbox, *, now: float) -> None:
        self._outbox = outbox
        self._lock = threading.Lock()
        self._pruned_at = now

    def prune_now_and_then(self, now: float) -> None:
        """Forget old history once a minute, and again at the next call while there is more than fits one.

        It is no reason to stop if that does not work. ``now`` is in seconds since the epoch.
        """
        with self._lock:
            if abs(now - self._pruned_at) < PRUNE_EVERY_S:  # a clock that was set back does not stall it
                return
            self._pruned_at = now
        steps: list[int] = []
        try:
            while len(steps) < PRUNE_STEPS and (forgotten := self._outbox.prune(now=now)):
                steps.append(forgotten)
        except OutboxError as error:
            _log.warning("event=prune_failed problem=%r", str(error))
            return
        if steps:
            _log.info("event=history_pruned alerts=%d", sum(steps))
        if len(steps) == PRUNE_STEPS:
            with self._lock:
                self._pruned_at = now - PRUNE_EVERY_S
