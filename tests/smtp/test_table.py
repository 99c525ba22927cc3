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
MAIL      -  GO_ON            -             LETTER_REFUSED LETTER_REFUSED
RCPT      -  RECIPIENT        -             RECIPIENT      RECIPIENT
DATA      -  -                SEND_CONTENT  LETTER_REFUSED LETTER_REFUSED
CHUNK     -  GO_ON            -             LETTER_REFUSED LETTER_REFUSED
CONTENT   -  LAST_WORD        -             LAST_WORD      LAST_WORD
RSET      -  GO_ON            -             -              -
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


@pytest.mark.parametrize("state", State)
def test_530_is_about_us_wherever_a_letter_is_on_its_way(state: State) -> None:
    of_a_letter = state in (State.MAIL, State.RCPT, State.DATA, State.CHUNK, State.CONTENT)
    demanded = next_step(state, Reply(code=530, lines=("",))) is Step.AUTH_DEMANDED
    assert demanded == of_a_letter


def test_the_tables_are_whole() -> None:
    assert set(TABLE) == set(PHASES) == set(State)
    assert set(EXPECTED) == {state.name for state in State}
