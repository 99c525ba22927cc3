"""The composition root: builds the rooms from a Config, owns threads and supervision.

Threads: ``mqtt`` runs the network loop, ``intake`` accepts and acknowledges, one ``courier`` for each lane
delivers, ``chip`` looks after the chip, ``desk`` carries out requests; the caller's thread supervises and tells
how things are. If a thread dies, the service ends with a reason: a supervisor outside starts it again, and what
was claimed goes back to the queue.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from plugin import __version__
from plugin.alert import Attempt, Letter, Message
from plugin.bridge import Bridge
from plugin.build import (
    CLOCK_KEY,
    Tap,
    bridge_of,
    clock_of,
    description_of,
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
from plugin.service.announcing import Announcing
from plugin.service.counting import Counting
from plugin.service.crew import Bell, Crew, Room
from plugin.service.desk import Desk
from plugin.service.powers import Powers
from plugin.service.progress import Progress
from plugin.service.reception import FLOOD_LETTERS, Acknowledged, OutboxTrouble, Reception, SessionLost
from plugin.service.reloading import Reloading
from plugin.service.requests import Refused
from plugin.service.supervisor import Supervisor
from plugin.service.telling import in_a_word, info_of, part_of, without_ages

_log = logging.getLogger("hardwire.service")

INTAKE_MESSAGES: Final = 1000  # waiting between the network thread and the intake
INTAKE_BYTES: Final = 64 * 1024 * 1024  # of payload, from the network thread to the disk
BATCH_LETTERS: Final = 200  # carried before a courier looks up
PUBLISH_WINDOW: Final = 100  # outcomes on their way to the broker
IDLE_S: Final = 30.0  # the longest a courier sleeps without looking
HEALTH_EVERY_S: Final = 60.0
KEEP_TIME_EVERY_S: Final = 60.0
SUPERVISE_EVERY_S: Final = 0.5
WATCH_EVERY_S: Final = 10.0  # the chip, between connections
GRACE_S: Final = 25.0  # for what is on the wire when the service is told to stop
GOODBYE_S: Final = 5.0  # for the broker


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who looks on: each line of the SMTP dialogue, each change of a socket's status, the bus."""

    dialogue: Callable[[str], None] | None = None
    status: Callable[[int, str, str], None] | None = None
    tap: Tap | None = None


