"""What is still to be published: a queue that any thread may fill, bounded where nobody counts."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from plugin.mqtt.settings import MAX_STRING_BYTES, is_topic

MAX_UNTRACKED: Final = 100
"""Publications without a token that may wait; the oldest goes when there are more."""
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
    """First in, first out; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Publication] = deque()

    def add(self, new: Publication) -> None:
        """Let ``new`` wait for its turn.

        Of retained publications without a token only the newest for a topic is kept, since only that one counts;
        of all without a token the newest MAX_UNTRACKED.
        """
        with self._lock:
            if new.token is None:
                untracked = [one for one in self._waiting if one.token is None]
                older = [one for one in untracked if new.retain and one.retain and one.topic == new.topic]
                surplus = older or untracked[: max(0, len(untracked) + 1 - MAX_UNTRACKED)]
                for one in surplus:
                    self._waiting.remove(one)
            self._waiting.append(new)

    def put_first(self, publications: Iterable[Publication]) -> None:
        """Let ``publications`` go before all others, in their order."""
        with self._lock:
            self._waiting.extendleft(reversed(tuple(publications)))

    def take(self) -> Publication | None:
        """Remove and return the next one, or None."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def __len__(self) -> int:
        return len(self._waiting)
