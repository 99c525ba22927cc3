"""Servers that speak TLS on loopback, with the certificates in ``certificates/`` (all of the authority in there).

``server`` is for localhost and 127.0.0.1, ``elsewhere`` for another name, ``expired`` and ``early`` are what they
say; ``stranger`` is an authority that has issued none of them. Signed by themselves are ``many`` (seventeen names,
::1 among them), ``address_as_name`` (127.0.0.1, but as a host name), ``odd`` (a host name in Latin-1, against the
rules) and ``unnamed`` (a common name only, with a colour and a turn of the writing direction in it).
"""

from __future__ import annotations

import fcntl
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Self

from plugin.smtp.stream import SocketStream, Stream
from plugin.smtp.tls import Tls, TlsStream
from plugin.w5100 import Addressing, Chip
from plugin.w5100.emulator import Emulator

CERTIFICATES = Path(__file__).parent / "certificates"
AUTHORITY = str(CERTIFICATES / "authority.pem")
STRANGER = str(CERTIFICATES / "stranger.pem")
WAIT_S = 10.0
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def server_context(
    certificate: str = "server",
    *,
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / f"{certificate}.pem")
    context.minimum_version, context.maximum_version = minimum, maximum
    return context


Behaviour = Callable[[socket.socket], None]


@dataclass
class Server:
    port: int
    errors: list[BaseException] = field(default_factory=list)


@contextmanager
def serving(*behaviours: Behaviour) -> Iterator[Server]:
    """Serve one connection after another, each by its behaviour; what goes wrong in one fails the test."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        server = Server(listener.getsockname()[1])

        def run() -> None:
            try:
                for behave in behaviours:
                    connection, _ = listener.accept()
                    connection.settimeout(WAIT_S)
                    with connection:
                        behave(connection)
            except BaseException as error:  # noqa: BLE001  # told to the test below
                server.errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield server
        finally:
            thread.join(2 * WAIT_S)
        assert not thread.is_alive()
    if server.errors:
        raise server.errors[0]


class Dialogue:
    """The server's side of SMTP over a connection, in clear text and in TLS; ``heard`` has every line."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.heard: list[bytes] = []
        self._lines = connection.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self.connection.close()

    def say(self, *lines: str) -> None:
        self.connection.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def hear(self) -> bytes:
        line = self._lines.readline()
        self.heard.append(line)
        return line

    def secure(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        self._lines.close()
        secured = context.wrap_socket(self.connection, server_side=True, suppress_ragged_eofs=False)
        self.connection = secured
        self._lines = secured.makefile("rb")
        return secured

    def take_letters(self, extensions: Sequence[str] = ()) -> bytes:
        """Greet with ``extensions``, take letters until QUIT or the end; return the content of the last one."""
        content = b""
        while line := self.hear():
            command = line.split()[0].upper()
            if command == b"EHLO":
                shown = ["relay.test", *extensions]
                self.say(*(f"250{' ' if one == shown[-1] else '-'}{one}" for one in shown))
            elif command == b"DATA":
                self.say("354 go")
                taken = []
                while (line := self._lines.readline()) not in (b".\r\n", b""):
                    taken.append(line)
                content = b"".join(taken)
                self.say("250 2.0.0 Ok: queued as 1")
            elif command == b"QUIT":
                self.say("221 Bye")
                break
            else:
                self.say("235 ok" if command == b"AUTH" else "250 OK")
        return content


def secured_by(context: ssl.SSLContext, behave: Callable[[ssl.SSLSocket], None]) -> Behaviour:
    """Carry out the handshake, then ``behave``; close_notify is said only if ``behave`` does."""

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False) as secured:
            behave(secured)

    return serve


def said_farewell(connection: ssl.SSLSocket) -> bool:
    """Whether the client ends with close_notify."""
    try:
        return connection.recv(1) == b""
    except (ssl.SSLEOFError, ConnectionError):
        return False


