"""TlsStream against real TLS servers on loopback, over an ordinary socket and over one of the chip's."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugin.smtp.stream import SocketStream, Stream
from plugin.smtp.tls import Tls, TlsError
from plugin.smtp.tls_stream import MAX_HANDSHAKE_BYTES, RECORD_BYTES
from tests.smtp.tls_servers import (
    VERSIONS,
    WAIT_S,
    Chips,
    connect_by_host,
    echo,
    heard_once,
    heard_twice,
    read_all,
    said_farewell,
    secured,
    secured_by,
    server_context,
    serving,
    trusting,
)

Connect = Callable[[int], Stream]


@pytest.fixture(params=["socket", "chip"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    if request.param == "socket":
        yield connect_by_host
        return
    chips = Chips()
    yield chips.connect
    chips.close()


# --- What it is for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_octets_both_ways_and_close_notify(connect: Connect, version: ssl.TLSVersion) -> None:
    taken = bytearray()

    def serve(connection: ssl.SSLSocket) -> None:
        while len(taken) < len(octets):
            taken.extend(connection.recv(100_000))
        connection.sendall(octets[:50_000])
        connection.unwrap()  # waits for the client's close_notify

    octets = bytes(range(256)) * 500
    with serving(secured_by(server_context(minimum=version, maximum=version), serve)) as server:
        stream = secured(trusting(), connect(server.port))
        assert stream.secured.version == ("TLSv1.2" if version == ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
        assert not stream.secured.resumed
        stream.send_all(octets, timeout_s=WAIT_S)
        assert read_all(stream) == octets[:50_000]
        assert stream.receive(10, timeout_s=WAIT_S) == b""
        stream.close()
        stream.close()
    assert bytes(taken) == octets


def test_what_was_agreed_on_in_words(connect: Connect) -> None:
    with serving(secured_by(server_context(), heard_once)) as server:
        stream = secured(trusting(), connect(server.port))
        assert str(stream.secured) == "TLSv1.3, TLS_AES_256_GCM_SHA384, certificate of localhost until 2125-01-01"
        stream.close()


@pytest.mark.parametrize("octets", [1, 7, 1000])
def test_any_cut_of_the_octets_will_do(octets: int) -> None:
    class Cut(SocketStream):
        def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
            return super().receive(min(octets, max_bytes), timeout_s=timeout_s)

    with serving(secured_by(server_context(), echo)) as server:
        stream = secured(trusting(), Cut.connect("127.0.0.1", server.port, timeout_s=WAIT_S))
        stream.send_all(b"x" * 3000, timeout_s=WAIT_S)
        received = b""
        while len(received) < 3000:
            received += stream.receive(5000, timeout_s=WAIT_S)
        assert received == b"x" * 3000
        stream.send_all(b"end", timeout_s=WAIT_S)
        assert read_all(stream) == b""
        stream.close()


def test_big_writes_go_in_bounded_blocks() -> None:
    sizes: list[int] = []

    class Measured(SocketStream):
        def send_all(self, data: bytes, *, timeout_s: float) -> None:
            sizes.append(len(data))
            super().send_all(data, timeout_s=timeout_s)

    def serve(connection: ssl.SSLSocket) -> None:
        left = 1_000_000
        while left:
            left -= len(connection.recv(100_000))
        assert said_farewell(connection)

    with serving(secured_by(server_context(), serve)) as server:
        stream = secured(trusting(), Measured.connect("127.0.0.1", server.port, timeout_s=WAIT_S))
        stream.send_all(b"x" * 1_000_000, timeout_s=WAIT_S)
        stream.close()
    assert max(sizes) <= RECORD_BYTES + 100
    assert len(sizes) >= 1_000_000 // RECORD_BYTES


# --- Resumption ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_the_next_connection_resumes_the_session(connect: Connect, version: ssl.TLSVersion) -> None:
    context, reused = server_context(minimum=version, maximum=version), list[bool | None]()

    def serve(connection: ssl.SSLSocket) -> None:
        reused.append(connection.session_reused)
        echo(connection)

    tls = trusting()
    with serving(*[secured_by(context, serve)] * 3) as server:
        for number in range(3):
            stream = secured(tls, connect(server.port))
            assert stream.secured.resumed == (number > 0)
            assert stream.secured.subject == "localhost"
            assert str(stream.secured).endswith(", resumed") == (number > 0)
            stream.send_all(b"x", timeout_s=WAIT_S)
            assert stream.receive(1, timeout_s=WAIT_S) == b"x"
            stream.send_all(b"end", timeout_s=WAIT_S)
            stream.close()
    assert reused == [False, True, True]


def test_a_relay_that_has_forgotten_the_session() -> None:
    """Another server, or the same after a restart: it cannot read its predecessor's ticket."""
    tls = trusting()
    with serving(*(secured_by(server_context(), echo) for _ in range(2))) as server:
        for _ in range(2):
            stream = secured(tls, connect_by_host(server.port))
            assert not stream.secured.resumed
            stream.send_all(b"end", timeout_s=WAIT_S)
            assert read_all(stream) == b""
            stream.close()


