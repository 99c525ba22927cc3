"""What is asked and stored while alerts are accepted: all of it inside one transaction of the outbox."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from plugin.alert import AlertState, EventType, Message, Properties, Severity
from plugin.outbox.records import URGENCY, Known, Report
from plugin.outbox.totals import count_outcome

MAX_RESPONDERS: Final = 20  # topics that one alert is answered on


class Intake:
    """The open transaction of ``Outbox.intake``; what it is asked already includes what it was told."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._letters_open = letters_open(connection)
        self._stored_bytes = stored_bytes(connection)

    def redelivered(self, message: Message) -> bool:
        """Return whether ``message`` is one that was accepted before and whose PUBACK the broker has not seen.

        A broker uses a packet identifier again only after our PUBACK (MQTT 5 §2.2.1), and marks what it sends
        again with DUP (§3.3.1.1). QoS 0 has no packet identifier and is never sent again.
        """
        if message.qos == 0 or not message.dup:
            return False
        row = self._db.execute(
            "SELECT fingerprint FROM packet WHERE packet_id = ?", (message.packet_id,)
        ).fetchone()
        return row is not None and row["fingerprint"] == fingerprint(message)

    def find(self, alert_id: str, state: AlertState) -> Known | None:
        """Return what is known of the alert that was queued with this identity; a refused one is not known."""
        row = self._db.execute(
            "SELECT alert.number, alert.name, outcome.number AS outcome, outcome.event_type FROM alert "
            "LEFT JOIN outcome ON outcome.alert = alert.number AND outcome.round = alert.round "
            "AND outcome.event_type <> 'deferred' "
            "WHERE alert.id = ? AND alert.state = ? AND alert.letter IS NOT NULL",
            (clean(alert_id), state),
        ).fetchone()
        if row is None:
            return None
        event_type: EventType | None = row["event_type"]
        return Known(alert=row["number"], name=row["name"], outcome=row["outcome"], event_type=event_type)

    def letters_open(self) -> int:
        """Return how many letters are not settled, those of this transaction included."""
        return self._letters_open

    def stored_bytes(self) -> int:
        """Return how many octets the outbox has, of what waits and what is remembered.

        Of what this transaction has added it counts the payloads alone.
        """
        return self._stored_bytes

    def add(self, *, alert_id: str, state: AlertState, topic: str, name: str, received_at: float) -> int:
        """Store an alert and return its number."""
        cursor = self._db.execute(
            "INSERT INTO alert (id, state, topic, name, received_at) VALUES (?, ?, ?, ?, ?)",
            (clean(alert_id), state, clean(topic), clean(name), received_at),
        )
        return _number(cursor)

    def queue(
        self,
        alert: int,
        message: Message,
        *,
        route: str,
        directions: str,
        recipients: Sequence[str],
        received_at: float,
        due_at: float,
        severity: Severity | None = None,
    ) -> None:
        """Queue a letter for ``alert``; ``message`` is kept until the letter is sealed.

        Among letters that are due, ``severity`` decides which goes first.
        """
        letter = _number(
            self._db.execute(
                "INSERT INTO letter (state, due_at, received_at, route, directions, urgency) "
                "VALUES ('waiting', ?, ?, ?, ?, ?)",
                (due_at, received_at, clean(route), directions, URGENCY[severity]),
            )
        )
        self._db.executemany(
            "INSERT INTO recipient (letter, position, address) VALUES (?, ?, ?)",
            [(letter, position, clean(address)) for position, address in enumerate(recipients)],
        )
        self._db.execute("UPDATE alert SET letter = ? WHERE number = ?", (letter, alert))
        self._db.execute(
            "INSERT INTO message (alert, properties, payload) VALUES (?, ?, ?)",
            (alert, _properties_json(message.properties), message.payload),
        )
        self._letters_open += 1
        self._stored_bytes += len(message.payload)

    def report(self, report: Report, *, settled_at: float) -> None:
        """Store the final outcome of an alert that gets no letter, and have it published."""
        store_report(self._db, report, at=report.outcome.received_at)
        self._db.execute("UPDATE alert SET settled_at = ? WHERE number = ?", (settled_at, report.alert))

    def tell(self, report: Report) -> None:
        """Store an outcome that is not the last one, and have it published."""
        store_report(self._db, report, at=report.outcome.received_at)

    def respond(self, alert: int, topic: str, correlation: bytes | None) -> bool:
        """Answer ``alert`` also on ``topic``, from its next outcome on; False if that is one topic too many."""
        rows = self._db.execute("SELECT topic, correlation FROM responder WHERE alert = ?", (alert,)).fetchall()
        if any(row["topic"] == clean(topic) and row["correlation"] == correlation for row in rows):
            return True
        if len(rows) >= MAX_RESPONDERS:
            return False
        self._db.execute(
            "INSERT INTO responder (alert, topic, correlation) VALUES (?, ?, ?)",
            (alert, clean(topic), correlation),
        )
        return True

    def answer(
        self, outcome: int, topics: Sequence[str], response_topic: str | None, correlation: bytes | None
    ) -> None:
        """Publish a stored outcome once more, and on the ``response_topic`` of who asked again."""
        targets: list[tuple[str, bytes | None]] = [(topic, None) for topic in topics]
        if response_topic is not None:
            targets.append((response_topic, correlation))
        publish(self._db, outcome, targets)

    def remember(self, message: Message, alert: int) -> None:
        """Remember the packet identifier of ``message``, in place of who had it before."""
        if message.qos:
            self._db.execute(
                "INSERT INTO packet (packet_id, fingerprint, alert) VALUES (?, ?, ?) "
                "ON CONFLICT (packet_id) DO UPDATE SET fingerprint = excluded.fingerprint, alert = excluded.alert",
                (message.packet_id, fingerprint(message), alert),
            )


