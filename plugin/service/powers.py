"""What may be asked of the queue by hand: to pause and to go on, to try again, to drop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from plugin.bridge import Bridge
from plugin.outbox import Listing, Memo, Outbox
from plugin.service.requests import Refused, Request

_log = logging.getLogger("hardwire.service")

PAUSED_KEY: Final = "paused"

_HOW: Final[Mapping[Listing | None, str]] = {
    None: "is not there",
    "waiting": "waits already",
    "wire": "is on the wire",
    "failed": "has failed already",
    "sent": "was accepted for all recipients",
}


class Powers:
    """Changes the queue for who asks. ``changed`` is called when couriers have something to see, or to tell."""

    def __init__(self, bridge: Bridge, outbox: Outbox, changed: Callable[[], None]) -> None:
        self._bridge = bridge
        self._outbox = outbox
        self._memo: Memo = outbox.memo
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

    def retry(self, request: Request) -> dict[str, Any]:
        """Have letters that failed go out again; Refused if none of those that are named can."""
        return self._change("retry", self._bridge.retry, request.letters, {"failed", "waiting"})

    def drop(self, request: Request) -> dict[str, Any]:
        """Give up letters that wait; Refused if none of those that are named does."""
        return self._change("drop", self._bridge.drop, request.letters, {"waiting"})

    def _change(
        self,
        name: str,
        work: Callable[[Collection[int] | None], int],
        letters: Collection[int] | None,
        fit: Collection[Listing],
    ) -> dict[str, Any]:
        states = self._outbox.states(letters or ())
        left = {number: _HOW[states.get(number)] for number in letters or () if states.get(number) not in fit}
        count = work(letters)
        _log.info("event=%s letters=%d left=%d", name, count, len(left))
        if count:
            self._changed()
        elif letters:
            first, how = next(iter(left.items()), (next(iter(letters)), _HOW["wire"]))
            more = f" (and {len(letters) - 1} more)" if len(letters) > 1 else ""
            raise Refused(f"nothing was done: letter {first} {how}{more}")
        return {"letters": count, "left": [{"letter": number, "reason": how} for number, how in left.items()]}
