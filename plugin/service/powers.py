"""What may be asked of the queue by hand: to pause and to go on, to try again, to drop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from plugin.bridge import Bridge
from plugin.outbox import Memo

_log = logging.getLogger("hardwire.service")

PAUSED_KEY: Final = "paused"


class Powers:
    """Changes the queue for who asks. ``changed`` is called when couriers have something to see, or to tell."""

    def __init__(self, bridge: Bridge, memo: Memo, changed: Callable[[], None]) -> None:
        self._bridge = bridge
        self._memo = memo
        self._changed = changed
        self.paused = False

    def recall(self) -> None:
        """Be paused again if that was the last word before the restart; OutboxError."""
        self.paused = self._memo.get(PAUSED_KEY) is True

    def pause(self, *, on: bool) -> dict[str, Any]:
        """Let couriers draw nothing, or go on; alerts are accepted all the while. It holds over restarts."""
        self._memo.put(PAUSED_KEY, on)
        if on != self.paused:
            _log.info("event=%s", "paused" if on else "resumed")
        self.paused = on
        self._changed()
        return {"paused": on}
