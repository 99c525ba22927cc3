"""Rows of the outbox read as the values they stand for."""

from __future__ import annotations

import json
import sqlite3

from plugin.alert import Letter
from plugin.outbox import desk
from plugin.outbox.intake import stored_message
from plugin.outbox.records import Claim, Publication, QueuedAlert


def claim_of(db: sqlite3.Connection, number: int) -> Claim:
    """Return the letter ``number`` with all that a lane needs to carry it."""
    letter = db.execute("SELECT * FROM letter WHERE number = ?", (number,)).fetchone()
    recipients = tuple(
        desk.recipient_of(row)
        for row in db.execute("SELECT * FROM recipient WHERE letter = ? ORDER BY position", (number,))
    )
    rows = db.execute(
        "SELECT alert.*, message.properties, message.payload FROM alert "
        "LEFT JOIN message ON message.alert = alert.number WHERE letter = ? ORDER BY alert.number",
        (number,),
    ).fetchall()
    alerts = tuple(_queued_alert(row) for row in rows)
    content = db.execute("SELECT octets FROM content WHERE letter = ?", (number,)).fetchone()
    sealed = None
    if content is not None:
        sealed = Letter(
            id=number,
            alert_ids=tuple(one.id for one in alerts),
            route=letter["route"],
            subject=letter["subject"],
            message_id=letter["message_id"],
            sender=letter["sender"],
            recipients=tuple(one.address for one in recipients if one.due),
            content=content["octets"],
            notes=tuple(json.loads(letter["notes"])),
        )
    return Claim(
        letter=number,
        route=letter["route"],
        directions=letter["directions"],
        alerts=alerts,
        recipients=recipients,
        sealed=sealed,
        attempts=letter["attempts"],
        received_at=letter["received_at"],
        possible_duplicate=bool(letter["possible_duplicate"]),
        earlier_attempts=letter["earlier"],
        urgency=letter["urgency"],
    )


def _queued_alert(row: sqlite3.Row) -> QueuedAlert:
    message = None
    if row["payload"] is not None:
        message = stored_message(
            topic=row["topic"],
            payload=row["payload"],
            properties=row["properties"],
            received_at=row["received_at"],
        )
    return QueuedAlert(
        number=row["number"],
        id=row["id"],
        name=row["name"],
        topic=row["topic"],
        received_at=row["received_at"],
        message=message,
    )


def publication_of(db: sqlite3.Connection, number: int) -> Publication:
    """Return the publication with this number and the outcome that it is to publish."""
    row = db.execute(
        "SELECT publication.topic, publication.correlation, outcome.payload FROM publication "
        "JOIN outcome ON outcome.number = publication.outcome WHERE publication.id = ?",
        (number,),
    ).fetchone()
    return Publication(id=number, topic=row["topic"], payload=row["payload"], correlation=row["correlation"])
