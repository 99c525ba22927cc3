"""Faults on order: what may go wrong between host and chip, in the chip, and on its cable.

Every fault is armed "from the nth exchange on, for so many exchanges". Exchanges are counted from the moment of
injection, the next one is number 1; faults of state (a lost link, a held status) with ``first_exchange=1`` are in
force at once, also for ``wait_interrupt``. Nothing here is random: the same calls meet the same faults.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """When a fault is in force.

    ``first_exchange``: number of the first exchange concerned, 1 is the next one.
    ``exchanges``: how many are concerned; None until ``clear_faults``.
    """

    first_exchange: int = 1
    exchanges: int | None = None

    def __post_init__(self) -> None:
        if self.first_exchange < 1 or (self.exchanges is not None and self.exchanges < 1):
            raise ValueError("a fault starts at exchange 1 or later and lasts for at least one")


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckBus(Fault):
    """MISO stays at ``octet``, 0x00 or 0xFF. Unless ``chip_hears``, no frame reaches the chip either."""

    octet: int = 0x00
    chip_hears: bool = False

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if self.octet not in {0x00, 0xFF}:
            raise ValueError("a stuck line reads 0x00 or 0xFF")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlippedBit(Fault):
    """One bit of one frame is inverted: in what the host receives or, with ``heard``, in what the chip hears.

    ``frame`` counts the frames of each exchange concerned from 1. ``nth_frame`` counts all frames since injection
    instead, and the fault then happens once. ``octet`` 0 to 2 is the opcode and address (or the echo), 3 the data;
    ``bit`` 0 is the lowest.
    """

    exchanges: int | None = 1
    frame: int = 1
    nth_frame: int | None = None
    octet: int = 3
    bit: int = 0
    heard: bool = False

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if not 0 <= self.bit <= 7 or self.octet < 0 or self.frame < 1 or (self.nth_frame or 1) < 1:
            raise ValueError("frames are counted from 1, octets from 0, bits from 0 to 7")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeError(Fault):
    """``exchange`` raises OSError(``error_number``); with ``chip_hears`` after the frames were carried out."""

    exchanges: int | None = 1
    error_number: int = errno.EIO
    chip_hears: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipReset(Fault):
    """The chip resets itself right before the first exchange concerned (a brown-out, /RESET touched).

    Unless ``answers``, it stays in reset for all exchanges concerned: it hears nothing and MISO reads 00.
    """

    exchanges: int | None = 1
    answers: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkDown(Fault):
    """The cable is out: nothing reaches the network and nothing comes from it. Timers run.

    No register of a W5100 tells; PHYSR of a W5100S does.

    What the host's kernel answers by itself still passes: a peer may see its SYN accepted by a LISTEN.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketFault(Fault):
    """A fault of hardware socket ``socket``; None means all four."""

    socket: int | None = None

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if self.socket is not None and not 0 <= self.socket <= 3:
            raise ValueError("the W5100 has the sockets 0 to 3")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnansweredSend(SocketFault):
    """SEND is taken and never done: no SEND_OK, no TIMEOUT, TX_RD stays behind (errata sheet, erratum 1).

    The socket sends nothing more until CLOSE or OPEN, even when the fault is over.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStatus(SocketFault):
    """Once Sn_SR is ``status`` it stays: network, timers and commands do nothing. Only CLOSE and a reset help."""

    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckCommand(SocketFault):
    """What is written to Sn_CR stays there and is not carried out; when the fault is over the command is lost."""


_F = TypeVar("_F", bound=Fault)


@dataclass(slots=True)
class _Armed:
    fault: Fault
    exchanges_begun: int = 0
    frames_before: int = 0
    frames_now: int = 0

    def position(self) -> int:
        """Return the number of the exchange under way or, before the first, of that one."""
        return max(self.exchanges_begun, 1)

    def in_force(self) -> bool:
        fault = self.fault
        end = None if fault.exchanges is None else fault.first_exchange + fault.exchanges
        return fault.first_exchange <= self.position() and (end is None or self.position() < end)


class FaultPlan:
    """The faults that are armed, and what they do to the exchange under way."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def __bool__(self) -> bool:
        return bool(self._armed)

    def inject(self, *faults: Fault) -> None:
        """Arm ``faults``; their exchanges are counted from here."""
        self._armed.extend(_Armed(fault) for fault in faults)

    def clear(self) -> None:
        """Disarm all."""
        self._armed.clear()

    def begin_exchange(self, frames: int) -> None:
        """Count one exchange of so many frames."""
        for armed in self._armed:
            armed.exchanges_begun += 1
            armed.frames_before += armed.frames_now
            armed.frames_now = frames

    # --- the wire ---------------------------------------------------------------------------------------

    def resets_now(self) -> bool:
        """Tell whether the chip is to reset itself before the exchange that has just begun."""
        return any(
            isinstance(armed.fault, ChipReset) and armed.exchanges_begun == armed.fault.first_exchange
            for armed in self._armed
        )

    def chip_hears(self) -> bool:
        """Tell whether the frames of this exchange reach the chip."""
        deaf = any(not fault.chip_hears for fault in self._in_force(StuckBus))
        deaf = deaf or any(not fault.answers for fault in self._in_force(ChipReset))
        return not deaf and all(fault.chip_hears for fault in self._in_force(ExchangeError))

    def stuck_octet(self) -> int | None:
        """Return what MISO is stuck at in this exchange, or None."""
        for fault in self._in_force(StuckBus):
            return fault.octet
        return 0x00 if any(not fault.answers for fault in self._in_force(ChipReset)) else None

    def exchange_error(self) -> OSError | None:
        """Return the error that this exchange ends with, or None."""
        for fault in self._in_force(ExchangeError):
            return OSError(fault.error_number, f"SPI transfer: {os.strerror(fault.error_number)}")
        return None

    def corrupt(self, octets: bytes, frame_bytes: int, *, heard: bool) -> bytes:
        """Return ``octets`` of this exchange with the bits inverted that are to be, on the way in or out."""
        out: bytearray | None = None
        for armed in self._armed:
            fault = armed.fault
            if not isinstance(fault, FlippedBit) or fault.heard is not heard:
                continue
            if fault.nth_frame is not None:
                frame = fault.nth_frame - armed.frames_before
            elif armed.in_force():
                frame = fault.frame
            else:
                continue
            place = (frame - 1) * frame_bytes + fault.octet
            if frame >= 1 and fault.octet < frame_bytes and place < len(octets):
                out = bytearray(octets) if out is None else out
                out[place] ^= 1 << fault.bit
        return octets if out is None else bytes(out)

    # --- the chip ---------------------------------------------------------------------------------------

    def link_down(self) -> bool:
        """Tell whether the cable is out."""
        return bool(self._armed) and any(True for _ in self._in_force(LinkDown))

    def send_unanswered(self, socket: int) -> bool:
        """Tell whether a SEND of this socket is never to be done."""
        return any(_concerns(fault, socket) for fault in self._in_force(UnansweredSend))

    def command_stuck(self, socket: int) -> bool:
        """Tell whether Sn_CR of this socket does not clear."""
        return any(_concerns(fault, socket) for fault in self._in_force(StuckCommand))

    def status_held(self, socket: int, status: int) -> bool:
        """Tell whether this socket is to stay in this status."""
        return any(_concerns(fault, socket) and fault.status == status for fault in self._in_force(HeldStatus))

    def _in_force(self, kind: type[_F]) -> Iterator[_F]:
        for armed in self._armed:
            if isinstance(armed.fault, kind) and armed.in_force():
                yield armed.fault


def _concerns(fault: SocketFault, socket: int) -> bool:
    return fault.socket is None or fault.socket == socket
