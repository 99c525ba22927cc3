"""What the driver promises on any Bus: the emulator, one that has ``exchange`` alone, and silicon.

With ``W5100_SPI=/dev/spidevB.D`` the suite runs on a real chip as well (marker ``hardware``): its address comes
from ``W5100_ADDRESS`` (192.168.1.50/24, say), and it connects to this machine at ``W5100_PEER``.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import os
import socket as kernel
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Interface
from typing import Any

import pytest

from plugin.w5100 import (
    Addressing,
    Bus,
    Chip,
    ConnectionLost,
    ConnectRefused,
    ExchangeOnly,
    SocketTimeout,
    TcpSocket,
)
from plugin.w5100.emulator import Emulator

Server = Callable[[kernel.socket], None]


class ExchangeAlone:
    """A foreign bus: one method, one positional argument."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def exchange(self, frames: bytes, /) -> bytes:
        return self._bus.exchange(frames)


class Place:
    """A bus, where its chip is, and where its peers are."""

    def __init__(self, kind: str) -> None:
        if kind == "hardware":
            self.peer = os.environ["W5100_PEER"]
            interface = IPv4Interface(os.environ["W5100_ADDRESS"])
            module: Any = importlib.import_module("plugin.w5100.spidev")
            self.wire: Bus = module.SpidevBus(os.environ["W5100_SPI"])
        else:
            self.peer = "127.0.0.1"
            interface = IPv4Interface("127.0.0.10/8")
            self.wire = Emulator(model="w5100s" if kind.startswith("w5100s") else "w5100")
        self.bus: Bus | ExchangeOnly = ExchangeAlone(self.wire) if kind.endswith("exchange-only") else self.wire
        self.addressing = Addressing(
            mac=bytes.fromhex("0208dc010203"),
            address=interface.ip,
            subnet_mask=interface.netmask,
            gateway=interface.network[1],
        )

    def chip(self, lanes: int = 1, observe: Callable[[int, str, str], None] | None = None) -> Chip:
        chip = Chip(self.bus, observe=observe)
        chip.reset()
        chip.configure(self.addressing, lanes=lanes)
        return chip

    @contextmanager
    def server(self, serve: Server, connections: int = 1) -> Iterator[int]:
        """Serve ``connections`` on a free port, each in a thread; what goes wrong there fails the test."""
        faults: list[BaseException] = []
        listener = kernel.create_server((self.peer, 0))
        listener.settimeout(10)

        def one() -> None:
            try:
                connection, _ = listener.accept()
                connection.settimeout(10)
                with connection:
                    serve(connection)
            except BaseException as error:  # noqa: BLE001 - raised again below
                faults.append(error)

        threads = [threading.Thread(target=one, daemon=True) for _ in range(connections)]
        for thread in threads:
            thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            for thread in threads:
                thread.join(15)
            listener.close()
        assert not any(thread.is_alive() for thread in threads)
        if faults:
            raise faults[0]


KINDS = ["emulator", "exchange-only", "w5100s", "w5100s-exchange-only"]
PARAMETERS = [
    *KINDS,
    *([pytest.param("hardware", marks=pytest.mark.hardware)] if os.environ.get("W5100_SPI") else []),
]


