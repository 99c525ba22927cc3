"""The composition root: builds the rooms from a Config, owns threads, signals and supervision.

Threads: ``mqtt`` runs the network loop, ``intake`` accepts and acknowledges, one ``courier`` for each lane
delivers, ``chip`` looks after the chip; the caller's thread supervises and tells how things are. If a thread
dies, the service ends with a reason: a supervisor outside starts it again, and what was claimed goes back to the
queue.
"""

from __future__ import annotations

import itertools
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from plugin import __version__
from plugin.alert import Attempt, Letter, Message, timestamp
from plugin.bridge import Bridge
from plugin.build import (
    bridge_of,
    lane_of,
    mqtt_settings_of,
    outbox_of,
    relays_of,
    routes_of,
    standings_of,
    uplink_of,
)
from plugin.config import Config
from plugin.mqtt import Mqtt
from plugin.outbox import OutboxError
from plugin.service.crew import Crew, Room

_log = logging.getLogger("hardwire.service")

T = TypeVar("T")

INTAKE_MESSAGES: Final = 1000  # waiting between the network thread and the intake
INTAKE_BYTES: Final = 64 * 1024 * 1024  # of payload, from the network thread to the disk
BATCH_MESSAGES: Final = 256  # accepted in one transaction
BATCH_LETTERS: Final = 200  # carried before a courier looks up
PUBLISH_WINDOW: Final = 100  # outcomes on their way to the broker
IDLE_S: Final = 30.0  # the longest a courier sleeps without looking
HEALTH_EVERY_S: Final = 60.0
SUPERVISE_EVERY_S: Final = 0.5
WATCH_EVERY_S: Final = 10.0  # the chip, between connections
GRACE_S: Final = 25.0  # for what is on the wire when the service is told to stop
GOODBYE_S: Final = 5.0  # for the broker
OUTBOX_RETRY_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who looks on: each line of the SMTP dialogue, each change of a socket's status. For the demo."""

    dialogue: Callable[[str], None] | None = None
    status: Callable[[int, str, str], None] | None = None


class _SessionLost:
    """The broker keeps no session for us: packet identifiers from before mean nothing."""


@dataclass(frozen=True, slots=True)
class _Acknowledged:
    token: int


