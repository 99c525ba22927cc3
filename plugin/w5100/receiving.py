"""The receiving side of one TCP connection: the RX ring, and an inbox in memory that ``receive`` serves first.

Whatever is found in the ring is moved to the inbox as a whole, by ``receive`` and, while a send waits, by
``read_on``. RECV, which tells the chip that ring is free again, is given once per eighth of the ring: a peer is
not held up by so little, and a dialogue of short replies needs no RECV at all.
"""

from __future__ import annotations

from typing import Final

from plugin.w5100 import registers as reg
from plugin.w5100.bus import Access
from plugin.w5100.errors import ConnectionLost, SocketTimeout
from plugin.w5100.hardware_socket import HardwareSocket, advance
from plugin.w5100.registers import SocketInterrupt, Status
from plugin.w5100.verdict import ended, loss
from plugin.w5100.waiting import INTERRUPT_LONGEST_S, Pace

INBOX_BYTES: Final = 0x10000
# RECV is due once what has been read and not freed makes up such a part of the ring.
UNRELEASED_SHARE: Final = 8
# Bits that tell nothing which the status or the counters do not tell as well, once the connection stands.
SPENT: Final = SocketInterrupt.SEND_OK | SocketInterrupt.CON


class Receiver:
    """What comes in on one connection. Made when the connection stands; for one thread."""

    def __init__(self, hw: HardwareSocket, *, peer: str, rx_rd: int) -> None:
        """``rx_rd``: Sn_RX_RD as it was read once the connection stood."""
        self._hw = hw
        self._peer = peer
        self._rx_rd = rx_rd
        self._unreleased = 0  # octets before rx_rd that RECV has not freed yet
        self._inbox = bytearray()
        self._left = 0  # octets known to lie in the RX ring
        self._astray = False  # a RECV broke off: Sn_RX_RD is unknown
        self._seen_end = False
        self._counted_at = hw.waiter.now()
        self._unsignalled: bool | None = None  # whether /INT was silent in the last wait; None: there was none

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        """As ``TcpSocket.receive``."""
        if self._inbox:
            return self._serve(max_bytes)
        if self._astray:
            raise ConnectionLost(f"{self._peer}: an earlier receive broke off in the middle")
        hw = self._hw
        deadline = hw.waiter.now() + timeout_s
        pace = Pace()
        self._unsignalled = None
        due = self._known_news()
        if not due and timeout_s > 0:
            due = self._wait(timeout_s, pace)
        while True:
            if due or self._glance():
                self._collect()
                if self._inbox:
                    return self._serve(max_bytes)
                verdict = ended(hw.status, hw.events, seen_end=self._seen_end)
                if verdict == "end":
                    self._seen_end = True
                    return b""
                if verdict != "no":
                    hw.look_for_reason()
                    raise loss(self._peer, hw.events)
            remaining = deadline - hw.waiter.now()
            if remaining <= 0:
                raise SocketTimeout(
                    f"{self._peer}: nothing received within {timeout_s:g} s (Sn_SR {reg.status_name(hw.status)})"
                )
            due = self._wait(remaining, pace)

    def read_on(self) -> None:
        """Move what has come from the ring to the inbox, if there is reason to think that something has.

        For a sender that has to wait: a peer whose replies nobody reads may stop reading itself (RFC 2920, section
        3.1), so the whole ring is freed for it. A full inbox leaves the rest in the ring.
        """
        known = self._left or self._hw.events & SocketInterrupt.RECV
        if len(self._inbox) < INBOX_BYTES and not self._astray and (known or self._overdue()):
            self._collect(release=True)

    def _serve(self, max_bytes: int) -> bytes:
        data = bytes(self._inbox[:max_bytes])
        del self._inbox[:max_bytes]
        return data

    # --- Is there anything? -----------------------------------------------------------------------------------

    def _known_news(self) -> bool:
        """Return True if what was seen already is a reason to count what the ring holds."""
        hw = self._hw
        return bool(
            self._left
            or hw.status != Status.ESTABLISHED
            or hw.events & SocketInterrupt.RECV
            or hw.standing & ~SPENT
        )

    def _glance(self) -> bool:
        """Return True if Sn_SR or Sn_IR, which cost two frames, are a reason to count."""
        self._hw.glance()
        return self._known_news()

    def _overdue(self) -> bool:
        """Return True when the counter should be read although no bit of Sn_IR says so."""
        return self._hw.waiter.now() - self._counted_at >= INTERRUPT_LONGEST_S

    def _wait(self, timeout_s: float, pace: Pace) -> bool:
        """Sleep until there may be news; True if counting is due, False if a glance will do."""
        hw = self._hw
        if hw.waiter.by_interrupt and not hw.standing & ~SPENT:
            hw.settle()
        by_interrupt = hw.waiter.by_interrupt
        self._unsignalled = hw.wait(timeout_s, pace)
        return by_interrupt or self._overdue()

    # --- Ring to inbox ----------------------------------------------------------------------------------------

    def _collect(self, *, release: bool = False) -> None:
        """Count what the ring holds and move it to the inbox, as much as fits; with ``release`` free all of it."""
        waiting = self._count()
        count = min(waiting, INBOX_BYTES - len(self._inbox))
        if count:
            self._hw.waiter.heard(silent=self._unsignalled)
            self._unsignalled = None
        self._take(count, release=release)
        self._left = waiting - count

    def _count(self) -> int:
        """Return how many octets wait in the ring. Sn_IR.RECV is cleared before they are counted."""
        hw = self._hw
        hw.events &= ~SocketInterrupt.RECV
        self._counted_at = hw.waiter.now()
        first, second = hw.look(*hw.pair(reg.Sn_RX_RSR), clear=SocketInterrupt.RECV)
        if hw.status == Status.CLOSE_WAIT:
            self._seen_end = True
        count = hw.agree(reg.Sn_RX_RSR, first, second, hw.rx.size_bytes)
        if hw.status == Status.CLOSED:
            return hw.unread(self._rx_rd, count) if count else 0
        return max(0, count - self._unreleased)

    def _take(self, count: int, *, release: bool) -> None:
        hw = self._hw
        unreleased = self._unreleased + count
        end = advance(self._rx_rd, count)
        accesses: list[Access] = hw.rx.read(self._rx_rd, count)
        if unreleased and (release or unreleased * UNRELEASED_SHARE >= hw.rx.size_bytes):
            self._astray = True  # until the chip has taken RECV
            data = hw.release(end, *accesses)
            self._astray = False
            unreleased = 0
        elif count:
            data = hw.transfer(accesses)
        else:
            return
        self._rx_rd, self._unreleased = end, unreleased
        self._inbox += b"".join(data)
