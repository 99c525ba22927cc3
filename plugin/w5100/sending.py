"""The sending side of one TCP connection: the TX ring, one SEND at a time, and room as the peer acknowledges.

A send that has to wait lets the receiving side read on meanwhile, so that two who wait for each other to read
cannot block each other.
"""

from __future__ import annotations

from typing import Final

from plugin.w5100 import registers as reg
from plugin.w5100.bus import Access, write
from plugin.w5100.errors import ChipTimeout, ConnectionLost, SocketTimeout, W5100Error
from plugin.w5100.hardware_socket import HardwareSocket, advance
from plugin.w5100.receiving import Receiver
from plugin.w5100.registers import SocketInterrupt, Status
from plugin.w5100.verdict import loss, portion
from plugin.w5100.waiting import Pace

SEND_OK_S: Final = 60.0
"""A SEND without SEND_OK or TIMEOUT for so long is a fault of the chip: with RTR and RCR as they are after a reset
it gives up after 32 s, and a peer whose window stays closed has had its time."""


class Sender:
    """What goes out on one connection. Made when the connection stands; for one thread."""

    def __init__(self, hw: HardwareSocket, receiver: Receiver, *, peer: str, tx_wr: int) -> None:
        """``tx_wr``: Sn_TX_WR as it was read once the connection stood."""
        self._hw = hw
        self._receiver = receiver
        self._peer = peer
        self._tx_wr = tx_wr  # end of what SEND was given
        self._free = hw.tx.size_bytes  # so many octets of the ring behind tx_wr are free at least
        self._running = 0  # octets of the SEND that has no SEND_OK yet
        self._sent_at = 0.0
        self._unsignalled: bool | None = None  # whether /INT was silent in the last wait for SEND_OK
        self._torn = False  # a send_all broke off: what follows would not join up

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        """As ``TcpSocket.send_all``."""
        if self._torn:
            raise ConnectionLost(f"{self._peer}: an earlier send broke off, nothing can follow it")
        self._torn = True  # until it is all through
        self._pump(memoryview(data).cast("B"), self._hw.waiter.now() + timeout_s, timeout_s)
        self._torn = False

    def all_acknowledged(self) -> bool:
        """Look at the chip; True if it holds nothing that it has yet to send or to send again."""
        self._look(room=True)
        return not self._running and self._free == self._hw.tx.size_bytes

    def _pump(self, view: memoryview, deadline: float, timeout_s: float) -> None:
        """Copy into the ring and SEND until all of ``view`` is transmitted.

        The chip has one SEND at a time, [Sn_TX_RD, Sn_TX_WR). What is copied behind Sn_TX_WR meanwhile does not
        touch it; so long data go by half a ring, the one half being copied while the other is under way. Where
        SEND_OK stands as soon as SEND is taken, nothing is gained by that, and the next SEND has all the room.
        """
        hw, size = self._hw, self._hw.tx.size_bytes
        short = len(view) <= size
        most = size if short else size // 2
        copied = staged = 0
        prompt = True
        pace = Pace()
        if self._free < min(len(view), most):
            self._look(room=True)
        while copied < len(view) or staged or self._running:
            if hw.status == Status.CLOSED:
                hw.look_for_reason()
                raise loss(self._peer, hw.events)
            if copied and hw.waiter.now() > deadline:
                raise self._late(timeout_s)
            left = len(view) - copied
            count = portion(left=left, room=self._free - staged, staged=staged, ring_bytes=size, most=most)
            accesses = hw.tx.write(advance(self._tx_wr, staged), bytes(view[copied : copied + count]))
            copied += count
            staged += count
            if staged and not self._running:
                self._send(staged, accesses, room=prompt and count < left)
                staged = 0
                prompt = not self._running
                most = size if short or prompt else size // 2
                pace = Pace()
            elif count:
                self._look(*accesses, room=count < left)
            else:
                self._wait(deadline, timeout_s, pace)
                self._look(room=left > 0)
                if self._running or self._free - staged < min(left, most - staged):
                    self._receiver.read_on()
                    self._note_sent()  # read_on looks too

    def _send(self, count: int, accesses: list[Access], *, room: bool) -> None:
        """SEND the next ``count`` octets, the last of which ``accesses`` copy; with ``room`` see what is free."""
        hw = self._hw
        self._tx_wr = advance(self._tx_wr, count)
        self._running = count
        self._sent_at = hw.waiter.now()
        self._unsignalled = None
        self._free -= count
        point = write(hw.at(reg.Sn_TX_WR), self._tx_wr.to_bytes(2, "big"))
        high = hw.send(*accesses, point, room=room)
        self._note_sent()
        self._note_free(high)

    def _wait(self, deadline: float, timeout_s: float, pace: Pace) -> None:
        """Wait for SEND_OK, or for room: an acknowledgement frees it without raising an interrupt."""
        hw = self._hw
        if self._running and self._sent_at + SEND_OK_S < deadline:
            deadline, timeout_s = self._sent_at + SEND_OK_S, SEND_OK_S
        remaining = deadline - hw.waiter.now()
        if remaining <= 0:
            raise self._late(timeout_s)
        if self._running:
            self._unsignalled = hw.wait(remaining, pace)
        else:
            hw.waiter.pause(remaining, pace)

    def _late(self, timeout_s: float) -> W5100Error:
        if self._running:
            return ChipTimeout(
                f"{self._peer}: SEND of {self._running} octets without SEND_OK within {timeout_s:g} s "
                f"(Sn_SR {reg.status_name(self._hw.status)})"
            )
        return SocketTimeout(f"{self._peer}: not all could be sent within {timeout_s:g} s")

    def _look(self, *accesses: Access, room: bool) -> None:
        """Do ``accesses`` and look; with ``room`` learn from Sn_TX_FSR how much of the ring is free."""
        hw = self._hw
        extra = hw.high_pair(reg.Sn_TX_FSR) if room else ()
        out = hw.look(*accesses, *extra)
        self._note_sent()
        self._note_free(out[len(accesses) :])

    def _note_sent(self) -> None:
        if self._running and self._hw.events & SocketInterrupt.SEND_OK:
            self._running = 0
            self._hw.waiter.heard(silent=self._unsignalled)

    def _note_free(self, high: list[bytes]) -> None:
        """Take in two reads of Sn_TX_FSR, or none; before SEND_OK it may not know yet of the SEND."""
        if high and not self._running:
            self._free = self._hw.agree(reg.Sn_TX_FSR, high[0], high[1], self._hw.tx.size_bytes)
