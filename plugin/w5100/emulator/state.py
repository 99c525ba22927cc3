"""What one hardware socket holds: its register file, the latches behind it, its windows and its pointers."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from plugin.w5100 import registers as reg
from plugin.w5100.emulator.common import CommonRegisters
from plugin.w5100.emulator.faults import FaultPlan
from plugin.w5100.emulator.memory import Window
from plugin.w5100.emulator.network import Network
from plugin.w5100.model import Model
from plugin.w5100.registers import PROTOCOL_MASK, SocketMode, Status

log = logging.getLogger("hardwire.w5100")

SIZE: Final = 0x30
# Writes to these go to a shadow; reads give the value in force until a command takes the shadow over.
LATCHED: Final = frozenset(
    {
        *range(reg.Sn_DHAR, reg.Sn_MSSR + 2),
        *range(reg.Sn_TX_WR, reg.Sn_TX_WR + 2),
        *range(reg.Sn_RX_RD, reg.Sn_RX_RD + 2),
    }
)
WRITABLE: Final = frozenset(
    {
        reg.Sn_MR,
        *range(reg.Sn_PORT, reg.Sn_PORT + 2),
        reg.Sn_PROTO,
        reg.Sn_TOS,
        reg.Sn_TTL,
        reg.Sn_RX_BUF_SIZE,
        reg.Sn_TX_BUF_SIZE,
        *range(reg.Sn_FRAGR, reg.Sn_FRAGR + 2),
    }
)
WIDTHS: Final = {reg.Sn_DHAR: 6, reg.Sn_DIPR: 4}
POINTER_MASK: Final = 0xFFFF
# What Sn_SR is while a chip asks by ARP that has no status for it.
INSTEAD_OF_ARP: Final[dict[int, Status]] = {
    SocketMode.TCP: Status.SYNSENT,
    SocketMode.UDP: Status.UDP,
    SocketMode.IPRAW: Status.IPRAW,
}
# On a wire a segment takes its time; on loopback a caller, data and FIN may be there before the host has looked
# once, and hosts rely on seeing LISTEN, ESTABLISHED, and data before its end. So what follows waits until Sn_SR or
# Sn_RX_RSR has been read, or for this many looks at the network where the host does not care.
LOOKS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a hardware socket finds around it in the chip."""

    model: Model
    common: CommonRegisters
    network: Network
    faults: FaultPlan
    clock: Callable[[], float]
    initial_sequence: Callable[[], int]


