"""TCP between OPEN and CLOSE: the Sn_SR machine over one kernel socket.

The kernel's TCP stands in for the chip's. What it has taken counts as acknowledged; it is given small buffers, so
that a peer who does not read is soon felt in Sn_TX_FSR. It never gets more room to receive than the chip has.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections.abc import Callable
from typing import Final

from plugin.w5100 import registers as reg
from plugin.w5100.emulator import network as net
from plugin.w5100.emulator.state import SocketState, Surroundings
from plugin.w5100.emulator.timing import arp_timeout_s, tcp_timeout_s
from plugin.w5100.registers import Command, SocketInterrupt, Status

OPEN_TO_PEER: Final = frozenset({Status.ESTABLISHED, Status.FIN_WAIT, Status.CLOSE_WAIT})
SENDING: Final = frozenset({Status.ESTABLISHED, Status.CLOSE_WAIT})
REFUSALS: Final = frozenset({errno.ECONNREFUSED, errno.ECONNRESET})
UNDER_WAY: Final = frozenset({0, errno.EINPROGRESS})
SILENCES: Final = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN})
TROUBLE: Final = select.POLLERR | select.POLLHUP
NOWHERE: Final = "0.0.0.0"  # noqa: S104 - the kernel takes it for this host; on Ethernet no one has it
LAST_ACK_POLL_S: Final = 0.005
KEEP_ALIVE_S: Final = 1


def hardware_address(peer: str) -> bytes:
    """Return the address that ARP would have found; made up of the peer's IP, since the kernel keeps its own."""
    return b"\x02\x00" + socket.inet_aton(peer)


