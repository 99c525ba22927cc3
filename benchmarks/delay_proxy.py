"""A TCP proxy that stands for a long way: what goes through it arrives later by the one-way delay, in order.

The handshake is imitated as well. connect() on loopback returns at once, so the proxy reaches the server 1.5
round trips later (SYN, SYN+ACK, ACK), and a server that speaks first is heard 2 round trips after connect(); what
a client sends before it could have had the SYN+ACK waits for that. FIN and RST are passed on. Bandwidth, loss and
TCP's own acknowledgements are not imitated.

Requests (see ``benchmarks.child``):

* ``{"open": {"host", "port", "delay_s"}}`` -> ``{"port"}``: a new way to a server, by that port on 127.0.0.1;
* ``{"seen": port}`` -> ``{"connections", "round_trips"}``: connections so far, and round trips of the latest one;
* ``{"close": port}`` -> ``{}``: no new connections on this way.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.child import answer_requests

LOOPBACK: Final = "127.0.0.1"
CHUNK_BYTES: Final = 16 * 1024
CHUNKS: Final = 1024
"""The most that is on the way in one direction; then the sender is no longer read from."""
REACH_S: Final = 10.0
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER 0: close() sends RST


@dataclass(slots=True, kw_only=True)
class RoundTrips:
    """Counts the round trips of one connection by what could have caused what, so that no clock decides.

    What the client sends can be an answer to all that it has been handed before, so it belongs to the round trip
    behind that; what the server sends belongs to the latest round trip that has reached it. Several segments of
    one answer, or several answers to one flight of commands, are therefore one round trip. The handshake is the
    first, and its last ACK, which may bring a banner, begins the second.
    """

    client: int = 1
    server: int = 2

    def sent_by_client(self) -> int:
        """Return the round trip to which what the client sends now belongs."""
        return self.client + 1

    def sent_by_server(self) -> int:
        """Return the round trip to which what the server sends now belongs."""
        return self.server

    def reaches_server(self, round_trip: int) -> None:
        """Take note that the server is handed something of ``round_trip``."""
        self.server = max(self.server, round_trip)

    def reaches_client(self, round_trip: int) -> None:
        """Take note that the client is handed something of ``round_trip``."""
        self.client = max(self.client, round_trip)


@dataclass(slots=True, kw_only=True)
class _Way:
    host: str
    port: int
    delay_s: float
    connections: int = 0
    round_trips: RoundTrips = field(default_factory=RoundTrips)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """Octets that are due at the other end at ``due`` of the loop's clock; none: FIN, or RST if ``reset``."""

    data: bytes
    reset: bool
    round_trip: int
    due: float


_Queue = asyncio.Queue[_Chunk]


async def _hear(
    reader: asyncio.StreamReader, queue: _Queue, stamp: Callable[[], int], *, delay_s: float, not_before: float
) -> None:
    """Put all that ``reader`` has on the way; nothing leaves before ``not_before`` of the loop's clock."""
    clock = asyncio.get_running_loop().time
    while True:
        reset = False
        try:
            data = await reader.read(CHUNK_BYTES)
        except OSError:
            data, reset = b"", True
        due = max(clock(), not_before) + delay_s
        await queue.put(_Chunk(data=data, reset=reset, round_trip=stamp(), due=due))
        if not data:
            return


async def _hand_over(queue: _Queue, writer: asyncio.StreamWriter, note: Callable[[int], None]) -> None:
    """Hand over what is on the way when it is due, until its end.

    If the other end is gone, the rest is thrown away, not the connection: what it had said may be on its way yet.
    """
    clock = asyncio.get_running_loop().time
    gone = False
    while True:
        chunk = await queue.get()
        await asyncio.sleep(chunk.due - clock())
        if chunk.reset:
            _reset(writer)
        elif not gone:
            note(chunk.round_trip)
            try:
                if chunk.data:
                    writer.write(chunk.data)
                    await writer.drain()
                else:
                    writer.write_eof()
            except OSError:
                gone = True
        if not chunk.data:
            return


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # it may be gone already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


async def _join(way: _Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one connection from its accept() to its end."""
    clock = asyncio.get_running_loop().time
    established = clock() + 2 * way.delay_s  # when the client would have the SYN+ACK
    way.connections += 1
    way.round_trips = seen = RoundTrips()
    up, down = _Queue(CHUNKS), _Queue(CHUNKS)
    async with asyncio.TaskGroup() as tasks:
        hearing = tasks.create_task(
            _hear(reader, up, seen.sent_by_client, delay_s=way.delay_s, not_before=established)
        )
        await asyncio.sleep(established + way.delay_s - clock())
        try:
            async with asyncio.timeout(REACH_S):
                server_reader, server_writer = await asyncio.open_connection(way.host, way.port, limit=CHUNK_BYTES)
        except OSError:  # TimeoutError is one
            hearing.cancel()
            await asyncio.sleep(way.delay_s)
            _reset(writer)
            return
        tasks.create_task(_hand_over(up, server_writer, seen.reaches_server))
        tasks.create_task(
            _hear(server_reader, down, seen.sent_by_server, delay_s=way.delay_s, not_before=established)
        )
        tasks.create_task(_hand_over(down, writer, seen.reaches_client))
    for end in (writer, server_writer):
        end.close()


class DelayProxy:
    """All ways through one proxy process."""

    def __init__(self) -> None:
        self._ways: dict[int, _Way] = {}
        self._listeners: dict[int, asyncio.Server] = {}
        self._joined: set[asyncio.Task[None]] = set()

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request; the module's docstring tells which."""
        if "open" in request:
            way = _Way(**request["open"])
            listener = await asyncio.start_server(
                lambda reader, writer: self._accept(way, reader, writer), LOOPBACK, 0, limit=CHUNK_BYTES
            )
            port: int = listener.sockets[0].getsockname()[1]
            self._listeners[port], self._ways[port] = listener, way
            return {"port": port}
        if "close" in request:
            self._listeners.pop(request["close"]).close()
            del self._ways[request["close"]]
            return {}
        way = self._ways[request["seen"]]
        return {"connections": way.connections, "round_trips": way.round_trips.client}

    def _accept(self, way: _Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: what asyncio makes of a coroutine here complains when it is cancelled at the end.
        task = asyncio.create_task(_join(way, reader, writer))
        self._joined.add(task)
        task.add_done_callback(self._joined.discard)


def _loop() -> asyncio.AbstractEventLoop:
    # select() takes microseconds where epoll_wait() would round each delay up to the next millisecond.
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(answer_requests(DelayProxy().answer))
