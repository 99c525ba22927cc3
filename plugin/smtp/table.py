"""The whole of the SMTP session as one table: what each reply means in each state.

The rows are those of RFC 5321 §4.3.2, RFC 3207 (STARTTLS) and RFC 4954 (AUTH).
What the table does not list is a protocol error. A reply is judged by its first digit; 421 alone is more than
that, since a relay may say it at any time, unasked, before it closes the connection (RFC 5321 §3.8).
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
    NAME_RECIPIENTS = "send RCPT"
    RECIPIENT = "one recipient has its answer; behind the last one DATA, if any was accepted"
    SEND_CONTENT = "send the content"
    LETTER_DONE = "this reply is the last word on the letter"
    LETTER_FAILED = "this reply is the last word, and the mail transaction is still open"
    READY = "ready for the next letter"
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
    State.MAIL: (Step.NAME_RECIPIENTS, _ERROR, Step.LETTER_DONE, Step.LETTER_DONE),
    State.RCPT: (Step.RECIPIENT, _ERROR, Step.RECIPIENT, Step.RECIPIENT),
    State.DATA: (_ERROR, Step.SEND_CONTENT, Step.LETTER_FAILED, Step.LETTER_FAILED),
    State.CONTENT: (Step.LETTER_DONE, _ERROR, Step.LETTER_DONE, Step.LETTER_DONE),
    State.RSET: (Step.READY, _ERROR, _ERROR, _ERROR),
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
    State.CONTENT: "content",
    # These end nothing that is reported: the next thing to come is MAIL, and RSET is waited for as long.
    State.IDLE: "mail",
    State.RSET: "mail",
    State.QUIT: "mail",
}


def next_step(state: State, reply: Reply) -> Step:
    """Return what ``reply`` leads to in ``state``. Only 421 is more than its first digit (RFC 5321 §3.8)."""
    if reply.code == 421:
        return Step.CLOSING
    return TABLE[state][reply.first - 2] if reply.first >= 2 else _ERROR