class Service:
    """The running bridge. ``start`` and ``stop`` frame it; ``supervise`` is the main thread's work in between."""

    def __init__(self, config: Config, *, watch: Watch | None = None) -> None:
        watch = watch or Watch()
        self._config = config
        self._base = config.topics.base
        self._asked_to_stop = False
        self._stopping = threading.Event()
        self._closing = threading.Event()
        self._subscribed = threading.Event()
        self._wake = threading.Condition()
        self._roused = 0  # counts, so that a call is not lost on who was about to sleep
        self._crew, self._couriers = Crew(), Crew()
        self._publishing = threading.Lock()
        self._arrived: queue.Queue[Message | _SessionLost | _Acknowledged] = queue.Queue(INTAKE_MESSAGES)
        self._room = Room(INTAKE_BYTES)
        self._broker_problem: str | None = "not connected yet"
        self._outbox_problem: str | None = None
        self._started_at = datetime.now(UTC)

        self._outbox = outbox_of(config)
        self._bridge: Bridge = bridge_of(config, self._outbox, routes_of(config))
        self._uplink = uplink_of(config, watch.status)
        self._standings = standings_of(config)
        relays = relays_of(config)
        self._lanes = [
            lane_of(relays, self._uplink, watch.dialogue, self._standings) for _ in range(config.chip.lanes)
        ]
        self._mqtt = Mqtt(
            mqtt_settings_of(config),
            on_message=self._hand_over,
            on_published=lambda token: self._hand_over(_Acknowledged(token)),
            on_session=lambda present: None if present else self._hand_over(_SessionLost()),
            on_connection=self._connection_changed,
        )

    # --- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all threads. A chip or broker that is away is no reason not to: both are tried again."""
        self._bridge.recover()
        try:
            self._uplink.bring_up()
        except OSError as error:
            _log.error("event=chip_problem problem=%r", str(error))
        self._crew.start("mqtt", self._mqtt.run)
        self._crew.start("intake", self._intake)
        self._crew.start("chip", self._watch_chip)
        for lane in range(len(self._lanes)):
            self._couriers.start(f"courier-{lane}", self._courier(lane))
        _log.info("event=started version=%s lanes=%d", __version__, len(self._lanes))

    def wait_subscribed(self, timeout_s: float) -> bool:
        """Wait until the broker has our subscription: what is published before the first one goes nowhere."""
        return self._subscribed.wait(timeout_s)

    def supervise(self) -> None:
        """Tell how things are until ``request_stop``; raises ThreadDied."""
        told: dict[str, Any] | None = None
        told_at = 0.0
        while not self._asked_to_stop and not self._stopping.wait(SUPERVISE_EVERY_S):
            self._crew.check()
            self._couriers.check()
            now = time.monotonic()
            health = self.health()
            if self._mqtt.connected and (_without_ages(health) != told or now - told_at >= HEALTH_EVERY_S):
                told, told_at = _without_ages(health), now
                self._tell("health", health)
                self._tell("info", self.info())
            elif not self._mqtt.connected:
                told = None

    def request_stop(self) -> None:
        """Ask ``supervise`` to return, which it does within SUPERVISE_EVERY_S.

        May be called from a signal handler, so it takes no lock: the handler may run in the middle of a wait of
        the very thread that it interrupts.
        """
        self._asked_to_stop = True

    def _told_to_stop(self) -> bool:
        """Tell whether no further letter may be begun: from the signal on, not from when it is noticed."""
        return self._asked_to_stop or self._stopping.is_set()

    def stop(self) -> None:
        """Settle what is on the wire, report it, say goodbye. Bounded by GRACE_S and the broker's time-outs."""
        self._stopping.set()
        self._rouse()
        if not self._couriers.join(GRACE_S):
            _log.warning("event=stop_cut_short reason='a letter on the wire is tried again at the next start'")
        try:
            self._bridge.store_results()
        except OutboxError as error:
            _log.error("event=result_not_stored problem=%r", str(error))
        self._publish_outcomes()
        self._mqtt.stop(timeout_s=GOODBYE_S)
        self._closing.set()  # only now, for the broker's last PUBACKs are to be stored
        self._crew.join(GOODBYE_S)
        self._uplink.close()
        self._outbox.close()
        _log.info("event=stopped")

    # --- threads --------------------------------------------------------------------------------------------

    def _intake(self) -> None:
        while not (self._closing.is_set() and self._arrived.empty()):
            batch = self._take(SUPERVISE_EVERY_S)
            self._bridge.published([one.token for one in batch if isinstance(one, _Acknowledged)])
            for lost, group in itertools.groupby(batch, key=lambda one: isinstance(one, _SessionLost)):
                if lost:
                    self._insist(self._bridge.session_lost)
                else:
                    self._accept([one for one in group if isinstance(one, Message)])
            self._room.give_back(sum(len(one.payload) for one in batch if isinstance(one, Message)))
            if batch:
                self._publish_outcomes()

    def _accept(self, messages: list[Message]) -> None:
        if not messages:
            return
        if (safe := self._insist(lambda: self._bridge.accept(messages))) is not None:
            for message in safe:
                self._mqtt.acknowledge(message)
            self._rouse()

    def _insist(self, work: Callable[[], T]) -> T | None:
        """Do ``work`` until the outbox takes it; None if that is not before the end.

        The broker gives nothing again while a connection lasts, so what cannot be stored now is kept here,
        unacknowledged, and with the receive window full the broker keeps the rest.
        """
        while True:
            try:
                result = work()
            except OutboxError as error:
                self._outbox_trouble(error, self._closing)
                if self._closing.is_set():
                    return None
            else:
                self._outbox_problem = None
                return result

    def _take(self, timeout_s: float) -> list[Message | _SessionLost | _Acknowledged]:
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

    def _courier(self, lane: int) -> Callable[[], None]:
        relays = self._lanes[lane]

        def deliver(letters: Iterable[Letter]) -> Iterator[tuple[Letter, Attempt]]:
            for one in relays.deliver(letters):
                yield one
                self._publish_outcomes()  # it has been settled; those on the way may take their time

        def work() -> None:
            while not self._told_to_stop():
                roused = self._roused
                try:
                    carried = self._bridge.carry(deliver, limit=BATCH_LETTERS, stop=self._told_to_stop)
                    due_in_s = 0.0 if carried else self._bridge.next_due_in()
                except OutboxError as error:
                    self._outbox_trouble(error, self._stopping)
                    continue
                if carried:
                    continue
                waits_s = [one for one in (due_in_s, relays.tend()) if one is not None]
                with self._wake:
                    self._wake.wait_for(
                        lambda seen=roused: self._stopping.is_set() or self._roused != seen,  # type: ignore[misc]
                        min([IDLE_S, *(max(one, 0.01) for one in waits_s)]),
                    )
            relays.close()

        return work

    def _watch_chip(self) -> None:
        while not self._stopping.wait(WATCH_EVERY_S):
            self._uplink.watch()

    # --- what others call -----------------------------------------------------------------------------------

    def _hand_over(self, item: Message | _SessionLost | _Acknowledged) -> None:
        """Put ``item`` before the intake; waits when that is behind, which holds the broker back."""
        size_bytes = len(item.payload) if isinstance(item, Message) else 0
        while not self._room.take(size_bytes, SUPERVISE_EVERY_S):
            if self._closing.is_set():
                return
        while not self._closing.is_set():
            try:
                self._arrived.put(item, timeout=SUPERVISE_EVERY_S)
            except queue.Full:
                continue
            return

    def _connection_changed(self, connected: bool, problem: str | None) -> None:  # noqa: FBT001 - mqtt's callback
        self._broker_problem = None if connected else problem or "not connected"
        if connected:
            self._subscribed.set()

    def _rouse(self) -> None:
        with self._wake:
            self._roused += 1
            self._wake.notify_all()

    def _outbox_trouble(self, error: OutboxError, ended: threading.Event) -> None:
        """Wait a little before the next try, or until ``ended``."""
        self._note_outbox(error)
        ended.wait(OUTBOX_RETRY_S)

    def _note_outbox(self, error: OutboxError) -> None:
        if str(error) != self._outbox_problem:
            _log.error("event=outbox_problem problem=%r", str(error))
        self._outbox_problem = str(error)

    # --- what is published ----------------------------------------------------------------------------------

    def _publish_outcomes(self) -> None:
        """Publish what is stored and not on its way; what cannot be read now is read at the next occasion."""
        with self._publishing:
            try:
                for one in self._bridge.outgoing(PUBLISH_WINDOW):
                    self._mqtt.publish(one.topic, one.payload, token=one.id, correlation=one.correlation)
            except OutboxError as error:
                self._note_outbox(error)

    def _tell(self, what: str, value: dict[str, Any]) -> None:
        payload = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        self._mqtt.publish(f"{self._base}/bridge/{what}", payload, token=None, retain=True)

    def health(self) -> dict[str, Any]:
        """Return the content of ``<base>/bridge/health``."""
        try:
            depth = self._bridge.health()
            waiting: dict[str, Any] = {"waiting": depth.waiting, "oldest_waiting_s": depth.oldest_waiting_s}
        except OutboxError as error:
            self._note_outbox(error)
            waiting = {"waiting": None, "oldest_waiting_s": None}
        relay_problem = self._standings.problem
        return {
            "queue": {**waiting, "problem": self._outbox_problem},
            "relay": {"ok": relay_problem is None, "problem": relay_problem},
            # A W5100 has no register that tells of its cable.
            "chip": {"ok": self._uplink.problem is None, "problem": self._uplink.problem, "link": None},
            "mqtt": {"connected": self._broker_problem is None, "problem": self._broker_problem},
        }

    def info(self) -> dict[str, Any]:
        """Return the content of ``<base>/bridge/info``."""
        chip = self._config.chip
        return {
            "version": __version__,
            "started_at": timestamp(self._started_at),
            "chip": {"model": "w5100", "bus": chip.bus, "lanes": chip.lanes, "mac": chip.mac},
            "relays": [f"{one.host}:{one.port}" for one in self._config.relays],
            "routes": [one.topic for one in self._config.routes],
            "counters": self._bridge.counters(),
        }


def _without_ages(health: dict[str, Any]) -> dict[str, Any]:
    """Return ``health`` without what changes by itself all the time."""
    return {**health, "queue": {key: value for key, value in health["queue"].items() if key != "oldest_waiting_s"}}
