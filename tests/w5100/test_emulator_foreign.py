"""Drivers that were not written for this emulator: the register sequences of the Arduino Ethernet library, of
WIZnet's ioLibrary and of the Linux kernel's probe, retold here frame by frame, one exchange for each octet. In
such frames a W5100S behaves as a W5100 does; only those who look at MR after a reset have to know it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from plugin.w5100.emulator import Emulator
from tests.w5100 import emulated as emu

DEADLINE_S = 5.0


@pytest.fixture(params=["w5100", "w5100s"])
def chip(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    emulator = Emulator(model=request.param, initial_sequence=lambda: 0x0000FE00)
    yield emulator
    emulator.close()


class Octets:
    """SPI as those libraries do it: chip select down, four octets, chip select up."""

    def __init__(self, chip: Emulator) -> None:
        self._chip = chip

    def put(self, address: int, *octets: int) -> None:
        for index, octet in enumerate(octets):
            at = address + index
            self._chip.exchange(bytes((0xF0, at >> 8, at & 0xFF, octet)))

    def get(self, address: int) -> int:
        return self._chip.exchange(bytes((0x0F, address >> 8, address & 0xFF, 0)))[3]

    def put16(self, address: int, value: int) -> None:
        self.put(address, value >> 8 & 0xFF, value & 0xFF)

    def get16(self, address: int) -> int:
        return self.get(address) << 8 | self.get(address + 1)


def _poll(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.0005)
    return False


class Server:
    """Answers each line with its length and, after QUIT, says goodbye and closes."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(DEADLINE_S)
        self.heard = b""
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    @property
    def port(self) -> int:
        return emu.port_of(self.listener)

    def _run(self) -> None:
        peer, _ = self.listener.accept()
        peer.settimeout(DEADLINE_S)
        with peer, peer.makefile("rb") as lines:
            peer.sendall(b"220 hello\r\n")
            for line in lines:
                self.heard += line
                if line == b"QUIT\r\n":
                    peer.sendall(b"221 bye\r\n")
                    break
                peer.sendall(b"250 %d\r\n" % len(line))

    def close(self) -> None:
        self.thread.join(DEADLINE_S)
        self.listener.close()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


# --- Arduino Ethernet -----------------------------------------------------------------------------------


