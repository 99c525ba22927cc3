"""What may be on the way without its answer: the rules of RFC 2920 and RFC 3030, and those of the field."""

from __future__ import annotations

import pytest

from plugin.smtp.extensions import Extensions
from plugin.smtp.pace import REPLY_BYTES, Pace, may_ride, out_of_step, pace_of
from plugin.smtp.reply import Reply
from plugin.smtp.table import State

WIDE = 1 << 20


@pytest.mark.parametrize(
    ("keywords", "pace"),
    [
        ("", "lockstep"),
        ("CHUNKING", "lockstep"),
        ("PIPELINING", "pipelining"),
        ("PIPELINING CHUNKING", "chunking"),
        ("chunking pipelining", "chunking"),
        ("XPIPELINING", "lockstep"),
    ],
)
def test_the_pace_is_what_is_offered(keywords: str, pace: Pace) -> None:
    extensions = Extensions.parse(keywords.split())
    assert pace_of(extensions, lockstep=False) == pace
    assert pace_of(extensions, lockstep=True) == "lockstep"


# what is outstanding last, and what may follow it without an answer
FOLLOWS = {
    State.GREETING: "",
    State.EHLO: "",
    State.HELO: "",
    State.STARTTLS: "",
    State.HANDSHAKE: "",
    State.AUTH: "",
    State.RSET: "RSET MAIL RCPT DATA CHUNK CONTENT",
    State.MAIL: "RSET MAIL RCPT DATA CHUNK CONTENT",
    State.RCPT: "RSET MAIL RCPT DATA CHUNK CONTENT",
    State.DATA: "",
    State.CHUNK: "RSET MAIL RCPT DATA CHUNK CONTENT",
    State.CONTENT: "RSET MAIL RCPT DATA CHUNK CONTENT",
    State.QUIT: "",
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("last", FOLLOWS)
def test_what_may_follow_what(last: State, state: State) -> None:
    assert may_ride(state, [last], pace="pipelining", window_bytes=WIDE) == (state.name in FOLLOWS[last].split())
    assert may_ride(state, [], pace="lockstep", window_bytes=0)
    assert not may_ride(state, [last], pace="lockstep", window_bytes=WIDE)
    eager = may_ride(state, [last], pace="chunking", window_bytes=WIDE, eager=True)
    allowed = FOLLOWS[State.MAIL] if last is State.AUTH else FOLLOWS[last]
    assert eager == (state.name in allowed.split())


def test_one_that_must_be_waited_for_holds_up_all_behind_it() -> None:
    outstanding = [State.DATA, State.MAIL]
    assert not may_ride(State.RCPT, outstanding, pace="pipelining", window_bytes=WIDE)


def test_replies_on_the_way_fit_the_window() -> None:
    outstanding = [State.RCPT] * 3
    assert may_ride(State.RCPT, outstanding, pace="chunking", window_bytes=4 * REPLY_BYTES)
    assert not may_ride(State.RCPT, outstanding, pace="chunking", window_bytes=4 * REPLY_BYTES - 1)


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (554, "SMTP synchronization error", True),
        (554, "5.5.0 Error: SMTP protocol synchronization", True),
        (500, "5.5.1 Invalid command: Pipelining not supported", True),
        (503, "5.5.0 <DATA>: Data command rejected: Improper use of SMTP command pipelining", True),
        (550, "5.5.1 Protocol error", True),
        (521, "5.5.1 Error: command not implemented", True),
        (500, "Command unrecognized", True),
        (502, "unimplemented", True),
        (503, "Bad sequence of commands", True),
        (500, "5.5.2 Error: command not recognized", True),
        (500, "5.7.1 We do not like this letter", False),
        (550, "5.1.1 User unknown", False),
        (554, "5.7.1 Relay access denied", False),
        (552, "5.3.4 Message size exceeds fixed limit", False),
        (450, "4.5.1 Protocol error", False),
        (421, "synchronization", False),
        (250, "2.5.1 pipelining", False),
    ],
)
def test_what_may_speak_of_the_pace(code: int, text: str, expected: bool) -> None:
    assert out_of_step(Reply(code=code, lines=(text,))) is expected
