"""The outbox looked at beside the service that works with it, and errands left for that service."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from plugin.outbox import desk
from plugin.outbox.database import BUSY_TIMEOUT_S
from plugin.outbox.errors import OutboxDamaged, OutboxTooNew, OutboxUnavailable, explain
from plugin.outbox.memo import MAX_ERRANDS, MEMO_TABLE, value_of
from plugin.outbox.records import Listed, Listing, Shown
from plugin.outbox.schema import APPLICATION_ID, MIGRATIONS

POLL_S: Final = 0.1


@contextmanager
def beside(path: Path, mode: Literal["ro", "rw"]) -> Iterator[sqlite3.Connection]:
    """Give a connection to the outbox at ``path``, whoever else works with it; OutboxError.

    Nothing is created, migrated or repaired: that is for whoever has the queue.
    """
    if not path.is_file():
        raise OutboxUnavailable(
            f"there is no outbox {path}", "give the configuration of the service, which makes it"
        )
    try:
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            _check(db, path)
            yield db
    except (sqlite3.Error, OSError) as error:
        raise explain(error, path) from error


class Reader:
    """Looks at an outbox, whoever else works with it; sqlite3.Error is for ``reading`` to explain."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def list(self, *, state: Listing | None = None, limit: int, offset: int = 0) -> tuple[Listed, ...]:
        """Return letters; those that wait or are on the wire the longest due first, others the newest first."""
        return desk.letters(self._db, state, limit=limit, offset=offset)

    def show(self, number: int) -> Shown | None:
        """Return all that is known of the letter ``number``; None if there is none."""
        return desk.show(self._db, number)

    def memo(self, key: str) -> Any:
        """Return what the service has put under ``key``; None if nothing was."""
        return value_of(self._db, key)


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """Give a Reader of the outbox at ``path``, which sees one moment of it; OutboxError."""
    with beside(path, "ro") as db:
        db.execute("BEGIN")
        yield Reader(db)


def _check(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise OutboxDamaged(f"{path} is no outbox", "give the configuration of the service")
    if version > len(MIGRATIONS):
        raise OutboxTooNew(f"the outbox {path} was written by a newer version", "use the command of that version")
    if version < len(MIGRATIONS):
        raise OutboxUnavailable(
            f"the outbox {path} was written by an older version", "start the service, which brings it up to date"
        )


def ask(
    path: Path,
    content: Any,
    *,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Any:
    """Leave ``content`` (JSON) as an errand for the service that has the outbox, and return its answer.

    OutboxError, also when there is no answer within ``timeout_s``: the errand is taken back then, unless the
    service has begun it and dies over it.
    """
    name = uuid.uuid4().hex
    with beside(path, "rw") as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute(MEMO_TABLE)
        waiting = db.execute("SELECT COUNT(*) FROM memo WHERE key >= 'errand/' AND key < 'errand0'").fetchone()[0]
        if waiting >= MAX_ERRANDS:
            db.execute("ROLLBACK")
            raise OutboxUnavailable(
                f"{waiting} commands wait for the service already", "see whether it is at work"
            )
        db.execute("INSERT INTO memo (key, value) VALUES (?, ?)", (f"errand/{name}", json.dumps(content)))
        db.execute("COMMIT")
        deadline = clock() + timeout_s
        answer = None
        while answer is None and clock() < deadline:
            sleep(POLL_S)
            answer = db.execute("SELECT value FROM memo WHERE key = ?", (f"answer/{name}",)).fetchone()
        db.execute("DELETE FROM memo WHERE key IN (?, ?)", (f"errand/{name}", f"answer/{name}"))
    if answer is None:
        raise OutboxUnavailable(
            f"the service that works with the outbox {path} did not answer within {timeout_s:g} s",
            "see whether it is at work",
        )
    return json.loads(answer["value"])
