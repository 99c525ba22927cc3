"""Servers that speak TLS on loopback, with the certificates in ``certificates/`` (all of the authority in there).

``server`` is for localhost and 127.0.0.1, ``elsewhere`` for another name, ``expired`` and ``early`` are what they
say; ``stranger`` is an authority that has issued none of them.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

from plugin.smtp.stream import SocketStream, Stream
from plugin.w5100 import Addressing, Chip
from plugin.w5100.emulator import Emulator

CERTIFICATES = Path(__file__).parent / "certificates"
AUTHORITY = str(CERTIFICATES / "authority.pem")
STRANGER = str(CERTIFICATES / "stranger.pem")
WAIT_S = 10.0


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
