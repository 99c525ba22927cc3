"""The seam to a connection: the Stream protocol, and SocketStream over an ordinary socket."""

from __future__ import annotations

import math
import select
import socket
import time
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Protocol, Self

DEFAULT_WINDOW_BYTES: Final = 2048
"""What a Stream that does not tell its window is taken to hold: a ring of the chip as RMSR is after a reset."""
INBOX_BYTES: Final = 64 * 1024
"""The most that a SocketStream reads ahead while it waits for room to send."""


class Stream(Protocol):
    """A connection in octets. Every call has a deadline, after which it raises TimeoutError.

    A broken connection raises ConnectionError, any other trouble of the device OSError. After a ``send_all`` that
    failed nothing more can be sent, but what the peer had said before can still be received.

    A Stream may have an attribute ``window_bytes``: how many octets the peer can send before it is held up because
    nobody receives them; ``window_of`` reads it. A Stream should go on reading while ``send_all`` waits, into a
    bounded inbox: a peer whose replies are not read may stop reading commands (RFC 2920 §3.1).

    A Stream may have an attribute ``local_address``, the IPv4 or IPv6 address of our end; ``literal_of`` reads it.
    """

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        """Send all of ``data``, or raise: nothing is dropped in silence."""
        ...

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        """Return 1 to ``max_bytes`` octets as soon as there are any; b"" once the peer has ended.

        With ``timeout_s`` 0 only what has come already: TimeoutError at once if there is nothing. A receive that
        timed out may be repeated; nothing is lost.
        """
        ...

    def close(self, *, timeout_s: float = 1.0) -> None:
        """End the connection in order if that works in time, else at once; never raises, may be repeated."""
        ...


def window_of(stream: Stream) -> int:
    """Return how many octets the peer of ``stream`` can send before it is held up."""
    window_bytes: int = getattr(stream, "window_bytes", DEFAULT_WINDOW_BYTES)
    return window_bytes


def literal_of(stream: Stream) -> str:
    """Return the address literal (RFC 5321 §4.1.3) of our end of ``stream``; loopback's if it is not told."""
    address = getattr(stream, "local_address", None) or IPv4Address("127.0.0.1")
    return f"[{'IPv6:' if address.version == 6 else ''}{address}]"


class SocketStream:
    """A Stream over the host's own network, for ``hardwire probe --host`` and for comparison."""

    window_bytes: Final = INBOX_BYTES  # what the kernel holds comes on top of it

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._inbox = bytearray()
        self._ended = False
        self._lost = False  # the kernel tells a reset once, be it to a send or to a receive
        self._torn = False  # a send_all broke off: what follows would not join up

    @property
    def local_address(self) -> IPv4Address | IPv6Address:
        """The address of our end."""
        return ip_address(self._socket.getsockname()[0].partition("%")[0])

    @classmethod
    def connect(cls, host: str, port: int, *, timeout_s: float) -> Self:
        """Connect to ``host``:``port``; raises OSError, TimeoutError or ConnectionError."""
        return cls(socket.create_connection((host, port), timeout_s))

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        """Send all of ``data``; TimeoutError when the whole takes longer.

        What comes while it waits is kept for ``receive``.
        """
        if self._torn:
            raise ConnectionResetError("an earlier send broke off, nothing can follow it")
        deadline = time.monotonic() + timeout_s
        view = memoryview(data)
        self._torn = True  # until it is all through
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                self._wait_for_room(deadline)
            except OSError:
                self._lost = True
                raise
        self._torn = False

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        """Return what is there, at most ``max_bytes``; b"" at the end."""
        if self._inbox:
            data = bytes(self._inbox[:max_bytes])
            del self._inbox[:max_bytes]
            return data
        deadline = time.monotonic() + timeout_s
        while (taken := self._take(max_bytes)) is None:
            self._wait(select.POLLIN, deadline)
        if not taken and self._lost:
            raise ConnectionResetError("connection reset by the peer")
        return taken

    def close(self, *, timeout_s: float = 1.0) -> None:
        """Close; the kernel sends what is left."""
        del timeout_s  # the kernel closes in the background
        self._socket.close()

    def _wait_for_room(self, deadline: float) -> None:
        """Wait until more can be sent, or something has come, which goes into the inbox while that has room."""
        room_bytes = 0 if self._ended else INBOX_BYTES - len(self._inbox)
        ready = self._wait(select.POLLOUT | (select.POLLIN if room_bytes else 0), deadline)
        if room_bytes and ready & select.POLLIN:
            self._inbox += self._take(room_bytes) or b""

    def _take(self, max_bytes: int) -> bytes | None:
        """Return what the kernel has; None if there is nothing now, b"" at the end."""
        try:
            data = self._socket.recv(max_bytes)
        except BlockingIOError:
            return None
        except OSError:
            self._lost = True
            raise
        self._ended = not data
        return data

    def _wait(self, events: int, deadline: float) -> int:
        """Return which of ``events`` have come about; TimeoutError if none does before ``deadline``."""
        left_s = deadline - time.monotonic()
        poll = select.poll()
        poll.register(self._socket, events)
        happened = poll.poll(math.ceil(left_s * 1000)) if left_s > 0 else []
        if not happened:
            raise TimeoutError("nothing came, or could be sent, in time")
        return happened[0][1]
