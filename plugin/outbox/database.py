"""One SQLite file that belongs to one process: opened, locked, migrated; durable transactions under a lock."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from plugin.outbox.errors import OutboxDamaged, OutboxLocked, OutboxUnavailable, explain
from plugin.outbox.integrity import check, judge, refuse_strangers
from plugin.outbox.salvage import salvage, set_aside

_log = logging.getLogger("hardwire.outbox")

BUSY_TIMEOUT_S: Final = 5.0  # for a reader from outside, such as a backup
LOCK_WAIT_S: Final = 60.0  # for the other threads of this process; a commit on a worn SD card takes seconds
WAL_LIMIT_BYTES: Final = 16 * 1024 * 1024

# Errors of these kinds are faults of this program, not of the disk: they are not explained away.
_OUR_FAULTS: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError)


class Database:
    """A connection that several threads use in turn. WAL, ``synchronous=FULL``: what was committed survives.

    ``factory`` makes the connection; tests give one that fails at a chosen statement.
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[str],
        *,
        factory: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> None:
        """Open ``path``, create it if need be (mode 0600), and bring its schema up to date; OutboxError.

        A damaged file is set aside, ``set_aside`` says where, and a new one takes over what can be read of it.
        """
        self.path = path
        self.set_aside: Path | None = None
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._lock_file = _claim_file(path)
        try:
            try:
                self._connection = self._open(migrations, factory)
            except OutboxDamaged as damage:
                self.set_aside = set_aside(path, now=time.time())
                self._connection = self._open(migrations, factory)
                _log.error("event=outbox_damaged set_aside=%r problem=%r", str(self.set_aside), damage.problem)
                letters = salvage(self.set_aside, self._connection)
                _log.warning("event=outbox_salvaged path=%r letters=%d", str(path), letters)
        except OSError as error:
            self.close()
            raise explain(error, path) from error
        except BaseException:
            self.close()
            raise

    def _open(self, migrations: Sequence[str], factory: type[sqlite3.Connection]) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = None
        try:
            _create_private(self.path)
            refuse_strangers(self.path, len(migrations))
            connection = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, factory=factory
            )
            connection.row_factory = sqlite3.Row
            self._prepare(connection, migrations)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error | OSError):
                raise explain(error, self.path) from error
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection, migrations: Sequence[str]) -> None:
        version = judge(connection, self.path, len(migrations))
        if version:
            check(connection, self.path)
        # auto_vacuum works only if it is set before the first table; history can then give its room back.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            # Some file systems cannot share memory. A rollback journal is as safe, only slower.
            _log.warning("event=no_wal path=%s journal_mode=%s", self.path, mode)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
        for number, script in enumerate(migrations[version:], start=version + 1):
            try:
                connection.executescript(f"BEGIN IMMEDIATE;{script};PRAGMA user_version = {number};COMMIT;")
            except BaseException:
                _undo(connection)
                raise
            _log.info("event=schema path=%s version=%d", self.path, number)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for reading alone; nobody writes meanwhile. OutboxError."""
        if not self._lock.acquire(timeout=LOCK_WAIT_S):
            raise OutboxUnavailable(f"the outbox {self.path} is busy", "look after the disk, it does not answer")
        try:
            if self._connection is None:
                raise OutboxUnavailable(f"the outbox {self.path} is closed", "open it again")
            _roll_back(self._connection)  # what an earlier roll-back could not undo must not be read
            yield self._connection
        except _OUR_FAULTS:
            raise
        except sqlite3.Error as error:
            raise explain(error, self.path) from error
        finally:
            self._lock.release()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection inside one transaction: on disk at the end, or undone as a whole. OutboxError."""
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                _undo(connection)
                raise

    def close(self) -> None:
        """Close the file and leave it to others; may be repeated."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _undo(connection: sqlite3.Connection) -> None:
    """Roll back without hiding the error that made it necessary; whoever comes next tries it again."""
    try:
        _roll_back(connection)
    except sqlite3.Error as error:
        _log.warning("event=rollback_failed problem=%r", str(error))


def _claim_file(path: Path) -> int | None:
    """Lock ``<path>.lock`` for this process and return its descriptor; OutboxLocked names the holder.

    The lock stands on a file of its own, because SQLite locks octets of the database itself. The file stays:
    removing it would let a third process lock a new one while the second still holds the old.
    """
    lock_path = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise explain(error, path) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise OutboxLocked(
            f"the outbox {path} is in use by another process (process id {holder})",
            "end that one, or give this one another outbox.path",
        ) from None
    except OSError as error:
        os.close(descriptor)
        raise explain(error, path) from error
    return descriptor


def _create_private(path: Path) -> None:
    """Create ``path`` for this user alone, or take others' rights from it: it holds what alerts say.

    SQLite gives the files beside it (``-wal``, ``-shm``) the same mode.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        mode = os.fstat(descriptor).st_mode
        if mode & 0o077:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
