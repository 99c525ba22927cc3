"""Whole deliveries in TLS against real servers on loopback: what is told, what never goes in clear text."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator

import pytest

from plugin.smtp.client import Client, Delivery, Envelope, Settings, Timeouts
from plugin.smtp.envelope import data_octets
from plugin.smtp.settings import Security
from plugin.smtp.stream import Stream
from tests.smtp.tls_servers import (
    AUTHORITY,
    STRANGER,
    Behaviour,
    Chips,
    Dialogue,
    connect_by_host,
    server_context,
    serving,
)

CONTENT = b"Subject: test\r\n\r\n" + b".dots and lines\r\n" * 12_000
LETTER = Envelope(sender="a@client.test", recipients=("b@relay.test",), content=CONTENT)
AGREED = "= TLSv1.3, TLS_AES_256_GCM_SHA384, certificate of localhost until 2125-01-01"

Connect = Callable[[int], Stream]


@pytest.fixture(params=["socket", "chip"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    if request.param == "socket":
        yield connect_by_host
        return
    chips = Chips()
    yield chips.connect
    chips.close()


class Relay:
    """Takes letters in TLS, from the start or after STARTTLS; ``clear`` has what it heard before."""

    def __init__(self, security: Security, context: ssl.SSLContext | None = None, behind: bytes = b"") -> None:
        self.clear: list[bytes] = []
        self.heard: list[bytes] = []
        self.contents: list[bytes] = []
        self.reused: list[bool | None] = []
        self._security = security
        self._context = context or server_context()
        self._behind = behind

    def __call__(self, connection: socket.socket) -> None:
        with Dialogue(connection) as dialogue:
            self._serve(dialogue)

    def _serve(self, dialogue: Dialogue) -> None:
        if self._security == "starttls":
            dialogue.say("220 relay.test")
            dialogue.hear()
            dialogue.say("250-relay.test", "250-AUTH PLAIN", "250-SIZE 5", "250 STARTTLS")
            dialogue.hear()
            self.clear = list(dialogue.heard)
            dialogue.connection.sendall(b"220 go\r\n" + self._behind)
        try:
            secured = dialogue.secure(self._context)
            self.reused.append(secured.session_reused)
            if self._security == "tls":
                dialogue.say("220 relay.test")
            self.contents.append(dialogue.take_letters(("AUTH PLAIN", "SIZE 1000000")))
            secured.unwrap()
        except OSError:
            pass  # TLS did not come about; what a client says instead is in ``heard``
        self.heard = dialogue.heard


def settings_of(security: Security, ca_file: str = AUTHORITY, timeouts: Timeouts | None = None) -> Settings:
    return Settings(
        host="localhost",
        helo_name="client.test",
        security=security,
        ca_file=ca_file,
        auth="preferred",
        username="alice",
        password="s3cret pass",
        timeouts=timeouts or Timeouts(),
    )


def delivered(connect: Connect, behaviour: Behaviour, settings: Settings) -> Delivery:
    """Deliver one letter over one connection to ``behaviour``; a second connection would fail the test."""
    with serving(behaviour) as server:
        client = Client(lambda: connect(server.port), settings)
        (delivery,) = client.deliver([LETTER])
        client.close()
    assert "s3cret" not in repr(delivery)
    return delivery


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_letter(connect: Connect, security: Security) -> None:
    relay = Relay(security)
    delivery = delivered(connect, relay, settings_of(security))
    assert str(delivery.reply) == "250 2.0.0 Ok: queued as 1"
    assert (delivery.tls, delivery.authenticated, delivery.greeting) == ("TLSv1.3", True, "EHLO")
    assert relay.contents[0] + b".\r\n" == data_octets(CONTENT)
    assert AGREED in delivery.transcript
    expected = [b"EHLO client.test\r\n", b"STARTTLS\r\n"] if security == "starttls" else []
    assert relay.clear == expected
    verbs = [line.split()[0].rstrip(b":") for line in relay.heard[len(expected) :]]
    assert verbs == [b"EHLO", b"AUTH", b"MAIL", b"RCPT", b"DATA", b"QUIT"]


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_letters_on_one_connection_and_the_session_for_the_next(connect: Connect, security: Security) -> None:
    relay = Relay(security)
    with serving(relay, relay) as server:
        client = Client(lambda: connect(server.port), settings_of(security))
        first = list(client.deliver([LETTER, LETTER]))
        client.close()
        (again,) = client.deliver([LETTER])
        client.close()
    assert [str(one.reply) for one in (*first, again)] == ["250 2.0.0 Ok: queued as 1"] * 3
    assert [one.tls for one in (*first, again)] == ["TLSv1.3"] * 3
    assert relay.reused == [False, True]
    assert f"{AGREED}, resumed" in again.transcript
    assert not any("resumed" in line for one in first for line in one.transcript)


@pytest.mark.parametrize("security", ["tls", "starttls"])
@pytest.mark.parametrize(
    ("certificate", "ca_file", "words"),
    [
        ("expired", AUTHORITY, "has expired"),
        ("elsewhere", AUTHORITY, "is not for localhost"),
        ("server", STRANGER, "write as ca_file"),
    ],
)
def test_a_bad_certificate_is_the_end(
    connect: Connect, security: Security, certificate: str, ca_file: str, words: str
) -> None:
    relay = Relay(security, server_context(certificate))
    delivery = delivered(connect, relay, settings_of(security, ca_file))
    assert (delivery.phase, delivery.relay_refused, delivery.reply, delivery.tls) == ("tls", True, None, None)
    assert delivery.fault is not None
    assert delivery.fault.kind == "tls"
    assert words in delivery.fault.text
    assert all(one.fault is delivery.fault for one in delivery.recipients)
    assert relay.heard in ([], [b"EHLO client.test\r\n", b"STARTTLS\r\n"])
    assert relay.contents == []


@pytest.mark.parametrize("behind", [b"250-relay.test\r\n250 AUTH PLAIN\r\n", b"2", b"\r\n", b"\x16\x03\x03"])
def test_octets_behind_the_220_are_an_attack(connect: Connect, behind: bytes) -> None:
    relay = Relay("starttls", behind=behind)
    delivery = delivered(connect, relay, settings_of("starttls"))
    assert (delivery.phase, delivery.relay_refused, delivery.tls) == ("tls", True, None)
    assert delivery.fault is not None
    assert delivery.fault.kind == "tls"
    assert "behind the 220" in delivery.fault.text
    assert relay.heard == [b"EHLO client.test\r\n", b"STARTTLS\r\n"]


def test_starttls_taken_out_on_the_way(connect: Connect) -> None:
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with Dialogue(connection) as dialogue:
            dialogue.say("220 relay.test")
            dialogue.take_letters(("AUTH PLAIN", "XXXXXXXX"))
            heard.extend(dialogue.heard)

    delivery = delivered(connect, serve, settings_of("starttls"))
    assert (delivery.phase, delivery.relay_refused, delivery.tls) == ("tls", True, None)
    assert delivery.fault is not None
    assert "does not offer STARTTLS" in delivery.fault.text
    assert heard == [b"EHLO client.test\r\n", b"QUIT\r\n"]


def test_clear_text_on_the_port_of_tls(connect: Connect) -> None:
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"220 relay.test ESMTP\r\n")
        heard.append(connection.recv(10_000))

    delivery = delivered(connect, serve, settings_of("tls"))
    assert (delivery.phase, delivery.relay_refused) == ("tls", True)
    assert delivery.fault is not None
    assert delivery.fault.kind == "tls"
    assert "write security: starttls" in delivery.fault.text
    assert heard[0][:1] == b"\x16", "a ClientHello, and nothing else"


def test_tls_on_the_port_of_starttls(connect: Connect) -> None:
    """It waits for a ClientHello, we wait for its greeting: the greeting's time-out ends it."""

    def serve(connection: socket.socket) -> None:
        connection.recv(1)

    delivery = delivered(connect, serve, settings_of("starttls", timeouts=Timeouts(greeting_s=0.2)))
    assert (delivery.phase, delivery.relay_refused) == ("greeting", True)
    assert delivery.fault is not None
    assert delivery.fault.kind == "timeout"


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_handshake_that_stalls(connect: Connect, security: Security) -> None:
    def serve(connection: socket.socket) -> None:
        with Dialogue(connection) as dialogue:
            if security == "starttls":
                dialogue.say("220 relay.test")
                dialogue.hear()
                dialogue.say("250-relay.test", "250 STARTTLS")
                dialogue.hear()
                dialogue.say("220 go")
            while connection.recv(10_000):
                pass

    begun = time.monotonic()
    delivery = delivered(connect, serve, settings_of(security, timeouts=Timeouts(tls_s=0.3)))
    assert time.monotonic() - begun < 3
    assert (delivery.phase, delivery.relay_refused) == ("tls", True)
    assert delivery.fault is not None
    assert delivery.fault.kind == "timeout"
    assert "0.3 s at most" in delivery.fault.text


