"""How often alerts have come to which end since the outbox is there, and when last: the numbers that people watch.

They are kept with the outcomes themselves, in one transaction, so that neither a restart nor a crash makes them
wrong. Outcomes are forgotten after a while (``outbox.keep``), these are not.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from typing import Any, Final, get_args

from plugin.alert import EventType, Outcome, timestamp
from plugin.outbox.memo import MEMO_TABLE, PUT

TOTALS_KEY: Final = "outcomes"


def totals_of(stored: Any) -> dict[str, Any]:
    """Return what is told of ``stored``, the value under TOTALS_KEY, which is None before the first outcome.

    ``last`` is an event type or None; under each event type are ``count``, ``at`` (RFC 3339) and ``duration_s``.
    """
    known = stored if isinstance(stored, dict) else {}
    nothing = {"count": 0, "at": None, "duration_s": None}
    return {"last": known.get("last"), **{one: known.get(one, nothing) for one in get_args(EventType)}}


def count_outcome(db: sqlite3.Connection, outcome: Outcome, at: datetime) -> None:
    """Count ``outcome``, which is told ``at`` this time, within the open transaction."""
    db.execute(MEMO_TABLE)
    row = db.execute("SELECT value FROM memo WHERE key = ?", (TOTALS_KEY,)).fetchone()
    totals = totals_of(None if row is None else json.loads(row["value"]))
    totals["last"] = outcome.event_type
    totals[outcome.event_type] = {
        "count": totals[outcome.event_type]["count"] + 1,
        "at": timestamp(at),
        "duration_s": outcome.as_dict()["duration_s"],
    }
    db.execute(PUT, (TOTALS_KEY, json.dumps(totals)))
