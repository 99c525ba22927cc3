"""The chip behind the stand-in for /dev/spidevB.D: an emulator that hears what ``preload.c`` lets through.

It notes each call with its chip-select assertions, and what no W5100 would bear: another SPI mode, /CS left low.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from plugin.w5100.emulator import Emulator

WAIT_S: Final = 30.0
TX_MEMORY: Final = range(0x40, 0x60)  # high octets of addresses
WRITE: Final = 0xF0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One SPI_IOC_MESSAGE that the kernel took: the octets of each chip-select assertion, and the clocks in Hz."""

    assertions: tuple[bytes, ...]
    clocks_hz: frozenset[int]

    @property
    def carries_content(self) -> bool:
        """Whether it writes to TX memory."""
        return any(one[0] == WRITE and one[1] in TX_MEMORY for one in self.assertions)


def late(answer: bytes) -> bytes:
    """Return ``answer`` as it is read one bit too late, which is what too fast a clock does first."""
    shifted = int.from_bytes(answer, "big") >> 1
    return shifted.to_bytes(len(answer), "big")


def one_bit_in(frames: int) -> Callable[[bytes], bytes]:
    """Return what spoils one bit of the data in one of so many frames, and never the echo."""

    def spoilt(answer: bytes) -> bytes:
        octets = bytearray(answer)
        for at in range(3, len(octets), 4 * frames):
            octets[at] ^= 0x10
        return bytes(octets)

    return spoilt


class ChipServer:
    """An emulated W5100 at a Unix socket; whoever opens the device has a connection of his own.

    ``clean_hz``: faster than this, answers go through ``spoil``. ``errors``: by number of the call from 1, the
    error that it ends with. ``gate``: calls are answered once it was opened so many times; ``opened`` counts.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self.emulator = Emulator()
        self.calls: list[Call] = []
        self.offences: list[str] = []
        self.clean_hz: int | None = None
        self.spoil: Callable[[bytes], bytes] = late
        self.errors: dict[int, int] = {}
        self.gate = 1
        self._attempts = 0
        self._arrival = threading.Condition()
        self.opened = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.emulator.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                with self._arrival:
                    self.opened += 1
                    self._arrival.notify_all()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError):
            while True:
                mode, bits, left_selected, count = struct.unpack("=4I", exactly(connection, 16))
                table = struct.unpack(f"={2 * count}I", exactly(connection, 8 * count))
                octets = exactly(connection, sum(table[0::2]))
                connection.sendall(self._answer(mode, bits, left_selected, table, octets))

    def _answer(self, mode: int, bits: int, left_selected: int, table: tuple[int, ...], octets: bytes) -> bytes:
        with self._arrival:
            if not self._arrival.wait_for(lambda: self.opened >= self.gate, WAIT_S):
                self.offences.append("nobody else opened the device while a call was on")
        if (mode, bits, left_selected) != (0, 8, 0):
            self.offences.append(f"mode 0x{mode:X}, {bits} bits, /CS left low: {bool(left_selected)}")
        self._attempts += 1
        if error := self.errors.get(self._attempts):
            return struct.pack("=I", error)
        frames = tuple(cut(octets, table[0::2]))
        clocks = frozenset(table[1::2])
        self.calls.append(Call(assertions=frames, clocks_hz=clocks))
        answer = b"".join(
            self.emulator.exchange(b"".join(run), frame_bytes=length) for length, run in groupby(frames, key=len)
        )
        if self.clean_hz is not None and max(clocks) > self.clean_hz:
            answer = self.spoil(answer)
        return struct.pack("=I", 0) + answer


def exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def cut(octets: bytes, lengths: tuple[int, ...]) -> Iterator[bytes]:
    at = 0
    for length in lengths:
        yield octets[at : at + length]
        at += length