class Arduino:
    """Chip detection with four windows of 2 KiB, one socket, SEND_OK awaited after every SEND."""

    def __init__(self, chip: Emulator) -> None:
        self.spi = spi = Octets(chip)
        spi.put(0x0000, 0x80)
        assert _poll(lambda: spi.get(0x0000) in {0x00, 0x03})
        for mode in (0x10, 0x12, 0x00) if spi.get(0x0000) == 0x00 else (0x13, 0x1B, 0x03):
            spi.put(0x0000, mode)
            assert spi.get(0x0000) == mode
        spi.put(0x001B, 0x55)
        spi.put(0x001A, 0x55)
        spi.put(0x0009, 0x02, 0x08, 0xDC, 1, 2, 3)
        spi.put(0x000F, 192, 168, 1, 2)
        self.base = 0
        self.number = 0
        self.waiting = 0
        self.read_pointer = 0
        self.freed = 0

    def socket_begin(self, mode: int, port: int) -> None:
        spi = self.spi
        for number in range(4):
            if spi.get(0x0403 + 0x0100 * number) in {0x00, 0x14, 0x18, 0x1A}:
                self.number, self.base = number, 0x0400 + 0x0100 * number
                break
        else:
            raise AssertionError("no socket is free")
        spi.put(self.base, mode)
        spi.put(self.base + 0x02, 0xFF)
        spi.put16(self.base + 0x04, port)
        self.exec(0x01)
        self.waiting = 0
        self.read_pointer = spi.get16(self.base + 0x28)

    def exec(self, command: int) -> None:
        self.spi.put(self.base + 0x01, command)
        assert _poll(lambda: self.spi.get(self.base + 0x01) == 0)

    def status(self) -> int:
        return self.spi.get(self.base + 0x03)

    def connect(self, port: int) -> bool:
        self.spi.put(self.base + 0x0C, 127, 0, 0, 1)
        self.spi.put16(self.base + 0x10, port)
        self.exec(0x04)
        assert _poll(lambda: self.status() in {0x00, 0x17, 0x1C})
        return self.status() != 0x00

    def stable(self, offset: int) -> int:
        value = self.spi.get16(self.base + offset)
        while True:
            again = self.spi.get16(self.base + offset)
            if again == value:
                return value
            value = again

    def send(self, data: bytes) -> None:
        spi = self.spi
        assert _poll(lambda: self.stable(0x20) >= len(data))
        pointer = spi.get16(self.base + 0x24)
        window = 0x4000 + 0x0800 * self.number
        for octet in data:
            spi.put(window + (pointer & 0x07FF), octet)
            pointer += 1
        spi.put16(self.base + 0x24, pointer)
        self.exec(0x20)
        assert _poll(lambda: bool(spi.get(self.base + 0x02) & 0x10))
        spi.put(self.base + 0x02, 0x10)

    def available(self) -> int:
        if self.waiting == 0:
            self.waiting = self.stable(0x26) - self.freed
        return self.waiting

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            assert _poll(lambda: self.available() > 0)
            window = 0x6000 + 0x0800 * self.number
            data += bytes((self.spi.get(window + (self.read_pointer & 0x07FF)),))
            self.read_pointer = self.read_pointer + 1 & 0xFFFF
            self.waiting -= 1
            self.freed += 1
            if self.freed >= 250 or self.waiting == 0:
                self.freed = 0
                self.spi.put16(self.base + 0x28, self.read_pointer)
                self.exec(0x40)
        return data

    def stop(self) -> None:
        self.exec(0x08)
        if not _poll(lambda: self.status() == 0x00):
            self.exec(0x10)


def test_arduino_client(chip: Emulator, server: Server) -> None:
    client = Arduino(chip)
    client.socket_begin(0x21, 49152)
    assert client.connect(server.port)
    assert client.read(11) == b"220 hello\r\n"
    for size in (2, 300, 1000, 2048):
        line = b"x" * (size - 2) + b"\r\n"
        client.send(line)
        answer = b"250 %d\r\n" % size
        assert client.read(len(answer)) == answer
    client.send(b"QUIT\r\n")
    assert client.read(9) == b"221 bye\r\n"
    client.stop()
    assert client.status() == 0x00
    server.close()
    assert len(server.heard) == 2 + 300 + 1000 + 2048 + 6


def test_arduino_client_refused(chip: Emulator) -> None:
    client = Arduino(chip)
    client.socket_begin(0x01, 49153)
    assert not client.connect(emu.free_port())


def test_arduino_server_keeps_a_socket_listening(chip: Emulator) -> None:
    port = emu.free_port()
    first = Arduino(chip)
    first.socket_begin(0x21, port)
    first.exec(0x02)
    assert first.status() == 0x14
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as peer:
        assert _poll(lambda: first.status() == 0x17)
        peer.sendall(b"GET /\r\n")
        assert first.read(7) == b"GET /\r\n"
        first.send(b"200 OK\r\n")
        first.exec(0x08)
        peer.settimeout(DEADLINE_S)
        assert emu.receive_exactly(peer, 8) == b"200 OK\r\n"
        assert peer.recv(1) == b""
    assert _poll(lambda: first.status() == 0x00)


# --- ioLibrary ------------------------------------------------------------------------------------------


