"""A broker that does exactly what a test says, packet by packet: for what no real one would do when asked."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from plugin.demo.broker import LOOPBACK
from plugin.mqtt import Settings

CONNECT: Final = 0x10
PUBLISH: Final = 0x30
PUBACK: Final = 0x40
SUBSCRIBE: Final = 0x80
PINGREQ: Final = 0xC0
DISCONNECT: Final = 0xE0


class Gone(Exception):
    """The client has closed the connection."""


class Wire:
    """One connection, from the broker's side, MQTT 5."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(10.0)

    def take(self) -> tuple[int, bytes]:
        """Return the next packet: type and flags, and what comes after the fixed header."""
        head = self._exactly(1)[0]
        length = shift = 0
        while True:
            byte = self._exactly(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return head, self._exactly(length)

    def expect(self, kind: int) -> bytes:
        """Return the body of the next packet, which must be of this kind; PINGREQs are answered on the way."""
        while True:
            head, body = self.take()
            if head & 0xF0 == kind:
                return body
            if head & 0xF0 == DISCONNECT:
                raise Gone
            if head & 0xF0 != PINGREQ:
                raise AssertionError(f"expected {kind:#x}, got {head:#x}")
            self.sock.sendall(b"\xd0\x00")

    def send(self, kind: int, body: bytes) -> None:
        self.sock.sendall(bytes((kind,)) + variable(len(body)) + body)

    def accept(self, properties: bytes = b"", *, suback: bytes = b"\x01") -> bytes:
        """Answer CONNECT and SUBSCRIBE; return the body of CONNECT."""
        connect = self.expect(CONNECT)
        self.send(0x20, b"\x00\x00" + variable(len(properties)) + properties)
        subscribe = self.expect(SUBSCRIBE)
        self.send(0x90, subscribe[:2] + b"\x00" + suback)
        return connect

    def publication(self) -> tuple[int, str, bytes]:
        """Return packet identifier, topic and payload of the next PUBLISH."""
        body = self.expect(PUBLISH)
        length = int.from_bytes(body[:2], "big")
        topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
        return int.from_bytes(rest[:2], "big"), topic, rest[3 + rest[2] :]

    def puback(self, packet_id: int, code: int = 0) -> None:
        self.send(PUBACK, packet_id.to_bytes(2, "big") + bytes((code, 0)))

    def serve(self) -> None:
        """Acknowledge all that is published until the client leaves."""
        with suppress(Gone):
            while True:
                head, body = self.take()
                if head & 0xF0 == PUBLISH:
                    length = int.from_bytes(body[:2], "big")
                    self.puback(int.from_bytes(body[2 + length : 4 + length], "big"))
                elif head & 0xF0 == PINGREQ:
                    self.sock.sendall(b"\xd0\x00")
                elif head & 0xF0 == DISCONNECT:
                    return

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self.sock.recv(count - len(data))
            except (ConnectionError, ssl.SSLError) as error:
                raise Gone from error
            if not more:
                raise Gone
            data += more
        return data


def variable(number: int) -> bytes:
    """Return a Variable Byte Integer (MQTT 5 §1.5.5)."""
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


class ScriptedBroker:
    """Plays one script a connection; the last one again and again."""

    host: Final = LOOPBACK

    def __init__(self, *scripts: Callable[[Wire], None], context: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._context = context
        self.connections = 0
        self.failures: queue.Queue[BaseException] = queue.Queue()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: Final = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run, name="scripted-broker")
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            try:
                if self._context is not None:
                    sock.settimeout(5.0)
                    sock = self._context.wrap_socket(sock, server_side=True)
                with sock:
                    self._open.append(sock)
                    script(Wire(sock))
            except (Gone, OSError):
                sock.close()
            except BaseException as error:  # noqa: BLE001 - told by close()
                self.failures.put(error)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(15.0)
        assert not self._thread.is_alive()
        if not self.failures.empty():
            raise self.failures.get()


@contextmanager
def scripted(*scripts: Callable[[Wire], None], context: ssl.SSLContext | None = None) -> Iterator[ScriptedBroker]:
    broker = ScriptedBroker(*scripts, context=context)
    try:
        yield broker
    finally:
        broker.close()


def settings_for(broker: ScriptedBroker, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "host": broker.host,
        "port": broker.port,
        "answer_timeout_s": 0.2,
        "reconnect_first_s": 0.01,
        "reconnect_longest_s": 0.05,
    }
    return Settings(**(values | changes))


def welcome(wire: Wire) -> None:
    wire.accept()
    wire.serve()


def silent(wire: Wire) -> None:
    while True:
        wire.take()


def babble(wire: Wire) -> None:
    wire.take()
    wire.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"<html>" * 50)
    silent(wire)
