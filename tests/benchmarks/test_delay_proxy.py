"""The benchmark's way to a server carries octets, their end and a reset, and counts round trips by their cause."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from benchmarks.child import Child
from benchmarks.delay_proxy import RoundTrips

WAIT_S = 10.0
LOOPBACK = "127.0.0.1"


class Way:
    """Both ends of a connection through the proxy."""

    def __init__(self, proxy: Child) -> None:
        with socket.create_server((LOOPBACK, 0)) as listener:
            listener.settimeout(WAIT_S)
            opened = proxy.ask(open={"host": LOOPBACK, "port": listener.getsockname()[1], "delay_s": 0.001})
            self.client = socket.create_connection((LOOPBACK, opened["port"]), WAIT_S)
            self.server, _ = listener.accept()
        self.server.settimeout(WAIT_S)

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture(scope="module")
def proxy() -> Iterator[Child]:
    with Child("benchmarks.delay_proxy") as child:
        yield child


@pytest.fixture
def way(proxy: Child) -> Iterator[Way]:
    opened = Way(proxy)
    yield opened
    opened.close()


def receive_all(end: socket.socket) -> bytes:
    return b"".join(iter(lambda: end.recv(65536), b""))


def test_octets_arrive_in_order_and_each_end_has_its_own_end(way: Way) -> None:
    sent = bytes(range(256)) * 1000
    way.client.sendall(sent)
    way.client.shutdown(socket.SHUT_WR)
    assert receive_all(way.server) == sent
    way.server.sendall(b"heard")
    way.server.shutdown(socket.SHUT_WR)
    assert receive_all(way.client) == b"heard"


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_reset_is_passed_on(way: Way, side: str) -> None:
    resets, hears = (way.client, way.server) if side == "client" else (way.server, way.client)
    resets.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    resets.close()
    with pytest.raises(ConnectionResetError):
        hears.recv(1)


def test_where_nobody_listens_the_client_is_reset(proxy: Child) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
    opened = proxy.ask(open={"host": LOOPBACK, "port": port, "delay_s": 0.001})
    with (
        socket.create_connection((LOOPBACK, opened["port"]), WAIT_S) as client,
        pytest.raises(ConnectionResetError),
    ):
        client.recv(1)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("", 1),  # the handshake
        ("s", 2),  # a banner
        ("ss", 2),
        ("scs", 3),
        ("sccs", 3),  # two segments of one flight
        ("scss", 3),  # two replies to it
        ("scscs", 4),
        ("cs", 2),  # TLS: the client begins
    ],
)
def test_round_trips_are_counted_by_their_cause(steps: str, expected: int) -> None:
    seen = RoundTrips()
    for step in steps:
        if step == "c":
            seen.reaches_server(seen.sent_by_client())
        else:
            seen.reaches_client(seen.sent_by_server())
    assert seen.client == expected


def test_what_crosses_on_the_way_is_no_answer() -> None:
    seen = RoundTrips()
    banner = seen.sent_by_server()
    early = seen.sent_by_client()  # before the banner has come
    seen.reaches_client(banner)
    seen.reaches_server(early)
    assert seen.sent_by_server() == 2
