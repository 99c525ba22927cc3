"""The session by itself: what the transcripts cannot show, because the client never gets there."""

from __future__ import annotations

import pytest

from plugin.smtp.envelope import Envelope
from plugin.smtp.errors import Fault
from plugin.smtp.events import Ready, Refused
from plugin.smtp.session import BLOCK_BYTES, Session
from plugin.smtp.settings import Settings
from plugin.smtp.transaction import Settled

SETTINGS = Settings(host="relay.test", helo_name="client.test")
LARGE = Envelope(sender="", recipients=("b@relay.test",), content=b"x\r\n" * BLOCK_BYTES)


def session_at(*replies: bytes) -> Session:
    """Return a session that was told ``replies``, each after all its writes had been taken."""
    session = Session(SETTINGS, record=lambda _line, _letter: None)
    for reply in replies:
        while session.next_write():
            pass
        session.receive(reply)
    return session


def ready() -> Session:
    session = session_at(b"220 hi\r\n", b"250 hi\r\n")
    assert isinstance(session.next_event(), Ready)
    return session


def in_the_middle_of_content() -> Session:
    session = ready()
    session.send(LARGE)
    for reply in (b"250 OK\r\n", b"250 OK\r\n", b"354 go\r\n"):
        assert session.next_write()
        assert not session.next_write()
        session.receive(reply)
    assert len(session.next_write()) == BLOCK_BYTES
    return session


def test_nothing_leaves_before_the_greeting_or_beside_a_command() -> None:
    session = Session(SETTINGS, record=lambda _line, _letter: None)
    assert session.next_write() == b""
    session.receive(b"220-hi\r\n220 ")
    assert session.next_write() == b""
    session.receive(b"there\r\n")
    assert session.next_write() == b"EHLO client.test\r\n"
    assert session.next_write() == b""


@pytest.mark.parametrize("code", [b"552", b"452", b"421"])
def test_a_refusal_in_the_middle_of_content_ends_the_session(code: bytes) -> None:
    """The rest would be read as commands, and half of it must never be followed by one."""
    session = in_the_middle_of_content()
    session.receive(code + b" no more\r\n")
    event = session.next_event()
    assert isinstance(event, Settled)
    assert event.reply is not None
    assert event.reply.code == int(code)
    assert not event.possible_duplicate
    assert session.closed
    assert session.next_write() == b""


def test_acceptance_in_the_middle_of_content_is_not_believed() -> None:
    session = in_the_middle_of_content()
    session.receive(b"250 OK\r\n")
    event = session.next_event()
    assert isinstance(event, Settled)
    assert event.fault is not None
    assert event.fault.kind == "protocol"
    assert not event.recipients[0].accepted
    assert session.closed


def test_a_letter_only_when_ready_and_one_at_a_time() -> None:
    letter = Envelope(sender="", recipients=("b@relay.test",), content=b"")
    unready = session_at(b"220 hi\r\n")
    with pytest.raises(RuntimeError, match="not ready"):
        unready.send(letter)
    session = ready()
    session.send(letter)
    with pytest.raises(RuntimeError, match="not ready"):
        session.send(letter)
    session.fail(Fault(kind="lost", text="gone"))
    with pytest.raises(RuntimeError, match="not ready"):
        session.send(letter)


def test_each_end_is_told_once() -> None:
    session = Session(SETTINGS, record=lambda _line, _letter: None)
    session.receive(b"554 no\r\n")
    assert isinstance(session.next_event(), Refused)
    session.receive(b"")
    session.receive(b"220 hi\r\n")
    session.fail(Fault(kind="lost", text="gone"))
    assert session.next_event() is None


def test_what_ehlo_said_is_kept() -> None:
    session = session_at(b"220 hi\r\n", b"250-hi\r\n250-SIZE 1000\r\n250 PIPELINING\r\n")
    assert session.extensions.size_bytes == 1000
    assert session.extensions.offers("PIPELINING")
    assert not session.extensions.offers("HI")
