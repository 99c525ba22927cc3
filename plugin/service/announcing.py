"""Home Assistant is told of this bridge: at each connection, whenever it is born anew, and when it forgot us.

What was announced is remembered in the outbox. What leaves the configuration is taken back: from a Home Assistant
that is there at once; from one that is not when it is, for it keeps in its registry what it cannot see any more,
and lets go of it only if it sees it once again and then told to go.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from plugin.alert import Message
from plugin.discovery import Description, gone, payload_of
from plugin.outbox import Memo, OutboxError
from plugin.service.reception import OutboxTrouble

_log = logging.getLogger("hardwire.service")

ANNOUNCED_KEY: Final = "discovery"
QUIET_S: Final = 2.0
"""Home Assistant takes a device back entity by entity: until it is through, nothing is announced again."""
LONGEST_S: Final = 10.0
AGAIN_S: Final = 30.0
"""After an outbox that could not be used."""
MAX_FAREWELLS: Final = 50
"""Entities that are taken back at one birth; more have to wait for the next."""

Payload = dict[str, Any]


class Publish(Protocol):
    """``Mqtt.publish``."""

    def __call__(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Publish at QoS 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One message on a discovery topic."""

    topic: str
    payload: bytes
    retain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """Payloads by their topic: what Home Assistant was told last, and what it may have to be told to forget."""

    present: Mapping[str, Payload]
    leaving: Mapping[str, Payload]

    @classmethod
    def read(cls, stored: Any) -> Announced:
        """Return what ``as_json`` gave; nothing for None."""
        known = stored if isinstance(stored, dict) else {}
        return cls(present=known.get("present", {}), leaving=known.get("leaving", {}))

    def as_json(self) -> dict[str, Any]:
        """Return this as JSON can hold it."""
        return {"present": dict(self.present), "leaving": dict(self.leaving)}


def announcements(known: Announced, wanted: Mapping[str, Payload]) -> tuple[list[Announcement], Announced]:
    """Return what is to be published so that what is ``wanted`` is there and nothing else; and what is known then.

    A component that has gone is told to go in a message that is not retained, before the one without it.
    """
    told: list[Announcement] = []
    leaving = {topic: _without(one, wanted.get(topic)) for topic, one in known.leaving.items()}
    for topic, before in known.present.items():
        left = _without(before, wanted.get(topic))
        if topic not in wanted:
            told.append(Announcement(topic=topic, payload=b"", retain=True))
        elif left["cmps"]:
            told.append(Announcement(topic=topic, payload=_octets(_all_gone(left))))
        leaving[topic] = {**left, "cmps": leaving.get(topic, {"cmps": {}})["cmps"] | left["cmps"]}
    told += [Announcement(topic=topic, payload=_octets(one), retain=True) for topic, one in wanted.items()]
    still = {topic: one for topic, one in leaving.items() if one["cmps"]}
    return told, Announced(present=wanted, leaving=still)


def farewells(known: Announced) -> tuple[list[Announcement], Announced]:
    """Return what makes a Home Assistant that has just started forget what is leaving, and what is known then.

    It has to see each entity before it can remove it. Each is told to go in a message of its own: of several in
    one message it heeds the first alone while they are being set up.
    """
    told: list[Announcement] = []
    later: dict[str, Payload] = {}
    room = MAX_FAREWELLS
    for topic, one in known.leaving.items():
        now = dict(list(one["cmps"].items())[:room])
        room -= len(now)
        rest = {key: component for key, component in one["cmps"].items() if key not in now}
        if rest:
            later[topic] = {**one, "cmps": rest}
        if now:
            told.append(Announcement(topic=topic, payload=_octets({**one, "cmps": now})))
        for key, component in now.items():
            told.append(Announcement(topic=topic, payload=_octets({**one, "cmps": {key: gone(component)}})))
    return told, Announced(present=known.present, leaving=later)


def _without(one: Payload, other: Payload | None) -> Payload:
    """Return ``one`` with those of its components that ``other`` does not have."""
    kept = other["cmps"] if other is not None else {}
    return {**one, "cmps": {key: component for key, component in one["cmps"].items() if key not in kept}}


def _all_gone(one: Payload) -> Payload:
    return {**one, "cmps": {key: gone(component) for key, component in one["cmps"].items()}}


def _octets(value: Payload) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


class Announcing:
    """Keeps Home Assistant told. ``hear`` and ``connected`` are for the network thread, ``work`` for another."""

    def __init__(
        self,
        description: Description,
        *,
        wanted: bool,
        memo: Memo,
        publish: Publish,
        trouble: OutboxTrouble,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``wanted`` False: nothing is announced, and what was is taken back."""
        self._topic = description.topic
        self._birth_topic = description.birth_topic
        self._wanted = {description.topic: payload_of(description)} if wanted else {}
        self._memo = memo
        self._publish = publish
        self._trouble = trouble
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows
        self._due_at: float | None = None
        self._heard_at: float | None = None  # the first of what made it due
        self._born = False

    def concerns(self, topic: str) -> bool:
        """Tell whether a message on ``topic`` is for ``hear``."""
        return topic in {self._topic, self._birth_topic}

    def connected(self) -> None:
        """Have all announced at once: the broker may be another one, or have forgotten."""
        with self._lock:
            self._due_at = self._clock()

    def hear(self, message: Message) -> None:
        """Have all announced again if Home Assistant says that it is there, or takes the device from its topic."""
        born = message.topic == self._birth_topic and message.payload == b"online"
        if not born and (message.topic == self._birth_topic or message.payload):
            return  # it goes, or that was ourselves
        with self._lock:
            now = self._clock()
            self._born = self._born or born
            self._heard_at = now if self._heard_at is None else self._heard_at
            self._due_at = min(now + QUIET_S, self._heard_at + LONGEST_S)

    def work(self) -> None:
        """Announce what is due, if anything; cheap enough to be called twice a second."""
        with self._lock:
            if self._due_at is None or self._clock() < self._due_at:
                return
            born, self._born = self._born, False
            self._due_at = self._heard_at = None
        try:
            self._announce(born=born)
        except OutboxError as error:
            self._trouble.note(error)
            with self._lock:
                self._born = self._born or born
                self._due_at = self._clock() + AGAIN_S

    def _announce(self, *, born: bool) -> None:
        stored = self._memo.get(ANNOUNCED_KEY)
        known = Announced.read(stored)
        if not known.present and not known.leaving and not self._wanted:
            return
        parting, known = farewells(known) if born else ([], known)
        told, known = announcements(known, self._wanted)
        for one in (*parting, *told):
            self._publish(one.topic, one.payload, retain=one.retain)
        if known.as_json() != stored:
            self._memo.put(ANNOUNCED_KEY, known.as_json())
        entities = sum(len(one["cmps"]) for one in self._wanted.values())
        _log.info("event=announced entities=%d messages=%d born=%s", entities, len(parting) + len(told), born)
