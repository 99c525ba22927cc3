"""``Outbox``: every public method is one transaction, or one look; several threads may call them."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from plugin.alert import Letter
from plugin.outbox import desk
from plugin.outbox.database import Database
from plugin.outbox.intake import Intake, clean, letters_open
from plugin.outbox.memo import Memo
from plugin.outbox.records import LEAST_URGENT, Claim, Depth, Keep, Listing, Publication, Settlement
from plugin.outbox.rows import claim_of, publication_of
from plugin.outbox.schema import MIGRATIONS
from plugin.outbox.settling import settle
from plugin.outbox.totals import TOTALS_KEY, totals_of

PRUNE_STEP: Final = 200  # alerts forgotten in one transaction
VACUUM_PAGES: Final = 500  # given back to the file system with each step

HASTEN_AT_ONCE: Final = 20  # letters that a relay that comes back gets without a pause
HASTEN_STEP: Final = 5000

# One look for each urgency: an index cannot tell what is due by a range and give it in another order.
_TURN: Final = (
    "SELECT number FROM letter INDEXED BY letter_turn WHERE state = 'waiting' AND urgency = ? AND due_at <= ? "
    "ORDER BY due_at, number LIMIT ?"
)
_PUT_OFF: Final = (
    "SELECT number FROM letter INDEXED BY letter_put_off WHERE state = 'waiting' AND put_off = 1 "
    "ORDER BY urgency, received_at LIMIT ?"
)
_NEXT: Final = "SELECT number, due_at FROM letter WHERE state = 'waiting' ORDER BY due_at LIMIT ?"
_OLDEST: Final = "SELECT MIN(received_at) FROM letter WHERE state <> 'settled'"
_SURPLUS: Final = (
    "SELECT settled_at FROM alert WHERE settled_at IS NOT NULL ORDER BY settled_at DESC LIMIT 1 OFFSET ?"
)
_OLD: Final = (
    "SELECT number, letter FROM alert WHERE settled_at IS NOT NULL AND settled_at <= ? AND NOT EXISTS ("
    "SELECT 1 FROM outcome JOIN publication ON publication.outcome = outcome.number "
    "WHERE outcome.alert = alert.number"
    ") ORDER BY settled_at LIMIT ?"
)
_TOLD: Final = "SELECT outcome FROM publication WHERE id = ?"
_NOT_WANTED: Final = (
    "DELETE FROM outcome WHERE number = ?1 AND event_type = 'deferred' "
    "AND NOT EXISTS (SELECT 1 FROM publication WHERE outcome = ?1)"
)


class Outbox:
    """The queue in the file ``path``, which belongs to this process until ``close``.

    Every method may raise OutboxError; then nothing was changed. What a lane has claimed is known in memory
    only: a letter is marked in the file when it goes on the wire, which is what has to be known after a crash.
    """

    def __init__(
        self, path: Path, *, keep: Keep | None = None, factory: type[sqlite3.Connection] = sqlite3.Connection
    ) -> None:
        self._keep = keep or Keep()
        self._database = Database(path, MIGRATIONS, factory=factory)
        self.memo: Final = Memo(self._database)
        self._claims = threading.Lock()
        self._claimed: set[int] = set()

    @property
    def set_aside(self) -> Path | None:
        """Where the file was moved that this start has found damaged, or None."""
        return self._database.set_aside

    @property
    def set_aside_problem(self) -> str | None:
        """One sentence on the file that this start has found damaged, or None."""
        aside = self._database.set_aside
        if aside is None:
            return None
        return f"the outbox was damaged and is set aside as {aside}: see what was lost, then move that file away"

    def close(self) -> None:
        """Close the file; may be repeated."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- accepting ------------------------------------------------------------------------------------------

    @contextmanager
    def intake(self) -> Iterator[Intake]:
        """Open a transaction for what arrived together: it is on disk, as a whole, when the block has ended."""
        with self._database.transaction() as db:
            yield Intake(db)

    def forget_packets(self) -> None:
        """Forget packet identifiers: the broker has no session for us and counts from the beginning."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM packet")

    # --- carrying -------------------------------------------------------------------------------------------

    def recover(self, *, now: float) -> int:
        """Put back what was on the wire when the process ended, behind what waits; return how many letters.

        Nobody knows whether the relay took them, so they are possible duplicates from now on. One that was there
        at an earlier end as well loses its urgency: a letter that ends the process must not keep the others.
        """
        with self._database.transaction() as db:
            cursor = db.execute(
                "UPDATE letter SET state = 'waiting', possible_duplicate = 1, due_at = MAX(due_at, ?), "
                "urgency = CASE WHEN possible_duplicate THEN ? ELSE urgency END WHERE state = 'wire'",
                (now, LEAST_URGENT),
            )
            return cursor.rowcount

    def claim(self, *, now: float, limit: int) -> list[Claim]:
        """Take up to ``limit`` letters that are due; no other lane gets them.

        The most severe come first, and among those the longest due. The work does not grow with what waits.
        """
        with self._claims, self._database.reading() as db:
            chosen: list[int] = []
            for urgency in range(LEAST_URGENT + 1):
                rows = db.execute(_TURN, (urgency, now, limit + len(self._claimed))).fetchall()
                chosen += [row["number"] for row in rows if row["number"] not in self._claimed]
                if len(chosen) >= limit:
                    break
            claims = [claim_of(db, letter) for letter in chosen[:limit]]
            self._claimed.update(chosen[:limit])
            return claims

    def release(self, letters: Collection[int]) -> None:
        """Give claimed letters back unchanged."""
        with self._claims:
            self._claimed.difference_update(letters)

    def more_urgent(self, urgency: int, *, now: float) -> bool:
        """Tell whether a letter is due that goes before those of ``urgency``."""
        with self._claims, self._database.reading() as db:
            limit = 1 + len(self._claimed)
            rows = (row for rank in range(urgency) for row in db.execute(_TURN, (rank, now, limit)).fetchall())
            return any(row["number"] not in self._claimed for row in rows)

    def put_on_wire(self, letters: Collection[Letter], *, newly_sealed: Collection[int]) -> frozenset[int]:
        """Mark ``letters`` as handed to a relay, in one transaction; return those that were waiting.

        What is not among them does not wait any more, and must not be sent. The letters with the numbers
        ``newly_sealed`` are stored, and their raw messages go.
        """
        with self._database.transaction() as db:
            return frozenset(one.id for one in letters if _mark(db, one, newly_sealed=one.id in newly_sealed))

    def take_off_wire(self, letters: Collection[int]) -> None:
        """Have letters wait again that were marked as handed to a relay and were not: no doubt is left on them."""
        with self._database.transaction() as db:
            db.executemany(
                "UPDATE letter SET state = 'waiting' WHERE number = ? AND state = 'wire'",
                [(number,) for number in letters],
            )

    def settle(self, *settlements: Settlement) -> list[bool]:
        """Store what attempts have come to, in one transaction, and end the claims.

        Tells of each whether it was stored; one whose letter was settled meanwhile is not.
        """
        with self._database.transaction() as db:
            stored = [settle(db, one) for one in settlements]
        self.release([one.letter for one in settlements])
        return stored

    def next_due(self) -> float | None:
        """Return when the next letter that nobody has claimed is due; None if none waits."""
        with self._claims, self._database.reading() as db:
            rows = db.execute(_NEXT, (1 + len(self._claimed),)).fetchall()
            return next((float(row["due_at"]) for row in rows if row["number"] not in self._claimed), None)

    def hasten(self, now: float, *, spread_s: float) -> int:
        """Have those due that a relay has put off, which may take them by now; return how many there were.

        The most severe first, and among those the oldest; more than ``HASTEN_AT_ONCE`` are spread evenly over
        ``spread_s``. At most ``HASTEN_STEP`` in one call, and each once: what fails anew waits anew.
        """
        with self._database.transaction() as db:
            rows = db.execute(_PUT_OFF, (HASTEN_STEP,)).fetchall()
            gap_s = spread_s / len(rows) if len(rows) > HASTEN_AT_ONCE else 0.0
            db.executemany(
                "UPDATE letter SET due_at = MIN(due_at, ?), put_off = 0 WHERE number = ?",
                [(now + place * gap_s, row["number"]) for place, row in enumerate(rows)],
            )
            return len(rows)

    # --- reporting ------------------------------------------------------------------------------------------

    def outgoing(self, *, limit: int, skip: Collection[int]) -> list[Publication]:
        """Return up to ``limit`` publications in their order, but none of ``skip``."""
        with self._database.reading() as db:
            rows = db.execute("SELECT id FROM publication ORDER BY id LIMIT ?", (limit + len(skip),)).fetchall()
            chosen = [row["id"] for row in rows if row["id"] not in skip][:limit]
            return [publication_of(db, number) for number in chosen]

    def published(self, ids: Sequence[int]) -> None:
        """Forget publications that the broker has acknowledged; unknown ones are no error.

        A deferred outcome goes with its last publication: the attempt stays, and nobody asks for the rest, which
        a relay that is away for days would pile up.
        """
        with self._database.transaction() as db:
            told = {row["outcome"] for number in ids for row in db.execute(_TOLD, (number,))}
            db.executemany("DELETE FROM publication WHERE id = ?", [(number,) for number in ids])
            db.executemany(_NOT_WANTED, [(number,) for number in told])

    # --- looking, tidying -----------------------------------------------------------------------------------

    def depth(self) -> Depth:
        """Return how much is waiting."""
        with self._database.reading() as db:
            return Depth(
                waiting=letters_open(db),
                oldest_received_at=db.execute(_OLDEST).fetchone()[0],
                unpublished=db.execute("SELECT COUNT(*) FROM publication").fetchone()[0],
            )

    def totals(self) -> dict[str, Any]:
        """Return what alerts have come to since this outbox is there: see ``totals_of``."""
        return totals_of(self.memo.get(TOTALS_KEY))

    # --- what people ask ------------------------------------------------------------------------------------

    def retry(self, numbers: Collection[int] | None = None, *, now: float) -> int:
        """Begin a new round for failed letters, None for all of them; return how many there were.

        They are due at once, with the same octets and Message-ID, for those recipients that have not accepted
        them, and their age counts from ``now``. Each of their alerts gets one more final outcome. A letter that
        waits becomes due; one that is on the wire or was sent is left alone.
        """
        with self._database.transaction() as db:
            return desk.retry(db, numbers, now=now)

    def states(self, numbers: Collection[int]) -> dict[int, Listing]:
        """Return how each letter of ``numbers`` is; one that there is not is left out."""
        with self._database.reading() as db:
            return desk.states(db, numbers)

    def drop(
        self, numbers: Collection[int] | None, settlement: Callable[[Claim], Settlement], *, limit: int
    ) -> list[Settlement]:
        """End up to ``limit`` waiting letters, None for any, in one transaction; return what was stored for them.

        ``settlement`` says what each comes to. A letter that a lane has claimed, is on the wire or is settled is
        left alone, and not among the result.
        """
        with self._claims, self._database.transaction() as db:
            chosen = desk.waiting(db, numbers, limit=limit + len(self._claimed))
            free = [number for number in chosen if number not in self._claimed][:limit]
            ended = [settlement(claim_of(db, number)) for number in free]
            return [one for one in ended if settle(db, one)]

    def latest_due(self, route: str, limit: int) -> list[float]:
        """Return when the latest ``limit`` letters of ``route`` were or are due. It looks through all of them."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT due_at FROM letter WHERE route = ? ORDER BY number DESC LIMIT ?", (clean(route), limit)
            )
            return [float(row["due_at"]) for row in rows]

    def prune(self, *, now: float) -> int:
        """Forget a step's worth of what was settled too long ago; return how many alerts, 0 if none are left.

        What the broker has not acknowledged yet is kept, however old.
        """
        with self._database.transaction() as db:
            row = db.execute(_SURPLUS, (self._keep.alerts,)).fetchone()
            before = now - self._keep.age_s if row is None else max(now - self._keep.age_s, row["settled_at"])
            old = db.execute(_OLD, (before, PRUNE_STEP)).fetchall()
            db.executemany("DELETE FROM alert WHERE number = ?", [(row["number"],) for row in old])
            db.executemany(
                "DELETE FROM letter WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM alert WHERE letter = ?1)",
                [(row["letter"],) for row in old if row["letter"] is not None],
            )
        if old:
            with self._database.reading() as db:
                # A script is stepped to its end; execute() would stop after the first page.
                db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES});")
        return len(old)


def _mark(db: sqlite3.Connection, letter: Letter, *, newly_sealed: bool) -> bool:
    cursor = db.execute("UPDATE letter SET state = 'wire' WHERE number = ? AND state = 'waiting'", (letter.id,))
    if cursor.rowcount != 1:
        return False
    if newly_sealed:
        db.execute(
            "UPDATE letter SET subject = ?, message_id = ?, sender = ?, notes = ? WHERE number = ?",
            (
                clean(letter.subject),
                clean(letter.message_id),
                clean(letter.sender),
                json.dumps(letter.notes),
                letter.id,
            ),
        )
        db.execute("INSERT INTO content (letter, octets) VALUES (?, ?)", (letter.id, letter.content))
        db.execute("DELETE FROM message WHERE alert IN (SELECT number FROM alert WHERE letter = ?)", (letter.id,))
    return True
