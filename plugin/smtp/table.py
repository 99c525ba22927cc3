"""The whole of the SMTP session as one table: what each reply means in each state.

The rows are those of RFC 5321 §4.3.2, RFC 3207 (STARTTLS), RFC 4954 (AUTH) and RFC 3030 (BDAT: CHUNK, and
CONTENT for the last one). What the table does not list is a protocol error. A reply is judged by its first
digit, but for two codes that may answer anything: 421, unasked as well, before the relay closes the connection
(RFC 5321 §3.8), and 530, with which it demands AUTH (RFC 4954 §6).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from plugin.smtp.errors import Phase
from plugin.smtp.reply import Reply


class State(Enum):
    """What the connection waits for: the reply to the greeting that we never sent, or to a command.

    HANDSHAKE waits for no reply but for TLS; whatever comes in clear text meanwhile has no business there.
    """

    IDLE = "nothing"
    GREETING = "connection"
    EHLO = "EHLO"
    HELO = "HELO"
    STARTTLS = "STARTTLS"
    HANDSHAKE = "the TLS handshake"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CHUNK = "BDAT"
    CONTENT = "content"
    RSET = "RSET"
    QUIT = "QUIT"


class Step(Enum):
    """What a reply leads to."""

    SAY_HELLO = "say EHLO, or HELO"
    SAY_HELO = "EHLO is refused: say HELO"
    KNOWN = "the relay knows us: go over to TLS, authenticate, as far as wanted"
    SECURE = "carry out the TLS handshake"
    ANSWER = "answer the challenge"
    LOGGED_IN = "authenticated"
    NOT_LOGGED_IN = "AUTH is refused: another mechanism, a connection without AUTH, or the relay is refused"
    RELAY_REFUSES = "the relay does not want us, or not now"
    GO_ON = "nothing is decided by it: what follows may follow"
    RECIPIENT = "one recipient has its answer; without any that is accepted there is nobody to send content for"
    SEND_CONTENT = "send the content"
    LETTER_REFUSED = "the letter is refused before all of it is out: the rest of it stays here"
    LAST_WORD = "this reply is the last word on the letter"
    AUTH_DEMANDED = "the relay wants AUTH before it takes any letter"
    CLOSING = "the relay closes the connection"
    PROTOCOL_ERROR = "no such reply here"


_ERROR: Final = Step.PROTOCOL_ERROR
TABLE: Final[Mapping[State, tuple[Step, Step, Step, Step]]] = {
    # row           2yz                   3yz                4yz                   5yz
    State.IDLE: (_ERROR, _ERROR, _ERROR, _ERROR),
    State.GREETING: (Step.SAY_HELLO, _ERROR, Step.RELAY_REFUSES, Step.RELAY_REFUSES),
    State.EHLO: (Step.KNOWN, _ERROR, Step.RELAY_REFUSES, Step.SAY_HELO),
    State.HELO: (Step.KNOWN, _ERROR, Step.RELAY_REFUSES, Step.RELAY_REFUSES),
    State.STARTTLS: (Step.SECURE, _ERROR, Step.RELAY_REFUSES, Step.RELAY_REFUSES),
    State.HANDSHAKE: (_ERROR, _ERROR, _ERROR, _ERROR),
    State.AUTH: (Step.LOGGED_IN, Step.ANSWER, Step.RELAY_REFUSES, Step.NOT_LOGGED_IN),
    State.MAIL: (Step.GO_ON, _ERROR, Step.LETTER_REFUSED, Step.LETTER_REFUSED),
    State.RCPT: (Step.RECIPIENT, _ERROR, Step.RECIPIENT, Step.RECIPIENT),
    State.DATA: (_ERROR, Step.SEND_CONTENT, Step.LETTER_REFUSED, Step.LETTER_REFUSED),
    State.CHUNK: (Step.GO_ON, _ERROR, Step.LETTER_REFUSED, Step.LETTER_REFUSED),
    State.CONTENT: (Step.LAST_WORD, _ERROR, Step.LAST_WORD, Step.LAST_WORD),
    State.RSET: (Step.GO_ON, _ERROR, _ERROR, _ERROR),
    State.QUIT: (Step.CLOSING, _ERROR, Step.CLOSING, Step.CLOSING),
}

PHASES: Final[Mapping[State, Phase]] = {
    State.GREETING: "greeting",
    State.EHLO: "hello",
    State.HELO: "hello",
    State.STARTTLS: "tls",
    State.HANDSHAKE: "tls",
    State.AUTH: "auth",
    State.MAIL: "mail",
    State.RCPT: "rcpt",
    State.DATA: "data",
    State.CHUNK: "content",
    State.CONTENT: "content",
    # These end nothing that is reported: the next thing to come is MAIL, and RSET is waited for as long.
    State.IDLE: "mail",
    State.RSET: "mail",
    State.QUIT: "mail",
}


_OF_A_LETTER: Final = frozenset({State.MAIL, State.RCPT, State.DATA, State.CHUNK, State.CONTENT})


def next_step(state: State, reply: Reply) -> Step:
    """Return what ``reply`` leads to in ``state``."""
    if reply.code == 421:
        return Step.CLOSING
    if reply.code == 530 and state in _OF_A_LETTER:
        return Step.AUTH_DEMANDED
    return TABLE[state][reply.first - 2] if reply.first >= 2 else _ERROR
