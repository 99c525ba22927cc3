"""One of the four sockets of the chip as registers: rings, commands, looks at Sn_SR and Sn_IR. Knows no protocol.

Three rules of the silicon are kept here, so that nobody above can break them:

- a command is written to Sn_CR and is taken when Sn_CR reads 0 again, which has a deadline;
- Sn_RX_RSR and Sn_TX_FSR live: they are read until two reads agree, high octet first;
- Sn_TX_WR and Sn_RX_RD are latched: a read gives the value in force, not the one written, so the driver keeps
  its own and never reads them back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from plugin.w5100 import registers as reg
from plugin.w5100.bus import Access, Wire, read, write
from plugin.w5100.errors import ChipLost, ChipTimeout
from plugin.w5100.registers import Command, SocketInterrupt, Status
from plugin.w5100.waiting import Pace, Waiter

log = logging.getLogger("hardwire.w5100")

COMMAND_TIMEOUT_S: Final = 0.2  # the silicon needs microseconds; Linux allows 100 ms
STABLE_READS: Final = 16
REASON_TIMEOUT_S: Final = 0.02  # longer than several looks take on a slow bus
ALL_EVENTS: Final = b"\xff"
NO_EVENTS: Final = SocketInterrupt(0)
REASONS: Final = SocketInterrupt.DISCON | SocketInterrupt.TIMEOUT  # why a connection is CLOSED

Observer = Callable[[int, str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """A socket's window in the chip's memory: ``size_bytes`` (a power of two) from address ``base`` on.

    Pointers run freely through 0 to 65535; the chip does not wrap inside the window, the host must.
    """

    base: int
    size_bytes: int

    def spans(self, pointer: int, count: int) -> list[tuple[int, int]]:
        """Return the one or two (address, size) that hold ``count`` octets from ``pointer`` on."""
        if not 0 <= count <= self.size_bytes:
            raise ValueError(f"{count} octets do not fit a ring of {self.size_bytes}")
        offset = pointer & (self.size_bytes - 1)
        first = min(count, self.size_bytes - offset)
        spans = [(self.base + offset, first), (self.base, count - first)]
        return [(address, size) for address, size in spans if size]

    def read(self, pointer: int, count: int) -> list[Access]:
        """Return the accesses that read ``count`` octets from ``pointer`` on."""
        return [read(address, size) for address, size in self.spans(pointer, count)]

    def write(self, pointer: int, data: bytes) -> list[Access]:
        """Return the accesses that write ``data`` from ``pointer`` on."""
        accesses, start = [], 0
        for address, size in self.spans(pointer, len(data)):
            accesses.append(write(address, data[start : start + size]))
            start += size
        return accesses


def advance(pointer: int, count: int) -> int:
    """Return a ring pointer moved on by ``count``, in the 16 bits that the chip counts in."""
    return (pointer + count) & 0xFFFF


class HardwareSocket:
    """Socket ``number`` of the chip. For one thread at a time; the Wire below is shared."""

    def __init__(
        self,
        number: int,
        *,
        tx: Ring,
        rx: Ring,
        split: bytes,
        wire: Wire,
        waiter: Waiter,
        observe: Observer | None,
    ) -> None:
        """``split``: what RMSR and TMSR hold as long as the rings lie where ``tx`` and ``rx`` say."""
        self.number: Final = number
        self.tx: Final = tx
        self.rx: Final = rx
        self.waiter: Final = waiter
        self.status = int(reg.Status.CLOSED)  # Sn_SR as last seen
        self.events = NO_EVENTS  # Sn_IR bits seen since OPEN, also those that are cleared by now
        self.standing = NO_EVENTS  # Sn_IR bits seen set and not cleared
        self._split = split
        self._wire = wire
        self._observe = observe
        self._base = reg.socket_base(number)
        self._retired = False

    def at(self, register: int) -> int:
        """Return the address of ``register`` of this socket."""
        return self._base + register

    def retire(self) -> None:
        """Refuse all further access: the chip was reset, and the socket may have a new owner."""
        self._retired = True

    @property
    def retired(self) -> bool:
        """True once the chip was reset under this socket."""
        return self._retired

    def transfer(self, accesses: Sequence[Access]) -> list[bytes]:
        """Carry out ``accesses`` in one exchange; ChipLost after a reset, BusError or OSError from the bus.

        On a W5100S they may be a few, one behind the other: see ``bus.exchanges``.
        """
        if self._retired:
            raise ChipLost(f"socket {self.number}: the chip was reset, the connection is gone")
        return self._wire.transfer(accesses)

    @property
    def shows_arp(self) -> bool:
        """Whether Sn_SR tells ARP from SYNSENT on this chip."""
        return self._wire.model.shows_arp

    # --- Sn_SR and Sn_IR ------------------------------------------------------------------------------------

    def look(self, *extra: Access, clear: SocketInterrupt = NO_EVENTS) -> list[bytes]:
        """In one exchange: clear Sn_IR (what was seen, and ``clear``), read Sn_SR, then Sn_IR, then ``extra``.

        Clearing comes first, so that an event that arrives meanwhile stays set and is seen now or next time.
        Sn_IR is read after Sn_SR, so that CLOSED never stands without its reason; the data counters come last,
        so that they hold all that came in before the status was read.
        """
        stale = self.standing | clear
        accesses = [write(self.at(reg.Sn_IR), bytes((stale,)))] if stale else []
        out = self.transfer([*accesses, *self._state(), *extra])[len(accesses) :]
        self._note(out[0], out[1])
        return out[2:]

    def glance(self, *extra: Access) -> list[bytes]:
        """Do as ``look``, but clear nothing: two frames beside ``extra``, for one who looks often or last."""
        status, events, *rest = self.transfer([*self._state(), *extra])
        self._note(status, events)
        return rest

    def look_for_reason(self) -> None:
        """Look again, for a short time, while Sn_SR is CLOSED and Sn_IR does not tell why: the bit may come later.

        ChipLost when none comes and the chip has forgotten its configuration.
        """
        pace, deadline = Pace(), self.waiter.now() + REASON_TIMEOUT_S
        while self.status == reg.Status.CLOSED and not self.events & REASONS:
            remaining = deadline - self.waiter.now()
            if remaining <= 0:
                self.check_split()
                return
            self.waiter.pause(remaining, pace)
            self.look()

    def settle(self) -> None:
        """Clear what was seen of Sn_IR, without a look."""
        if self.standing:
            self.transfer([write(self.at(reg.Sn_IR), bytes((self.standing,)))])
            self.standing = NO_EVENTS

    def wait(self, timeout_s: float, pace: Pace) -> bool:
        """Sleep until there may be news; see Waiter.wait.

        While the last look found bits set there is nothing to sleep for on /INT: what they tell of may have come
        after Sn_SR was read. So look again, soon; that clears them too. Nor is there while Sn_SR has yet to follow
        a DISCON or TIMEOUT that is cleared already.
        """
        if self.standing or (self.status == reg.Status.ESTABLISHED and self.events & REASONS):
            self.waiter.pause(timeout_s, pace)
            return False
        return self.waiter.wait(self.number, timeout_s, pace)

    def _state(self) -> list[Access]:
        return [read(self.at(reg.Sn_SR)), read(self.at(reg.Sn_IR))]

    def _note(self, status: bytes, events: bytes) -> None:
        self._note_events(events)
        self._note_status(status)

    def _note_events(self, events: bytes) -> None:
        self.standing = SocketInterrupt(events[0])
        self.events |= self.standing

    def _note_status(self, status: bytes) -> None:
        old, self.status = self.status, status[0]
        if old != self.status and self._observe is not None:
            self._observe(self.number, reg.status_name(old), reg.status_name(self.status))

    # --- Commands ---------------------------------------------------------------------------------------------

    def command(self, command: Command, *before: Access) -> None:
        """In one exchange: clear what was seen of Sn_IR, do ``before``, write Sn_CR, read Sn_SR.

        Returns once Sn_CR reads 0; ChipTimeout when it does not. Sn_IR is not read: nothing of it stands but what
        has come since, and whoever waits for the outcome reads it then.
        """
        clear = [write(self.at(reg.Sn_IR), bytes((self.standing,)))] if self.standing else []
        taken, status = self.transfer([*clear, *before, *self._give(command), read(self.at(reg.Sn_SR))])[-2:]
        self.standing = NO_EVENTS
        self._note_status(status)
        if taken[0]:
            self._until_taken(command)
            self.look()

    def send(self, *before: Access, room: bool) -> list[bytes]:
        """In one exchange: clear Sn_IR.SEND_OK and what was seen, do ``before``, SEND, read Sn_IR.

        Sn_SR is not read: with SEND_OK the data are on their way whatever the status is, and without it the wait
        that follows looks. With ``room`` also read the high octet of Sn_TX_FSR twice, for ``agree``; nothing is
        returned if SEND was not taken before that. Returns once Sn_CR reads 0; ChipTimeout when it does not.
        """
        stale = self.standing | SocketInterrupt.SEND_OK
        self.events &= ~SocketInterrupt.SEND_OK
        clear = write(self.at(reg.Sn_IR), bytes((stale,)))
        extra = self.high_pair(reg.Sn_TX_FSR) if room else ()
        out = self.transfer([clear, *before, *self._give(Command.SEND), read(self.at(reg.Sn_IR)), *extra])
        taken, events, *high = out[len(before) + 2 :]
        self._note_events(events)
        if taken[0]:
            self._until_taken(Command.SEND)
            self.look()
            return []
        return high

    def release(self, pointer: int, *before: Access) -> list[bytes]:
        """In one exchange: do ``before``, write Sn_RX_RD = ``pointer`` and RECV, which frees the ring up to there.

        Returns what ``before`` read, once Sn_CR reads 0; ChipTimeout when it does not.
        """
        point = write(self.at(reg.Sn_RX_RD), pointer.to_bytes(2, "big"))
        out = self.transfer([*before, point, *self._give(Command.RECV)])
        if out[-1][0]:
            self._until_taken(Command.RECV)
        return out[:-3]

    def open_as(self, mode: int, port: int, wanted: Status) -> bool:
        """OPEN; return whether Sn_SR becomes ``wanted`` within COMMAND_TIMEOUT_S; raises what ``open`` does.

        The silicon is there at once; others may take OPEN before they have done it.
        """
        self.open(mode, port)
        pace, deadline = Pace(), self.waiter.now() + COMMAND_TIMEOUT_S
        while self.status != wanted and self.waiter.now() < deadline:
            self.waiter.pause(COMMAND_TIMEOUT_S, pace)
            self.look()
        return self.status == wanted

    def open(self, mode: int, port: int) -> None:
        """Clear Sn_IR, set Sn_MR and the source port, OPEN, read Sn_SR; whether that is right the caller sees.

        ChipLost when the chip's memory is not split as it was configured: it has reset itself.
        """
        self.events = self.standing = NO_EVENTS
        out = self.transfer(
            [
                read(reg.RMSR, 2),
                write(self.at(reg.Sn_MR), bytes((mode,))),
                write(self.at(reg.Sn_PORT), port.to_bytes(2, "big")),
                write(self.at(reg.Sn_IR), ALL_EVENTS),
                *self._give(Command.OPEN),
                read(self.at(reg.Sn_SR)),
            ]
        )
        self._check_split(out[0])
        self._note_status(out[-1])
        if out[-2][0]:
            self._until_taken(Command.OPEN)
            self.look()

    def shut(self) -> None:
        """CLOSE and clear Sn_IR; ChipTimeout when the chip does not take it or the status is not CLOSED then."""
        clear = write(self.at(reg.Sn_IR), ALL_EVENTS)
        out = self.transfer([*self._give(Command.CLOSE), clear, *self._state()])
        self._note(out[-2], out[-1])
        if out[1][0]:
            self._until_taken(Command.CLOSE)
        pace, deadline = Pace(), self.waiter.now() + COMMAND_TIMEOUT_S
        while self.status != reg.Status.CLOSED or self.standing:
            if self.waiter.now() >= deadline:
                raise ChipTimeout(
                    f"socket {self.number}: Sn_SR is {reg.status_name(self.status)}, "
                    f"Sn_IR 0x{self.standing:02X} after CLOSE"
                )
            self.waiter.pause(COMMAND_TIMEOUT_S, pace)
            self.look()

    def _give(self, command: Command) -> list[Access]:
        return [write(self.at(reg.Sn_CR), bytes((command,))), read(self.at(reg.Sn_CR))]

    def _until_taken(self, command: Command) -> None:
        pace, deadline = Pace(), self.waiter.now() + COMMAND_TIMEOUT_S
        while True:
            self.waiter.pause(COMMAND_TIMEOUT_S, pace)
            (value,) = self.transfer([read(self.at(reg.Sn_CR))])[0]
            if not value:
                return
            if self.waiter.now() >= deadline:
                raise ChipTimeout(
                    f"socket {self.number}: the chip does not take {command.name}: "
                    f"Sn_CR still reads 0x{value:02X} after {COMMAND_TIMEOUT_S} s"
                )

    # --- What lives -------------------------------------------------------------------------------------------

    def pair(self, register: int) -> tuple[Access, Access]:
        """Return the two reads of a live 16-bit register that ``agree`` wants."""
        one = read(self.at(register), 2)
        return one, one

    def high_pair(self, register: int) -> tuple[Access, Access]:
        """Return two reads of the high octet alone of a live register, of which ``agree`` makes a lower bound."""
        one = read(self.at(register))
        return one, one

    def agree(self, register: int, first: bytes, second: bytes, limit: int) -> int:
        """Return the value of a live register of which two reads were ``first`` and ``second``.

        Reads of the high octet alone give the multiple of 256 that the register has reached, for half the frames.
        Reads on while the last two differ, for so long as STABLE_READS says. Between two commands these counters
        only grow, and of a growing one the high octet, which is read first, never falls; what is read is then
        never more than there is, torn or not, and the largest may be used. ChipTimeout for one that does fall,
        ChipLost above ``limit``.
        """
        seen = [first, second]
        while seen[-1] != seen[-2] and len(seen) < 2 + STABLE_READS:
            seen.append(self.transfer([read(self.at(register), len(first))])[0])
        high = [one[0] for one in seen]
        values = [int.from_bytes(one.ljust(2, b"\0"), "big") for one in seen]
        if seen[-1] == seen[-2]:
            value = values[-1]
        elif high == sorted(high):
            value = max(values)
        else:
            raise ChipTimeout(f"socket {self.number}: register 0x{register:02X} never reads the same twice")
        if value > limit:
            raise ChipLost(
                f"socket {self.number}: register 0x{register:02X} reads {value} in a ring of {limit} octets: "
                "the chip has reset itself, or the bus is too fast"
            )
        return value

    def unread(self, pointer: int, count: int) -> int:
        """Return how many of ``count`` octets (Sn_RX_RSR) in a CLOSED socket lie behind ``pointer``, ours.

        CLOSED is not a state in which RECV must be obeyed. If it was not, Sn_RX_RD in force lags behind ours, and
        Sn_RX_RSR still counts what was taken.
        """
        in_force = int.from_bytes(self.transfer([read(self.at(reg.Sn_RX_RD), 2)])[0], "big")
        taken = (pointer - in_force) & 0xFFFF
        return count - taken if taken <= count else count

    def check_split(self) -> None:
        """Raise ChipLost if the chip's memory is not split as it was configured."""
        self._check_split(self.transfer([read(reg.RMSR, 2)])[0])

    def _check_split(self, seen: bytes) -> None:
        if seen != self._split:
            raise ChipLost(
                f"the chip has reset itself: RMSR and TMSR read {seen.hex(' ')} instead of "
                f"{self._split.hex(' ')}; check its power supply and /RESET"
            )