def test_a_session_that_ends_in_a_failure_is_not_offered_again() -> None:
    context = server_context()
    tls = trusting()
    with serving(secured_by(context, echo), heard_once, secured_by(context, echo)) as server:
        for number in range(3):
            raw = connect_by_host(server.port)
            if number == 1:
                with pytest.raises(ConnectionError):
                    secured(tls, raw)
                raw.close()
                continue
            stream = secured(tls, raw)
            assert not stream.secured.resumed
            stream.send_all(b"end", timeout_s=WAIT_S)
            assert read_all(stream) == b""
            stream.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_ticket_that_came_late_or_unread_is_the_one(version: ssl.TLSVersion) -> None:
    """A connection that was kept, and one on which nothing was ever received: both leave their newest ticket."""
    reused: list[bool | None] = []

    def serve(connection: ssl.SSLSocket) -> None:
        reused.append(connection.session_reused)
        while (data := connection.recv(100)) not in (b"", b"end"):
            connection.sendall(data)
        connection.unwrap()

    context, tls = server_context(minimum=version, maximum=version), trusting()
    with serving(*[secured_by(context, serve)] * 4) as server:
        for dialogues in (0, 5, 0, 5):
            stream = secured(tls, connect_by_host(server.port))
            for _ in range(dialogues):
                stream.send_all(b"x", timeout_s=WAIT_S)
                assert stream.receive(1, timeout_s=WAIT_S) == b"x"
            stream.close(timeout_s=WAIT_S)
    assert reused == [False, True, True, True]


def test_sessions_stay_with_their_relay() -> None:
    """Two relays may be one server: what one has agreed on is never told to the other."""
    context, reused = server_context(), list[bool | None]()

    def serve(connection: ssl.SSLSocket) -> None:
        reused.append(connection.session_reused)
        echo(connection)

    one, other = trusting(), trusting()
    with serving(*[secured_by(context, serve)] * 4) as server:
        for tls in (one, other, one, other):
            stream = secured(tls, connect_by_host(server.port))
            stream.send_all(b"end", timeout_s=WAIT_S)
            assert read_all(stream) == b""
            stream.close()
    assert reused == [False, False, True, True]


def test_a_session_does_not_outlive_the_authorities_that_it_was_agreed_on_with() -> None:
    """While a connection is kept, another one meets a bad certificate, after which ``ca_file`` is read anew."""

    def serve_badly(connection: socket.socket) -> None:
        with pytest.raises(ssl.SSLError):
            secured_by(server_context("expired"), heard_once)(connection)

    context, tls = server_context(), trusting()
    with (
        serving(secured_by(context, echo)) as kept_by,
        serving(serve_badly, secured_by(context, echo)) as server,
    ):
        kept, bad = secured(tls, connect_by_host(kept_by.port)), connect_by_host(server.port)
        with pytest.raises(TlsError):
            secured(tls, bad)
        bad.close()
        kept.close()
        stream = secured(tls, connect_by_host(server.port))
        assert not stream.secured.resumed
        stream.close()


# --- What is no TLS, or not ours ----------------------------------------------------------------------------


