"""SocketStream, and a whole delivery over it, on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from plugin.smtp.client import Client, Envelope, Settings
from plugin.smtp.envelope import data_octets
from plugin.smtp.stream import DEFAULT_WINDOW_BYTES, INBOX_BYTES, SocketStream, window_of
from tests.smtp.tls_servers import COMMAND, COMMANDS, answer_each, narrow_connection, reply_to, reset


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one connection in a thread of its own; an error in it fails the test."""
    errors: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def run() -> None:
            try:
                connection, _ = listener.accept()
                connection.settimeout(5)
                with connection:
                    serve(connection)
            except BaseException as error:  # noqa: BLE001  # told to the test below
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)
        assert not thread.is_alive()
    assert not errors


def test_octets_both_ways_and_the_end() -> None:
    def serve(connection: socket.socket) -> None:
        assert connection.makefile("rb").read(100_000) == b"x" * 100_000
        connection.sendall(b"hello")

    with server(serve) as port:
        stream = SocketStream.connect("127.0.0.1", port, timeout_s=5)
        stream.send_all(b"x" * 100_000, timeout_s=5)
        received = b""
        while chunk := stream.receive(3, timeout_s=5):
            assert len(chunk) <= 3
            received += chunk
        assert received == b"hello"
        stream.close()
        stream.close()


def test_silence_is_a_timeout() -> None:
    done = threading.Event()

    def serve(_connection: socket.socket) -> None:
        assert done.wait(5)

    with server(serve) as port:
        stream = SocketStream.connect("127.0.0.1", port, timeout_s=5)
        with pytest.raises(TimeoutError):
            stream.receive(1, timeout_s=0.05)
        with pytest.raises(TimeoutError):
            stream.send_all(b"x" * 50_000_000, timeout_s=0.2)
        done.set()
        stream.close()


@pytest.mark.parametrize("timeout_s", [0, 0.05])
def test_only_what_has_come(timeout_s: float) -> None:
    go_on = threading.Event()

    def serve(connection: socket.socket) -> None:
        for octets in (b"first", b"second"):
            connection.sendall(octets)
            assert go_on.wait(5)
            go_on.clear()

    with server(serve) as port:
        stream = SocketStream.connect("127.0.0.1", port, timeout_s=5)
        for octets in (b"first", b"second"):
            assert stream.receive(1, timeout_s=5) + stream.receive(100, timeout_s=0) == octets
            with pytest.raises(TimeoutError):
                stream.receive(100, timeout_s=timeout_s)
            go_on.set()
        assert stream.receive(100, timeout_s=5) == b""
        assert stream.receive(100, timeout_s=0) == b""
        stream.close()


def test_the_window_of_a_stream() -> None:
    class Foreign:
        def send_all(self, data: bytes, *, timeout_s: float) -> None: ...

        def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
            return b""

        def close(self, *, timeout_s: float = 1.0) -> None: ...

    with socket.socket() as connection:
        assert window_of(SocketStream(connection)) == INBOX_BYTES
    assert window_of(Foreign()) == DEFAULT_WINDOW_BYTES


# --- Reading while sending ----------------------------------------------------------------------------------


class Watched(SocketStream):
    """Counts its waits."""

    waits = 0

    def _wait(self, events: int, deadline: float) -> int:
        self.waits += 1
        return super()._wait(events, deadline)


def test_a_server_that_reads_on_only_when_its_replies_are_read() -> None:
    with server(answer_each) as port:
        stream = SocketStream(narrow_connection(port))
        stream.send_all(COMMAND * COMMANDS, timeout_s=5)
        for number in range(COMMANDS):
            reply = b""
            while not reply.endswith(b"\r\n"):
                reply += stream.receive(len(reply_to(number)) - len(reply), timeout_s=5)
            assert reply == reply_to(number)
        stream.close()


