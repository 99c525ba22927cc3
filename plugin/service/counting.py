"""What the outbox tells of itself, for health and info; nothing of it while the outbox cannot be used."""

from __future__ import annotations

from typing import Any

from plugin.bridge import Bridge
from plugin.outbox import OutboxError
from plugin.service.reception import OutboxTrouble


class Counting:
    """Looks into the queue of ``bridge``; ``damage`` tells of a file that this start has found damaged."""

    def __init__(self, bridge: Bridge, trouble: OutboxTrouble, damage: str | None) -> None:
        self._bridge = bridge
        self._trouble = trouble
        self._damage = damage

    def queue(self) -> dict[str, Any]:
        """Return the part ``queue`` of ``bridge/health``."""
        waiting: int | None = None
        oldest_waiting_s: float | None = None
        try:
            depth = self._bridge.health()
            waiting, oldest_waiting_s = depth.waiting, depth.oldest_waiting_s
        except OutboxError as error:
            self._trouble.note(error)
        problem = self._trouble.problem or self._damage
        return {"waiting": waiting, "oldest_waiting_s": oldest_waiting_s, "problem": problem}

    def outcomes(self) -> dict[str, Any] | None:
        """Return the part ``outcomes`` of ``bridge/info``."""
        try:
            return self._bridge.totals()
        except OutboxError as error:
            self._trouble.note(error)
            return None
