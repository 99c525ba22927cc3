"""The tables of the outbox, as an ordered list of migrations; ``user_version`` counts those that were made.

A migration is never changed once it was released: the next one is appended.

Large octets have tables of their own: SQLite writes a row anew as a whole when a column of it changes.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 1213682242  # "HWRB"
"""``PRAGMA application_id``, by which an outbox is told from the database of another program."""

_FIRST: Final = """
PRAGMA application_id = 1213682242;

-- Sealed mail, or what is going to be. 'wire': handed to a relay, and no result stored yet.
CREATE TABLE letter (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'wire', 'settled')),
    due_at REAL NOT NULL,
    received_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    possible_duplicate INTEGER NOT NULL DEFAULT 0,
    route TEXT NOT NULL,
    directions TEXT NOT NULL,
    subject TEXT,
    message_id TEXT,
    sender TEXT,
    notes TEXT
);
CREATE INDEX letter_due ON letter (state, due_at);
CREATE INDEX letter_open ON letter (received_at) WHERE state <> 'settled';

CREATE TABLE content (
    letter INTEGER PRIMARY KEY REFERENCES letter ON DELETE CASCADE,
    octets BLOB NOT NULL
);

-- The fate of each recipient; a state that is NULL means that nothing was tried yet.
CREATE TABLE recipient (
    letter INTEGER NOT NULL REFERENCES letter ON DELETE CASCADE,
    position INTEGER NOT NULL,
    address TEXT NOT NULL,
    state TEXT CHECK (state IN ('accepted', 'refused', 'expired', 'deferred', 'denied', 'dropped')),
    phase TEXT,
    code INTEGER,
    enhanced TEXT,
    text TEXT,
    PRIMARY KEY (letter, position)
) WITHOUT ROWID;

CREATE TABLE attempt (
    letter INTEGER NOT NULL REFERENCES letter ON DELETE CASCADE,
    number INTEGER NOT NULL,
    started_at REAL NOT NULL,
    duration_s REAL NOT NULL,
    details TEXT NOT NULL,
    PRIMARY KEY (letter, number)
);

-- How many letters are open, kept by triggers: counting 100,000 rows would cost more than the alert itself.
CREATE TABLE tally (letters_open INTEGER NOT NULL);
INSERT INTO tally VALUES (0);
CREATE TRIGGER letter_added AFTER INSERT ON letter WHEN NEW.state <> 'settled'
    BEGIN UPDATE tally SET letters_open = letters_open + 1; END;
CREATE TRIGGER letter_ended AFTER UPDATE OF state ON letter
    WHEN OLD.state <> 'settled' AND NEW.state = 'settled'
    BEGIN UPDATE tally SET letters_open = letters_open - 1; END;
CREATE TRIGGER letter_reopened AFTER UPDATE OF state ON letter
    WHEN OLD.state = 'settled' AND NEW.state <> 'settled'
    BEGIN UPDATE tally SET letters_open = letters_open + 1; END;
CREATE TRIGGER letter_removed AFTER DELETE ON letter WHEN OLD.state <> 'settled'
    BEGIN UPDATE tally SET letters_open = letters_open - 1; END;

-- Every alert, also one that was refused at once: that has no letter. id and state are the identity of those that
-- were queued; a refused one reserves nothing, so that its publisher can mend it and publish it again.
CREATE TABLE alert (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    state TEXT NOT NULL,
    topic TEXT NOT NULL,
    name TEXT NOT NULL,
    received_at REAL NOT NULL,
    letter INTEGER REFERENCES letter,
    settled_at REAL
);
CREATE UNIQUE INDEX alert_identity ON alert (id, state) WHERE letter IS NOT NULL;
CREATE INDEX alert_letter ON alert (letter);
CREATE INDEX alert_settled ON alert (settled_at) WHERE settled_at IS NOT NULL;

-- What the broker handed over, until the letter is sealed.
CREATE TABLE message (
    alert INTEGER PRIMARY KEY REFERENCES alert ON DELETE CASCADE,
    properties TEXT NOT NULL,
    payload BLOB NOT NULL
);

CREATE TABLE responder (
    alert INTEGER NOT NULL REFERENCES alert ON DELETE CASCADE,
    topic TEXT NOT NULL,
    correlation BLOB
);
CREATE INDEX responder_alert ON responder (alert);

-- Packet identifiers of QoS 1 messages: a redelivery (DUP) has the identifier and the content of the first one.
CREATE TABLE packet (
    packet_id INTEGER PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    alert INTEGER NOT NULL REFERENCES alert ON DELETE CASCADE
);
CREATE INDEX packet_alert ON packet (alert);

CREATE TABLE outcome (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    alert INTEGER NOT NULL REFERENCES alert ON DELETE CASCADE,
    event_type TEXT NOT NULL CHECK (event_type IN ('success', 'failure', 'deferred')),
    payload BLOB NOT NULL
);
CREATE INDEX outcome_alert ON outcome (alert);
CREATE UNIQUE INDEX outcome_final ON outcome (alert) WHERE event_type <> 'deferred';

-- What the broker has not acknowledged yet; a row goes with its PUBACK. The numbers are never used again.
CREATE TABLE publication (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    outcome INTEGER NOT NULL REFERENCES outcome ON DELETE CASCADE,
    topic TEXT NOT NULL,
    correlation BLOB
);
CREATE INDEX publication_outcome ON publication (outcome);
"""

_SECOND: Final = """
-- Dead letters: settled, and not accepted by every recipient.
ALTER TABLE letter ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
UPDATE letter SET failed = 1 WHERE state = 'settled'
    AND EXISTS (SELECT 1 FROM recipient WHERE letter = letter.number AND recipient.state <> 'accepted');
CREATE INDEX letter_failed ON letter (number) WHERE failed = 1;

-- A failed letter may be tried in another round; each round of an alert ends in one final outcome.
ALTER TABLE alert ADD COLUMN round INTEGER NOT NULL DEFAULT 1;
ALTER TABLE outcome ADD COLUMN round INTEGER NOT NULL DEFAULT 1;
DROP INDEX outcome_final;
CREATE UNIQUE INDEX outcome_final ON outcome (alert, round) WHERE event_type <> 'deferred';
"""

_THIRD: Final = """
-- Whose turn it is: 0 critical, 1 warning, 2 all others; among those the longest due.
ALTER TABLE letter ADD COLUMN urgency INTEGER NOT NULL DEFAULT 2 CHECK (urgency BETWEEN 0 AND 2);
UPDATE letter SET urgency = CASE json_extract(directions, '$.severity')
    WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END WHERE state <> 'settled';
CREATE INDEX letter_turn ON letter (urgency, due_at) WHERE state = 'waiting';

-- Waits because a relay has put it off, so it need not wait on once mails are taken again.
ALTER TABLE letter ADD COLUMN put_off INTEGER NOT NULL DEFAULT 0;
CREATE INDEX letter_put_off ON letter (urgency, received_at) WHERE state = 'waiting' AND put_off = 1;

-- How many of the attempts were made in rounds before this one: a new round waits as briefly as the first did.
ALTER TABLE letter ADD COLUMN earlier INTEGER NOT NULL DEFAULT 0;
"""

MIGRATIONS: Final[tuple[str, ...]] = (_FIRST, _SECOND, _THIRD)
