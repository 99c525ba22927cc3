"""What people ask of the queue: its letters, one of them in full, another round for what has failed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from plugin.alert import Attempt, RecipientOutcome
from plugin.outbox.records import Listed, Listing, Recipient, Shown

_WHERE: Final[dict[Listing | None, str]] = {
    None: "TRUE",
    "waiting": "state = 'waiting'",
    "wire": "state = 'wire'",
    "failed": "failed = 1",
    "sent": "state = 'settled' AND failed = 0",
}
_ORDER: Final[dict[Listing | None, str]] = {"waiting": "due_at, number", "wire": "due_at, number"}


def letters(db: sqlite3.Connection, state: Listing | None, *, limit: int, offset: int) -> tuple[Listed, ...]:
    """Return a page of letters; see ``Outbox.list``."""
    query = (
        f"SELECT * FROM letter WHERE {_WHERE[state]} "  # noqa: S608 - all of it stands above
        f"ORDER BY {_ORDER.get(state, 'number DESC')} LIMIT ? OFFSET ?"
    )
    return tuple(_listed(db, row) for row in db.execute(query, (limit, offset)).fetchall())


def show(db: sqlite3.Connection, number: int) -> Shown | None:
    """Return all that is known of one letter, or None."""
    letter = db.execute("SELECT * FROM letter WHERE number = ?", (number,)).fetchone()
    if letter is None:
        return None
    content = db.execute("SELECT LENGTH(octets) FROM content WHERE letter = ?", (number,)).fetchone()
    attempts = db.execute("SELECT * FROM attempt WHERE letter = ? ORDER BY number", (number,))
    outcomes = db.execute(
        "SELECT payload FROM outcome WHERE alert IN (SELECT number FROM alert WHERE letter = ?) ORDER BY number",
        (number,),
    )
    return Shown(
        letter=_listed(db, letter),
        message_id=letter["message_id"],
        sender=letter["sender"],
        notes=tuple(json.loads(letter["notes"] or "[]")),
        possible_duplicate=bool(letter["possible_duplicate"]),
        content_bytes=None if content is None else content[0],
        attempts=tuple(_attempt(row) for row in attempts),
        outcomes=tuple(row["payload"] for row in outcomes),
    )


def retry(db: sqlite3.Connection, numbers: Collection[int] | None, *, now: float) -> int:
    """Have failed letters wait again, and waiting ones be due; see ``Outbox.retry``.

    Each round of an alert has its own final outcome: what was told of earlier ones stays as it was told.
    """
    if numbers is None:
        numbers = [row["number"] for row in db.execute("SELECT number FROM letter WHERE failed = 1")]
    return sum(_begin_again(db, number, now) for number in numbers)


def _begin_again(db: sqlite3.Connection, number: int, now: float) -> bool:
    hastened = db.execute(
        "UPDATE letter SET due_at = MIN(due_at, ?) WHERE number = ? AND state = 'waiting'", (now, number)
    )
    if hastened.rowcount:
        return True
    again = db.execute(
        "UPDATE letter SET state = 'waiting', failed = 0, due_at = ?1, received_at = ?1, "
        "earlier = attempts "
        "WHERE number = ?2 AND failed = 1",
        (now, number),
    )
    if not again.rowcount:
        return False
    db.execute(
        "UPDATE recipient SET state = NULL, phase = NULL, code = NULL, enhanced = NULL, text = NULL "
        "WHERE letter = ? AND state <> 'accepted'",
        (number,),
    )
    db.execute("UPDATE alert SET round = round + 1, settled_at = NULL WHERE letter = ?", (number,))
    return True


def waiting(db: sqlite3.Connection, numbers: Collection[int] | None, *, limit: int) -> list[int]:
    """Return up to ``limit`` letters that wait, of ``numbers`` or of all."""
    if numbers is None:
        rows = db.execute("SELECT number FROM letter WHERE state = 'waiting' ORDER BY due_at LIMIT ?", (limit,))
        return [row["number"] for row in rows]
    query = "SELECT 1 FROM letter WHERE number = ? AND state = 'waiting'"
    return [number for number in numbers if db.execute(query, (number,)).fetchone() is not None][:limit]


def states(db: sqlite3.Connection, numbers: Collection[int]) -> dict[int, Listing]:
    """Return how each of ``numbers`` is; one that there is not is left out."""
    query = "SELECT state, failed FROM letter WHERE number = ?"
    rows = {number: db.execute(query, (number,)).fetchone() for number in numbers}
    return {number: _state(row) for number, row in rows.items() if row is not None}


def _state(letter: sqlite3.Row) -> Listing:
    if letter["state"] == "settled":
        return "failed" if letter["failed"] else "sent"
    return "wire" if letter["state"] == "wire" else "waiting"


def _listed(db: sqlite3.Connection, letter: sqlite3.Row) -> Listed:
    number = letter["number"]
    alerts = db.execute(
        "SELECT id, topic, received_at FROM alert WHERE letter = ? ORDER BY number", (number,)
    ).fetchall()
    recipients = db.execute("SELECT * FROM recipient WHERE letter = ? ORDER BY position", (number,))
    return Listed(
        number=number,
        state=_state(letter),
        alert_ids=tuple(row["id"] for row in alerts),
        topic=alerts[0]["topic"] if alerts else "",
        route=letter["route"],
        subject=letter["subject"],
        recipients=tuple(recipient_of(row) for row in recipients),
        attempts=letter["attempts"],
        due_at=letter["due_at"],
        received_at=letter["received_at"],
    )


def recipient_of(row: sqlite3.Row) -> Recipient:
    """Return a recipient with its fate so far."""
    if row["state"] is None:
        return Recipient(address=row["address"], fate=None)
    return Recipient(
        address=row["address"],
        fate=RecipientOutcome(
            address=row["address"],
            state=row["state"],
            phase=row["phase"],
            code=row["code"],
            enhanced=row["enhanced"],
            text=row["text"],
        ),
    )


def _attempt(row: sqlite3.Row) -> Attempt:
    details = json.loads(row["details"])
    details["recipients"] = tuple(RecipientOutcome(**one) for one in details["recipients"])
    details["transcript"] = tuple(details["transcript"])
    started_at = datetime.fromtimestamp(row["started_at"], UTC)
    return Attempt(started_at=started_at, duration_s=row["duration_s"], **details)
