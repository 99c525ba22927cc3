"""Whether a file is our outbox, and whole: looked at before anything is written, in bounded time."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from plugin.outbox.errors import OutboxDamaged, OutboxForeign, OutboxTooNew
from plugin.outbox.schema import APPLICATION_ID

_log = logging.getLogger("hardwire.outbox")

CHECK_S: Final = 5.0
CHECK_BYTES: Final = 64 * 1024 * 1024  # of a file that is read through; an SD card gives some 20 MB in a second
CHECK_STEPS: Final = 10_000  # of SQLite's instructions between two looks at the clock

# The database header, sqlite.org/fileformat.html §1.3: its octets are big-endian.
_MAGIC: Final = b"SQLite format 3\0"
_USER_VERSION: Final = slice(60, 64)
_APPLICATION_ID: Final = slice(68, 72)

# What the queue cannot do without. Of a large file only these are read: the octets of mails are the bulk of it.
_TABLES: Final = ("letter", "recipient", "alert", "publication")


def refuse_strangers(path: Path, known: int) -> None:
    """Raise for another program's file or a schema beyond ``known``, by its header: SQLite does not touch it.

    OutboxForeign, OutboxTooNew, OSError. A file without a legible header is for others to judge.
    """
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) == 100 and header.startswith(_MAGIC):
        application = int.from_bytes(header[_APPLICATION_ID])
        version = int.from_bytes(header[_USER_VERSION], signed=True)
        if application not in (0, APPLICATION_ID):  # 0: a file of ours whose first pages are still in its log
            raise foreign(path)
        judge_version(path, version if application else 0, known)


def judge(db: sqlite3.Connection, path: Path, known: int) -> int:
    """Return the version of the schema, 0 for an empty file; OutboxForeign, OutboxTooNew, sqlite3.Error."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    application = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    if (version or tables) and application != APPLICATION_ID:
        raise foreign(path)
    judge_version(path, version, known)
    return version


def judge_version(path: Path, version: int, known: int) -> None:
    """Raise OutboxTooNew for a schema beyond ``known``."""
    if version > known:
        raise OutboxTooNew(
            f"the outbox {path} was written by a newer version (schema {version}, known up to {known})",
            "install that version again, or give another outbox.path",
        )


def foreign(path: Path) -> OutboxForeign:
    """Return the refusal of another program's file."""
    return OutboxForeign(
        f"{path} is the database of another program", "give another outbox.path; this file is left alone"
    )


def check(db: sqlite3.Connection, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
    """Raise OutboxDamaged or sqlite3.DatabaseError if the file is damaged, as far as CHECK_S allows to look.

    ``PRAGMA quick_check``: pages, rows and constraints, but not whether indices and tables agree. What was not
    looked at is told in the log.
    """
    deadline = clock() + CHECK_S
    octets = _number(db, "page_count") * _number(db, "page_size")
    parts = ["quick_check(1)"] if octets <= CHECK_BYTES else [f"quick_check({table})" for table in _TABLES]
    done = 0
    db.set_progress_handler(lambda: clock() > deadline, CHECK_STEPS)
    try:
        while done < len(parts) and clock() <= deadline:
            if (told := db.execute(f"PRAGMA {parts[done]}").fetchone()[0]) != "ok":
                raise OutboxDamaged.of(path, told)
            done += 1
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
    finally:
        db.set_progress_handler(None, 0)
    if done < len(parts) or octets > CHECK_BYTES:
        looked = "nothing" if not done else "all tables but those of contents and history" if done == 4 else "some"
        _log.warning("event=outbox_checked_in_part path=%r octets=%d looked_at=%r", str(path), octets, looked)


def _number(db: sqlite3.Connection, pragma: str) -> int:
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])
