"""TX and RX memory, 8 KiB each, and the windows that TMSR and RMSR cut from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from plugin.w5100 import registers as reg

KIB: Final = 1024
# Sn_RX_BUF_SIZE and Sn_TX_BUF_SIZE count KiB; every other value than these is taken for 8.
SIZES_KIB: Final = frozenset({0, 1, 2, 4})
FULL_KIB: Final = 8


def sizes_kib(register: int) -> list[int]:
    """Return the four sizes in KiB that a value of TMSR or RMSR means: two bits a socket, from bit 0."""
    return [1 << (register >> 2 * number & 0x03) for number in range(reg.SOCKETS)]


class Window:
    """The part of TX or RX memory that belongs to one socket, addressed by free-running 16-bit pointers.

    Windows are dealt out in the order of the sockets. What passes the end of the 8 KiB goes on at their start
    and overlaps the first sockets' windows (seen in MAME, which was compared with silicon).
    """

    def __init__(self, memory: bytearray, area: int) -> None:
        self._memory = memory
        self._area = area
        self._base = 0
        self.size = 0

    def place(self, base: int, size: int) -> None:
        """Put the window at ``base`` octets from the start of its area."""
        self._base = base
        self.size = size

    def read(self, pointer: int, count: int) -> bytes:
        """Return ``count`` octets from ``pointer`` on; more than the window holds repeats it."""
        return b"".join([self._memory[start:end] for start, end in self._pieces(pointer, count)])

    def write(self, pointer: int, data: bytes) -> None:
        """Store ``data`` from ``pointer`` on."""
        done = 0
        for start, end in self._pieces(pointer, len(data)):
            self._memory[start:end] = data[done : done + end - start]
            done += end - start

    def _pieces(self, pointer: int, count: int) -> Iterator[tuple[int, int]]:
        if not self.size:
            return
        while count > 0:
            inside = pointer & (self.size - 1)
            start = (self._base + inside) & (reg.MEMORY_BYTES - 1)
            length = min(count, self.size - inside, reg.MEMORY_BYTES - start)
            yield self._area + start, self._area + start + length
            pointer += length
            count -= length


def deal_out(windows: Sequence[Window], sizes: Sequence[int]) -> None:
    """Place ``windows`` one behind the other; ``sizes`` are register values in KiB."""
    base = 0
    for window, kib in zip(windows, sizes, strict=True):
        size = KIB * (kib if kib in SIZES_KIB else FULL_KIB)
        window.place(base, size)
        base += size
