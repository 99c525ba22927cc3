"""The session table, cell by cell, written a second time by hand from HOUSE and RFC 5321."""

from __future__ import annotations

import itertools

import pytest

from plugin.smtp.reply import Reply
from plugin.smtp.table import PHASES, TABLE, State, Step, next_step

# state: what 1yz, 2yz, 3yz, 4yz, 5yz lead to; "-" is a protocol error
CELLS = """
IDLE      -  -                -             -              -
GREETING  -  SAY_HELLO        -             RELAY_REFUSES  RELAY_REFUSES
EHLO      -  KNOWN            -             RELAY_REFUSES  SAY_HELO
HELO      -  KNOWN            -             RELAY_REFUSES  RELAY_REFUSES
STARTTLS  -  SECURE           -             RELAY_REFUSES  RELAY_REFUSES
HANDSHAKE -  -                -             -              -
AUTH      -  LOGGED_IN        ANSWER        RELAY_REFUSES  NOT_LOGGED_IN
MAIL      -  NAME_RECIPIENTS  -             LETTER_DONE    LETTER_DONE
RCPT      -  RECIPIENT        -             RECIPIENT      RECIPIENT
DATA      -  -                SEND_CONTENT  LETTER_FAILED  LETTER_FAILED
CONTENT   -  LETTER_DONE      -             LETTER_DONE    LETTER_DONE
RSET      -  READY            -             -              -
QUIT      -  CLOSING          -             CLOSING        CLOSING
"""
EXPECTED = {line.split()[0]: line.split()[1:] for line in CELLS.strip().splitlines()}


@pytest.mark.parametrize(("state", "first"), list(itertools.product(State, range(1, 6))))
def test_every_state_and_digit(state: State, first: int) -> None:
    cell = EXPECTED[state.name][first - 1]
    expected = Step.PROTOCOL_ERROR if cell == "-" else Step[cell]
    for code in (first * 100, first * 100 + 20, first * 100 + 54, first * 100 + 99):
        assert next_step(state, Reply(code=code, lines=("",))) is expected


@pytest.mark.parametrize("state", State)
def test_421_is_heard_in_every_state(state: State) -> None:
    assert next_step(state, Reply(code=421, lines=("",))) is Step.CLOSING


def test_the_tables_are_whole() -> None:
    assert set(TABLE) == set(PHASES) == set(State)
    assert set(EXPECTED) == {state.name for state in State}