def test_a_server_of_tls_1_1(connect: Connect) -> None:
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        context = server_context(minimum=ssl.TLSVersion.TLSv1, maximum=ssl.TLSVersion.TLSv1_1)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")

    def serve(connection: socket.socket) -> None:
        with pytest.raises(ssl.SSLError):
            secured_by(context, echo)(connection)

    with serving(serve) as server:
        stream = connect(server.port)
        with pytest.raises(TlsError, match=r"neither TLS 1\.2 nor TLS 1\.3"):
            secured(trusting(), stream)
        stream.close()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"220 relay.test ESMTP\r\n", "does not speak TLS: '220 relay.test ESMTP'; .* write security: starttls"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS: 'HTTP/1.1 400 Bad Request'"),
        (b"\x00" * 100, "does not speak TLS"),
        (b"\x16\x03\x03\xff\xff" + b"x" * 70_000, "the TLS handshake failed"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "the TLS handshake failed .*alert handshake failure"),
        (b"\x15\x03\x03\x00\x02\x02\x50", "the TLS handshake failed .*alert internal error"),
    ],
)
def test_what_is_no_handshake(connect: Connect, said: bytes, words: str) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(said)
        connection.recv(10_000)

    with serving(serve) as server:
        stream = connect(server.port)
        with pytest.raises(TlsError, match=words):
            secured(trusting(), stream)
        stream.close()


def test_a_handshake_that_stalls(connect: Connect) -> None:
    with serving(heard_twice) as server:
        stream = connect(server.port)
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            trusting().handshake(stream, timeout_s=0.3)
        assert 0.2 < time.monotonic() - begun < 2
        stream.close()


def test_a_handshake_that_only_trickles() -> None:
    """An octet now and then does not stretch the time."""

    def serve(connection: socket.socket) -> None:
        connection.recv(10_000)
        try:
            for octet in b"\x16\x03\x03\x40\x00" + b"\x02\x00\x3f\xff" + b"x" * 100:
                connection.sendall(bytes([octet]))
                time.sleep(0.05)
        except OSError:
            pass

    with serving(serve) as server:
        stream = connect_by_host(server.port)
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            trusting().handshake(stream, timeout_s=0.4)
        assert time.monotonic() - begun < 2
        stream.close()


def test_a_handshake_without_end_is_cut_off() -> None:
    """Records that never come to an end are held to a bound, whatever the engine would put up with."""
    received = 0

    class Endless(SocketStream):
        def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
            nonlocal received
            # Change_cipher_spec, which TLS 1.3 ignores during the handshake (RFC 8446 §5), again and again.
            chunk = b"\x14\x03\x03\x00\x01\x01" * (max_bytes // 6)
            received += len(chunk)
            return chunk

    with serving(heard_twice) as server:
        stream = Endless.connect("127.0.0.1", server.port, timeout_s=WAIT_S)
        with pytest.raises(TlsError):
            secured(trusting(), stream)
        stream.close()
    assert received <= MAX_HANDSHAKE_BYTES + RECORD_BYTES


@pytest.mark.parametrize("after", [0, 1, 5, 100, 700])
def test_the_end_in_the_middle_of_the_handshake(after: int) -> None:
    sent = bytearray()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    engine = server_context().wrap_bio(incoming, outgoing, server_side=True)

    class Cut:
        def send_all(self, data: bytes, *, timeout_s: float) -> None:
            sent.extend(data)
            incoming.write(data)
            with pytest.raises(ssl.SSLWantReadError):
                engine.do_handshake()

        def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
            return outgoing.read(after) if outgoing.pending and not self.cut else b""

        def close(self, *, timeout_s: float = 1.0) -> None:
            pass

        @property
        def cut(self) -> bool:
            done, self._done = getattr(self, "_done", False), True
            return done

    with pytest.raises(ConnectionResetError, match="in the TLS handshake"):
        trusting().handshake(Cut(), timeout_s=1)


@settings(max_examples=150, deadline=None)
@given(
    pieces=st.lists(st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from([b"\x16\x03\x03", b"\x15\x03"])))
)
def test_any_octets_for_a_handshake(pieces: list[bytes]) -> None:
    """No exception but those that are documented."""

    class Peer:
        def send_all(self, data: bytes, *, timeout_s: float) -> None:
            assert timeout_s > 0

        def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
            return pieces.pop(0) if pieces else b""

        def close(self, *, timeout_s: float = 1.0) -> None:
            pass

    with pytest.raises(ConnectionError) as caught:
        Tls("relay.test", verify=False).handshake(Peer(), timeout_s=5)
    assert str(caught.value).isprintable()


