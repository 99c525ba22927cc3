"""Counts what goes over the SPI bus and over the connection; the frames of an exchange tell what it was for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from plugin.smtp.stream import Stream, window_of
from plugin.w5100 import Bus
from plugin.w5100 import registers as reg
from plugin.w5100.bus import FRAME_BYTES, READ, WRITE
from plugin.w5100.registers import Command

LIMITS: Final = (511, 32)
"""Frames that one system call can carry: what SPI_IOC_MESSAGE can name, with spidev's bufsiz at 65536; and what
spidev takes with its bufsiz of 4096, where each frame is rounded up to 128 octets (64-bit Raspberry Pi)."""

VAIN: Final = "look in vain"
_CLEAR: Final = "clear"
_LOOK: Final = "look"
_CHECK: Final = "check"
_DATA: Final = "read data"
OPERATIONS: Final = {
    _CHECK: "does the chip still hold its addresses",
    Command.OPEN.name: "OPEN, and is the memory still split",
    Command.CONNECT.name: "CONNECT",
    Command.SEND.name: "SEND",
    _CLEAR: "clear Sn_IR before a wait, IMR",
    _LOOK: "look at status, events and counters",
    _DATA: "read data",
    Command.RECV.name: "read data and RECV",
    Command.DISCON.name: "DISCON",
    Command.CLOSE.name: "CLOSE",
    VAIN: "look that finds nothing new",
}
"""What an exchange is for, in the order of a connection, and in words."""

_SOCKET_PAGE: Final = reg.SOCKET_STRIDE - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Frames that went over the bus at once, and as many octets that came back."""

    sent: bytes
    received: bytes

    @property
    def frames(self) -> int:
        """How many frames, which is how often the chip was selected."""
        return len(self.sent) // FRAME_BYTES


class CountingBus:
    """A Bus that keeps what went over another one."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._exchanges: list[Exchange] = []

    def exchange(self, frames: bytes, frame_bytes: int = FRAME_BYTES) -> bytes:
        """Do as the other bus does, and keep it."""
        received = self._bus.exchange(frames, frame_bytes)
        self._exchanges.append(Exchange(sent=frames, received=received))
        return received

    def wait_interrupt(self, timeout_s: float) -> bool:
        """Wait for /INT; nothing goes over the bus."""
        return self._bus.wait_interrupt(timeout_s)

    def close(self) -> None:
        """Release the other bus."""
        self._bus.close()

    def take(self) -> list[Exchange]:
        """Return all exchanges since this was last asked."""
        taken, self._exchanges = self._exchanges, []
        return taken


class CountingStream:
    """A Stream that counts the octets which go through another one, in both directions."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.window_bytes: Final = window_of(stream)
        self.payload_bytes = 0

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        """Do as the other Stream does."""
        self._stream.send_all(data, timeout_s=timeout_s)
        self.payload_bytes += len(data)

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        """Do as the other Stream does."""
        data = self._stream.receive(max_bytes, timeout_s=timeout_s)
        self.payload_bytes += len(data)
        return data

    def close(self, *, timeout_s: float = 1.0) -> None:
        """Close the other Stream."""
        self._stream.close(timeout_s=timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Exchanges of one purpose: how many, and their frames to and from the rings (``data``) and beside them."""

    exchanges: int = 0
    data_frames: int = 0
    other_frames: int = 0

    def __add__(self, other: Operation) -> Operation:
        """Return both together."""
        return Operation(
            exchanges=self.exchanges + other.exchanges,
            data_frames=self.data_frames + other.data_frames,
            other_frames=self.other_frames + other.other_frames,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What was counted, by operation. Looks in vain are a part of the waiting and of no sum."""

    operations: Mapping[str, Operation]
    calls: Mapping[int, int]
    """System calls, by how many frames one of them can carry."""

    @property
    def total(self) -> Operation:
        """All but the looks in vain."""
        return sum((one for name, one in self.operations.items() if name != VAIN), Operation())

    @property
    def frames(self) -> int:
        """Frames, each of which selects the chip once."""
        return self.total.data_frames + self.total.other_frames

    @property
    def octets(self) -> int:
        """Octets on the bus, in one direction; as many go in the other."""
        return self.frames * FRAME_BYTES

    @property
    def looks_in_vain(self) -> int:
        """Exchanges that found nothing new."""
        return self.operations.get(VAIN, Operation()).exchanges


def tally(exchanges: Sequence[Exchange]) -> Tally:
    """Count ``exchanges`` of the life of one connection, by what each is for."""
    known: dict[int, int] = {}
    operations: dict[str, Operation] = {}
    calls = dict.fromkeys(LIMITS, 0)
    for one in exchanges:
        registers = list(_registers(one))
        data_frames = one.frames - len(registers)
        name = _purpose(registers, data=data_frames > 0, news=_bring_news(registers, known))
        counted = Operation(exchanges=1, data_frames=data_frames, other_frames=len(registers))
        operations[name] = operations.get(name, Operation()) + counted
        if name != VAIN:
            for limit in LIMITS:
                calls[limit] += -(-one.frames // limit)
    return Tally(
        operations={name: operations[name] for name in OPERATIONS if name in operations},
        calls=calls,
    )


_Register = tuple[int, int, int]
"""Opcode, address, and the octet read or written."""


def _registers(exchange: Exchange) -> Iterator[_Register]:
    """Yield the frames that are for registers, not for the rings."""
    sent, received = exchange.sent, exchange.received
    for frame, high in enumerate(sent[1::FRAME_BYTES]):
        if high < reg.TX_BASE >> 8:
            start = frame * FRAME_BYTES
            octets = received if sent[start] == READ else sent
            yield sent[start], high << 8 | sent[start + 2], octets[start + 3]


def _bring_news(registers: Sequence[_Register], known: dict[int, int]) -> bool:
    """Whether a register held something else than ``known`` tells: what it read last, less what was cleared."""
    news = False
    for opcode, address, value in registers:
        if opcode == READ:
            news |= known.get(address) != value
            known[address] = value
        elif _of_socket(address) == reg.Sn_IR:
            known[address] = known.get(address, 0) & ~value
    return news


def _purpose(registers: Sequence[_Register], *, data: bool, news: bool) -> str:
    """Return which of OPERATIONS an exchange is for, with these frames for registers and, if ``data``, others."""
    for opcode, address, value in registers:
        if opcode == WRITE and _of_socket(address) == reg.Sn_CR:
            return Command(value).name
    if data:
        return _DATA
    read = [address for opcode, address, _ in registers if opcode == READ]
    if not read:
        return _CLEAR
    if any(_of_socket(address) is None and address != reg.IR for address in read):
        return _CHECK
    return _LOOK if news else VAIN


def _of_socket(address: int) -> int | None:
    """Return which socket register stands at ``address``, the same for all sockets; None for a common one."""
    return address & _SOCKET_PAGE if address >= reg.SOCKET_BASE else None
