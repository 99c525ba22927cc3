"""What is to be published: the queue that any thread may fill, and what is on the way to the broker."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from plugin.mqtt.settings import MAX_STRING_BYTES, is_topic

MAX_UNTRACKED: Final = 100
"""Publications without a token that may wait; the oldest goes when there are more."""
WINDOW: Final = 20
"""PUBLISH packets on the way at a time; fewer where the broker's Receive Maximum says so (MQTT 5 §3.2.2.3.3)."""
HOLD_S: Final = 5.0
"""How long nothing is published after the broker refused something for the time being."""
MAX_PACKET_BYTES: Final = 268_435_455
"""The largest packet of MQTT itself (MQTT 5 §1.5.5)."""

# Fixed header, the lengths of the fields, packet identifier and property identifiers, generously.
_HEADER_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One PUBLISH to be made at QoS 1. ``token`` is whose business it is; ``correlation`` is Correlation Data."""

    topic: str
    payload: bytes
    token: int | None = None
    retain: bool = False
    correlation: bytes | None = None

    def hindrance(self, max_packet_bytes: int) -> str | None:
        """Return why this could never be published to a broker with that Maximum Packet Size, or None."""
        correlation_bytes = len(self.correlation or b"")
        if not is_topic(self.topic):
            return "its topic is not one that can be published to"
        if correlation_bytes > MAX_STRING_BYTES:
            return f"its correlation data exceed {MAX_STRING_BYTES} bytes"
        if _HEADER_BYTES + len(self.topic.encode()) + correlation_bytes + len(self.payload) > max_packet_bytes:
            return f"it is larger than the {max_packet_bytes} bytes that the broker takes"
        return None


class Outgoing:
    """First in, first out, at most a window of them on the way. ``add`` is for any thread, the rest for one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Publication] = deque()
        self._on_the_way: dict[int, Publication] = {}
        self._window = WINDOW
        self.hold_until = 0.0

    def __bool__(self) -> bool:
        """Tell whether anything waits or is on the way."""
        return bool(self._waiting or self._on_the_way)

    def add(self, new: Publication) -> None:
        """Let ``new`` wait for its turn.

        Of retained publications without a token only the newest for a topic is kept, since only that one counts;
        of all without a token the newest MAX_UNTRACKED.
        """
        with self._lock:
            if new.token is None:
                untracked = [one for one in self._waiting if one.token is None]
                older = [one for one in untracked if new.retain and one.retain and one.topic == new.topic]
                for one in older or untracked[: max(0, len(untracked) + 1 - MAX_UNTRACKED)]:
                    self._waiting.remove(one)
            self._waiting.append(new)

    def put_first(self, publications: Iterable[Publication]) -> None:
        """Let ``publications`` go before all others, in their order."""
        with self._lock:
            self._waiting.extendleft(reversed(tuple(publications)))

    def narrow(self, receive_maximum: int) -> bool:
        """Keep to the Receive Maximum of a new connection.

        Returns True if more than that is on the way already: all of it waits again then, and whoever has sent it
        must forget it.
        """
        self._window = min(WINDOW, receive_maximum)
        too_much = len(self._on_the_way) > self._window
        if too_much:
            self.put_first(self._on_the_way.values())
            self._on_the_way.clear()
        return too_much

    def take(self, now: float) -> Publication | None:
        """Remove and return what may be sent now (``time.monotonic``), or None."""
        if now < self.hold_until or len(self._on_the_way) >= self._window:
            return None
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def sent(self, packet_id: int, one: Publication) -> None:
        """Note that ``one`` is on the way."""
        self._on_the_way[packet_id] = one

    def answered(self, packet_id: int) -> Publication | None:
        """Return what the PUBACK with ``packet_id`` is for, which is on the way no more; None if nothing is."""
        return self._on_the_way.pop(packet_id, None)

    def put_off(self, one: Publication, now: float) -> None:
        """Let ``one``, which the broker cannot take for the time being, wait again behind all others.

        Nothing is sent for HOLD_S. A state that a newer one for its topic is waiting to replace is dropped.
        """
        self.hold_until = now + HOLD_S
        with self._lock:
            newer = any(other.retain and other.topic == one.topic for other in self._waiting)
            if not (newer and one.retain and one.token is None):
                self._waiting.append(one)