# --- The end ------------------------------------------------------------------------------------------------


def test_an_end_without_close_notify_is_a_lost_connection(connect: Connect) -> None:
    with serving(secured_by(server_context(), lambda connection: connection.sendall(b"220 hi\r\n"))) as server:
        stream = secured(trusting(), connect(server.port))
        assert stream.receive(100, timeout_s=WAIT_S) == b"220 hi\r\n"
        with pytest.raises(ConnectionResetError, match="without close_notify"):
            stream.receive(100, timeout_s=WAIT_S)
        with pytest.raises(ConnectionResetError):
            stream.send_all(b"x", timeout_s=WAIT_S)
        stream.close()


def test_octets_that_are_no_records_break_the_connection() -> None:
    def junk(connection: socket.socket) -> None:
        with server_context().wrap_socket(connection, server_side=True) as secured_connection:
            secured_connection.recv(10)
            with socket.socket(fileno=socket.dup(secured_connection.fileno())) as below:
                below.sendall(b"\x17\x03\x03\x00\x20" + b"j" * 32)
                below.settimeout(WAIT_S)
                alerts.append(below.recv(1000))

    alerts: list[bytes] = []
    with serving(junk) as server:
        stream = secured(trusting(), connect_by_host(server.port))
        stream.send_all(b"x", timeout_s=WAIT_S)
        with pytest.raises(TlsError, match="TLS: "):
            stream.receive(100, timeout_s=WAIT_S)
        with pytest.raises(ConnectionResetError):
            stream.send_all(b"x", timeout_s=WAIT_S)
        stream.close()
    assert alerts[0][:1] == b"\x17", "the server is told, in a record"


def test_close_says_close_notify(connect: Connect) -> None:
    ends: list[bool] = []

    def serve(connection: ssl.SSLSocket) -> None:
        ends.append(said_farewell(connection))

    with serving(secured_by(server_context(), serve)) as server:
        stream = secured(trusting(), connect(server.port))
        stream.close()
    assert ends == [True]


def test_close_with_something_left_to_read_says_it_too() -> None:
    ends: list[bool] = []

    def serve(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"unread")
        ends.append(said_farewell(connection))

    with serving(secured_by(server_context(), serve)) as server:
        stream = secured(trusting(), connect_by_host(server.port))
        time.sleep(0.1)
        stream.close()
    assert ends == [True]


def test_close_is_bounded(connect: Connect) -> None:
    def serve(connection: ssl.SSLSocket) -> None:
        connection.recv(10)
        assert connection.recv(10) == b""
        time.sleep(1.0)  # and never says close_notify

    with serving(secured_by(server_context(), serve)) as server:
        stream = secured(trusting(), connect(server.port))
        stream.send_all(b"x", timeout_s=WAIT_S)
        begun = time.monotonic()
        stream.close(timeout_s=0.3)
        assert time.monotonic() - begun < 0.9


def test_a_send_that_stalls_and_what_follows() -> None:
    def serve(connection: ssl.SSLSocket) -> None:
        assert connection.recv(1) == b"x"
        time.sleep(0.6)

    with serving(secured_by(server_context(), serve)) as server:
        stream = secured(trusting(), connect_by_host(server.port))
        with pytest.raises(TimeoutError):
            stream.send_all(b"x" * 50_000_000, timeout_s=0.3)
        with pytest.raises(ConnectionResetError, match="broke off"):
            stream.send_all(b"x", timeout_s=1)
        stream.close()


@pytest.mark.parametrize("timeout_s", [0.1, 0])
def test_silence_is_a_timeout_and_harms_nothing(connect: Connect, timeout_s: float) -> None:
    with serving(secured_by(server_context(), echo)) as server:
        stream = secured(trusting(), connect(server.port))
        for _ in range(3):
            with pytest.raises(TimeoutError):
                stream.receive(10, timeout_s=timeout_s)
        stream.send_all(b"x", timeout_s=WAIT_S)
        assert stream.receive(10, timeout_s=WAIT_S) == b"x"
        stream.send_all(b"end", timeout_s=WAIT_S)
        assert read_all(stream) == b""
        stream.close()
