"""SocketStream, and a whole delivery over it, on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from plugin.smtp.client import Client, Envelope, Settings
from plugin.smtp.envelope import data_octets
from plugin.smtp.stream import SocketStream


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
