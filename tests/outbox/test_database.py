from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from plugin.outbox import (
    Outbox,
    OutboxDamaged,
    OutboxError,
    OutboxForeign,
    OutboxFull,
    OutboxLocked,
    OutboxReadOnly,
    OutboxTooNew,
    OutboxUnavailable,
)
from plugin.outbox.database import Database
from plugin.outbox.errors import explain
from plugin.outbox.schema import APPLICATION_ID, MIGRATIONS

ADD_COLUMN = "ALTER TABLE tally ADD COLUMN more TEXT; UPDATE tally SET more = 'migrated'"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def pragma(path: Path, name: str) -> Any:
    connection = sqlite3.connect(path)
    value = connection.execute(f"PRAGMA {name}").fetchone()[0]
    connection.close()
    return value


def test_the_file_is_durable_private_and_ours(path: Path) -> None:
    with Outbox(path) as outbox:
        with outbox._database.reading() as db:
            assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
            assert db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
            assert db.execute("PRAGMA foreign_keys").fetchone()[0] == 1
            assert db.execute("PRAGMA busy_timeout").fetchone()[0] == 5000
            assert db.execute("PRAGMA auto_vacuum").fetchone()[0] == 2  # INCREMENTAL
        outbox.recover(now=0)
        files = sorted(path.parent.iterdir())
        assert len(files) == 4  # the file, its log, its index, its lock
        assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}
    assert pragma(path, "application_id") == APPLICATION_ID
    assert pragma(path, "user_version") == len(MIGRATIONS)
    assert pragma(path, "integrity_check") == "ok"


