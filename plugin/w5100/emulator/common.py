"""The common registers (0x0000 to 0x002F, and VERR): which of them can be written, and how IR clears."""

from __future__ import annotations

from typing import Final

from plugin.w5100 import registers as reg
from plugin.w5100.model import Model

SIZE: Final = 0x30
# What a read gives that is not in here is 0: the page has 256 addresses, the rest is reserved.
WRITABLE: Final = frozenset(
    {
        *range(reg.GAR, reg.SIPR + 4),
        *range(reg.IMR, reg.PATR),
        reg.PTIMER,
        reg.PMAGIC,
    }
)
CLEARABLE: Final = reg.Interrupt.CONFLICT | reg.Interrupt.UNREACH | reg.Interrupt.PPPOE


class CommonRegisters:
    """MR to UPORT. The socket bits of IR are not kept here: they follow Sn_IR and are added by the device."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._file = bytearray(SIZE)
        self.reset()

    def reset(self) -> None:
        """Take the reset values."""
        self._file[:] = bytes(SIZE)
        self._file[reg.MR] = self._model.mr_after_reset
        for address, value in reg.RESET_COMMON.items():
            self._file[address : address + len(value)] = value

    def read(self, offset: int) -> int:
        """Return one octet; 0 where nothing is."""
        if offset == reg.VERR:
            return self._model.verr or 0
        return self._file[offset] if offset < SIZE else 0

    def write(self, offset: int, value: int) -> None:
        """Write one octet; read-only and reserved addresses keep theirs. MR.RST is the device's business."""
        if offset in WRITABLE:
            self._file[offset] = value
        elif offset == reg.MR:
            self._file[reg.MR] = value & ~reg.Mode.RST
        elif offset == reg.IR:
            self._file[reg.IR] &= ~(value & CLEARABLE)

    def note_size(self, register: int, number: int, kib: int) -> None:
        """Show in RMSR or TMSR that a socket's own size register was written; it has no value for 0 KiB."""
        if kib in {1, 2, 4, 8}:
            self._file[register] &= ~(0x03 << 2 * number)
            self._file[register] |= (kib.bit_length() - 1) << 2 * number

    def raise_interrupt(self, bits: int) -> None:
        """Set bits 7 to 5 of IR."""
        self._file[reg.IR] |= bits & CLEARABLE

    def report_unreachable(self, address: bytes, port: int) -> None:
        """Note that a datagram met no one: UIPR (4 octets), UPORT and IR.UNREACH."""
        self._file[reg.UIPR : reg.UIPR + 4] = address
        self._file[reg.UPORT : reg.UPORT + 2] = port.to_bytes(2, "big")
        self.raise_interrupt(reg.Interrupt.UNREACH)

    @property
    def rtr(self) -> int:
        """Retry time in units of 100 us."""
        return int.from_bytes(self._file[reg.RTR : reg.RTR + 2], "big")

    @property
    def rcr(self) -> int:
        """Retry count; RCR + 1 tries are made."""
        return self._file[reg.RCR]

    @property
    def ping_blocked(self) -> bool:
        """MR.PB: echo requests are not answered."""
        return bool(self._file[reg.MR] & reg.Mode.PB)

    @property
    def sipr(self) -> bytes:
        """Own address, 4 octets."""
        return bytes(self._file[reg.SIPR : reg.SIPR + 4])