class Service:
    """The running bridge. ``start`` and ``stop`` frame it; ``supervise`` is the main thread's work in between."""

    def __init__(
        self,
        config: Config,
        *,
        watch: Watch | None = None,
        reread: Callable[[], Config] | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        """``reread`` reads the configuration again, for a reload; it raises ConfigError."""
        watch = watch or Watch()
        self._config = config
        self.reloading = Reloading(config, reread)
        self._supervisor = supervisor or Supervisor({})
        self.asked_to_reload = False  # and it has not been done yet
        self._base = config.topics.base
        self._asked_to_stop = False
        self._stopping = threading.Event()
        self._closing = threading.Event()
        self._subscribed = threading.Event()
        self._bell = Bell()
        self._crew, self._couriers, self._clerks = Crew(), Crew(), Crew()
        self._publishing = threading.Lock()
        self._progress = Progress()
        self._hanging: frozenset[str] = frozenset()
        self._trouble = OutboxTrouble()
        self._broker_problem: str | None = "not connected yet"
        self._connected = False
        self._started_at = datetime.now(UTC)

        self._uplink = uplink_of(config, watch.status, watch.tap)
        self._standings = standings_of(config, self._relay_recovered)
        relays = relays_of(config)
        self._lanes = [
            lane_of(relays, self._uplink, self._heard(lane, watch.dialogue), self._standings)
            for lane in range(config.chip.lanes)
        ]
        self._mqtt = Mqtt(
            mqtt_settings_of(config),
            on_message=self._hand_over,
            on_published=lambda token: self._reception.bring(Acknowledged(token)),
            on_session=lambda present: None if present else self._reception.bring(SessionLost()),
            on_connection=self._connection_changed,
            on_tick=partial(self._progress.beat, "mqtt"),
        )
        self._outbox = outbox_of(config)  # last of what may fail: it is not left locked behind a fault
        self._clock = clock_of(self._outbox)
        self._bridge: Bridge = bridge_of(config, self._outbox, routes_of(config), self._clock)
        self._reception = Reception(
            self._bridge,
            messages=INTAKE_MESSAGES,
            room=Room(INTAKE_BYTES),
            closing=self._closing,
            trouble=self._trouble,
            acknowledge=self._mqtt.acknowledge,
            accepted=self._bell.ring,
            publish=self._publish_outcomes,
            beat=self._progress.beat,
        )
        self._announcing = Announcing(
            description_of(config),
            wanted=config.home_assistant.discovery,
            memo=self._outbox.memo,
            publish=self._mqtt.publish,
            trouble=self._trouble,
        )
        self._counting = Counting(self._bridge, self._trouble, self._outbox.set_aside_problem)
        self._powers = Powers(self._bridge, self._outbox, self._changed_by_hand)
        self._desk = Desk(
            base=self._base,
            bridge=self._bridge,
            memo=self._outbox.memo,
            powers={
                "pause": lambda request: self._powers.pause(on=request.paused),
                "resume": lambda _: self._powers.pause(on=False),
                "retry": self._powers.retry,
                "drop": self._powers.drop,
                "reload": lambda _: self.reloading.reload(),
                "status": lambda _: {"health": self.health(), "info": self.info()},
            },
            publish=self._mqtt.publish,
            acknowledge=self._mqtt.acknowledge,
            accepted=self._changed_by_hand,
            beat=self._progress.beat,
        )

    # --- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all threads. A chip or broker that is away is no reason not to: both are tried again."""
        self._bridge.recover()
        self._outbox.memo.forget_errands()
        self._powers.recall()
        try:
            self._uplink.bring_up()
        except OSError as error:
            _log.error("event=chip_problem problem=%r", str(error))
        self._crew.start("mqtt", self._mqtt.run)
        self._crew.start("intake", self._reception.work)
        self._crew.start("chip", self._watch_chip)
        self._clerks.start("desk", partial(self._desk.work, self._stopping))
        for lane in range(len(self._lanes)):
            self._couriers.start(f"courier-{lane}", self._courier(lane))
        _log.info(
            "event=started version=%s lanes=%d paused=%s", __version__, len(self._lanes), self._powers.paused
        )

    def wait_subscribed(self, timeout_s: float) -> bool:
        """Wait until the broker has our subscription: what is published before the first one goes nowhere."""
        return self._subscribed.wait(timeout_s)

    def supervise(self) -> None:
        """Tell how things are until ``request_stop``, or a reload that was taken; raises ThreadDied."""
        told: tuple[Any, ...] | None = None
        told_at, kept_at = 0.0, time.monotonic()
        while not self._asked_to_stop and not self._has_successor() and not self._stopping.wait(SUPERVISE_EVERY_S):
            for crew in (self._crew, self._couriers, self._clerks):
                crew.check()
            self._look_after_progress()
            if self.asked_to_reload:
                self.asked_to_reload = False
                with suppress(Refused):  # it is logged, and told in health
                    self.reloading.reload()
            now = time.monotonic()
            if now - kept_at >= KEEP_TIME_EVERY_S:
                kept_at = now
                self._keep_time()
            if not self._mqtt.connected:
                told = None
                continue
            health, outcomes = self.health(), self._counting.outcomes()
            if (without_ages(health), outcomes) != told or now - told_at >= HEALTH_EVERY_S:
                told, told_at = (without_ages(health), outcomes), now
                self._supervisor.status(in_a_word(health))
                self._tell("health", health)
                self._tell("info", self.info())
            self._announcing.work()

    def _keep_time(self) -> None:
        """Note in the outbox what the clocks show: the next run goes on from there."""
        try:
            self._outbox.memo.put(CLOCK_KEY, self._clock.mark().as_json())
        except OutboxError as error:
            self._trouble.note(error)

    def request_stop(self) -> None:
        """Ask ``supervise`` to return, which it does within SUPERVISE_EVERY_S.

        May be called from a signal handler, so it takes no lock: the handler may run in the middle of a wait of
        the very thread that it interrupts.
        """
        self._asked_to_stop = True

    def request_reload(self) -> None:
        """Ask ``supervise`` to have the configuration read again; for a signal handler as well."""
        self.asked_to_reload = True

    def _told_to_stop(self) -> bool:
        """Tell whether no further letter may be begun: from the signal on, not from when it is noticed."""
        return self._asked_to_stop or self._stopping.is_set()

    def _told_to_draw_nothing(self) -> bool:
        return self._powers.paused or self._told_to_stop()

    def _has_successor(self) -> bool:
        return self.reloading.successor is not None

    def stop(self) -> None:
        """Settle what is on the wire, report it, say goodbye. Bounded by GRACE_S and the broker's time-outs."""
        self._stopping.set()
        self._bell.ring()
        if not self._couriers.join(GRACE_S):
            _log.warning("event=stop_cut_short reason='a letter on the wire is tried again at the next start'")
        self._clerks.join(GOODBYE_S)  # what was done is answered
        try:
            self._bridge.store_results()
        except OutboxError as error:
            _log.error("event=result_not_stored problem=%r", str(error))
        self._publish_outcomes()
        self._mqtt.stop(timeout_s=GOODBYE_S)
        self._closing.set()  # only now, for the broker's last PUBACKs are to be stored
        self._crew.join(GOODBYE_S)
        self._keep_time()
        self._uplink.close()
        self._outbox.close()
        _log.info("event=stopped")

    # --- threads --------------------------------------------------------------------------------------------

    def _courier(self, lane: int) -> Callable[[], None]:
        relays = self._lanes[lane]
        beat = partial(self._progress.beat, f"courier-{lane}")

        def deliver(letters: Iterable[Letter]) -> Iterator[tuple[Letter, Attempt]]:
            for one in relays.deliver(letters):
                yield one
                beat()
                if not relays.knows_more():
                    self._publish_outcomes()  # it has been settled; those on the way may take their time

        def work() -> None:
            while not self._told_to_stop():
                beat()
                limit = BATCH_LETTERS if self._reception.let_a_flood_pass() else FLOOD_LETTERS
                heard, paused = self._bell.rung, self._powers.paused
                try:
                    # With a limit of 0 it draws nothing, and yet stores what could not be stored before.
                    carried = self._bridge.carry(
                        deliver,
                        limit=0 if paused else limit,
                        stop=self._told_to_draw_nothing,
                        more=relays.knows_more,
                    )
                    due_in_s = 0.0 if carried else None if paused else self._bridge.next_due_in()
                    if due_in_s is not None:
                        due_in_s = max(due_in_s, relays.ready_in())
                except OutboxError as error:
                    self._trouble.wait(error, self._stopping)
                    continue
                if carried:
                    continue
                waits_s = [one for one in (due_in_s, relays.tend()) if one is not None]
                if not self._stopping.is_set():  # which is set before the last ring
                    self._bell.sleep(heard, min([IDLE_S, *(max(one, 0.01) for one in waits_s)]))
            relays.close()
            self._progress.gone(f"courier-{lane}")

        return work

    def _relay_recovered(self) -> None:
        """Have what a relay has put off go out now; called by the lane that has found it well again."""
        try:
            letters = self._bridge.hasten()
        except OutboxError as error:
            self._trouble.note(error)  # they go out when they are due
        else:
            if letters:
                _log.info("event=hastened letters=%d", letters)
                self._bell.ring()

    def _watch_chip(self) -> None:
        while not self._stopping.wait(WATCH_EVERY_S):
            self._progress.beat("chip")
            self._uplink.watch()
        self._progress.gone("chip")

    def _heard(self, lane: int, dialogue: Callable[[str], None] | None) -> Callable[[str], None]:
        """Return who listens to the dialogue of ``lane``: a lane that speaks is at work, however slowly."""

        def heard(line: str) -> None:
            self._progress.beat(f"courier-{lane}")
            if dialogue is not None:
                dialogue(line)

        return heard

    def _look_after_progress(self) -> None:
        """Keep the watchdog outside quiet for as long as all threads are at work."""
        silent = self._progress.silent()
        for thread in sorted(silent.keys() - self._hanging):
            _log.error("event=thread_hangs thread=%s silent_s=%.0f", thread, silent[thread])
        self._hanging = frozenset(silent)
        if not silent:
            self._supervisor.alive()

    # --- what others call -----------------------------------------------------------------------------------

    def _hand_over(self, message: Message) -> None:
        if f"{message.topic}/".startswith(f"{self._desk.topic}/"):
            self._desk.bring(message)
        elif self._announcing.concerns(message.topic):
            self._announcing.hear(message)
        else:
            self._reception.bring(message)

    def _connection_changed(self, connected: bool, problem: str | None) -> None:  # noqa: FBT001 - mqtt's callback
        self._connected, self._broker_problem = connected, problem if connected else problem or "not connected"
        if connected:
            self._subscribed.set()
            self._announcing.connected()

    def _changed_by_hand(self) -> None:
        self._bell.ring()
        self._publish_outcomes()

    # --- what is published ----------------------------------------------------------------------------------

    def _publish_outcomes(self) -> None:
        """Publish what is stored and not on its way; what cannot be read now is read at the next occasion."""
        with self._publishing:
            try:
                for one in self._bridge.outgoing(PUBLISH_WINDOW):
                    self._mqtt.publish(one.topic, one.payload, token=one.id, correlation=one.correlation)
            except OutboxError as error:
                self._trouble.note(error)

    def _tell(self, what: str, value: dict[str, Any]) -> None:
        payload = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        self._mqtt.publish(f"{self._base}/bridge/{what}", payload, token=None, retain=True)

    def health(self) -> dict[str, Any]:
        """Return the content of ``<base>/bridge/health``."""
        return {
            "queue": self._counting.queue(),
            "relay": part_of(self._standings.problem),
            "chip": part_of(self._uplink.problem, link=self._uplink.link),  # a W5100 cannot tell of its cable
            "mqtt": {"connected": self._connected, "problem": self._broker_problem},
            "configuration": part_of(self.reloading.problem),
            "paused": self._powers.paused,
        }

    def info(self) -> dict[str, Any]:
        """Return the content of ``<base>/bridge/info``."""
        return info_of(
            self._config,
            started_at=self._started_at,
            model=self._uplink.model,
            paused=self._powers.paused,
            counters=self._bridge.counters(),
            outcomes=self._counting.outcomes(),
        )
