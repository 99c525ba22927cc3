"""One TCP connection on one hardware socket: connect, send all, receive, close, each under a deadline.

It has the shape of a mail client's Stream without knowing it. What Sn_SR and Sn_IR mean is decided by pure
functions (``verdict.py``); this module opens and closes, ``sending.py`` and ``receiving.py`` do what lies between.
Words and values: W5100 datasheet, chapter 4.
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
from plugin.w5100.hardware_socket import HardwareSocket
from plugin.w5100.receiving import Receiver
from plugin.w5100.registers import Command, SocketMode, Status
from plugin.w5100.sending import Sender
from plugin.w5100.verdict import connecting, silence
from plugin.w5100.waiting import Pace

log = logging.getLogger("hardwire.w5100")

# No delayed ACK: else each segment of the peer is acknowledged only after RTR, 200 ms, which a dialogue of
# requests and answers pays at every step.
TCP_MODE: Final = SocketMode.TCP | SocketMode.ND
OPEN_TIMEOUT_S: Final = 0.05
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
        self._sides: tuple[Receiver, Sender] | None = None  # of the connection, once it stands
        self._peer = "not connected"

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
        self._opened = True
        try:
            self._open()
            there = target.packed + port.to_bytes(2, "big")
            self._hw.command(Command.CONNECT, write(self._hw.at(reg.Sn_DIPR), there))
            self._sides = self._until_connected(deadline, timeout_s)
        except BaseException:
            self._shut()
            raise
        log.debug("socket %d: connected to %s", self.number, self._peer)

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
                log.warning("event=socket_not_open socket=%d status=%s", hw.number, self.status)
                hw.shut()
        raise ChipTimeout(
            f"{self._peer}: socket {hw.number} does not open, Sn_SR is {self.status} instead of INIT"
        )

    def _until_connected(self, deadline: float, timeout_s: float) -> tuple[Receiver, Sender]:
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
                receiver = Receiver(hw, peer=self._peer, rx_rd=int.from_bytes(rx_rd, "big"))
                return receiver, Sender(hw, receiver, peer=self._peer, tx_wr=int.from_bytes(tx_wr, "big"))
            if verdict == "timeout":
                raise PeerTimeout(
                    f"{self._peer}: {silence(before, shows_arp=hw.shows_arp)}; the chip gave up (Sn_IR.TIMEOUT)"
                )
            if verdict == "refused":
                hw.look_for_reason()
                if connecting(hw.status, hw.events) != "refused":
                    continue
                raise ConnectRefused(f"{self._peer}: connection refused, nothing listens there")
            before = hw.status
            remaining = deadline - hw.waiter.now()
            if remaining <= 0:
                raise SocketTimeout(
                    f"{self._peer}: {silence(before, shows_arp=hw.shows_arp)} within {timeout_s:g} s"
                )
            hw.wait(remaining, pace)

    # --- Send and receive -------------------------------------------------------------------------------------

    @property
    def window_bytes(self) -> int:
        """So many octets the peer can send before it is held up because nobody reads: the size of the RX ring.

        Up to an eighth of it may hold what was read and is yet to be freed; a send that waits frees that too.
        """
        return self._hw.rx.size_bytes

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        """Send all of ``data``; returns when the chip says SEND_OK: all is transmitted.

        While it has to wait, what the peer says is read into memory (up to 64 KiB), for ``receive`` to hand out.
        Raises PeerTimeout (no acknowledgement), ConnectionLost (reset), ChipTimeout (SEND without SEND_OK),
        SocketTimeout (not all in time), ChipLost, BusError. After any of them the stream has a gap: nothing more
        can be sent, but ``receive`` may still tell why.
        """
        _, sender = self._connection()
        sender.send_all(data, timeout_s=timeout_s)

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        """Return 1 to ``max_bytes`` octets as soon as there are any; b"" once the peer has ended and all is read.

        With ``timeout_s`` 0 the chip is looked at once, without sleeping. Raises SocketTimeout (nothing came in
        time), PeerTimeout, ConnectionLost (reset, all before it is read), ChipTimeout, ChipLost, BusError.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes}")
        receiver, _ = self._connection()
        return receiver.receive(max_bytes, timeout_s=timeout_s)

    def _connection(self) -> tuple[Receiver, Sender]:
        if self._sides is None:
            raise ConnectionLost(f"socket {self.number} is not connected ({self._peer})")
        return self._sides

    # --- Close ------------------------------------------------------------------------------------------------

    def close(self, *, timeout_s: float = 1.0) -> None:
        """End the connection in order (FIN) if ``timeout_s`` is enough for it, CLOSE, release the hardware socket.

        Never raises and may be repeated. What was received and not read is lost.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._sides is not None and not self._hw.retired:
                self._disconnect(self._sides[1], self._hw.waiter.now() + timeout_s)
        except Exception as error:  # noqa: BLE001 - a foreign bus may raise anything, and close must go on
            log.warning("event=no_orderly_end socket=%d peer=%s problem=%r", self.number, self._peer, str(error))
        finally:
            self._shut()
            self._release(self)

    def _disconnect(self, sender: Sender, deadline: float) -> None:
        """DISCON once all is acknowledged: with data pending, each further segment would carry FIN (silicon)."""
        hw, pace = self._hw, Pace()
        while True:
            acknowledged = sender.all_acknowledged()
            if hw.status not in (Status.ESTABLISHED, Status.CLOSE_WAIT):
                return
            if acknowledged:
                break
            remaining = deadline - hw.waiter.now()
            if remaining <= 0:
                log.info("event=closed_without_fin socket=%d peer=%s", hw.number, self._peer)
                return
            hw.waiter.pause(remaining, pace)
        hw.command(Command.DISCON)
        pace = Pace()
        while hw.status != Status.CLOSED:
            remaining = deadline - hw.waiter.now()
            if remaining <= 0:
                log.info("event=peer_did_not_end socket=%d peer=%s status=%s", hw.number, self._peer, self.status)
                return
            hw.wait(remaining, pace)
            hw.look()

    def _shut(self) -> None:
        """CLOSE; never raises. Should it fail, the next OPEN finds out, because it looks for INIT."""
        self._sides = None
        if not self._opened:
            return
        self._opened = False
        if self._hw.retired:
            return
        try:
            self._hw.shut()
        except Exception as error:  # noqa: BLE001 - a foreign bus may raise anything
            log.warning("event=close_failed socket=%d problem=%r", self.number, str(error))
