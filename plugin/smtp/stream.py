"""The seam to a connection: the Stream protocol, and SocketStream over an ordinary socket."""

from __future__ import annotations

import socket
from typing import Protocol


class Stream(Protocol):
    """A connection in octets. Every call has a deadline, after which it raises TimeoutError.

    A broken connection raises ConnectionError, any other trouble of the device OSError.
    """

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        """Send all of ``data``, or raise: nothing is dropped in silence."""
        ...

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        """Return 1 to ``max_bytes`` octets as soon as there are any; b"" once the peer has ended."""
        ...

    def close(self, *, timeout_s: float = 1.0) -> None:
        """End the connection in order if that works in time, else at once; never raises, may be repeated."""
        ...


class SocketStream:
    """A Stream over the host's own network, for ``hardwire probe --host`` and for comparison."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def connect(cls, host: str, port: int, *, timeout_s: float) -> SocketStream:
        """Connect to ``host``:``port``; raises OSError, TimeoutError or ConnectionError."""
        return cls(socket.create_connection((host, port), timeout_s))

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        """Send all of ``data``; TimeoutError when the whole takes longer."""
        self._socket.settimeout(timeout_s)
        self._socket.sendall(data)

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        """Return what is there, at most ``max_bytes``; b"" at the end."""
        self._socket.settimeout(timeout_s)
        return self._socket.recv(max_bytes)

    def close(self, *, timeout_s: float = 1.0) -> None:
        """Close; the kernel sends what is left."""
        del timeout_s  # the kernel closes in the background
        self._socket.close()
