"""Small things that must survive a restart, by name; and errands that another process leaves for the service.

The outbox belongs to one process, because what its lanes have claimed is known in memory only. SQLite itself lets
others read, and write a row: a command that wants something of a queue that is in use leaves an errand here, and
whoever has the queue does it and answers.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from plugin.outbox.database import Database

MAX_ERRANDS: Final = 20  # that wait; more are not taken

# No migration: a queue in which nothing was ever noted stays as it is, and every version can read it.
MEMO_TABLE: Final = "CREATE TABLE IF NOT EXISTS memo (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
PUT: Final = "INSERT INTO memo (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What another process asks for; ``content`` is JSON."""

    key: str
    content: Any


class Memo:
    """Values by name, each a JSON value, in the outbox. Every method may raise OutboxError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> Any:
        """Return what was put under ``key``; None if nothing was."""
        with self._database.reading() as db:
            return value_of(db, key)

    def put(self, key: str, value: Any) -> None:
        """Store ``value`` under ``key``, in place of what was there."""
        with self._database.transaction() as db:
            db.execute(MEMO_TABLE)
            db.execute(PUT, (key, json.dumps(value)))

    # --- errands: the side of who has the queue -------------------------------------------------------------

    def errands(self) -> list[Errand]:
        """Return what others have left to be done, in no order; cheap enough to be asked twice a second."""
        with self._database.reading() as db:
            if not _is_there(db):
                return []
            rows = db.execute(
                "SELECT key, value FROM memo WHERE key >= 'errand/' AND key < 'errand0' LIMIT ?", (MAX_ERRANDS,)
            ).fetchall()
        return [Errand(key=row["key"], content=json.loads(row["value"])) for row in rows]

    def answer(self, errand: Errand, answer: Any) -> None:
        """Take ``errand`` off and leave ``answer`` in its place."""
        with self._database.transaction() as db:
            if db.execute("DELETE FROM memo WHERE key = ?", (errand.key,)).rowcount:  # else nobody waits any more
                db.execute(PUT, (errand.key.replace("errand/", "answer/", 1), json.dumps(answer)))

    def forget_errands(self) -> None:
        """Take off what was left for another run, and answers that nobody has fetched."""
        with self._database.transaction() as db:
            db.execute(MEMO_TABLE)
            db.execute("DELETE FROM memo WHERE key >= 'errand/' AND key < 'errand0'")
            db.execute("DELETE FROM memo WHERE key >= 'answer/' AND key < 'answer0'")


def value_of(db: sqlite3.Connection, key: str) -> Any:
    """Return what was put under ``key``; None if nothing was."""
    if not _is_there(db):
        return None
    row = db.execute("SELECT value FROM memo WHERE key = ?", (key,)).fetchone()
    return None if row is None else json.loads(row["value"])


def _is_there(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'memo'").fetchone() is not None