class IoLibrary:
    """socket, connect, send, recv, disconnect, sendto and recvfrom with their register reads and writes."""

    def __init__(self, chip: Emulator, number: int, split: int = 0x55) -> None:
        self.spi = spi = Octets(chip)
        saved = [spi.get(address) for address in range(0x0001, 0x0013)]
        spi.put(0x0000, 0x80)
        spi.get(0x0000)
        spi.put(0x0001, *saved)
        spi.put(0x001B, split)
        spi.put(0x001A, split)
        self.number = number
        self.base = 0x0400 + 0x0100 * number
        self.sending = False

    def command(self, value: int) -> None:
        self.spi.put(self.base + 0x01, value)
        assert _poll(lambda: self.spi.get(self.base + 0x01) == 0)

    def sr(self) -> int:
        return self.spi.get(self.base + 0x03)

    def window(self, area: int, register: int) -> tuple[int, int]:
        value = self.spi.get(register)
        sizes = [1024 << (value >> 2 * number & 3) for number in range(4)]
        return area + sum(sizes[: self.number]), sizes[self.number]

    def close(self) -> None:
        self.command(0x10)
        self.spi.put(self.base + 0x02, 0xFF)
        self.sending = False
        assert _poll(lambda: self.sr() == 0x00)

    def socket(self, mode: int, port: int) -> None:
        self.close()
        self.spi.put(self.base, mode)
        self.spi.put16(self.base + 0x04, port)
        self.command(0x01)
        assert _poll(lambda: self.sr() != 0x00)

    def connect(self, port: int) -> str:
        assert self.sr() == 0x13
        self.spi.put(self.base + 0x0C, 127, 0, 0, 1)
        self.spi.put16(self.base + 0x10, port)
        self.command(0x04)
        end = time.monotonic() + DEADLINE_S
        while self.sr() != 0x17:
            if self.spi.get(self.base + 0x02) & 0x08:
                self.spi.put(self.base + 0x02, 0x08)
                return "timeout"
            if self.sr() == 0x00:
                return "closed"
            assert time.monotonic() < end
        return "ok"

    def wait_for_previous_send(self) -> None:
        if self.sending:
            assert _poll(lambda: bool(self.spi.get(self.base + 0x02) & 0x10))
            self.spi.put(self.base + 0x02, 0x10)
            self.sending = False

    def copy_out(self, data: bytes) -> None:
        pointer = self.spi.get16(self.base + 0x24)
        start, size = self.window(0x4000, 0x001B)
        for index, octet in enumerate(data):
            self.spi.put(start + ((pointer + index) & (size - 1)), octet)
        self.spi.put16(self.base + 0x24, pointer + len(data))

    def copy_in(self, length: int) -> bytes:
        pointer = self.spi.get16(self.base + 0x28)
        start, size = self.window(0x6000, 0x001A)
        data = bytes(self.spi.get(start + ((pointer + index) & (size - 1))) for index in range(length))
        self.spi.put16(self.base + 0x28, pointer + length)
        return data

    def send(self, data: bytes) -> int:
        self.wait_for_previous_send()
        data = data[: self.window(0x4000, 0x001B)[1]]
        assert _poll(lambda: self.spi.get16(self.base + 0x20) >= len(data))
        self.copy_out(data)
        self.command(0x20)
        self.sending = True
        return len(data)

    def recv(self, most: int) -> bytes:
        def ready() -> bool:
            return self.spi.get16(self.base + 0x26) > 0 or self.sr() not in {0x17, 0x18}

        assert _poll(ready)
        data = self.copy_in(min(most, self.spi.get16(self.base + 0x26)))
        self.command(0x40)
        return data

    def disconnect(self) -> None:
        self.command(0x08)
        self.sending = False
        assert _poll(lambda: self.sr() == 0x00)

    def sendto(self, data: bytes, port: int) -> None:
        self.spi.put(self.base + 0x0C, 127, 0, 0, 1)
        self.spi.put16(self.base + 0x10, port)
        self.copy_out(data)
        self.command(0x20)
        assert _poll(lambda: bool(self.spi.get(self.base + 0x02) & 0x18))
        assert self.spi.get(self.base + 0x02) & 0x10
        self.spi.put(self.base + 0x02, 0x10)

    def recvfrom(self) -> tuple[bytes, int]:
        assert _poll(lambda: self.spi.get16(self.base + 0x26) > 0)
        header = self.copy_in(8)
        self.command(0x40)
        data = self.copy_in(int.from_bytes(header[6:], "big"))
        self.command(0x40)
        return data, int.from_bytes(header[4:6], "big")


