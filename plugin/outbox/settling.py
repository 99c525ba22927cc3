"""What an attempt has come to, written into the open transaction."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import fields
from typing import Final

from plugin.alert import Attempt, RecipientOutcome
from plugin.outbox.intake import clean, store_report
from plugin.outbox.records import Settlement

ATTEMPTS_KEPT: Final = 30  # of one letter: the first, which tells how it began, and the last ones

# What an attempt's JSON holds: start and duration have columns of their own.
_ATTEMPT: Final = tuple(one.name for one in fields(Attempt) if one.name not in {"started_at", "duration_s"})
_FATE: Final = tuple(one.name for one in fields(RecipientOutcome))


def settle(db: sqlite3.Connection, settlement: Settlement) -> bool:
    """Store ``settlement``; False, and nothing is stored, if the letter was settled meanwhile."""
    final = settlement.due_at is None
    cursor = db.execute(
        "UPDATE letter SET state = ?, failed = ?, due_at = COALESCE(?, due_at), attempts = ?, "
        "possible_duplicate = ?, put_off = ? WHERE number = ? AND state <> 'settled'",
        (
            "settled" if final else "waiting",
            final and any(one.state != "accepted" for one in settlement.recipients),
            settlement.due_at,
            settlement.number,
            settlement.possible_duplicate,
            not final,
            settlement.letter,
        ),
    )
    if cursor.rowcount != 1:
        return False
    db.executemany(
        "UPDATE recipient SET state = ?, phase = ?, code = ?, enhanced = ?, text = ? "
        "WHERE letter = ? AND position = ?",
        [
            (
                one.state,
                one.phase,
                one.code,
                None if one.enhanced is None else clean(one.enhanced),
                None if one.text is None else clean(one.text),
                settlement.letter,
                position,
            )
            for position, one in enumerate(settlement.recipients)
        ],
    )
    attempt = settlement.attempt
    db.execute(
        "INSERT INTO attempt (letter, number, started_at, duration_s, details) VALUES (?, ?, ?, ?, ?)",
        (
            settlement.letter,
            settlement.number,
            attempt.started_at.timestamp(),
            attempt.duration_s,
            _attempt_json(attempt),
        ),
    )
    db.execute(
        "DELETE FROM attempt WHERE letter = ? AND number > 1 AND number <= ?",
        (settlement.letter, settlement.number - ATTEMPTS_KEPT + 1),
    )
    for report in settlement.reports:
        store_report(db, report, at=attempt.started_at)
    if final:
        db.execute("UPDATE alert SET settled_at = ? WHERE letter = ?", (settlement.at, settlement.letter))
        if not settlement.keep_content:
            db.execute("DELETE FROM content WHERE letter = ?", (settlement.letter,))
    return True


def _attempt_json(attempt: Attempt) -> str:
    details = {name: getattr(attempt, name) for name in _ATTEMPT}
    fates = [{name: getattr(one, name) for name in _FATE} for one in attempt.recipients]
    return json.dumps({**details, "recipients": fates})
