"""The seam to the wire: the Bus protocol, the SPI frames of W5100 and W5100S, and the echo check on every one.

One octet is one frame of four with /CS low: opcode, address high, address low, data. While they go out the W5100
answers 00 01 02 and, in a read, the data (WIZnet, SPI Guide, part 2). Whoever sees anything else than 00 01 02 is
not talking to a W5100, or not at this clock. A W5100S takes the same frames, and longer ones with more octets of
data, for which the address counts up (WIZnet's ioLibrary, w5100s.c). Its registers are accessed as the W5100's
are; what lies in the rings goes in long frames, at a quarter of the octets.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from plugin.w5100 import registers as reg
from plugin.w5100.errors import BusError
from plugin.w5100.model import W5100, Model

P = ParamSpec("P")
T = TypeVar("T")

FRAME_BYTES: Final = 4
HEADER_BYTES: Final = 3
ECHO: Final = b"\x00\x01\x02"
# The kernel's spidev takes no more octets in one transfer, unless it is told to (parameter bufsiz).
LONGEST_FRAME_BYTES: Final = 4096
# Frames of another length need an exchange of their own, which costs as much as a dozen frames do.
LEAST_BURST_BYTES: Final = 16
READ: Final = 0x0F
WRITE: Final = 0xF0
ADDRESS_LIMIT: Final = 0x10000

# The high and the low octets of all addresses in order: a run of frames takes a slice of each.
_HIGH: Final = b"".join([bytes((high,)) * 0x100 for high in range(0x100)])
_LOW: Final = bytes(range(0x100)) * 0x100


class Bus(Protocol):
    """What the driver needs of the wire, and all that it may know of it.

    A bus may have ``reset_line() -> None`` as well: it pulls /RESET, returns when the chip can be spoken to again,
    and raises OSError. Where it is there, a chip that does not come back by itself is revived by it.
    """

    def exchange(self, frames: bytes, frame_bytes: int = FRAME_BYTES) -> bytes:
        """Send equal frames end to end, /CS high between them; return as many octets as came back.

        ``frame_bytes`` is 4; with a W5100S also 3 and the octets of data in a frame, 4096 in all at most.
        """
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
    """``data`` written from ``address`` on, one octet an address; or as many octets read, then they are zeros."""

    opcode: int
    address: int
    data: bytes

    def __post_init__(self) -> None:
        """Refuse what leaves the address space."""
        if not 0 <= self.address <= ADDRESS_LIMIT - self.size:
            raise ValueError(f"{self.size} octets from 0x{self.address:04X} on leave the address space")

    @property
    def size(self) -> int:
        """How many octets are read or written."""
        return len(self.data)

    @property
    def frames(self) -> bytes:
        """The access as frames of four octets, one an octet: both chips take them."""
        size, start = self.size, self.address
        frames = bytearray(FRAME_BYTES * size)
        frames[0::4] = bytes((self.opcode,)) * size
        frames[1::4] = _HIGH[start : start + size]
        frames[2::4] = _LOW[start : start + size]
        frames[3::4] = self.data
        return bytes(frames)

    @property
    def long_frame(self) -> bytes:
        """The access as one frame: the address counts up in the chip (W5100S)."""
        return bytes((self.opcode,)) + self.address.to_bytes(2, "big") + self.data

    def part(self, start: int, end: int) -> Access:
        """Return the octets from ``start`` to before ``end`` as an access of their own."""
        return Access(self.opcode, self.address + start, self.data[start:end])


def read(address: int, size: int = 1) -> Access:
    """Return the access that reads ``size`` octets from ``address`` on."""
    return Access(READ, address, bytes(size))


def write(address: int, data: bytes) -> Access:
    """Return the access that writes ``data`` from ``address`` on, in this order."""
    return Access(WRITE, address, data)


def exchanges(accesses: Sequence[Access], *, burst: bool) -> list[tuple[bytes, int]]:
    """Return ``accesses`` as exchanges: frames end to end, and how many octets each of them has.

    All goes out in the order given, so the data that come back, put together, are those of the accesses in turn.
    Without ``burst`` that is one exchange. With it, TX and RX memory goes in long frames. An exchange has equal
    frames only: so a long access is cut into equal ones, and the few octets that are left over go along with the
    registers that follow.
    """
    plan: list[tuple[bytes, int]] = []
    single: list[bytes] = []

    def close_single() -> None:
        if frames := b"".join(single):
            plan.append((frames, FRAME_BYTES))
        single.clear()

    for access in accesses:
        if not burst or access.size < LEAST_BURST_BYTES or access.address < reg.TX_BASE:
            single.append(access.frames)
            continue
        close_single()
        count = -(-access.size // (LONGEST_FRAME_BYTES - HEADER_BYTES))
        each = access.size // count
        parts = [access.part(start, start + each) for start in range(0, count * each, each)]
        plan.append((b"".join([part.long_frame for part in parts]), HEADER_BYTES + each))
        single.append(access.part(count * each, access.size).frames)
    close_single()
    return plan


def check_echo(
    sent: bytes, received: bytes, *, frame_bytes: int = FRAME_BYTES, echo: bytes | None = ECHO
) -> bytes:
    """Return the data octets of ``received``; raise BusError unless every frame begins with ``echo``.

    With None any beginning will do. Frames have ``frame_bytes`` octets each.
    """
    if len(received) != len(sent):
        raise BusError(f"SPI: sent {len(sent)} octets and got {len(received)}: the bus adapter is at fault")
    count = len(sent) // frame_bytes
    if echo is not None and any(
        received[place::frame_bytes] != echo[place : place + 1] * count for place in range(HEADER_BYTES)
    ):
        raise BusError(_explain(sent, received, frame_bytes, echo))
    if frame_bytes == FRAME_BYTES:
        return received[3::4]
    return b"".join(
        [received[start + HEADER_BYTES : start + frame_bytes] for start in range(0, len(sent), frame_bytes)]
    )


def _explain(sent: bytes, received: bytes, frame_bytes: int, echo: bytes) -> str:
    starts = range(0, len(sent), frame_bytes)
    start = next(start for start in starts if received[start : start + HEADER_BYTES] != echo)
    address = int.from_bytes(sent[start + 1 : start + HEADER_BYTES], "big")
    frame = received[start : start + FRAME_BYTES]
    where = f"SPI: frame for 0x{address:04X} answered {frame.hex(' ')} instead of {echo.hex(' ')} ..: "
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


def takes_long_frames(exchange: Callable[..., Any]) -> bool:
    """Return True if ``exchange`` of a bus has the parameter ``frame_bytes``; a foreign one need not."""
    try:
        parameter = inspect.signature(exchange).parameters.get("frame_bytes")
    except (TypeError, ValueError):  # one that is not written in Python may tell nothing
        return False
    return parameter is not None and parameter.kind is not parameter.POSITIONAL_ONLY


class Wire:
    """Access to the registers through a Bus; thread-safe, the lock is held for the exchanges of one transfer.

    It begins as a W5100's, ``model``; ``speak`` makes it another chip's.
    """

    def __init__(self, bus: Bus | ExchangeOnly) -> None:
        exchange: Callable[..., Any] = bus.exchange
        self._exchange = translated(exchange)
        self._takes_long_frames = takes_long_frames(exchange)
        self._lock = threading.Lock()
        self.model = W5100
        self._burst = False
        self._echo: bytes | None = ECHO

    def speak(self, model: Model, echo: bytes | None) -> None:
        """Talk to ``model`` from now on, and hold every frame to ``echo``, if there is one."""
        with self._lock:
            self.model = model
            self._burst = model.burst and self._takes_long_frames
            self._echo = echo

    def read(self, address: int, size: int = 1) -> bytes:
        """Return ``size`` octets from ``address`` on."""
        return self.transfer((read(address, size),))[0]

    def write(self, address: int, data: bytes) -> None:
        """Write ``data`` from ``address`` on."""
        self.transfer((write(address, data),))

    def transfer(self, accesses: Sequence[Access]) -> list[bytes]:
        """Carry out ``accesses`` in this order, nobody else's in between; return the data octets of each.

        That is one exchange, or a few where there are long frames. After one that failed none follows.
        """
        plan, echo = exchanges(accesses, burst=self._burst), self._echo
        with self._lock:
            data = b"".join([self._carry(frames, frame_bytes, echo) for frames, frame_bytes in plan])
        return _dealt(data, accesses)

    def probe(self, accesses: Sequence[Access]) -> tuple[list[bytes], bytes | None]:
        """Carry out ``accesses`` in frames of four octets, whatever the echo; return the data, and the echo.

        That is what all frames began with; None where they differ.
        """
        sent = b"".join([access.frames for access in accesses])
        with self._lock:
            received = octets(self._exchange(sent))
        data = check_echo(sent, received, echo=None)
        echoes = {received[start : start + HEADER_BYTES] for start in range(0, len(received), FRAME_BYTES)}
        return _dealt(data, accesses), echoes.pop() if len(echoes) == 1 else None

    def _carry(self, frames: bytes, frame_bytes: int, echo: bytes | None) -> bytes:
        if frame_bytes == FRAME_BYTES:
            received = octets(self._exchange(frames))
        else:
            received = octets(self._exchange(frames, frame_bytes=frame_bytes))
        return check_echo(frames, received, frame_bytes=frame_bytes, echo=echo)


def _dealt(data: bytes, accesses: Sequence[Access]) -> list[bytes]:
    """Return ``data`` cut into the octets of each access."""
    out, start = [], 0
    for access in accesses:
        out.append(data[start : start + access.size])
        start += access.size
    return out
