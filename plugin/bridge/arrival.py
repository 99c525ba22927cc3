"""What is decided about a message before anything is stored. Pure; one poison message harms no other."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Protocol

from plugin.alert import Alert, AlertState, Malformed, Message, Outcome, RecipientOutcome
from plugin.route import Directions, Rejected

_log = logging.getLogger("hardwire.bridge")

MAX_TOPIC_BYTES: Final = 65_535  # MQTT 5 §1.5.4: a string has two octets for its length
MAX_NAME_CHARS: Final = 500


class Decode(Protocol):
    """``plugin.payload.decode``, with everything given that the configuration decides."""

    def __call__(self, message: Message, *, alert_id: str) -> Alert | Malformed:
        """Return what ``message`` says; ``alert_id`` is for an alert that names none."""
        ...


class Direct(Protocol):
    """What ``plugin.route.Routing`` does."""

    def direct(self, alert: Alert) -> Directions | Rejected:
        """Return where ``alert`` goes, or why it goes nowhere."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A message and what is to be done with it: ``directions`` to queue it, or ``failure`` to answer it with."""

    message: Message
    id: str
    state: AlertState
    name: str
    subject: str | None
    response_topic: str | None
    correlation: bytes | None
    directions: Directions | None
    failure: Outcome | None
    warnings: tuple[str, ...] = ()


def read(
    message: Message,
    *,
    decode: Decode,
    routing: Direct,
    check_path: Callable[[str], str | None],
    base: str,
    alert_id: str,
) -> Arrival:
    """Return what is to be done with ``message``. Never raises: what goes wrong here is a failure's reason."""
    alert: Alert | Malformed = Malformed(
        id=alert_id,
        topic=message.topic,
        name=message.topic.removeprefix(f"{base}/email").removeprefix("/")[:MAX_NAME_CHARS],
        key=None,
        reason="",
        received_at=message.received_at,
    )
    try:
        alert = decode(message, alert_id=alert_id)
        if isinstance(alert, Malformed):
            return _arrival(message, alert, None, _failure(alert, _named(alert.key, alert.reason)))
        decision = _forbidden_path(alert, check_path) or routing.direct(alert)
    except Exception as error:  # noqa: BLE001 - a fault of ours: this alert is answered, the others go on
        _log.error("event=poison alert=%r topic=%.200r problem=%r", alert.id, message.topic, where(error))
        return _arrival(message, alert, None, _failure(alert, f"the bridge failed on this alert ({where(error)})"))
    if isinstance(decision, Rejected):
        denied = tuple(
            RecipientOutcome(
                address=address, state="denied", phase=decision.phase, text="not admitted by allow_recipients"
            )
            for address in decision.denied
        )
        return _arrival(message, alert, None, _failure(alert, _named(decision.key, decision.reason), denied))
    return _arrival(message, alert, decision, None)


def full(arrival: Arrival, *, waiting: int, stored_bytes: int, queue: int, queue_bytes: int) -> Outcome | None:
    """Return the failure of an alert for which the queue has no room; None if it has.

    ``waiting`` letters wait and the outbox has ``stored_bytes``; the others are the limits.
    """
    if waiting >= queue:
        reason = f"the queue is full ({waiting} waiting, as many as limits.queue allows)"
    elif stored_bytes + len(arrival.message.payload) > queue_bytes:
        reason = f"the queue is full (the outbox has {stored_bytes} octets, limits.queue_bytes is {queue_bytes})"
    else:
        return None
    assert arrival.directions is not None  # noqa: S101 - only what is to be queued asks for room
    return Outcome(
        id=arrival.id,
        name=arrival.name,
        event_type="failure",
        topic=arrival.message.topic,
        route=arrival.directions.route,
        subject=arrival.subject,
        reason=reason,
        received_at=arrival.message.received_at,
    )


def held_back(arrival: Arrival, *, rate: int, due_at: datetime) -> Outcome:
    """Return what is told of an alert that came faster than its route's ``rate``: it goes out at ``due_at``."""
    assert arrival.directions is not None  # noqa: S101 - only what was routed has a rate
    text = f"held back, for its route has a rate of {rate} a minute"
    return Outcome(
        id=arrival.id,
        name=arrival.name,
        event_type="deferred",
        topic=arrival.message.topic,
        route=arrival.directions.route,
        subject=arrival.subject,
        reason=text,
        recipients=tuple(
            RecipientOutcome(address=address, state="deferred", phase="route", text=text)
            for address in arrival.directions.recipients
        ),
        next_attempt_at=due_at,
        received_at=arrival.message.received_at,
    )


def outcome_topics(base: str, event_type: str, name: str) -> tuple[str, str]:
    """Return where an outcome is published: below its own name, and on the topic of all outcomes."""
    topic = f"{base}/{event_type}/{name}" if name else f"{base}/{event_type}"
    if len(topic.encode("utf-8", "replace")) > MAX_TOPIC_BYTES:
        topic = f"{base}/{event_type}"
    return topic, f"{base}/bridge/outcome"


@lru_cache(maxsize=64)  # a house has few routes, and a flood takes the same one
def directions_json(directions: Directions) -> str:
    """Return ``directions`` as they are stored: a later configuration does not redirect what was accepted."""
    return json.dumps(asdict(directions))


def directions_of(text: str) -> Directions:
    """Return what ``directions_json`` has stored."""
    stored = json.loads(text)
    fields: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in stored.items()}
    return Directions(**fields)


def where(error: BaseException) -> str:
    """Return type and place of an exception. Its text is left out, for it may hold what an alert says."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].filename.rpartition('/')[2]} line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def _arrival(
    message: Message, alert: Alert | Malformed, directions: Directions | None, failure: Outcome | None
) -> Arrival:
    return Arrival(
        message=message,
        id=alert.id,
        state=alert.state,
        name=alert.name,
        subject=alert.title if isinstance(alert, Alert) else None,
        response_topic=alert.response_topic,
        correlation=alert.correlation,
        directions=directions,
        failure=failure,
        warnings=alert.warnings if isinstance(alert, Alert) else (),
    )


def _failure(alert: Alert | Malformed, reason: str, recipients: tuple[RecipientOutcome, ...] = ()) -> Outcome:
    return Outcome(
        id=alert.id,
        name=alert.name,
        event_type="failure",
        topic=alert.topic,
        subject=alert.title if isinstance(alert, Alert) else None,
        reason=reason,
        recipients=recipients,
        received_at=alert.received_at,
    )


def _named(key: str | None, reason: str) -> str:
    """Return ``reason`` with the offending key in it."""
    return reason if key is None or key in reason else f"{key}: {reason}"


def _forbidden_path(alert: Alert, check_path: Callable[[str], str | None]) -> Rejected | None:
    for index, attachment in enumerate(alert.attachments):
        if attachment.path is not None and (reason := check_path(attachment.path)) is not None:
            key = f"attachments[{index}].path"
            return Rejected(key=key, reason=f"{key}: {reason}", phase="compose")
    return None
