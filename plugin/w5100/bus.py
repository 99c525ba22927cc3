"""The seam to the wire: the Bus protocol, the SPI frames of a W5100, and the echo check on every one of them.

One access is one frame of four octets with /CS low: opcode, address high, address low, data. While they go out
the chip answers 00 01 02 and, in a read, the data (WIZnet, SPI Guide, part 2). Whoever sees anything else than
00 01 02 is not talking to a W5100, or not at this clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from plugin.w5100.errors import BusError

P = ParamSpec("P")
T = TypeVar("T")

FRAME_BYTES: Final = 4
READ: Final = 0x0F
WRITE: Final = 0xF0
ADDRESS_LIMIT: Final = 0x10000

# The high and the low octets of all addresses in order: a run of frames takes a slice of each.
_HIGH: Final = b"".join([bytes((high,)) * 0x100 for high in range(0x100)])
_LOW: Final = bytes(range(0x100)) * 0x100


class Bus(Protocol):
    """What the driver needs of the wire, and all that it may know of it."""

    def exchange(self, frames: bytes, frame_bytes: int = FRAME_BYTES) -> bytes:
        """Send equal frames end to end, /CS high between them; return as many octets as came back."""
        ...

    def wait_interrupt(self, timeout_s: float) -> bool:
        """Wait until /INT is low; True if it is. A bus without /INT sleeps a short poll step."""
        ...

    def close(self) -> None:
        """Release the device."""
        ...


class ExchangeOnly(Protocol):
    """The least that a foreign bus may be: frames of four octets in, as many octets out."""

    def exchange(self, frames: bytes, /) -> bytes:
        """Send frames of four octets end to end, /CS high between them; return as many octets."""
        ...


@dataclass(frozen=True, slots=True)
class Access:
    """A run of frames on consecutive addresses: ``size`` octets read, or written."""

    frames: bytes
    size: int


def read(address: int, size: int = 1) -> Access:
    """Return the frames that read ``size`` octets from ``address`` on."""
    return Access(_frames(READ, address, bytes(size)), size)


def write(address: int, data: bytes) -> Access:
    """Return the frames that write ``data`` from ``address`` on, in this order."""
    return Access(_frames(WRITE, address, data), len(data))


def _frames(opcode: int, address: int, data: bytes) -> bytes:
    size = len(data)
    if not 0 <= address <= ADDRESS_LIMIT - size:
        raise ValueError(f"{size} octets from 0x{address:04X} on leave the address space")
    frames = bytearray(FRAME_BYTES * size)
    frames[0::4] = bytes((opcode,)) * size
    frames[1::4] = _HIGH[address : address + size]
    frames[2::4] = _LOW[address : address + size]
    frames[3::4] = data
    return bytes(frames)


def check_echo(sent: bytes, received: bytes) -> bytes:
    """Return the data octets of ``received``; raise BusError unless every frame carries the echo 00 01 02."""
    if len(received) != len(sent):
        raise BusError(f"SPI: sent {len(sent)} octets and got {len(received)}: the bus adapter is at fault")
    count = len(sent) // FRAME_BYTES
    if received[0::4] == bytes(count) and received[1::4] == b"\x01" * count and received[2::4] == b"\x02" * count:
        return received[3::4]
    raise BusError(_explain(sent, received))


def _explain(sent: bytes, received: bytes) -> str:
    for start in range(0, len(sent), FRAME_BYTES):
        echo = received[start : start + 3]
        if echo != b"\x00\x01\x02":
            address = int.from_bytes(sent[start + 1 : start + 3], "big")
            frame = received[start : start + FRAME_BYTES]
            break
    else:  # pragma: no cover - the caller has seen a wrong echo
        raise AssertionError("no wrong echo")
    where = f"SPI: frame for 0x{address:04X} answered {frame.hex(' ')} instead of 00 01 02 ..: "
    if received.count(0x00) == len(received):
        return where + "MISO is stuck at 0; check wiring, power, and that SEN (SPI_EN) is high while /CS is low"
    if received.count(0xFF) == len(received):
        return where + "MISO is stuck at 1; check wiring, power, /RESET, and that nothing else drives this bus"
    return where + "octets are corrupt; lower chip.speed_hz, shorten the wires, or give the chip a bus of its own"


def translated(call: Callable[P, T]) -> Callable[P, T]:
    """Return ``call`` of a foreign bus so that it raises OSErrors only: its own as they are, all else BusError."""

    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except OSError:
            raise
        except Exception as error:
            raise BusError(f"SPI: the bus adapter failed: {type(error).__name__}: {error}") from error

    return guarded


def octets(received: Any) -> bytes:
    """Return what a foreign bus handed back, which may be a bytearray or a list; BusError if it is no octets."""
    if not isinstance(received, int):  # bytes(4) would be four zeros
        try:
            return bytes(received)
        except (TypeError, ValueError):
            pass
    kind = type(received).__name__
    raise BusError(f"SPI: the bus adapter answered with a {kind} that is no run of octets")


class Wire:
    """Access to the registers through a Bus; thread-safe, the lock is held for one exchange."""

    def __init__(self, bus: Bus | ExchangeOnly) -> None:
        self._exchange = translated(bus.exchange)
        self._lock = threading.Lock()

    def read(self, address: int, size: int = 1) -> bytes:
        """Return ``size`` octets from ``address`` on, in one exchange."""
        return self.transfer((read(address, size),))[0]

    def write(self, address: int, data: bytes) -> None:
        """Write ``data`` from ``address`` on, in one exchange."""
        self.transfer((write(address, data),))

    def transfer(self, accesses: Sequence[Access]) -> list[bytes]:
        """Carry out ``accesses`` in this order, all in one exchange; return the data octets of each."""
        frames = b"".join([access.frames for access in accesses])
        if not frames:
            return [b"" for _ in accesses]
        with self._lock:
            received = octets(self._exchange(frames))
        data = check_echo(frames, received)
        out, start = [], 0
        for access in accesses:
            out.append(data[start : start + access.size])
            start += access.size
        return out