@pytest.fixture(params=PARAMETERS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = Place(request.param)
    with closing(place.wire):
        yield place


def everything(socket: TcpSocket) -> bytes:
    """Read to the end."""
    data = b""
    while part := socket.receive(4096, timeout_s=10):
        data += part
    return data


def read_to_end(connection: kernel.socket) -> bytes:
    data = b""
    while part := connection.recv(65536):
        data += part
    return data


def pattern(size: int) -> bytes:
    block = b"".join(hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(256))
    return (block * (size // len(block) + 1))[:size]


def test_the_chip_answers_and_holds_what_it_is_told(place: Place) -> None:
    chip = place.chip()
    assert chip.holds(place.addressing)
    chip.reset()
    assert not chip.holds(place.addressing)


def test_a_dialogue(place: Place) -> None:
    def serve(connection: kernel.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        with connection.makefile("rb") as lines:
            for line in lines:
                connection.sendall(b"250 " + line)

    seen: list[tuple[int, str, str]] = []
    chip = place.chip(observe=lambda *change: seen.append(change))
    with place.server(serve) as port, closing(chip.tcp_socket()) as socket:
        socket.connect(place.peer, port, timeout_s=5)
        assert socket.status == "ESTABLISHED"
        assert socket.receive(100, timeout_s=5) == b"220 ready\r\n"
        for n in range(20):
            line = b"NOOP %d\r\n" % n
            socket.send_all(line, timeout_s=5)
            assert socket.receive(100, timeout_s=5) == b"250 " + line
    assert socket.status == "CLOSED"
    reached = [new for _, _, new in seen]
    assert reached[0] == "INIT"
    assert reached[-1] == "CLOSED"
    assert "ESTABLISHED" in reached


@pytest.mark.parametrize("size", [1, 4095, 8192, 8193, 150_001])
def test_all_is_sent_whatever_the_size(place: Place, size: int) -> None:
    arrived: list[bytes] = []
    chip = place.chip()
    with (
        place.server(lambda connection: arrived.append(read_to_end(connection))) as port,
        closing(chip.tcp_socket()) as socket,
    ):
        socket.connect(place.peer, port, timeout_s=5)
        socket.send_all(pattern(size), timeout_s=20)
    assert arrived == [pattern(size)]


def test_a_slow_reader_slows_the_sender_and_loses_nothing(place: Place) -> None:
    arrived: list[bytes] = []

    def serve(connection: kernel.socket) -> None:
        connection.setsockopt(kernel.SOL_SOCKET, kernel.SO_RCVBUF, 4096)
        time.sleep(0.3)
        arrived.append(read_to_end(connection))

    chip = place.chip()
    with place.server(serve) as port, closing(chip.tcp_socket()) as socket:
        socket.connect(place.peer, port, timeout_s=5)
        socket.send_all(pattern(40_000), timeout_s=20)
    assert arrived == [pattern(40_000)]


@pytest.mark.parametrize("most", [1, 100, 4096, 100_000])
def test_all_is_received_in_parts_of_any_size(place: Place, most: int) -> None:
    letter = pattern(600 if most == 1 else 60_000)
    chip = place.chip()
    with (
        place.server(lambda connection: connection.sendall(letter)) as port,
        closing(chip.tcp_socket()) as socket,
    ):
        socket.connect(place.peer, port, timeout_s=5)
        data = b""
        while part := socket.receive(most, timeout_s=10):
            assert len(part) <= most
            data += part
    assert data == letter


def test_what_the_peer_says_meanwhile_is_kept(place: Place) -> None:
    arrived: list[bytes] = []

    def serve(connection: kernel.socket) -> None:
        connection.sendall(pattern(6_000))
        arrived.append(read_to_end(connection))

    chip = place.chip()
    with place.server(serve) as port, closing(chip.tcp_socket()) as socket:
        socket.connect(place.peer, port, timeout_s=5)
        socket.send_all(pattern(40_000), timeout_s=10)
        data = b""
        while len(data) < 6_000:
            data += socket.receive(8192, timeout_s=5)
    assert data == pattern(6_000)
    assert arrived == [pattern(40_000)]


def test_nobody_listens(place: Place) -> None:
    with kernel.create_server((place.peer, 0)) as listener:
        port = listener.getsockname()[1]
    chip = place.chip()
    with closing(chip.tcp_socket()) as socket:
        for _ in range(2):
            with pytest.raises(ConnectRefused, match=f"{place.peer}:{port}"):
                socket.connect(place.peer, port, timeout_s=5)


def test_the_last_words_before_a_fin_arrive_and_ours_may_still_follow(place: Place) -> None:
    arrived: list[bytes] = []

    def serve(connection: kernel.socket) -> None:
        connection.sendall(b"221 bye\r\n")
        connection.shutdown(kernel.SHUT_WR)
        arrived.append(read_to_end(connection))

    chip = place.chip()
    with place.server(serve) as port, closing(chip.tcp_socket()) as socket:
        socket.connect(place.peer, port, timeout_s=5)
        assert everything(socket) == b"221 bye\r\n"
        assert socket.status == "CLOSE_WAIT"
        socket.send_all(b"good night", timeout_s=5)
        assert socket.receive(10, timeout_s=1) == b""
    assert arrived == [b"good night"]


def test_what_is_in_the_ring_survives_a_rst(place: Place) -> None:
    heard = threading.Event()

    def serve(connection: kernel.socket) -> None:
        connection.sendall(b"421 overloaded\r\n")
        assert heard.wait(10)
        connection.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, struct.pack("ii", 1, 0))

    chip = place.chip()
    with closing(chip.tcp_socket()) as socket:
        with place.server(serve) as port:
            socket.connect(place.peer, port, timeout_s=5)
            assert socket.receive(3, timeout_s=5) == b"421"
            heard.set()
        assert everything_until_lost(socket) == b" overloaded\r\n"


def everything_until_lost(socket: TcpSocket) -> bytes:
    data = b""
    try:
        while part := socket.receive(5, timeout_s=5):
            data += part
    except ConnectionLost:
        return data
    pytest.fail("a RST was taken for an end in order")


def test_a_silent_peer_is_a_socket_timeout(place: Place) -> None:
    chip = place.chip()
    arrived: list[bytes] = []
    with (
        place.server(lambda connection: arrived.append(read_to_end(connection))) as port,
        closing(chip.tcp_socket()) as socket,
    ):
        socket.connect(place.peer, port, timeout_s=5)
        started = time.monotonic()
        with pytest.raises(SocketTimeout):
            socket.receive(100, timeout_s=0.3)
        assert 0.3 <= time.monotonic() - started < 1.0
        socket.send_all(b"still there", timeout_s=5)
    assert arrived == [b"still there"]


def test_close_ends_the_connection_in_order(place: Place) -> None:
    ends: list[bytes] = []
    chip = place.chip()
    with place.server(lambda connection: ends.append(connection.recv(10))) as port:
        socket = chip.tcp_socket()
        socket.connect(place.peer, port, timeout_s=5)
        started = time.monotonic()
        socket.close()
        assert time.monotonic() - started < 0.9
    assert ends == [b""]  # FIN; a RST would have raised


def test_close_is_bounded_when_the_peer_does_not_end(place: Place) -> None:
    closed = threading.Event()

    def serve(connection: kernel.socket) -> None:
        assert closed.wait(10)

    chip = place.chip()
    with place.server(serve) as port:
        socket = chip.tcp_socket()
        socket.connect(place.peer, port, timeout_s=5)
        started = time.monotonic()
        socket.close(timeout_s=0.3)
        assert 0.25 < time.monotonic() - started < 0.95
        closed.set()
    assert chip.tcp_socket().number == 0


def test_a_hardware_socket_serves_again_and_again_from_new_ports(place: Place) -> None:
    ports: list[int] = []

    def serve(connection: kernel.socket) -> None:
        ports.append(connection.getpeername()[1])
        connection.sendall(connection.recv(100))

    chip = place.chip()
    with place.server(serve, connections=15) as port:
        for n in range(15):
            with closing(chip.tcp_socket()) as socket:
                socket.connect(place.peer, port, timeout_s=5)
                socket.send_all(b"%d" % n, timeout_s=5)
                assert socket.receive(100, timeout_s=5) == b"%d" % n
                assert socket.number == 0
    assert all(one != other for one, other in itertools.pairwise(ports))


def test_three_lanes_at_once(place: Place) -> None:
    def serve(connection: kernel.socket) -> None:
        while data := connection.recv(4096):
            connection.sendall(data)

    chip = place.chip(lanes=3)
    faults: list[BaseException] = []

    def lane(port: int) -> None:
        try:
            with closing(chip.tcp_socket()) as socket:
                socket.connect(place.peer, port, timeout_s=5)
                for n in range(40):
                    letter = pattern(37 * n + 1)
                    socket.send_all(letter, timeout_s=5)
                    data = b""
                    while len(data) < len(letter):
                        data += socket.receive(8192, timeout_s=5)
                    assert data == letter
        except BaseException as error:  # noqa: BLE001 - raised again below
            faults.append(error)

    with place.server(serve, connections=3) as port:
        lanes = [threading.Thread(target=lane, args=(port,), daemon=True) for _ in range(3)]
        for thread in lanes:
            thread.start()
        for thread in lanes:
            thread.join(30)
        assert not any(thread.is_alive() for thread in lanes)
    assert faults == []