class Chips:
    """``connect`` over the emulated chip's hardware sockets."""

    def __init__(self) -> None:
        self._chip = Chip(Emulator())
        self._chip.reset()
        self._chip.configure(
            Addressing(
                mac=bytes.fromhex("0208dc010203"),
                address=IPv4Address("127.0.0.1"),
                subnet_mask=IPv4Address("255.0.0.0"),
                gateway=IPv4Address(0),
            ),
            lanes=2,
        )

    def connect(self, port: int) -> Stream:
        connection = self._chip.tcp_socket()
        connection.connect("127.0.0.1", port, timeout_s=WAIT_S)
        return connection

    def close(self) -> None:
        self._chip.close()


def connect_by_host(port: int) -> Stream:
    return SocketStream.connect("127.0.0.1", port, timeout_s=WAIT_S)


def narrow_connection(port: int) -> socket.socket:
    """Connect with buffers in the kernel that hold only a few KiB."""
    connection = socket.socket()
    for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        connection.setsockopt(socket.SOL_SOCKET, buffer, 4096)
    connection.settimeout(WAIT_S)
    connection.connect(("127.0.0.1", port))
    return connection


COMMANDS: Final = 100
COMMAND: Final = b"NOOP " + b"x" * 3993 + b"\r\n"


def reply_to(number: int) -> bytes:
    return b"250 %03d " % number + b"y" * 500 + b"\r\n"


def answer_each(connection: socket.socket) -> None:
    """Read the next command only once the reply to the last one is on its way, as servers do (RFC 2920 §3.2)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with connection.makefile("rb") as lines:
        for number in range(COMMANDS):
            assert lines.readline() == COMMAND
            connection.sendall(reply_to(number))
        lines.readline()


def reset(connection: socket.socket) -> None:
    """Close with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def until_taken(connection: socket.socket) -> None:
    """Wait until the peer's kernel has acknowledged all that was sent (SIOCOUTQ, which is TIOCOUTQ)."""
    deadline = time.monotonic() + WAIT_S
    while fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)) != bytes(4):
        assert time.monotonic() < deadline, "the peer takes nothing"
        time.sleep(0.001)


def trusting(name: str = "localhost") -> Tls:
    return Tls(name, ca_file=AUTHORITY)


def secured(tls: Tls, stream: Stream) -> TlsStream:
    return tls.handshake(stream, timeout_s=WAIT_S)


def read_all(stream: Stream) -> bytes:
    received = b""
    while chunk := stream.receive(1000, timeout_s=WAIT_S):
        assert len(chunk) <= 1000
        received += chunk
    return received


def heard_once(connection: socket.socket) -> None:
    connection.recv(1)


def heard_twice(connection: socket.socket) -> None:
    connection.recv(10_000)
    connection.recv(1)


def echo(connection: ssl.SSLSocket) -> None:
    while (data := connection.recv(100_000)) not in (b"", b"end"):
        connection.sendall(data)
    connection.unwrap()


class MemoryServer:
    """A Stream with a TLS server at its other end, in memory: nothing moves by itself, so nothing depends on time.

    ``sent`` has each ``send_all`` of the client. What the server says comes back as octets for ``deliver``.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.sent: list[bytes] = []
        self.received_bytes = 0
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._engine = (context or server_context()).wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False
        self._arrived = bytearray()

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        assert timeout_s > 0
        self.sent.append(data)
        self._incoming.write(data)
        if not self._shaken:
            with suppress(ssl.SSLWantReadError):
                self._engine.do_handshake()
                self._shaken = True
            self.deliver(self._outgoing.read())

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        if not self._arrived:
            raise TimeoutError
        data = bytes(self._arrived[:max_bytes])
        del self._arrived[:max_bytes]
        self.received_bytes += len(data)
        return data

    def close(self, *, timeout_s: float = 1.0) -> None:
        pass

    def says(self, data: bytes) -> bytes:
        self._engine.write(data)
        return self._outgoing.read()

    def farewell(self) -> bytes:
        with suppress(ssl.SSLWantReadError):
            self._engine.unwrap()
        return self._outgoing.read()

    def hears(self) -> bytes:
        return self._engine.read(100_000)

    def deliver(self, octets: bytes) -> None:
        self._arrived += octets