def letters_open(db: sqlite3.Connection) -> int:
    """Return how many letters are not settled."""
    return int(db.execute("SELECT letters_open FROM tally").fetchone()[0])


def stored_bytes(db: sqlite3.Connection) -> int:
    """Return how many octets of the file are in use; pages that are free are room for more."""
    pages, free, page_bytes = (
        int(db.execute(f"PRAGMA {one}").fetchone()[0]) for one in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * page_bytes


def store_report(db: sqlite3.Connection, report: Report, *, at: datetime) -> None:
    """Store an outcome, with a publication for each of its topics and for each that asked for a response.

    ``at`` is when it came to this, where the outcome itself does not say: it is not settled.
    """
    outcome = _number(
        db.execute(
            "INSERT INTO outcome (alert, round, event_type, payload) "
            "SELECT number, round, ?, ? FROM alert WHERE number = ?",
            (report.outcome.event_type, report.outcome.as_json(), report.alert),
        )
    )
    targets: list[tuple[str, bytes | None]] = [(topic, None) for topic in report.topics]
    rows = db.execute("SELECT topic, correlation FROM responder WHERE alert = ? ORDER BY rowid", (report.alert,))
    targets += [(row["topic"], row["correlation"]) for row in rows]
    publish(db, outcome, targets)
    count_outcome(db, report.outcome, report.outcome.settled_at or at)


def publish(db: sqlite3.Connection, outcome: int, targets: Sequence[tuple[str, bytes | None]]) -> None:
    """Have a stored outcome published at each of ``targets``."""
    db.executemany(
        "INSERT INTO publication (outcome, topic, correlation) VALUES (?, ?, ?)",
        [(outcome, clean(topic), correlation) for topic, correlation in targets],
    )


def fingerprint(message: Message) -> bytes:
    """Return what a redelivery has in common with the first delivery: SHA-256 over topic and payload."""
    digest = hashlib.sha256(message.topic.encode("utf-8", "surrogatepass") + b"\0")
    digest.update(message.payload)
    return digest.digest()


def clean(text: str) -> str:
    """Return ``text`` as UTF-8 can store it: a lone surrogate, which a database refuses, becomes "?"."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


@lru_cache(maxsize=16)  # nearly all messages have none
def _properties_json(properties: Properties) -> str:
    correlation = properties.correlation_data
    return json.dumps(
        {
            "content_type": properties.content_type,
            "response_topic": properties.response_topic,
            "correlation_data": None if correlation is None else correlation.hex(),
            "user_properties": properties.user_properties,
        }
    )


def stored_message(*, topic: str, payload: bytes, properties: str, received_at: float) -> Message:
    """Return a message as it was before it was stored; what concerned its delivery is gone."""
    given = json.loads(properties)
    correlation = given["correlation_data"]
    return Message(
        topic=topic,
        payload=payload,
        qos=1,
        retain=False,
        dup=False,
        packet_id=0,
        connection=0,
        properties=Properties(
            content_type=given["content_type"],
            response_topic=given["response_topic"],
            correlation_data=None if correlation is None else bytes.fromhex(correlation),
            user_properties=tuple((name, value) for name, value in given["user_properties"]),
        ),
        received_at=datetime.fromtimestamp(received_at, UTC),
    )


def _number(cursor: sqlite3.Cursor) -> int:
    """Return the number of the row that was just inserted."""
    if cursor.lastrowid is None:
        raise sqlite3.InternalError("an INSERT gave no row number")
    return cursor.lastrowid
