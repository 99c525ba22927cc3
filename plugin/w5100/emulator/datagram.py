"""UDP and IPRAW between OPEN and CLOSE: one kernel socket, a header in front of each datagram received."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from typing import Final

from plugin.w5100 import registers as reg
from plugin.w5100.emulator import network as net
from plugin.w5100.emulator.state import SocketState, Surroundings
from plugin.w5100.emulator.tcp import NOWHERE, hardware_address
from plugin.w5100.emulator.timing import arp_timeout_s
from plugin.w5100.registers import Command, SocketInterrupt, SocketMode, Status

DATAGRAM_LIMIT: Final = 0x10000
DATAGRAMS_AT_A_TIME: Final = 64
IP_HEADER_LENGTH_MASK: Final = 0x0F
ECHO_REQUEST: Final = 8
ECHO_REPLY: Final = 0
ICMP_HEADER_BYTES: Final = 8


class DatagramEngine:
    """One UDP or IPRAW socket of the chip from Sn_SR = UDP or IPRAW on."""

    def __init__(self, state: SocketState, around: Surroundings, *, raw: bool) -> None:
        self._state = state
        self._around = around
        self._rest = Status.IPRAW if raw else Status.UDP
        self._raw = raw
        self._with_ip_header = False
        self._unanswered_since = 0.0
        self._sending = False
        self._hung = False
        self._echo_identifier: bytes | None = None
        self._kernel: socket.socket | None
        if raw:
            self._kernel, self._with_ip_header = around.network.open_raw(state.read(reg.Sn_PROTO))
        else:
            self._kernel = around.network.open_udp(state.word(reg.Sn_PORT))
            if state.mode & SocketMode.MULTI:
                state.take_over(reg.Sn_DHAR, reg.Sn_DIPR, reg.Sn_DPORT)
                self._join(state.octets(reg.Sn_DIPR))
        state.status = self._rest

    def _join(self, group: bytes) -> None:
        if self._kernel is not None:
            with contextlib.suppress(OSError):  # not a group, or no interface for it: then nothing comes from it
                member = group + socket.inet_aton(net.ANY)
                self._kernel.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)

    # --- commands ---------------------------------------------------------------------------------------

    def command(self, command: int) -> None:
        """Carry out SEND or SEND_MAC; both leave the next hop to the host's kernel."""
        state = self._state
        if command not in {Command.SEND, Command.SEND_MAC} or state.status != self._rest:
            return
        state.take_over(reg.Sn_TX_WR)
        if self._hung:
            return
        state.take_over(reg.Sn_DIPR, reg.Sn_DPORT)
        if command == Command.SEND_MAC or state.mode & SocketMode.MULTI:
            state.take_over(reg.Sn_DHAR)
        else:
            state.store(reg.Sn_DHAR, hardware_address(state.destination[0]))
        empty = not state.tx.size or (not self._raw and not state.tx_pending)
        if empty or self._around.faults.send_unanswered(state.number):
            self._hung = True  # silicon never ends such a SEND; CLOSE and OPEN help
            return
        self._sending = True
        if not self._send():
            state.status = Status.ARP
            self._unanswered_since = self._around.clock()

    def _send(self) -> bool:
        """Send [TX_RD, TX_WR): UDP in pieces of the MSS; IPRAW beyond the MSS is dropped, yet SEND_OK comes.

        False where the network knows no way to the destination. A full buffer of the kernel is no failure.
        """
        state = self._state
        mss = state.word(reg.Sn_MSSR)
        if self._raw and state.tx_pending > mss:
            self._take(state.tx_pending)
        while pending := state.tx_pending:
            data = state.tx.read(state.tx_una, min(pending, mss))
            error = self._transmit(data) if data else errno.EAGAIN
            if error:
                return error == errno.EAGAIN
            self._take(len(data))
        self._sending = False
        state.raise_interrupt(SocketInterrupt.SEND_OK)
        return True

    def _take(self, count: int) -> None:
        self._state.taken(count)
        self._state.store_word(reg.Sn_TX_RD, self._state.tx_una)

    def _transmit(self, data: bytes) -> int:
        """Hand one datagram to the kernel; return 0 or an errno, where it has no way to the destination."""
        address = self._state.destination
        if self._kernel is None or address[0] == NOWHERE or self._around.faults.link_down():
            return errno.EHOSTUNREACH
        if self._raw:
            address = (address[0], 0)
            if self._state.read(reg.Sn_PROTO) == socket.IPPROTO_ICMP and data[:1] == bytes((ECHO_REQUEST,)):
                self._echo_identifier = data[4:6]
        for _ in range(DATAGRAMS_AT_A_TIME):
            try:
                self._kernel.sendto(data, address)
            except BlockingIOError:
                return errno.EAGAIN
            except ConnectionRefusedError:
                self._take_errors()  # it belongs to a datagram sent before; ours was not sent yet
            except OSError as trouble:
                if trouble.errno == errno.ENETUNREACH and address[0] == net.LIMITED_BROADCAST:
                    return net.broadcast(self._kernel, data, address[1])
                return trouble.errno or errno.EHOSTUNREACH
            else:
                return 0
        return errno.EAGAIN

    # --- the network and the clock ----------------------------------------------------------------------

    def step(self, events: dict[int, int]) -> bool:
        """Receive what has come; finish a SEND, or give it up."""
        state, kernel = self._state, self._kernel
        happened = 0 if kernel is None else events.get(kernel.fileno(), 0)
        if kernel is not None and happened & select.POLLERR:
            self._take_errors()
        if kernel is not None and happened & select.POLLIN:
            self._receive(kernel)
        if state.status == Status.ARP:
            return self._ask_again()
        if self._sending and not self._send():
            state.status = Status.ARP
            self._unanswered_since = self._around.clock()
        return False

    def _ask_again(self) -> bool:
        state, common = self._state, self._around.common
        if not self._send():
            if self._around.clock() - self._unanswered_since < arp_timeout_s(common.rtr, common.rcr):
                return False
            self._take(state.tx_pending)
            self._sending = False
            state.raise_interrupt(SocketInterrupt.TIMEOUT)
        state.status = self._rest
        return True

    def _take_errors(self) -> None:
        if self._kernel is None:
            return
        for address, port in net.unreachable_ports(self._kernel):
            if not self._raw:
                self._around.common.report_unreachable(socket.inet_aton(address), port)

    def _receive(self, kernel: socket.socket) -> None:
        for _ in range(DATAGRAMS_AT_A_TIME):
            try:
                data, (address, port) = kernel.recvfrom(DATAGRAM_LIMIT)
            except OSError:
                return
            payload = self._ip_payload(data) if self._raw else data
            if payload is not None and not self._around.faults.link_down():
                self.deliver(socket.inet_aton(address), port, payload)

    def deliver(self, address: bytes, port: int, payload: bytes) -> None:
        """Store a datagram behind its header: 8 octets, in IPRAW 6 without the port. What does not fit is lost."""
        source = address if self._raw else address + port.to_bytes(2, "big")
        packet = source + len(payload).to_bytes(2, "big") + payload
        if len(packet) <= self._state.rx_free:
            self._state.receive(packet)

    def _ip_payload(self, data: bytes) -> bytes | None:
        if self._with_ip_header:
            data = data[4 * (data[0] & IP_HEADER_LENGTH_MASK) :] if data else b""
            # The kernel shows us the requests that we ourselves send to this host; a wire would not.
            icmp = self._state.read(reg.Sn_PROTO) == socket.IPPROTO_ICMP
            return None if icmp and data[:1] == bytes((ECHO_REQUEST,)) else data
        if data[:1] == bytes((ECHO_REPLY,)) and len(data) >= ICMP_HEADER_BYTES and self._echo_identifier:
            return with_identifier(data, self._echo_identifier)
        return data

    def drop(self) -> None:
        """Close the kernel socket."""
        if self._kernel is not None:
            self._around.network.drop(self._kernel)
            self._kernel = None

    def due_at(self) -> float | None:
        """Return when a SEND that finds no way is given up, None if there is none."""
        if self._state.status != Status.ARP:
            return None
        common = self._around.common
        return self._unanswered_since + arp_timeout_s(common.rtr, common.rcr)

    def watched(self) -> tuple[socket.socket, int] | None:
        """Return the kernel socket: datagrams are taken as they come, whether or not there is room for them."""
        if self._kernel is None:
            return None
        unsent = (
            select.POLLOUT if self._sending and self._state.tx.size and self._state.status == self._rest else 0
        )
        return self._kernel, select.POLLIN | unsent


def with_identifier(message: bytes, identifier: bytes) -> bytes:
    """Return an ICMP message with this identifier and its checksum set anew (RFC 792).

    An unprivileged ICMP socket of the kernel puts its own identifier into requests, so replies carry that one.
    """
    blank = message[:2] + b"\x00\x00" + identifier + message[6:]
    return blank[:2] + checksum(blank).to_bytes(2, "big") + blank[4:]


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    padded = data + b"\x00" * (len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
