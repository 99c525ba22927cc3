"""SPI frames in the chip's eyes: which opcode, which address, and which frames can be carried out as one block.

A frame of a W5100S with several octets of data is taken for as many frames of four octets.
"""

from __future__ import annotations

from typing import Final

from plugin.w5100.bus import ADDRESS_LIMIT, FRAME_BYTES, HEADER_BYTES
from plugin.w5100.registers import MEMORY_BYTES

# What the chip puts on MISO while a frame goes by: it counts the octets. In a read the data takes the place of 03.
ECHO: Final = b"\x00\x01\x02\x03"
A15: Final = 0x8000
_HIGH: Final = bytes(address >> 8 for address in range(ADDRESS_LIMIT))
_LOW: Final = bytes(range(256)) * 256


class FrameRun:
    """Frames of four octets, taken apart by slices: opcodes, addresses, data."""

    def __init__(self, frames: bytes) -> None:
        self.count = len(frames) // FRAME_BYTES
        whole = self.count * FRAME_BYTES
        self.opcodes = frames[0:whole:4]
        self._high = frames[1:whole:4]
        self._low = frames[2:whole:4]
        self.data = frames[3:whole:4]

    def address(self, index: int) -> int:
        """Return the address of frame ``index`` without A15, which the chip does not decode."""
        return (self._high[index] << 8 | self._low[index]) & ~A15

    def block(self, start: int, limit: int) -> int:
        """Return how many frames from ``start`` on have one opcode and rising addresses, at most ``limit``.

        The length is doubled while it fits and then narrowed down, so that long blocks cost few comparisons
        and single frames one.
        """
        limit = min(limit, self.count - start)
        good, probe = 1, 2
        while good < limit:
            probe = min(probe, limit)
            if not self._is_block(start, probe):
                break
            good, probe = probe, probe * 2
        else:
            return good
        bad = probe
        while bad - good > 1:
            middle = (good + bad) // 2
            if self._is_block(start, middle):
                good = middle
            else:
                bad = middle
        return good

    def _is_block(self, start: int, length: int) -> bool:
        end = start + length
        first = self._high[start] << 8 | self._low[start]
        return (
            self._low[start:end] == _LOW[first : first + length]
            and self._high[start:end] == _HIGH[first : first + length]
            and self.opcodes.count(self.opcodes[start], start, end) == length
        )


def unrolled(frame: bytes) -> bytes:
    """Return a frame with several octets of data as frames of four octets, at the addresses that a W5100S counts.

    It counts up within 8 KiB: what follows 0x5FFF is 0x4000, and 0x6000 follows 0x7FFF. That is what MAME has seen
    of the indirect bus, which counts as well; no paper tells it of SPI.
    """
    size = len(frame) - HEADER_BYTES
    address = frame[1] << 8 | frame[2]
    start = address - address % MEMORY_BYTES
    turns = (address % MEMORY_BYTES + size) // MEMORY_BYTES + 1
    first, end = address - start, address - start + size
    frames = bytearray(FRAME_BYTES * size)
    frames[0::4] = frame[:1] * size
    frames[1::4] = (_HIGH[start : start + MEMORY_BYTES] * turns)[first:end]
    frames[2::4] = (_LOW[start : start + MEMORY_BYTES] * turns)[first:end]
    frames[3::4] = frame[HEADER_BYTES:]
    return bytes(frames)


def silent_answer(size: int, frame_bytes: int) -> bytes:
    """Return what MISO carries while frames go by that mean nothing to the chip: it counts, then gives 00."""
    frame = ECHO[:frame_bytes].ljust(frame_bytes, b"\x00")
    return (frame * (size // frame_bytes + 1))[:size]