class TcpEngine:
    """One TCP socket of the chip from Sn_SR = INIT on."""

    def __init__(self, state: SocketState, around: Surroundings) -> None:
        self._state = state
        self._around = around
        self._kernel: socket.socket | None = None
        self._listener: net.Listener | None = None
        self._connect_error: int | None = None
        self._since = 0.0
        self._look_again_at = 0.0
        self._sending = False
        self._send_lost = False
        self._data_sent = False
        self._probing = False
        self._fin_wanted = False
        self._fin_sent = False
        self._peer_ended = False
        self._steps: dict[int, Callable[[int], bool]] = {
            Status.ARP: self._step_arp,
            Status.SYNSENT: self._step_synsent,
            Status.LISTEN: self._step_listen,
            Status.SYNRECV: self._step_synrecv,
            Status.ESTABLISHED: self._step_open,
            Status.FIN_WAIT: self._step_open,
            Status.CLOSE_WAIT: self._step_open,
            Status.LAST_ACK: self._step_last_ack,
        }
        state.status = Status.INIT

    # --- commands ---------------------------------------------------------------------------------------

    def command(self, command: int) -> None:
        """Carry out LISTEN, CONNECT, DISCON, SEND or SEND_KEEP where Sn_SR admits it."""
        status = self._state.status
        if command == Command.LISTEN and status == Status.INIT:
            self._listener = self._around.network.listen(self._state.word(reg.Sn_PORT))
            self._state.status = Status.LISTEN
        elif command == Command.CONNECT and status == Status.INIT:
            self._state.take_over(reg.Sn_DIPR, reg.Sn_DPORT)
            self._state.status = Status.ARP
            self._since = self._around.clock()
            self._begin_to_connect()
        elif command == Command.DISCON and status in SENDING:
            self._state.status = Status.FIN_WAIT if status == Status.ESTABLISHED else Status.LAST_ACK
            self._start_timer()
            self._fin_wanted = True
            self._hand_over()
        elif command == Command.SEND and status in SENDING:
            self._send()
        elif command == Command.SEND_KEEP and status in SENDING:
            self._send_keep_alive()

    def _begin_to_connect(self) -> None:
        address = self._state.destination
        if self._around.faults.link_down() or address[0] == NOWHERE:
            return
        port = self._state.word(reg.Sn_PORT)
        self._kernel, error = self._around.network.connect(port, address)
        self._connect_error = None if error in UNDER_WAY else error

    def _send(self) -> None:
        state = self._state
        self._start_timer()
        state.take_over(reg.Sn_TX_WR)
        if self._around.faults.send_unanswered(state.number):
            self._send_lost = True
        if self._send_lost:
            return
        self._data_sent = self._data_sent or state.tx_pending > 0
        if self._around.faults.link_down():
            # The chip transmits and cannot know that no one hears: all is sent, nothing is acknowledged.
            state.store_word(reg.Sn_TX_RD, state.word(reg.Sn_TX_WR))
            state.raise_interrupt(SocketInterrupt.SEND_OK)
            return
        self._sending = True
        self._hand_over()

    def _send_keep_alive(self) -> None:
        if not self._data_sent or self._state.tx_pending or self._kernel is None:
            return
        if self._around.faults.link_down():
            self._start_timer()
            self._probing = True
            return
        with contextlib.suppress(OSError, AttributeError):
            tries = min(self._around.common.rcr + 1, 127)
            self._kernel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_S)
            self._kernel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_S)
            self._kernel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, tries)
            self._kernel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    # --- the network and the clock ----------------------------------------------------------------------

    def step(self, events: dict[int, int]) -> bool:
        """See what the network and the clock have brought; True if Sn_SR has moved."""
        step = self._steps.get(self._state.status)
        if step is None:
            return False
        kernel = self._kernel if self._listener is None else self._listener.kernel
        return step(0 if kernel is None else events.get(kernel.fileno(), 0))

    def _step_arp(self, _: int) -> bool:
        if self._kernel is None and self._connect_error is None:
            self._begin_to_connect()
        answered = self._connect_error in REFUSALS or (self._kernel is not None and self._connect_error is None)
        if not answered:
            common = self._around.common
            if self._around.clock() - self._since < arp_timeout_s(common.rtr, common.rcr):
                return False
            self._end(SocketInterrupt.TIMEOUT, reset=True)
            return True
        state = self._state
        state.store(reg.Sn_DHAR, hardware_address(state.destination[0]))
        state.set_tx_pointers(self._around.initial_sequence() + 1)
        state.status = Status.SYNSENT
        self._since = self._around.clock()
        return True

    def _step_synsent(self, happened: int) -> bool:
        error = self._connect_error
        if error is None and happened and self._kernel is not None and not self._around.faults.link_down():
            error = self._kernel.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not error:
                if not net.connected_to_itself(self._kernel):
                    self._establish()
                    return True
                error = errno.ECONNREFUSED
        if error in REFUSALS:
            self._end(SocketInterrupt.DISCON, reset=True)
            return True
        if error:
            # The host's network says that no one answers; the chip finds out by its own ARP timer.
            self._connect_error = error
            self._state.status = Status.ARP
            return True
        return self._time_out(waiting=True)

    def _step_listen(self, happened: int) -> bool:
        listener = self._listener
        if listener is None or self._around.faults.link_down() or not happened:
            return False
        if self._state.status_unseen():
            return False  # one who waited in the kernel's queue would call again only now
        accepted = self._around.network.accept(listener)
        if accepted is None:
            return False
        self._kernel, (address, port) = accepted
        self._around.network.leave(listener)
        self._listener = None
        state = self._state
        state.store(reg.Sn_DHAR, hardware_address(address))
        state.store(reg.Sn_DIPR, socket.inet_aton(address))
        state.store_word(reg.Sn_DPORT, port)
        state.set_tx_pointers(self._around.initial_sequence() + 1)
        state.status = Status.SYNRECV
        return True

    def _step_synrecv(self, _: int) -> bool:
        self._establish()
        return True

    def _establish(self) -> None:
        self._state.status = Status.ESTABLISHED
        self._state.raise_interrupt(SocketInterrupt.CON)
        limit_ms = int(1000 * self._retry_time_s())
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if self._kernel is not None and option is not None and limit_ms:
            with contextlib.suppress(OSError):
                self._kernel.setsockopt(socket.IPPROTO_TCP, option, limit_ms)

    def _step_open(self, happened: int) -> bool:
        status = self._state.status
        if self._around.faults.link_down():
            return self._time_out(waiting=self._unacknowledged())
        self._probing = False
        if happened & TROUBLE and self._state.data_unseen():
            return False  # reported again as long as it is not asked for
        if happened & (select.POLLIN | TROUBLE):
            self._receive()
        if happened & TROUBLE and self._state.data_unseen():
            return self._state.status != status
        if happened & TROUBLE and self._state.status in OPEN_TO_PEER and self._kernel is not None:
            error = self._kernel.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            # With our FIN sent, POLLHUP alone says that the peer's came too, behind data that waits for room.
            if error or not self._fin_sent:
                self._break(error or errno.ECONNRESET)
        if self._state.status in OPEN_TO_PEER:
            self._hand_over()
        if self._state.status in OPEN_TO_PEER:
            self._time_out(waiting=self._unacknowledged())
        return self._state.status != status

    def _step_last_ack(self, happened: int) -> bool:
        if not self._around.faults.link_down():
            self._hand_over()
            if self._state.status != Status.LAST_ACK:
                return True
            if self._fin_sent and (self._kernel is None or net.fin_is_acknowledged(self._kernel)):
                self._end(SocketInterrupt.DISCON, reset=False)
                return True
            if happened & select.POLLERR:
                self._break(errno.ECONNRESET)
                return True
        if self._around.clock() >= self._look_again_at:
            self._look_again_at = self._around.clock() + LAST_ACK_POLL_S
        return self._time_out(waiting=not self._send_lost)

    def _receive(self) -> None:
        state, kernel = self._state, self._kernel
        while kernel is not None and not self._peer_ended and (room := state.rx_free):
            try:
                data = kernel.recv(room)
            except BlockingIOError:
                return
            except OSError as trouble:
                self._break(trouble.errno or errno.ECONNRESET)
                return
            if data:
                state.receive(data)
                if len(data) < room:
                    return  # that was all; asking once more might use up the report of a reset
            elif state.data_unseen() or (state.status == Status.ESTABLISHED and state.status_unseen()):
                return  # the kernel will report the end again
            else:
                self._peer_ended = True
                self._peer_sent_fin()

    def _peer_sent_fin(self) -> None:
        state = self._state
        if state.status == Status.ESTABLISHED:
            state.status = Status.CLOSE_WAIT
            state.raise_interrupt(SocketInterrupt.DISCON)
        elif self._fin_sent and self._kernel is not None and net.fin_is_acknowledged(self._kernel):
            self._end(SocketInterrupt.DISCON, reset=False)
        else:
            state.status = Status.LAST_ACK

    def _hand_over(self) -> None:
        """Give the kernel what SEND ordered, then the FIN; SEND_OK when it has taken all."""
        state, kernel = self._state, self._kernel
        if kernel is None or self._send_lost or self._around.faults.link_down():
            return
        while pending := state.tx_pending:
            data = state.tx.read(state.tx_una, min(pending, state.tx.size))
            if not data:
                return
            try:
                taken = kernel.send(data)
            except BlockingIOError:
                return
            except OSError as trouble:
                self._break(trouble.errno or errno.ECONNRESET)
                return
            state.taken(taken)
            if self._sending:
                state.store_word(reg.Sn_TX_RD, state.tx_una)
            self._since = self._around.clock()
        if self._sending:
            self._sending = False
            state.raise_interrupt(SocketInterrupt.SEND_OK)
        if self._fin_wanted and not self._fin_sent:
            self._fin_sent = True
            with contextlib.suppress(OSError):
                kernel.shutdown(socket.SHUT_WR)

    # --- ends -------------------------------------------------------------------------------------------

    def _break(self, error: int) -> None:
        """Close the socket since the kernel's connection is gone: RST from the peer, or silence for too long."""
        kernel = self._kernel
        while kernel is not None and not self._peer_ended and (room := self._state.rx_free):
            try:
                data = kernel.recv(room)
            except OSError:
                break
            if not data:
                break
            self._state.receive(data)
        self._end(SocketInterrupt.TIMEOUT if error in SILENCES else SocketInterrupt.DISCON, reset=True)

    def _end(self, interrupt: SocketInterrupt, *, reset: bool) -> None:
        self._let_go(reset=reset)
        self._state.status = Status.CLOSED
        self._state.raise_interrupt(interrupt)

    def drop(self) -> None:
        """CLOSE, OPEN or a reset of the chip: the connection is forgotten. A FIN that was sent stays sent."""
        self._let_go(reset=not self._fin_sent)

    def _let_go(self, *, reset: bool) -> None:
        if self._kernel is not None:
            self._around.network.drop(self._kernel, reset=reset)
            self._kernel = None
        if self._listener is not None:
            self._around.network.release(self._listener)
            self._listener = None

    # --- time -------------------------------------------------------------------------------------------

    def _retry_time_s(self) -> float:
        return tcp_timeout_s(self._around.common.rtr, self._around.common.rcr)

    def _unacknowledged(self) -> bool:
        unsent_fin = self._fin_wanted and not self._fin_sent
        return not self._send_lost and (self._probing or unsent_fin or self._state.tx_pending > 0)

    def _start_timer(self) -> None:
        if not self._unacknowledged():
            self._since = self._around.clock()

    def _time_out(self, *, waiting: bool) -> bool:
        if not waiting or self._around.clock() - self._since < self._retry_time_s():
            return False
        self._end(SocketInterrupt.TIMEOUT, reset=True)
        return True

    def due_at(self) -> float | None:
        """Return when a timer runs out, None if none runs."""
        status = self._state.status
        common = self._around.common
        if status == Status.ARP:
            return self._since + arp_timeout_s(common.rtr, common.rcr)
        if status == Status.LAST_ACK:
            return self._look_again_at
        if status == Status.SYNSENT or (status in OPEN_TO_PEER and self._unacknowledged()):
            return self._since + self._retry_time_s()
        return None

    def watched(self) -> tuple[socket.socket, int] | None:
        """Return the kernel socket and the events that this status can make use of."""
        status = self._state.status
        kernel = self._kernel if self._listener is None else self._listener.kernel
        if kernel is None or self._around.faults.link_down():
            return None
        sendable = self._state.tx_pending and self._state.tx.size and not self._send_lost
        wanted = select.POLLOUT if sendable else 0
        if status == Status.LISTEN:
            wanted = select.POLLIN
        elif status == Status.SYNSENT:
            wanted = 0 if self._connect_error else select.POLLOUT
        elif status in OPEN_TO_PEER and not self._peer_ended and self._state.rx_free:
            wanted |= select.POLLIN
        # Errors and resets are reported unasked. Where both directions may have ended poll would report that again
        # and again, so there the socket is left out unless something can be done with it.
        return (kernel, wanted) if wanted or status in SENDING else None