class SocketState:
    """The registers of one socket as the host sees them, and the same as values for the chip's side.

    ``tx_una`` points at the oldest octet that the network has not taken over. Sn_TX_RD follows it, but on a lost
    link it runs ahead: what was transmitted and not acknowledged.
    """

    def __init__(self, number: int, memory: bytearray, model: Model) -> None:
        self.number = number
        self._shows_arp = model.shows_arp
        self.tx = Window(memory, 0)
        self.rx = Window(memory, reg.MEMORY_BYTES)
        self._file = bytearray(SIZE)
        self._shadow = bytearray(SIZE)
        self.tx_una = 0
        self._status_looks = 0
        self._data_looks = 0
        self.reset()

    def reset(self) -> None:
        """Take the reset values; the windows' contents stay."""
        self._file[:] = bytes(SIZE)
        self._shadow[:] = bytes(SIZE)
        for offset, value in reg.RESET_SOCKET.items():
            self._file[offset : offset + len(value)] = value
        self.tx_una = 0
        self._status_looks = 0
        self._data_looks = 0

    # --- the host's side --------------------------------------------------------------------------------

    def read(self, offset: int) -> int:
        """Return one octet; 0 where nothing is."""
        if offset >= SIZE:
            return 0
        if offset == reg.Sn_SR:
            self._status_looks = 0
            if self.status == Status.ARP and not self._shows_arp:
                return INSTEAD_OF_ARP.get(self.mode & PROTOCOL_MASK, Status.SYNSENT)
        if offset == reg.Sn_RX_RSR:
            self._data_looks = 0  # the high octet: whoever has read the low one alone may have torn the value
        if reg.Sn_TX_FSR <= offset < reg.Sn_TX_FSR + 2:
            return self.tx_free.to_bytes(2, "big")[offset - reg.Sn_TX_FSR]
        if reg.Sn_RX_RSR <= offset < reg.Sn_RX_RSR + 2:
            return self.rx_received.to_bytes(2, "big")[offset - reg.Sn_RX_RSR]
        return self._file[offset]

    def write(self, offset: int, value: int) -> None:
        """Write one octet; what is read only or reserved keeps its value. Sn_CR is not ours."""
        if offset in LATCHED:
            self._shadow[offset] = value
        elif offset in WRITABLE:
            self._file[offset] = value
        elif offset == reg.Sn_IR:
            self._file[reg.Sn_IR] &= ~value

    # --- the chip's side --------------------------------------------------------------------------------

    def take_over(self, *offsets: int) -> None:
        """Put the shadows of these registers in force."""
        for offset in offsets:
            end = offset + WIDTHS.get(offset, 2)
            self._file[offset:end] = self._shadow[offset:end]

    def word(self, offset: int) -> int:
        """Return a 16-bit register."""
        return self._file[offset] << 8 | self._file[offset + 1]

    def octets(self, offset: int) -> bytes:
        """Return Sn_DHAR or Sn_DIPR."""
        return bytes(self._file[offset : offset + WIDTHS[offset]])

    def store(self, offset: int, value: bytes) -> None:
        """Set a register from within the chip; what the host wrote for the next command stays in the shadow."""
        self._file[offset : offset + len(value)] = value

    def store_word(self, offset: int, value: int) -> None:
        """Set a 16-bit register from within the chip; pointers run on modulo 65536."""
        self.store(offset, (value & POINTER_MASK).to_bytes(2, "big"))

    def _store_pointer(self, offset: int, value: int) -> None:
        """Set a latched pointer and its shadow: a SEND or RECV without a new value then moves nothing."""
        self.store_word(offset, value)
        self._shadow[offset : offset + 2] = self._file[offset : offset + 2]

    def raise_interrupt(self, bits: int) -> None:
        """Set bits of Sn_IR."""
        self._file[reg.Sn_IR] |= bits

    @property
    def interrupts(self) -> int:
        """Sn_IR."""
        return self._file[reg.Sn_IR]

    @property
    def mode(self) -> int:
        """Sn_MR."""
        return self._file[reg.Sn_MR]

    @property
    def status(self) -> int:
        """Sn_SR."""
        return self._file[reg.Sn_SR]

    @status.setter
    def status(self, value: int) -> None:
        if value != self.status:
            log.debug("S%d_SR: %s to %s", self.number, reg.status_name(self.status), reg.status_name(value))
            self._status_looks = LOOKS
        self._file[reg.Sn_SR] = value

    def status_unseen(self) -> bool:
        """Count one look at the network; True while the host had no chance to see the status."""
        self._status_looks = max(0, self._status_looks - 1)
        return self._status_looks > 0

    def data_unseen(self) -> bool:
        """Count one look at the network; True while the host had no chance to see what came in last."""
        self._data_looks = max(0, self._data_looks - 1)
        return self._data_looks > 0

    @property
    def destination(self) -> tuple[str, int]:
        """Sn_DIPR and Sn_DPORT in force, as the host's network takes them."""
        return ".".join(map(str, self.octets(reg.Sn_DIPR))), self.word(reg.Sn_DPORT)

    # --- pointers ---------------------------------------------------------------------------------------

    def set_tx_pointers(self, value: int) -> None:
        """Start sending at ``value``."""
        self.store_word(reg.Sn_TX_RD, value)
        self._store_pointer(reg.Sn_TX_WR, value)
        self.tx_una = value & POINTER_MASK

    def clear_pointers(self) -> None:
        """OPEN: all four to 0."""
        self.set_tx_pointers(0)
        self._store_pointer(reg.Sn_RX_RD, 0)
        self.store_word(reg.Sn_RX_WR, 0)

    def taken(self, count: int) -> None:
        """Note that the network has taken ``count`` octets more."""
        self.tx_una = (self.tx_una + count) & POINTER_MASK

    @property
    def tx_pending(self) -> int:
        """Octets that SEND ordered and the network has not taken."""
        return (self.word(reg.Sn_TX_WR) - self.tx_una) & POINTER_MASK

    @property
    def tx_free(self) -> int:
        """Sn_TX_FSR, counted from the oldest octet that is still needed."""
        return (self.tx.size - self.tx_pending) & POINTER_MASK

    @property
    def rx_received(self) -> int:
        """Sn_RX_RSR."""
        return (self.word(reg.Sn_RX_WR) - self.word(reg.Sn_RX_RD)) & POINTER_MASK

    @property
    def rx_free(self) -> int:
        """Free receive space; none while the host has moved RX_RD beyond what there was."""
        return max(0, self.rx.size - self.rx_received)

    def receive(self, data: bytes) -> None:
        """Store what came in, which must fit, and raise RECV."""
        end = self.word(reg.Sn_RX_WR)
        self.rx.write(end, data)
        self.store_word(reg.Sn_RX_WR, end + len(data))
        self.raise_interrupt(reg.SocketInterrupt.RECV)
        self._data_looks = LOOKS


class Engine(Protocol):
    """What runs a socket between OPEN and CLOSE, by the protocol in Sn_MR."""

    def command(self, command: int) -> None:
        """Carry out a command other than OPEN, CLOSE and RECV; one that does not fit the status is ignored."""
        ...

    def step(self, events: dict[int, int]) -> bool:
        """Look at the network (events by file descriptor) and the clock; True if it should look again at once."""
        ...

    def watched(self) -> tuple[socket.socket, int] | None:
        """Return the kernel socket that may bring news and the events of ``select.poll`` that would be news."""
        ...

    def due_at(self) -> float | None:
        """Return when the clock brings news, None if never."""
        ...

    def drop(self) -> None:
        """Let go of the network."""
        ...
