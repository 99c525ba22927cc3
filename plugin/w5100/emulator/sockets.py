"""One hardware socket: Sn_CR, and which engine runs between OPEN and CLOSE."""

from __future__ import annotations

import socket
from typing import Final

from plugin.w5100 import registers as reg
from plugin.w5100.emulator.datagram import DatagramEngine
from plugin.w5100.emulator.state import Engine, SocketState, Surroundings
from plugin.w5100.emulator.tcp import TcpEngine
from plugin.w5100.registers import PROTOCOL_MASK, Command, SocketInterrupt, SocketMode, Status

# Largest Sn_MSSR by protocol: 0 and larger values are replaced by it at OPEN.
MSS_LIMITS: Final[dict[int, int]] = {
    SocketMode.TCP: 1460,
    SocketMode.UDP: 1472,
    SocketMode.IPRAW: 1480,
    SocketMode.MACRAW: 1514,
    SocketMode.PPPOE: 1514,
}
SOCKET_0_ONLY: Final = frozenset({SocketMode.MACRAW, SocketMode.PPPOE})


class SilentEngine:
    """MACRAW and PPPoE: the status is right and SEND ends, but no frame leaves or arrives."""

    def __init__(self, state: SocketState, status: Status) -> None:
        self._state = state
        state.status = status

    def command(self, command: int) -> None:
        """Take what SEND orders, and drop it."""
        if command == Command.SEND and self._state.status == Status.MACRAW:
            self._state.take_over(reg.Sn_TX_WR)
            self._state.taken(self._state.tx_pending)
            self._state.store_word(reg.Sn_TX_RD, self._state.tx_una)
            self._state.raise_interrupt(SocketInterrupt.SEND_OK)

    def step(self, events: dict[int, int]) -> bool:
        """Nothing ever comes."""
        del events
        return False

    def watched(self) -> tuple[socket.socket, int] | None:
        """There is nothing to watch."""
        return None

    def due_at(self) -> float | None:
        """No timer runs."""
        return None

    def drop(self) -> None:
        """There is nothing to let go of."""


class HardwareSocket:
    """Socket n of the chip, as the address decoder and the clock see it."""

    def __init__(self, number: int, memory: bytearray, around: Surroundings) -> None:
        self.state = SocketState(number, memory, around.model)
        self._around = around
        self._engine: Engine | None = None
        self._stuck_command = 0

    def reset(self) -> None:
        """Forget everything but the contents of the windows."""
        self._let_go()
        self._stuck_command = 0
        self.state.reset()

    def read(self, offset: int) -> int:
        """Return one register; Sn_CR is 0 as soon as the command is taken."""
        if offset == reg.Sn_CR:
            if not self._around.faults.command_stuck(self.state.number):
                self._stuck_command = 0
            return self._stuck_command
        return self.state.read(offset)

    def write(self, offset: int, value: int) -> None:
        """Write one register."""
        if offset != reg.Sn_CR:
            self.state.write(offset, value)
        elif self._around.faults.command_stuck(self.state.number):
            self._stuck_command = value
        else:
            self._command(value)

    def _command(self, command: int) -> None:
        state = self.state
        if command == Command.CLOSE:
            self._let_go()
            state.status = Status.CLOSED
        elif self._held():
            return
        elif command == Command.OPEN:
            self._open()
        elif command == Command.RECV:
            state.take_over(reg.Sn_RX_RD)
            if state.rx_received:
                state.raise_interrupt(SocketInterrupt.RECV)
        elif self._engine is not None:
            self._engine.command(command)

    def _open(self) -> None:
        state = self.state
        protocol = state.mode & PROTOCOL_MASK
        limit = MSS_LIMITS.get(protocol)
        if limit is None or (protocol in SOCKET_0_ONLY and state.number):
            return
        self._let_go()
        state.clear_pointers()
        state.take_over(reg.Sn_MSSR)
        if not 0 < state.word(reg.Sn_MSSR) <= limit:
            state.store_word(reg.Sn_MSSR, limit)
        if protocol == SocketMode.TCP:
            self._engine = TcpEngine(state, self._around)
        elif protocol in {SocketMode.UDP, SocketMode.IPRAW}:
            self._engine = DatagramEngine(state, self._around, raw=protocol == SocketMode.IPRAW)
        else:
            self._engine = SilentEngine(state, Status.MACRAW if protocol == SocketMode.MACRAW else Status.PPPOE)

    def _let_go(self) -> None:
        if self._engine is not None:
            self._engine.drop()
            self._engine = None

    def _held(self) -> bool:
        return self._around.faults.status_held(self.state.number, self.state.status)

    # --- the network and the clock ----------------------------------------------------------------------

    def step(self, events: dict[int, int]) -> bool:
        """Let the engine look at the network; True if it should look again at once."""
        if self._engine is None or self._held():
            return False
        return self._engine.step(events)

    def watched(self) -> tuple[socket.socket, int] | None:
        """Return the kernel socket and the events that would be news, None if none would."""
        return None if self._engine is None or self._held() else self._engine.watched()

    def due_at(self) -> float | None:
        """Return when the clock brings news, None if never."""
        return None if self._engine is None or self._held() else self._engine.due_at()

    def takes_icmp(self, address: bytes, message: bytes) -> bool:
        """Take an ICMP message as IPRAW does when Sn_PROTO is 1; False if it is not for us."""
        state = self.state
        open_for_icmp = state.status == Status.IPRAW and state.read(reg.Sn_PROTO) == 1
        if not open_for_icmp or not isinstance(self._engine, DatagramEngine):
            return False
        self._engine.deliver(address, 0, message)
        return True
