"""One TCP connection on one hardware socket: connect, send all, receive, close, each under a deadline.

It has the shape of a mail client's Stream without knowing it. What Sn_SR and Sn_IR mean is decided by pure
functions (``verdict.py``); this module carries it out. Words and values: W5100 datasheet, chapter 4.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from plugin.w5100 import registers as reg
from plugin.w5100.bus import read, write
from plugin.w5100.errors import (
    ChipTimeout,
    ConnectionLost,
    ConnectRefused,
    PeerTimeout,
    SocketTimeout,
    W5100Error,
)
from plugin.w5100.hardware_socket import HardwareSocket, advance
from plugin.w5100.registers import Command, SocketInterrupt, SocketMode, Status
from plugin.w5100.verdict import connecting, ended, silence
from plugin.w5100.waiting import Pace

log = logging.getLogger("hardwire.w5100")

# No delayed ACK: else each segment of the peer is acknowledged only after RTR, 200 ms, which a dialogue of
# requests and answers pays at every step.
TCP_MODE: Final = SocketMode.TCP | SocketMode.ND
OPEN_TIMEOUT_S: Final = 0.05
# Bits that tell nothing which the status or the counters do not tell as well, once the connection stands.
SPENT: Final = SocketInterrupt.SEND_OK | SocketInterrupt.CON
LIMITED_BROADCAST: Final = IPv4Address("255.255.255.255")


class TcpSocket:
    """A TCP connection. Not thread-safe: one thread, one socket. Made by ``Chip.tcp_socket``.

    After a failed ``connect`` it may be tried again, with another peer too. ``receive`` still hands out what had
    come in when the connection was lost; only ``close`` throws it away.
    """

    def __init__(
        self,
        hardware: HardwareSocket,
        *,
        next_port: Callable[[], int],
        release: Callable[[TcpSocket], None],
    ) -> None:
        self._hw = hardware
        self._next_port = next_port
        self._release = release
        self._closed = False
        self._opened = False  # OPEN was given and CLOSE not since
        self._connected = False
        self._peer = "not connected"
        self._tx_wr = 0  # end of what SEND was given
        self._free = 0  # so many octets of the TX ring are free at least
        self._running = 0  # octets of the SEND that has no SEND_OK yet
        self._torn = False  # a send_all broke off: what follows would not join up
        self._rx_rd = 0
        self._left = 0  # octets known to lie in the RX ring
        self._astray = False  # a take broke off: Sn_RX_RD is unknown
        self._seen_end = False
        self._unsignalled: bool | None = None  # whether /INT was silent in the last wait; None: there was none

    @property
    def number(self) -> int:
        """The number of the hardware socket, 0 to 3."""
        return self._hw.number

    @property
    def status(self) -> str:
        """WIZnet's name of Sn_SR as it was last seen; no access to the chip."""
        return reg.status_name(self._hw.status)

    @property
    def peer(self) -> str:
        """``address:port`` of the last ``connect``."""
        return self._peer

    @property
    def hardware(self) -> HardwareSocket:
        """The registers below, for the chip that made this socket."""
        return self._hw

    # --- Connect ----------------------------------------------------------------------------------------------

    def connect(self, address: str | IPv4Address, port: int, *, timeout_s: float) -> None:
        """Connect to ``address``:``port``.

        Raises ConnectRefused (RST to the SYN), PeerTimeout (the chip gave up on ARP or SYN), SocketTimeout (our
        deadline passed first), ChipTimeout, ChipLost or BusError (the chip), W5100Error for an address that
        cannot be a peer, ValueError for one that is none. The socket is CLOSEd after each of them.
        """
        target = IPv4Address(address)
        if not 0 < port < 0x10000:
            raise ValueError(f"port {port} is not between 1 and 65535")
        if self._closed or self._opened:
            raise W5100Error(f"socket {self.number} is {'closed' if self._closed else 'in use'}")
        self._peer = f"{target}:{port}"
        if target.is_unspecified or target.is_multicast or target == LIMITED_BROADCAST:
            raise W5100Error(f"{self._peer}: no host can have this address")
        deadline = self._hw.waiter.now() + timeout_s
        self._begin()
        try:
            self._open()
            there = target.packed + port.to_bytes(2, "big")
            self._hw.command(Command.CONNECT, write(self._hw.at(reg.Sn_DIPR), there))
            self._until_connected(deadline, timeout_s)
        except BaseException:
            self._shut()
            raise
        self._connected = True
        log.debug("socket %d: connected to %s", self.number, self._peer)

    def _begin(self) -> None:
        self._opened = True
        self._free = self._hw.tx.size_bytes  # a new connection has nothing on its way
        self._running = self._left = 0
        self._torn = self._astray = self._seen_end = False
        self._unsignalled = None

    def _open(self) -> None:
        """OPEN, and see that Sn_SR becomes INIT; a socket left in some other state is CLOSEd first, once."""
        hw = self._hw
        for attempt in (1, 2):
            hw.open(TCP_MODE, self._next_port())
            pace, deadline = Pace(), hw.waiter.now() + OPEN_TIMEOUT_S
            while hw.status != Status.INIT and hw.waiter.now() < deadline:
                hw.waiter.pause(OPEN_TIMEOUT_S, pace)
                hw.look()
            if hw.status == Status.INIT:
                return
            if attempt == 1:
                log.warning("socket %d: Sn_SR is %s after OPEN; closing and opening again", hw.number, self.status)
                hw.shut()
        raise ChipTimeout(
            f"{self._peer}: socket {hw.number} does not open, Sn_SR is {self.status} instead of INIT"
        )

    def _until_connected(self, deadline: float, timeout_s: float) -> None:
        hw, pace = self._hw, Pace()
        # Sn_TX_WR starts at the low half of ISN + 1 once connected, Sn_RX_RD at 0 or, some papers say, anywhere.
        pointers = read(hw.at(reg.Sn_TX_WR), 2), read(hw.at(reg.Sn_RX_RD), 2)
        before = hw.status
        if connecting(hw.status, hw.events) == "wait":
            hw.wait(max(0.0, deadline - hw.waiter.now()), pace)
        while True:
            tx_wr, rx_rd = hw.look(*pointers)
            verdict = connecting(hw.status, hw.events)
            if verdict == "open":
                self._tx_wr = int.from_bytes(tx_wr, "big")
                self._rx_rd = int.from_bytes(rx_rd, "big")
                return
            if verdict == "timeout":
                raise PeerTimeout(f"{self._peer}: {silence(before)}; the chip gave up (Sn_IR.TIMEOUT)")
            if verdict == "refused":
                hw.look_for_reason()
                if connecting(hw.status, hw.events) != "refused":
                    continue
                raise ConnectRefused(f"{self._peer}: connection refused, nothing listens there")
            before = hw.status
            remaining = deadline - hw.waiter.now()
            if remaining <= 0:
                raise SocketTimeout(f"{self._peer}: {silence(before)} within {timeout_s:g} s")
            hw.wait(remaining, pace)

    # --- Send -------------------------------------------------------------------------------------------------

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        """Send all of ``data``; returns when the chip says SEND_OK: all is transmitted.

        Raises PeerTimeout (no acknowledgement), ConnectionLost (reset), ChipTimeout (SEND without SEND_OK),
        SocketTimeout (not all in time), ChipLost, BusError. After any of them the stream has a gap: nothing more
        can be sent, but ``receive`` may still tell why.
        """
        self._demand_connection()
        if self._torn:
            raise ConnectionLost(f"{self._peer}: an earlier send broke off, nothing can follow it")
        view = memoryview(data).cast("B")
        deadline = self._hw.waiter.now() + timeout_s
        self._torn = True  # until it is all through
        if len(view) > self._free:
            self._look_tx(room=True)
        self._pump(view, deadline, timeout_s)
        self._torn = False

    def _pump(self, view: memoryview, deadline: float, timeout_s: float) -> None:
        """Copy into the ring and SEND until all of ``view`` is transmitted.

        The chip has one SEND at a time, [Sn_TX_RD, Sn_TX_WR). What is copied beyond Sn_TX_WR meanwhile does not
        touch it; so long data go by half a ring, the one half being copied while the other is under way. Both
        together never exceed the ring, even if Sn_TX_FSR should lag behind a SEND that was just taken.
        """
        hw, ring = self._hw, self._hw.tx
        most = ring.size_bytes if len(view) <= ring.size_bytes else ring.size_bytes // 2
        copied = staged = 0
        pace = Pace()
        while copied < len(view) or staged or self._running:
            if hw.status == Status.CLOSED:
                raise self._lost()
            if copied and hw.waiter.now() > deadline:
                raise self._late(timeout_s)
            count = max(0, min(self._free - staged, len(view) - copied, most - staged))
            accesses = ring.write(advance(self._tx_wr, staged), bytes(view[copied : copied + count]))
            copied += count
            staged += count
            if staged and not self._running:
                end = advance(self._tx_wr, staged)
                point = write(hw.at(reg.Sn_TX_WR), end.to_bytes(2, "big"))
                self._running, self._tx_wr = staged, end
                self._free -= staged
                staged = 0
                hw.command(Command.SEND, *accesses, point, forget=SocketInterrupt.SEND_OK)
                pace = Pace()
            elif count:
                hw.look(*accesses)
            else:
                self._wait_tx(deadline, timeout_s, pace)
                self._look_tx(room=copied < len(view))
            self._note_sent()

    def _wait_tx(self, deadline: float, timeout_s: float, pace: Pace) -> None:
        """Wait for SEND_OK, or for room: an acknowledgement frees it without raising an interrupt."""
        hw = self._hw
        remaining = deadline - hw.waiter.now()
        if remaining <= 0:
            raise self._late(timeout_s)
        if self._running:
            hw.wait(remaining, pace)
        else:
            hw.waiter.pause(remaining, pace)

    def _late(self, timeout_s: float) -> W5100Error:
        if self._running:
            return ChipTimeout(
                f"{self._peer}: SEND of {self._running} octets without SEND_OK within {timeout_s:g} s "
                f"(Sn_SR {self.status})"
            )
        return SocketTimeout(f"{self._peer}: not all could be sent within {timeout_s:g} s")

    def _look_tx(self, *, room: bool) -> None:
        """Look, and with ``room`` learn from Sn_TX_FSR how much of the ring is free."""
        hw = self._hw
        if not room:
            hw.look()
            return
        first, second = hw.look(*hw.pair(reg.Sn_TX_FSR))
        self._note_sent()
        self._free = hw.agree(reg.Sn_TX_FSR, first, second, hw.tx.size_bytes)

    def _note_sent(self) -> None:
        if self._hw.events & SocketInterrupt.SEND_OK:
            self._running = 0

    # --- Receive ----------------------------------------------------------------------------------------------

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        """Return 1 to ``max_bytes`` octets as soon as there are any; b"" once the peer has ended and all is read.

        Raises SocketTimeout (nothing came in time), PeerTimeout, ConnectionLost (reset, all before it is read),
        ChipTimeout, ChipLost, BusError.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes}")
        self._demand_connection()
        if self._astray:
            raise ConnectionLost(f"{self._peer}: an earlier receive broke off in the middle")
        deadline = self._hw.waiter.now() + timeout_s
        pace = Pace()
        if timeout_s > 0 and self._nothing_new():
            self._unsignalled = self._hw.wait(timeout_s, pace)
        while True:
            count = self._look_rx()
            if count:
                return self._take(min(max_bytes, count), count)
            verdict = ended(self._hw.status, self._hw.events, seen_end=self._seen_end)
            if verdict == "end":
                self._seen_end = True
                return b""
            if verdict != "no":
                raise self._lost()
            remaining = deadline - self._hw.waiter.now()
            if remaining <= 0:
                raise SocketTimeout(f"{self._peer}: nothing received within {timeout_s:g} s (Sn_SR {self.status})")
            self._unsignalled = self._hw.wait(remaining, pace)

    def _nothing_new(self) -> bool:
        """Return True if the last look leaves nothing to do but to wait; Sn_IR is cleared then."""
        hw = self._hw
        if (
            self._left
            or hw.status != Status.ESTABLISHED
            or hw.events & SocketInterrupt.RECV
            or hw.standing & ~SPENT
        ):
            return False
        if hw.waiter.by_interrupt:
            hw.settle()
        return True

    def _look_rx(self) -> int:
        """Return how many octets wait in the ring. Sn_IR.RECV is cleared before they are counted."""
        hw = self._hw
        hw.events &= ~SocketInterrupt.RECV
        first, second = hw.look(*hw.pair(reg.Sn_RX_RSR), clear=SocketInterrupt.RECV)
        if hw.status == Status.CLOSE_WAIT:
            self._seen_end = True
        count = hw.agree(reg.Sn_RX_RSR, first, second, hw.rx.size_bytes)
        return hw.unread(self._rx_rd, count) if count and hw.status == Status.CLOSED else count

    def _take(self, count: int, waiting: int) -> bytes:
        if self._unsignalled is not None and self._hw.waiter.heard(silent=self._unsignalled):
            log.warning("/INT stays high although data came: is the line connected? Polling from now on")
        self._unsignalled = None
        self._astray = True  # until the chip has taken RECV
        data = self._hw.take(self._rx_rd, count)
        self._astray = False
        self._rx_rd = advance(self._rx_rd, count)
        self._left = waiting - count
        return data

    # --- Close ------------------------------------------------------------------------------------------------

    def close(self, *, timeout_s: float = 1.0) -> None:
        """End the connection in order (FIN) if ``timeout_s`` is enough for it, CLOSE, release the hardware socket.

        Never raises and may be repeated. What was received and not read is lost.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._connected and self._opened and not self._hw.retired:
                self._disconnect(self._hw.waiter.now() + timeout_s)
        except Exception as error:  # noqa: BLE001 - a foreign bus may raise anything, and close must go on
            log.warning("socket %d: %s: no orderly end: %s", self.number, self._peer, error)
        finally:
            self._shut()
            self._release(self)

    def _disconnect(self, deadline: float) -> None:
        """DISCON once all is acknowledged: with data pending, each further segment would carry FIN (silicon)."""
        hw, pace = self._hw, Pace()
        while True:
            self._look_tx(room=True)
            if hw.status not in (Status.ESTABLISHED, Status.CLOSE_WAIT):
                return
            if self._free == hw.tx.size_bytes and not self._running:
                break
            remaining = deadline - hw.waiter.now()
            if remaining <= 0:
                log.info(
                    "socket %d: %s did not acknowledge all in time; closing without FIN", hw.number, self._peer
                )
                return
            hw.waiter.pause(remaining, pace)
        hw.command(Command.DISCON)
        pace = Pace()
        while hw.status != Status.CLOSED:
            remaining = deadline - hw.waiter.now()
            if remaining <= 0:
                log.info("socket %d: %s did not end in time (Sn_SR %s)", hw.number, self._peer, self.status)
                return
            hw.wait(remaining, pace)
            hw.look()

    def _shut(self) -> None:
        """CLOSE; never raises. Should it fail, the next OPEN finds out, because it looks for INIT."""
        self._connected = False
        if not self._opened:
            return
        self._opened = False
        if self._hw.retired:
            return
        try:
            self._hw.shut()
        except Exception as error:  # noqa: BLE001 - a foreign bus may raise anything
            log.warning("socket %d: CLOSE failed: %s", self.number, error)

    # --- Why it is over ---------------------------------------------------------------------------------------

    def _demand_connection(self) -> None:
        if not self._connected:
            raise ConnectionLost(f"socket {self.number} is not connected ({self._peer})")

    def _lost(self) -> W5100Error:
        """Return the error for Sn_SR = CLOSED in a connection."""
        self._hw.look_for_reason()
        if self._hw.events & SocketInterrupt.TIMEOUT:
            return PeerTimeout(f"{self._peer}: no acknowledgement; the chip gave up (Sn_IR.TIMEOUT)")
        return ConnectionLost(f"{self._peer}: connection reset by the peer")