def test_cut_off_behind_the_final_dot(connect: Connect) -> None:
    """No close_notify: the reply to the dot may have been taken away, so the letter may be there twice."""

    def serve(connection: socket.socket) -> None:
        with Dialogue(connection) as dialogue:
            dialogue.secure(server_context())
            dialogue.say("220 relay.test")
            dialogue.hear()
            dialogue.say("250 relay.test")
            for reply in ("250 OK", "250 OK", "354 go"):
                dialogue.hear()
                dialogue.say(reply)
            while dialogue.hear() != b".\r\n":
                pass

    delivery = delivered(connect, serve, settings_of("tls"))
    assert (delivery.phase, delivery.relay_refused, delivery.possible_duplicate) == ("content", False, True)
    assert delivery.fault is not None
    assert delivery.fault.kind == "lost"
    assert "close_notify" in delivery.fault.text
    assert delivery.tls == "TLSv1.3"


def test_greet_tells_how_it_is_secured(connect: Connect) -> None:
    with serving(Relay("starttls")) as server:
        client = Client(lambda: connect(server.port), settings_of("starttls"))
        greeted = client.greet()
        client.close()
    assert greeted.phase is None
    assert greeted.authenticated
    assert greeted.secured is not None
    assert (greeted.secured.version, greeted.secured.subject) == ("TLSv1.3", "localhost")
    assert greeted.secured.expires_at is not None
    assert greeted.secured.expires_at.year == 2125


def test_starttls_and_helo_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="starttls needs EHLO"):
        Settings(host="localhost", helo_name="c", security="starttls", greeting="helo")
