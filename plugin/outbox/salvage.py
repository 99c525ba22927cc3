"""A damaged outbox: set aside, and what can still be read of its waiting letters taken over into a new one."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

_log = logging.getLogger("hardwire.outbox")

SALVAGE_S: Final = 20.0
SALVAGE_STEPS: Final = 10_000  # of SQLite's instructions between two looks at the clock
BATCH: Final = 200  # letters in one transaction

# Ways to the letters that are not settled. Where one is broken another may lead: an index has pages of its own.
_WAYS: Final = (
    "SELECT number FROM letter INDEXED BY letter_open WHERE state <> 'settled'",
    "SELECT number FROM letter INDEXED BY letter_due WHERE state = 'waiting'",
    "SELECT number FROM letter NOT INDEXED WHERE state <> 'settled' ORDER BY number",
    "SELECT number FROM letter NOT INDEXED WHERE state <> 'settled' ORDER BY number DESC",
)
_OF_LETTER: Final = ("recipient", "content", "attempt")
_OF_ALERT: Final = ("message", "responder", "packet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Rows of one letter, by table, each with the names of its columns."""

    rows: tuple[tuple[str, sqlite3.Row], ...]

    def has(self, *tables: str) -> bool:
        """Tell whether there is a row of any of ``tables``."""
        return any(table in tables for table, _ in self.rows)


def set_aside(path: Path, *, now: float) -> Path:
    """Rename the file at ``path``, with its log and index, to ``NAME.damaged-YYYYMMDDTHHMMSSZ``; OSError.

    Nothing is overwritten. The file itself goes last: if this is cut short, the next start finds it and goes on.
    """
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (path.with_name(f"{path.name}.damaged-{stamp}" + (f"-{n}" if n > 1 else "")) for n in count(1))
    aside = next(one for one in names if not any(_beside(one, end).exists() for end in ("", "-wal", "-shm")))
    for end in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            _beside(path, end).rename(_beside(aside, end))
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return aside


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def salvage(aside: Path, db: sqlite3.Connection, *, clock: Callable[[], float] = time.monotonic) -> int:
    """Copy the letters that wait in the file ``aside`` into ``db``; return how many.

    Takes at most about SALVAGE_S. Each is marked as a possible duplicate: that it was sent may be what the file
    has lost. Never raises for what either file does: the new outbox works without them.
    """
    deadline = clock() + SALVAGE_S
    saved = 0
    try:
        with closing(sqlite3.connect(f"{aside.absolute().as_uri()}?mode=ro", uri=True)) as source:
            source.row_factory = sqlite3.Row
            source.set_progress_handler(lambda: clock() > deadline, SALVAGE_STEPS)
            numbers = sorted(_numbers(source))
            for start in range(0, len(numbers), BATCH):
                if clock() > deadline:
                    _log.warning("event=salvage_cut_short path=%r left=%d", str(aside), len(numbers) - start)
                    break
                saved += _take_over(source, db, numbers[start : start + BATCH])
    except sqlite3.Error as error:
        _log.warning("event=salvage_ended path=%r letters=%d problem=%r", str(aside), saved, str(error))
    return saved


def _numbers(source: sqlite3.Connection) -> set[int]:
    numbers: set[int] = set()
    for way in _WAYS:
        with suppress(sqlite3.Error):
            for row in source.execute(way):
                numbers.add(row[0])
    return numbers


def _take_over(source: sqlite3.Connection, db: sqlite3.Connection, numbers: list[int]) -> int:
    saved = 0
    db.execute("BEGIN IMMEDIATE")
    try:
        for number in numbers:
            found = _find(source, number)
            if found is not None and _insert(db, found):
                saved += 1
        db.execute("COMMIT")
    except sqlite3.Error:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    return saved


def _find(source: sqlite3.Connection, number: int) -> Found | None:
    """Return what can be read of a letter; None if that is too little to mail it."""
    try:
        query = "SELECT * FROM letter WHERE number = ? AND state <> 'settled'"
        letters = [("letter", row) for row in source.execute(query, (number,))]
        alerts = [
            ("alert", row)
            for row in source.execute("SELECT * FROM alert WHERE letter = ? ORDER BY number", (number,))
        ]
    except sqlite3.Error:
        return None
    parts = [one for table in _OF_LETTER for one in _rows(source, table, "letter", number)]
    parts += [
        one for table in _OF_ALERT for _, row in alerts for one in _rows(source, table, "alert", row["number"])
    ]
    found = Found(rows=(*letters, *alerts, *parts))
    enough = letters and alerts and found.has("recipient") and found.has("content", "message")
    return found if enough else None


def _rows(source: sqlite3.Connection, table: str, key: str, number: int) -> Iterator[tuple[str, sqlite3.Row]]:
    with suppress(sqlite3.Error):
        # All or nothing: a letter that has lost some of its recipients must not pass for a whole one.
        rows = source.execute(f"SELECT * FROM {table} WHERE {key} = ?", (number,)).fetchall()  # noqa: S608
        yield from ((table, row) for row in rows)


def _insert(db: sqlite3.Connection, found: Found) -> bool:
    """Store a letter under its number; False, and nothing is stored, if its rows contradict each other."""
    db.execute("SAVEPOINT letter")
    try:
        for table, row in found.rows:
            known = {column["name"] for column in db.execute(f"PRAGMA table_info({table})")}
            names = [name for name in row.keys() if name in known]  # noqa: SIM118 - a Row iterates over values
            values = [1 if name == "possible_duplicate" else row[name] for name in names]
            marks = ", ".join("?" * len(names))
            db.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", values)  # noqa: S608
    except (sqlite3.IntegrityError, sqlite3.DataError):
        db.execute("ROLLBACK TO letter")
        return False
    finally:
        db.execute("RELEASE letter")
    return True
