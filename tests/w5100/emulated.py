"""A host that talks to the emulator in raw SPI frames, written without the product's frame builder or driver."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator

from plugin.w5100.emulator import Emulator

LOCAL = bytes((127, 0, 0, 1))
DEADLINE_S = 5.0

# Sn_MR, Sn_CR, Sn_SR and Sn_IR values as the datasheet prints them.
TCP, UDP, IPRAW, MACRAW, PPPOE, TCP_ND = 0x01, 0x02, 0x03, 0x04, 0x05, 0x21
OPEN, LISTEN, CONNECT, DISCON, CLOSE, SEND, SEND_MAC, SEND_KEEP, RECV = (
    0x01,
    0x02,
    0x04,
    0x08,
    0x10,
    0x20,
    0x21,
    0x22,
    0x40,
)
SR_CLOSED, SR_ARP, SR_INIT, SR_LISTEN, SR_SYNSENT, SR_SYNRECV = 0x00, 0x01, 0x13, 0x14, 0x15, 0x16
SR_ESTABLISHED, SR_FIN_WAIT, SR_CLOSE_WAIT, SR_LAST_ACK = 0x17, 0x18, 0x1C, 0x1D
SR_UDP, SR_IPRAW, SR_MACRAW, SR_PPPOE = 0x22, 0x32, 0x42, 0x5F
IR_CON, IR_DISCON, IR_RECV, IR_TIMEOUT, IR_SEND_OK = 0x01, 0x02, 0x04, 0x08, 0x10


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Host:
    """Register access in single frames; the windows are those of the reset values, 2 KiB each."""

    def __init__(self, chip: Emulator) -> None:
        self.chip = chip

    def read(self, address: int, size: int = 1) -> bytes:
        sent = b"".join(bytes((0x0F, at >> 8, at & 0xFF, 0xAA)) for at in range(address, address + size))
        got = self.chip.exchange(sent)
        assert [got[at : at + 3] for at in range(0, len(got), 4)] == [b"\x00\x01\x02"] * size
        return got[3::4]

    def write(self, address: int, data: bytes) -> None:
        sent = b"".join(bytes((0xF0, at >> 8, at & 0xFF, octet)) for at, octet in enumerate(data, start=address))
        assert self.chip.exchange(sent) == b"\x00\x01\x02\x03" * len(data)

    def word(self, address: int) -> int:
        return int.from_bytes(self.read(address, 2), "big")

    def write_word(self, address: int, value: int) -> None:
        self.write(address, (value & 0xFFFF).to_bytes(2, "big"))

    # --- sockets ----------------------------------------------------------------------------------------

    def base(self, number: int) -> int:
        return 0x0400 + 0x0100 * number

    def command(self, number: int, value: int) -> None:
        self.write(self.base(number) + 0x01, bytes((value,)))
        assert self.read(self.base(number) + 0x01) == b"\x00"

    def sr(self, number: int) -> int:
        return self.read(self.base(number) + 0x03)[0]

    def ir(self, number: int) -> int:
        return self.read(self.base(number) + 0x02)[0]

    def clear(self, number: int, bits: int = 0xFF) -> None:
        self.write(self.base(number) + 0x02, bytes((bits,)))

    def free(self, number: int) -> int:
        return self.word(self.base(number) + 0x20)

    def received(self, number: int) -> int:
        return self.word(self.base(number) + 0x26)

    def open(self, number: int, mode: int = TCP_ND, port: int = 0) -> None:
        self.write(self.base(number), bytes((mode,)))
        self.write_word(self.base(number) + 0x04, port)
        self.command(number, OPEN)

    def aim(self, number: int, port: int, address: bytes = LOCAL) -> None:
        self.write(self.base(number) + 0x0C, address)
        self.write_word(self.base(number) + 0x10, port)

    def connect(self, number: int, port: int, *, source_port: int = 0) -> None:
        self.open(number, port=source_port)
        assert self.sr(number) == SR_INIT
        self.aim(number, port)
        self.command(number, CONNECT)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "the emulator did not get there in time"
            time.sleep(0.001)

    def until_sr(self, number: int, status: int) -> None:
        self.until(lambda: self.sr(number) == status)

    def until_ir(self, number: int, bits: int) -> None:
        self.until(lambda: self.ir(number) & bits == bits)

    def put(self, number: int, data: bytes) -> None:
        """Write ``data`` to the window from TX_WR on, wrapping by hand, and move TX_WR; no SEND."""
        start = self.word(self.base(number) + 0x24)
        window = 0x4000 + 0x0800 * number
        first = data[: 0x0800 - (start & 0x07FF)]
        self.write(window + (start & 0x07FF), first)
        if len(data) > len(first):
            self.write(window, data[len(first) :])
        self.write_word(self.base(number) + 0x24, start + len(data))

    def send(self, number: int, data: bytes) -> None:
        self.put(number, data)
        self.command(number, SEND)

    def take(self, number: int, size: int | None = None) -> bytes:
        """Read ``size`` octets (default all) from the window, move RX_RD and give RECV."""
        size = self.received(number) if size is None else size
        start = self.word(self.base(number) + 0x28)
        window = 0x6000 + 0x0800 * number
        first = min(size, 0x0800 - (start & 0x07FF))
        data = self.read(window + (start & 0x07FF), first) + self.read(window, size - first)
        self.write_word(self.base(number) + 0x28, start + size)
        self.command(number, RECV)
        return data

    def take_all(self, number: int, size: int) -> bytes:
        """Take until ``size`` octets are there."""
        data = b""
        while len(data) < size:
            self.until(lambda: self.received(number) > 0)
            data += self.take(number)
        return data


@contextlib.contextmanager
def listening(*, backlog: int = 5, receive_buffer_bytes: int | None = None) -> Iterator[socket.socket]:
    """Yield a listener on a free port of the loopback interface."""
    with socket.socket() as server:
        server.settimeout(DEADLINE_S)
        if receive_buffer_bytes is not None:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        server.bind(("127.0.0.1", 0))
        server.listen(backlog)
        yield server


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """Yield a port of the loopback interface whose queue is full, so that the kernel does not answer a SYN."""
    with listening(backlog=0) as server, socket.create_connection(server.getsockname(), DEADLINE_S):
        assert select.select([server], [], [], DEADLINE_S)[0]  # only now is the one caller in the queue
        yield port_of(server)


@contextlib.contextmanager
def connected(host: Host, number: int = 0, **options: int) -> Iterator[socket.socket]:
    """Yield the peer of an established connection of socket ``number``; Sn_IR has been cleared."""
    with listening(**options) as server:
        host.connect(number, port_of(server))
        peer, _ = server.accept()
    peer.settimeout(DEADLINE_S)
    host.until_sr(number, SR_ESTABLISHED)
    host.clear(number)
    with peer:
        yield peer


def port_of(one: socket.socket) -> int:
    port: int = one.getsockname()[1]
    return port


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return port_of(one)


def reset(peer: socket.socket) -> None:
    """Close ``peer`` with RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def receive_exactly(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = peer.recv(size - len(data))
        assert more, f"the connection ended after {len(data)} of {size} octets"
        data += more
    return data
