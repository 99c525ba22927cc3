"""What the broker hands over, from the network thread to the disk: one queue, one thread that accepts."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from plugin.alert import Message
from plugin.bridge import Bridge
from plugin.outbox import OutboxError
from plugin.service.crew import Room

_log = logging.getLogger("hardwire.service")

T = TypeVar("T")

BATCH_MESSAGES: Final = 256  # accepted in one transaction
FLOOD_PER_S: Final = 200.0  # messages; houses do not raise as many alarms
FLOOD_LOOK_S: Final = 0.2  # over which they are counted
YIELD_S: Final = 1.0  # for which a courier lets a flood go first
FLOOD_LETTERS: Final = 8  # that it carries then before it waits again
LOOK_EVERY_S: Final = 0.5  # whether it is time to end
OUTBOX_RETRY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class SessionLost:
    """The broker keeps no session for us: packet identifiers from before mean nothing."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker has taken a publication, named by its ``token``."""

    token: int


Arrived = Message | SessionLost | Acknowledged


class OutboxTrouble:
    """What is wrong with the outbox at present, if anything; logged when it is news. For several threads."""

    def __init__(self) -> None:
        self.problem: str | None = None

    def note(self, error: OutboxError) -> None:
        """Remember ``error``; log it if it is another one than before."""
        if str(error) != self.problem:
            _log.error("event=outbox_problem problem=%r", str(error))
        self.problem = str(error)

    def wait(self, error: OutboxError, ended: threading.Event) -> None:
        """Note ``error`` and wait a little before the next try, or until ``ended``."""
        self.note(error)
        ended.wait(OUTBOX_RETRY_S)

    def clear(self) -> None:
        """Note that it works."""
        self.problem = None


class Tide:
    """Tells a flood of alerts from a calm, by how many come in FLOOD_LOOK_S or longer."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._messages = 0
        self.floods = False

    def count(self, messages: int, now: float) -> bool:
        """Count what has come until ``now``, in seconds; return whether it is a flood."""
        self._messages += messages
        passed_s = now - self._since
        if passed_s >= FLOOD_LOOK_S:
            self.floods = self._messages >= FLOOD_PER_S * passed_s
            self._since, self._messages = now, 0
        return self.floods


class Reception:
    """Accepts in one transaction what has arrived together; only then it is acknowledged.

    ``messages`` and ``room`` bound what is between the network thread and the disk: whoever brings more waits,
    which holds the broker back. ``beat`` is called by either thread at least every LOOK_EVERY_S, unless the disk
    keeps it.
    """

    def __init__(
        self,
        bridge: Bridge,
        *,
        messages: int,
        room: Room,
        closing: threading.Event,
        trouble: OutboxTrouble,
        acknowledge: Callable[[Message], None],
        accepted: Callable[[int], None],
        publish: Callable[[], None],
        beat: Callable[[str], None],
    ) -> None:
        """Call ``accepted`` with how many alerts are to be carried, and ``publish`` when something may be told."""
        self._bridge = bridge
        self._arrived: queue.Queue[Arrived] = queue.Queue(messages)
        self._room = room
        self._closing = closing
        self._trouble = trouble
        self._acknowledge = acknowledge
        self._accepted = accepted
        self._publish = publish
        self._beat = beat
        self._calm = threading.Event()
        self._calm.set()
        self._tide = Tide(time.monotonic())

    def let_a_flood_pass(self) -> bool:
        """Wait up to YIELD_S while alerts flood in; tell whether that is over. For couriers.

        What is still at the broker can be lost there, so it comes before mails, which are on our disk.
        """
        return self._calm.wait(YIELD_S)

    def bring(self, item: Arrived) -> None:
        """Put ``item`` before the intake; waits when that is behind. For the network thread."""
        size_bytes = len(item.payload) if isinstance(item, Message) else 0
        while not self._room.take(size_bytes, LOOK_EVERY_S):
            self._beat("mqtt")
            if self._closing.is_set():
                return
        while not self._closing.is_set():
            try:
                self._arrived.put(item, timeout=LOOK_EVERY_S)
            except queue.Full:
                self._beat("mqtt")
                continue
            return

    def work(self) -> None:
        """Accept what arrives, until the end; the work of the thread ``intake``."""
        while not (self._closing.is_set() and self._arrived.empty()):
            self._beat("intake")
            batch = self._take(LOOK_EVERY_S)
            if self._tide.count(sum(isinstance(one, Message) for one in batch), time.monotonic()):
                self._calm.clear()
            else:
                self._calm.set()
            self._bridge.published([one.token for one in batch if isinstance(one, Acknowledged)])
            for lost, group in itertools.groupby(batch, key=lambda one: isinstance(one, SessionLost)):
                if lost:
                    self._insist(self._bridge.session_lost)
                else:
                    self._accept([one for one in group if isinstance(one, Message)])
            self._room.give_back(sum(len(one.payload) for one in batch if isinstance(one, Message)))
            if batch:
                self._publish()
        self._calm.set()

    def _accept(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        if (safe := self._insist(lambda: self._bridge.accept(messages))) is not None:
            for message in safe:
                self._acknowledge(message)
            self._accepted(len(safe))

    def _insist(self, work: Callable[[], T]) -> T | None:
        """Do ``work`` until the outbox takes it; None if that is not before the end.

        The broker gives nothing again while a connection lasts, so what cannot be stored now is kept here,
        unacknowledged, and with the receive window full the broker keeps the rest.
        """
        while True:
            try:
                result = work()
            except OutboxError as error:
                self._trouble.wait(error, self._closing)
                self._beat("intake")
                if self._closing.is_set():
                    return None
            else:
                self._trouble.clear()
                return result

    def _take(self, timeout_s: float) -> list[Arrived]:
        """Return all that has arrived together, at most BATCH_MESSAGES; [] after ``timeout_s``."""
        try:
            batch = [self._arrived.get(timeout=timeout_s)]
        except queue.Empty:
            return []
        while len(batch) < BATCH_MESSAGES:
            try:
                batch.append(self._arrived.get_nowait())
            except queue.Empty:
                break
        return batch
