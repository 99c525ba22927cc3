"""Waiting for the chip: by /INT where the bus has it, else by looking again after short sleeps that grow.

All hardware sockets share one /INT line, and several threads may wait, each for its own socket. The first to wait
sleeps on the line for all of them ("leads"); when /INT goes low it reads IR once and wakes those whom it concerns.

Why no wake-up is lost and nobody spins: /INT is a level, low while IR & IMR is not 0, and a socket's bit in IR
stays set until its owner clears Sn_IR. Nothing has to be remembered, therefore; whoever comes late finds the line
still low. A socket that has news while its owner is busy elsewhere would keep the line low for all others; so the
leader takes it out of IMR, and its owner puts it back when it waits again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from plugin.w5100 import registers as reg
from plugin.w5100.bus import Wire

log = logging.getLogger("hardwire.w5100")

POLL_SHORTEST_S: Final = 0.0002
POLL_LONGEST_S: Final = 0.010
POLL_GROWTH: Final = 1.5
# Not every event raises /INT: a chip that resets itself clears IMR and falls silent. So the registers are looked
# at from time to time all the same.
INTERRUPT_LONGEST_S: Final = 0.5
MISSED_LIMIT: Final = 3
INTERRUPT_NOT_HEARD: Final = "/INT stays high although data came: is the line connected? Polling from now on"

SOCKET_BITS: Final = 0x0F


@dataclass(slots=True)
class Pace:
    """How fast one operation looks again; begin each operation with a new one.

    ``early`` says that the last wait on /INT ended before ``step_s``; if it brought nothing, the next is preceded
    by a sleep. A line stuck low, or a bus that returns at once, thus costs a poll step and not the processor.
    """

    step_s: float = POLL_SHORTEST_S
    early: bool = False

    def grow(self) -> None:
        """Make the next step longer, up to POLL_LONGEST_S."""
        self.step_s = min(self.step_s * POLL_GROWTH, POLL_LONGEST_S)


class InterruptLine:
    """The /INT line that all sockets share, and IMR, which only this class writes after configuration."""

    def __init__(self, wire: Wire, wait_interrupt: Callable[[float], bool], *, clock: Callable[[], float]) -> None:
        self._wire = wire
        self._wait_interrupt = wait_interrupt
        self._clock = clock
        self._condition = threading.Condition()
        self._leading = False
        self._mask = 0  # IMR as it stands in the chip
        self._members = 0  # sockets that have waited and are not released
        self._waiting = 0
        self._called = 0  # sockets that the leader has found in IR

    def wait(self, number: int, timeout_s: float) -> bool:
        """Wait for news of socket ``number``; True when /INT told so, False when its owner should look anyway.

        Call it only after a look at the registers that left no bit of Sn_IR set. Errors of the bus pass through.
        """
        bit = 1 << number
        deadline = self._clock() + timeout_s
        with self._condition:
            self._called &= ~bit  # from an earlier call; if it still holds, the line says so again
            self._waiting |= bit
        try:
            self._admit(bit)
            while True:
                with self._condition:
                    if self._called & bit:
                        return True
                    remaining = deadline - self._clock()
                    if remaining <= 0:
                        return False
                    if self._leading:
                        self._condition.wait(remaining)
                        continue
                    self._leading = True
                if not self._lead(bit, remaining):
                    return False
        finally:
            with self._condition:
                self._waiting &= ~bit

    def release(self, number: int) -> None:
        """Forget socket ``number``: its owner has closed it."""
        with self._condition:
            self._members &= ~(1 << number)
            others = self._mask & self._members
            if others and others != self._mask:
                self._set_mask(others)

    def forget(self) -> None:
        """Take note that the chip was reset, which has cleared IMR."""
        with self._condition:
            self._mask = self._members = 0

    def _admit(self, bit: int) -> None:
        with self._condition:
            self._members |= bit
            if not self._mask & bit:
                self._set_mask((self._mask & self._members) | bit)

    def _lead(self, bit: int, timeout_s: float) -> bool:
        """Sleep on the line for all; False when it stayed high."""
        low = False
        try:
            low = self._wait_interrupt(timeout_s)
        finally:
            with self._condition:
                self._leading = False
                try:
                    if low:
                        self._call(bit)
                finally:
                    self._condition.notify_all()
        return low

    def _call(self, own: int) -> None:
        """Find out whom the interrupt concerns."""
        if self._mask == own:
            self._called |= own  # nobody else can have pulled the line: IR need not be read
            return
        pending = self._wire.read(reg.IR)[0] & self._mask & SOCKET_BITS
        # A line that is low without a reason is no reason to sleep: the leader looks at its own socket.
        self._called |= pending & self._waiting or (0 if pending else own)
        idle = self._waiting & ~self._called
        if idle and pending:
            self._set_mask(self._mask & ~pending)

    def _set_mask(self, mask: int) -> None:
        self._wire.write(reg.IMR, bytes((mask,)))
        self._mask = mask


class Waiter:
    """The clock, sleeping, and /INT if there is one, as the sockets use them. Thread-safe."""

    def __init__(
        self, *, clock: Callable[[], float], sleep: Callable[[float], None], line: InterruptLine | None
    ) -> None:
        self.now: Final = clock
        self._sleep = sleep
        self._line = line
        self._missed = 0

    @property
    def by_interrupt(self) -> bool:
        """True while waiting is done on /INT, so that Sn_IR has to be cleared for it."""
        return self._line is not None and self._missed < MISSED_LIMIT

    def pause(self, timeout_s: float, pace: Pace) -> None:
        """Sleep one step of ``pace``, at most ``timeout_s``."""
        self._sleep(max(0.0, min(pace.step_s, timeout_s)))
        pace.grow()

    def wait(self, number: int, timeout_s: float, pace: Pace) -> bool:
        """Sleep until socket ``number`` may have news, at most ``timeout_s``; look at the registers afterwards.

        True when /INT stayed high for as long as it is trusted to: news after that came without a signal.
        """
        line = self._line
        if line is None or not self.by_interrupt:
            self.pause(timeout_s, pace)
            return False
        deadline = self.now() + timeout_s
        if pace.early:
            self._sleep(max(0.0, min(pace.step_s, timeout_s)))
        started = self.now()
        slice_s = min(deadline - started, INTERRUPT_LONGEST_S)
        woken = slice_s > 0 and line.wait(number, slice_s)
        elapsed = self.now() - started
        pace.early = elapsed < pace.step_s
        pace.grow()
        return not woken and elapsed >= INTERRUPT_LONGEST_S

    def heard(self, *, silent: bool | None) -> None:
        """Take note that there was news after a wait that returned ``silent``; None: without any wait.

        That the line stays high once may be chance, three times running is a wire that is not connected.
        """
        if silent is None or not self.by_interrupt:
            return
        self._missed = self._missed + 1 if silent else 0
        if self._missed == MISSED_LIMIT:
            log.warning("event=interrupt_not_heard problem=%r", INTERRUPT_NOT_HEARD)

    def forget(self, number: int) -> None:
        """Take note that socket ``number`` is free again."""
        if self._line is not None:
            self._line.release(number)

    def restart(self) -> None:
        """Take note that the chip was reset."""
        if self._line is not None:
            self._line.forget()