def test_rights_of_others_are_taken_from_an_older_file(path: Path) -> None:
    Outbox(path).close()
    path.chmod(0o664)
    Outbox(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


class TestLock:
    def test_a_second_one_is_told_who_holds_it(self, path: Path) -> None:
        with Outbox(path):
            with pytest.raises(OutboxLocked, match=rf"process id {os.getpid()}\): end that one"):
                Outbox(path)
            with pytest.raises(OutboxLocked):  # and the refusal has not broken the lock
                Outbox(path)
        Outbox(path).close()

    def test_a_process_that_was_killed_leaves_no_lock(self, path: Path) -> None:
        code = "import os, pathlib, sys; from plugin.outbox import Outbox; o = Outbox(pathlib.Path(sys.argv[1])); "
        code += "print('open', flush=True); sys.stdin.read()"
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert child.stdin is not None
        assert child.stdout is not None
        with child, child.stdin, child.stdout:
            assert child.stdout.readline() == b"open\n"
            with pytest.raises(OutboxLocked, match=f"process id {child.pid}"):
                Outbox(path)
            child.kill()
            child.wait(10)
        Outbox(path).close()

    def test_an_outbox_that_does_not_open_is_not_locked(self, path: Path) -> None:
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE states (entity_id TEXT)")
        other.close()
        for _ in range(2):
            with pytest.raises(OutboxForeign):
                Outbox(path)


class TestWhatIsNoOutbox:
    @pytest.mark.parametrize("user_version", [0, 1, 7])
    def test_the_database_of_another_program_is_left_alone(self, path: Path, user_version: int) -> None:
        other = sqlite3.connect(path)
        other.executescript(f"CREATE TABLE states (entity_id TEXT); PRAGMA user_version = {user_version};")
        other.close()
        before = path.read_bytes()
        with pytest.raises(OutboxForeign, match="another program"):
            Outbox(path)
        assert path.read_bytes() == before

    def test_a_newer_schema(self, path: Path) -> None:
        Outbox(path).close()
        newer = sqlite3.connect(path)
        newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        newer.close()
        with pytest.raises(
            OutboxTooNew,
            match=rf"\(schema {len(MIGRATIONS) + 1}, known up to {len(MIGRATIONS)}\): install that version",
        ):
            Outbox(path)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(OutboxUnavailable, match="create its folder"):
            Outbox(tmp_path / "nowhere" / "outbox.db")

    def test_a_folder_in_its_place(self, path: Path) -> None:
        path.mkdir()
        with pytest.raises(OutboxUnavailable, match="cannot be opened"):
            Outbox(path)


class TestMigrations:
    def test_an_older_file_is_brought_up_to_date(self, path: Path) -> None:
        Outbox(path).close()
        database = Database(path, [*MIGRATIONS, ADD_COLUMN])
        with database.reading() as db:
            assert db.execute("SELECT more FROM tally").fetchone()[0] == "migrated"
        database.close()
        assert pragma(path, "user_version") == len(MIGRATIONS) + 1
        with pytest.raises(OutboxTooNew):
            Outbox(path)

    def test_a_migration_that_fails_changes_nothing(self, path: Path) -> None:
        Outbox(path).close()
        with pytest.raises(OutboxError, match="no such table: missing"):
            Database(path, [*MIGRATIONS, f"{ADD_COLUMN}; INSERT INTO missing VALUES (1)"])
        assert pragma(path, "user_version") == len(MIGRATIONS)
        database = Database(path, [*MIGRATIONS, ADD_COLUMN])
        database.close()
        assert pragma(path, "user_version") == len(MIGRATIONS) + 1

    def test_each_is_made_once(self, path: Path) -> None:
        for _ in range(3):
            Database(path, [*MIGRATIONS, ADD_COLUMN]).close()
        assert pragma(path, "user_version") == len(MIGRATIONS) + 1


def code(number: int, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> sqlite3.Error:
    error = kind("words of SQLite")
    error.sqlite_errorcode = number
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (code(sqlite3.SQLITE_FULL), OutboxFull),
        (code(sqlite3.SQLITE_READONLY), OutboxReadOnly),
        (code(sqlite3.SQLITE_READONLY_DBMOVED), OutboxReadOnly),
        (code(sqlite3.SQLITE_IOERR_FSYNC), OutboxUnavailable),
        (code(sqlite3.SQLITE_BUSY), OutboxUnavailable),
        (code(sqlite3.SQLITE_CORRUPT, sqlite3.DatabaseError), OutboxDamaged),
        (code(sqlite3.SQLITE_NOTADB, sqlite3.DatabaseError), OutboxDamaged),
        (sqlite3.OperationalError("without a code"), OutboxUnavailable),
        (OSError(28, "No space left on device"), OutboxFull),
        (OSError(30, "Read-only file system"), OutboxReadOnly),
        (PermissionError(13, "Permission denied"), OutboxReadOnly),
        (OSError("without a number"), OutboxUnavailable),
    ],
)
def test_errors_and_remedies(error: sqlite3.Error | OSError, expected: type[OutboxError], path: Path) -> None:
    explained = explain(error, path)
    assert type(explained) is expected
    assert str(path) in explained.problem
    assert str(error) in explained.problem
    assert explained.remedy
    assert str(explained) == f"{explained.problem}: {explained.remedy}"


def test_a_fault_of_this_program_is_not_explained_away(path: Path) -> None:
    with Outbox(path) as outbox:
        with pytest.raises(sqlite3.IntegrityError), outbox._database.transaction() as db:
            db.execute("INSERT INTO content (letter, octets) VALUES (99, x'00')")
        assert outbox.depth().waiting == 0  # and the next transaction works


def test_a_closed_outbox_says_so(path: Path) -> None:
    outbox = Outbox(path)
    outbox.close()
    outbox.close()
    with pytest.raises(OutboxUnavailable, match="is closed"):
        outbox.next_due()


def test_a_wait_for_the_other_threads_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.outbox.database.LOCK_WAIT_S", 0.05)
    with Outbox(path) as outbox:
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with outbox.intake():
                held.set()
                done.wait(10)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(10)
        with pytest.raises(OutboxUnavailable, match="busy"):
            outbox.depth()
        done.set()
        thread.join(10)
        assert outbox.depth().waiting == 0