def _receive(client: IoLibrary, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        assert more
        data += more
    return data


@pytest.mark.parametrize(("number", "split"), [(0, 0x55), (3, 0x55), (1, 0x0A), (0, 0x03)])
def test_iolibrary_client(chip: Emulator, server: Server, number: int, split: int) -> None:
    client = IoLibrary(chip, number, split)
    client.socket(0x01, 50000)
    assert client.connect(server.port) == "ok"
    assert _receive(client, 11) == b"220 hello\r\n"
    line = b"y" * 6998 + b"\r\n"
    left = line
    while left:
        left = left[client.send(left) :]
    assert _receive(client, 10) == b"250 7000\r\n"
    client.send(b"QUIT\r\n")
    assert _receive(client, 9) == b"221 bye\r\n"
    client.disconnect()
    server.close()
    assert server.heard == line + b"QUIT\r\n"


def test_iolibrary_client_refused(chip: Emulator) -> None:
    client = IoLibrary(chip, 0)
    client.socket(0x01, 50001)
    assert client.connect(emu.free_port()) == "closed"


def test_iolibrary_client_without_an_answer(chip: Emulator) -> None:
    client = IoLibrary(chip, 0)
    client.spi.put16(0x0017, 10)
    client.spi.put(0x0019, 2)
    client.socket(0x01, 50002)
    with emu.silent() as port:
        outcome = client.connect(port)  # 1, 2 and 4 ms
    # The library reads Sn_IR before Sn_SR, so the end of the last try may come between the two.
    assert outcome == "timeout" or (outcome == "closed" and client.spi.get(client.base + 0x02) == 0x08)


def test_iolibrary_reads_what_came_before_the_end(chip: Emulator) -> None:
    client = IoLibrary(chip, 0)
    client.socket(0x01, 50003)
    with emu.listening() as silent:
        assert client.connect(emu.port_of(silent)) == "ok"
        peer, _ = silent.accept()
        with peer:
            peer.sendall(b"z" * 9000)
    assert _receive(client, 9000) == b"z" * 9000
    assert _poll(lambda: client.sr() == 0x1C)
    client.disconnect()


def test_iolibrary_datagrams(chip: Emulator) -> None:
    client = IoLibrary(chip, 1)
    port = emu.free_port(socket.SOCK_DGRAM)
    client.socket(0x02, port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(DEADLINE_S)
        peer.bind(("127.0.0.1", 0))
        for turn in range(5):
            client.sendto(b"question %d" % turn, emu.port_of(peer))
            assert peer.recvfrom(100) == (b"question %d" % turn, ("127.0.0.1", port))
            peer.sendto(b"answer" * 80 * turn, ("127.0.0.1", port))
            assert client.recvfrom() == (b"answer" * 80 * turn, emu.port_of(peer))


# --- Linux ----------------------------------------------------------------------------------------------


def test_linux_probe_and_macraw(chip: Emulator) -> None:
    spi = Octets(chip)
    spi.put(0x0000, 0x80)
    spi.put(0x0016, 0x00)
    spi.put(0x0009, 0x02, 0x08, 0xDC, 1, 2, 3)
    spi.put(0x001A, 0x03)
    spi.put(0x001B, 0x03)
    assert spi.get16(0x0017) == 0x07D0
    spi.put(0x0400, 0x44)
    spi.put(0x0401, 0x01)
    assert spi.get(0x0401) == 0
    assert spi.get(0x0403) == 0x42
    spi.put(0x0016, 0x01)
    spi.put16(0x0424, spi.get16(0x0424) + 60)
    spi.put(0x0401, 0x20)
    assert spi.get(0x0402) == 0x10
    assert chip.interrupt_asserted
    spi.put(0x0402, 0x10)
    assert not chip.interrupt_asserted
