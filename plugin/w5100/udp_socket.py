"""UDP on one hardware socket: datagrams out and in, each under a deadline.

Eight octets stand before each datagram in the RX ring: source address, source port, size (W5100 datasheet, chapter
5.2.2). Two things that the silicon does wrong are kept from those above:

- A SEND at the moment in which a datagram arrives may never end: no SEND_OK, no TIMEOUT (errata sheet, erratum 1).
  So a SEND has a timer of its own; when it runs out the socket is CLOSEd and OPENed, and the datagram sent again.
- Without an address (SIPR = 0) the chip takes every destination for one behind the gateway (errata 2 and 3). So
  SUBR is 0 for the time of such a SEND, as in WIZnet's ioLibrary.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from plugin.w5100 import registers as reg
from plugin.w5100.bus import read, write
from plugin.w5100.errors import ChipLost, ChipTimeout, PeerTimeout, SocketTimeout, W5100Error
from plugin.w5100.hardware_socket import NO_EVENTS, HardwareSocket, advance
from plugin.w5100.registers import SocketInterrupt, SocketMode, Status
from plugin.w5100.verdict import silence
from plugin.w5100.waiting import Pace

log = logging.getLogger("hardwire.w5100")

HEADER_BYTES: Final = 8
DATAGRAM_BYTES: Final = 1472  # what one Ethernet frame takes; of more the chip would make several datagrams
WHOLE_TIMEOUT_S: Final = 0.1  # between the first octets of a datagram in the ring and its last
SEND_TRIES: Final = 3
ARP_TIMES: Final = 2  # a SEND that takes so many times as long as ARP may take has met the erratum
DONE: Final = SocketInterrupt.SEND_OK | SocketInterrupt.TIMEOUT
NO_MASK: Final = bytes(4)

Datagram = tuple[bytes, IPv4Address, int]
"""Data, source address, source port."""


class UdpSocket:
    """A UDP port. Not thread-safe: one thread, one socket. Made by ``Chip.udp_socket``.

    It hears everybody who sends to its port: whom to believe is the caller's decision.
    """

    def __init__(self, hardware: HardwareSocket, *, port: int, release: Callable[[UdpSocket], None]) -> None:
        self._hw = hardware
        self._port = port
        self._release = release
        self._closed = False
        self._astray = False  # an access broke off: the pointers are unknown until the socket is opened anew
        self._tx_wr = 0
        self._rx_rd = 0
        self._inbox: deque[Datagram] = deque()
        self._short_since: float | None = None  # since when a datagram in the ring has not been whole

    @property
    def number(self) -> int:
        """The number of the hardware socket, 0 to 3."""
        return self._hw.number

    @property
    def port(self) -> int:
        """The port that datagrams are sent from and received at (Sn_PORT)."""
        return self._port

    @property
    def status(self) -> str:
        """WIZnet's name of Sn_SR as it was last seen; no access to the chip."""
        return reg.status_name(self._hw.status)

    @property
    def hardware(self) -> HardwareSocket:
        """The registers below, for the chip that made this socket."""
        return self._hw

    def open(self) -> None:
        """OPEN, and see that Sn_SR becomes UDP; ``Chip.udp_socket`` has done it.

        Raises ChipTimeout when it does not, ChipLost after a reset of the chip, BusError.
        """
        hw = self._hw
        self._astray = True
        self._short_since = None
        for _ in range(2):  # a socket left in some other state is CLOSEd first, once
            if hw.open_as(SocketMode.UDP, self._port, Status.UDP):
                tx_wr, rx_rd = hw.look(read(hw.at(reg.Sn_TX_WR), 2), read(hw.at(reg.Sn_RX_RD), 2))
                self._tx_wr, self._rx_rd = int.from_bytes(tx_wr, "big"), int.from_bytes(rx_rd, "big")
                self._astray = False
                return
            hw.shut()
        raise ChipTimeout(f"UDP port {self._port}: socket {hw.number} does not open, Sn_SR does not become UDP")

    # --- Send -------------------------------------------------------------------------------------------------

    def send_to(self, data: bytes, address: str | IPv4Address, port: int, *, timeout_s: float) -> None:
        """Send one datagram of 1 to 1472 octets (less in a smaller ring); returns when the chip says SEND_OK.

        A broadcast needs no ARP and no address of one's own. Raises PeerTimeout (no answer to ARP), ChipTimeout
        (SEND without an end, several times), SocketTimeout (our deadline passed first), ChipLost, BusError,
        W5100Error for an address that no host can have, ValueError for sizes and ports that are none: after a SEND
        of nothing the chip's IP core hangs.
        """
        most = min(DATAGRAM_BYTES, self._hw.tx.size_bytes)
        if not 0 < len(data) <= most:
            raise ValueError(f"a datagram has 1 to {most} octets here, not {len(data)}")
        if not 0 < port < 0x10000:
            raise ValueError(f"port {port} is not between 1 and 65535")
        target = IPv4Address(address)
        if target.is_unspecified:
            raise W5100Error(f"{target}:{port}: no host can have this address")
        self._usable()
        deadline = self._hw.waiter.now() + timeout_s
        for _ in range(SEND_TRIES):
            done = self._send(data, target, port, deadline)
            if done & SocketInterrupt.SEND_OK:
                return
            self._salvage()
            if done:
                raise PeerTimeout(f"{target}:{port}: {silence(Status.ARP)}; the chip gave up (Sn_IR.TIMEOUT)")
            if self._hw.waiter.now() >= deadline:
                raise SocketTimeout(f"{target}:{port}: a datagram could not be sent within {timeout_s:g} s")
            log.warning("event=send_does_not_end socket=%d target=%s:%d", self.number, target, port)
        raise ChipTimeout(
            f"{target}:{port}: {SEND_TRIES} times SEND ended neither with SEND_OK nor TIMEOUT; reset the chip"
        )

    def _send(self, data: bytes, target: IPv4Address, port: int, deadline: float) -> SocketInterrupt:
        """Give one SEND; return SEND_OK, TIMEOUT, or nothing when neither came in time."""
        hw = self._hw
        # SUBR, SHAR, SIPR, IR, IMR, RTR and RCR lie one behind the other.
        common = hw.transfer([read(reg.SUBR, reg.RCR + 1 - reg.SUBR)])[0]
        mask, rtr, rcr = common[:4], int.from_bytes(common[-3:-1], "big"), common[-1]
        maskless = any(mask) and not any(common[reg.SIPR - reg.SUBR : reg.IR - reg.SUBR])
        end = advance(self._tx_wr, len(data))
        accesses = [
            *([write(reg.SUBR, NO_MASK)] if maskless else []),
            *hw.tx.write(self._tx_wr, data),
            write(hw.at(reg.Sn_DIPR), target.packed + port.to_bytes(2, "big")),
            write(hw.at(reg.Sn_TX_WR), end.to_bytes(2, "big")),
        ]
        self._astray = True
        hw.events &= ~DONE
        try:
            hw.send(*accesses, room=False)
            stuck_at = hw.waiter.now() + ARP_TIMES * rtr * reg.RTR_UNIT_S * (rcr + 1)
            done = self._until_done(min(stuck_at, deadline))
        finally:
            if maskless:
                hw.transfer([write(reg.SUBR, mask)])
        if done:
            self._tx_wr, self._astray = end, False
        return done

    def _until_done(self, deadline: float) -> SocketInterrupt:
        hw, pace = self._hw, Pace()
        silent: bool | None = None
        while not hw.events & DONE:
            remaining = deadline - hw.waiter.now()
            if remaining <= 0:
                return NO_EVENTS
            silent = hw.wait(remaining, pace)
            hw.look()
            self._check_status()
        hw.waiter.heard(silent=silent)
        return hw.events & DONE

    def _check_status(self) -> None:
        if self._hw.status == Status.CLOSED:
            self._hw.check_split()
            raise ChipLost(f"UDP port {self._port}: socket {self.number} is CLOSED although nobody closed it")

    # --- Receive ----------------------------------------------------------------------------------------------

    def receive_from(self, max_bytes: int, *, timeout_s: float) -> Datagram:
        """Return the next datagram: its data, at most ``max_bytes`` of them, its source address and source port.

        A longer one is cut, the rest is lost. With ``timeout_s`` 0 the chip is looked at once, without sleeping.
        Raises SocketTimeout (nothing came in time), ChipTimeout, ChipLost, BusError.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes}")
        self._usable()
        hw, pace = self._hw, Pace()
        deadline = hw.waiter.now() + timeout_s
        silent: bool | None = None
        while not self._inbox:
            if self._collect():
                hw.waiter.heard(silent=silent)
                break
            self._check_status()
            remaining = deadline - hw.waiter.now()
            if remaining <= 0:
                raise SocketTimeout(f"UDP port {self._port}: nothing received within {timeout_s:g} s")
            silent = hw.wait(remaining, pace)
        data, address, port = self._inbox.popleft()
        return data[:max_bytes], address, port

    def _collect(self) -> bool:
        """Move one datagram from the ring to the inbox; False if there is none that is whole."""
        hw = self._hw
        first, second = hw.look(*hw.pair(reg.Sn_RX_RSR), clear=SocketInterrupt.RECV)
        count = hw.agree(reg.Sn_RX_RSR, first, second, hw.rx.size_bytes)
        if not count:
            return False
        header = b""
        if count >= HEADER_BYTES:
            header = b"".join(hw.transfer(hw.rx.read(self._rx_rd, HEADER_BYTES)))
        size = HEADER_BYTES + int.from_bytes(header[6:], "big")
        if not header or size > count:
            self._note_short()
            return False
        end = advance(self._rx_rd, size)
        self._astray = True
        data = hw.release(end, *hw.rx.read(advance(self._rx_rd, HEADER_BYTES), size - HEADER_BYTES))
        self._rx_rd, self._astray, self._short_since = end, False, None
        self._inbox.append((b"".join(data), IPv4Address(header[:4]), int.from_bytes(header[4:6], "big")))
        return True

    def _note_short(self) -> None:
        """Take note of a datagram that is not whole; one that stays so is none, and the ring is begun anew."""
        now = self._hw.waiter.now()
        if self._short_since is None:
            self._short_since = now
        elif now - self._short_since > WHOLE_TIMEOUT_S:
            log.warning("event=no_datagram_in_ring port=%d", self._port)
            self.open()

    # --- Open anew, close -------------------------------------------------------------------------------------

    def _usable(self) -> None:
        if self._closed:
            raise W5100Error(f"UDP port {self._port}: socket {self.number} is closed")
        if self._astray:
            self._hw.shut()
            self.open()

    def _salvage(self) -> None:
        """CLOSE and OPEN, which empties the ring; what had come in goes to the inbox before."""
        try:
            while self._collect():
                pass
        except ChipTimeout as error:
            log.warning("event=received_is_lost port=%d problem=%r", self._port, str(error))
        self._hw.shut()
        self.open()

    def close(self) -> None:
        """CLOSE, and give the hardware socket back. Never raises and may be repeated."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._hw.retired:
                self._hw.shut()
        except Exception as error:  # noqa: BLE001 - a foreign bus may raise anything, and close must go on
            log.warning("event=close_failed socket=%d problem=%r", self.number, str(error))
        finally:
            self._release(self)