def test_a_peer_that_talks_without_end_and_never_listens() -> None:
    """What is read ahead is bounded and in order; waiting costs nothing, though there is always more to read."""
    pattern = bytes(range(251)) * 4000

    def serve(connection: socket.socket) -> None:
        with suppress(ConnectionError):
            while True:
                connection.sendall(pattern)

    with server(serve) as port:
        stream = Watched.connect("127.0.0.1", port, timeout_s=5)
        with pytest.raises(TimeoutError):
            stream.send_all(b"x" * 50_000_000, timeout_s=0.5)
        assert len(stream._inbox) == INBOX_BYTES
        assert stream.waits < 5000
        received = b""
        while len(received) < len(pattern):
            received += stream.receive(len(pattern) - len(received), timeout_s=5)
        assert received == pattern
        with pytest.raises(ConnectionResetError, match="broke off"):
            stream.send_all(b"x", timeout_s=5)
        stream.close()


def test_the_peer_ends_its_side_and_listens_on() -> None:
    saw_end, ends = threading.Event(), list[bytes]()

    class Seeing(SocketStream):
        def _take(self, max_bytes: int) -> bytes | None:
            data = super()._take(max_bytes)
            if data == b"":
                ends.append(data)
                saw_end.set()
            return data

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"221 Bye")
        connection.shutdown(socket.SHUT_WR)
        assert saw_end.wait(5)
        left = 1_000_000
        while left:
            left -= len(connection.recv(100_000))

    with server(serve) as port:
        stream = Seeing(narrow_connection(port))
        stream.send_all(b"x" * 1_000_000, timeout_s=5)
        assert ends == [b""], "what has ended is not looked at again and again"
        assert [stream.receive(100, timeout_s=0) for _ in range(3)] == [b"221 Bye", b"", b""]
        stream.close()


def test_last_words_before_a_reset() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"421 enough")
        connection.recv(1)
        reset(connection)

    with server(serve) as port:
        stream = SocketStream(narrow_connection(port))
        with pytest.raises(ConnectionError):
            stream.send_all(b"x" * 10_000_000, timeout_s=5)
        assert stream.receive(100, timeout_s=5) == b"421 enough"
        for _ in range(2):
            with pytest.raises(ConnectionError):  # no orderly end
                stream.receive(100, timeout_s=5)
        stream.close()


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            SocketStream.connect("127.0.0.1", unused.getsockname()[1], timeout_s=5)


def test_a_letter_over_loopback() -> None:
    content = b"Subject: test\r\n\r\n" + b".dots and lines\r\n" * 20_000
    taken = []

    def serve(connection: socket.socket) -> None:
        lines = connection.makefile("rb")

        def hears(command: bytes, reply: bytes) -> None:
            assert lines.readline() == command + b"\r\n"
            connection.sendall(reply + b"\r\n")

        connection.sendall(b"220 relay.test\r\n")
        hears(b"EHLO [127.0.0.1]", b"250-relay.test\r\n250 SIZE 1000000")
        hears(b"MAIL FROM:<a@client.test> SIZE=%d" % len(content), b"250 OK")
        hears(b"RCPT TO:<b@relay.test>", b"250 OK")
        hears(b"DATA", b"354 go")
        while (line := lines.readline()) != b".\r\n":
            taken.append(line)
        connection.sendall(b"250 2.0.0 Ok: queued as 1\r\n")
        hears(b"QUIT", b"221 Bye")

    with server(serve) as port:
        settings = Settings(host="127.0.0.1", helo_name="[127.0.0.1]")
        client = Client(lambda: SocketStream.connect("127.0.0.1", port, timeout_s=5), settings)
        (delivery,) = client.deliver(
            [Envelope(sender="a@client.test", recipients=("b@relay.test",), content=content)]
        )
        client.close()
    assert str(delivery.reply) == "250 2.0.0 Ok: queued as 1"
    assert delivery.recipients[0].accepted
    assert 0 < delivery.duration_s < 5
    assert b"".join(taken) + b".\r\n" == data_octets(content)
