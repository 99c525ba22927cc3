"""What can be wrong with the outbox, each with its remedy; ``explain`` reads SQLite's result codes."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Final


class OutboxError(Exception):
    """The outbox cannot do its work. ``problem`` says what is wrong, ``remedy`` what somebody can do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}")
        self.problem = problem
        self.remedy = remedy


class OutboxUnavailable(OutboxError):
    """It cannot be read or written now; this may pass by itself, and nothing was changed."""


class OutboxFull(OutboxUnavailable):
    """No room on the disk (SQLITE_FULL, ENOSPC, EDQUOT)."""


class OutboxReadOnly(OutboxUnavailable):
    """The file, its folder or its file system cannot be written (SQLITE_READONLY, EROFS, EACCES)."""


class OutboxLocked(OutboxError):
    """Another process works with this outbox."""


class OutboxDamaged(OutboxError):
    """The file is damaged, or no database at all; the next start sets it aside."""

    @classmethod
    def of(cls, path: Path, problem: str) -> OutboxDamaged:
        """Return the error for the file at ``path`` of which ``problem`` was told."""
        return cls(f"the outbox {path} {_DAMAGED[1]} ({problem})", _DAMAGED[2])


class OutboxForeign(OutboxError):
    """The file is the database of another program."""


class OutboxTooNew(OutboxError):
    """A later version has changed the file's schema."""


_FULL: Final = (OutboxFull, "has no room left on its disk", "make room there; the work goes on by itself")
_READ_ONLY: Final = (
    OutboxReadOnly,
    "cannot be written",
    "give this user the right to write the file and its folder, and see that the file system is not read-only",
)
_DAMAGED: Final = (
    OutboxDamaged,
    "is damaged or no outbox at all",
    "start again: the file is set aside then, and a new one takes over what can be read",
)
_BUSY: Final = (OutboxUnavailable, "is held by another program", "end what else has this file open")
_CANNOT_OPEN: Final = (OutboxUnavailable, "cannot be opened", "create its folder and give this user access to it")

_BY_RESULT_CODE: Final[dict[int, tuple[type[OutboxError], str, str]]] = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_CANTOPEN: _CANNOT_OPEN,
}
_BY_ERRNO: Final[dict[int, tuple[type[OutboxError], str, str]]] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _READ_ONLY,
    errno.EPERM: _READ_ONLY,
}


def explain(error: sqlite3.Error | OSError, path: Path) -> OutboxError:
    """Return what ``error`` means for the outbox at ``path``; an unknown one may pass, and is tried again."""
    if isinstance(error, OSError):
        kind = _BY_ERRNO.get(error.errno or 0, _CANNOT_OPEN)
    else:
        # An extended result code keeps the primary one in its lowest octet (sqlite.org/rescode.html).
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        unknown = (OutboxUnavailable, "cannot be used now", "look after the disk and the file's access rights")
        kind = _BY_RESULT_CODE.get(code, unknown)
    error_type, problem, remedy = kind
    return error_type(f"the outbox {path} {problem} ({error})", remedy)
