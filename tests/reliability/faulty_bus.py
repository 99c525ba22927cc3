"""A Bus around the emulator on which something goes wrong now and then, as the seed has it.

Copied beside a configuration and named by ``chip.bus``. One exchange in EVERY, drawn at random, meets a fault; not
among them is a flipped data octet, which nobody can tell from what the chip meant: that changes the mail itself.
"""

from __future__ import annotations

import random
from typing import Final

from plugin.w5100.emulator import (
    ChipReset,
    Emulator,
    ExchangeError,
    Fault,
    FlippedBit,
    StuckBus,
    StuckCommand,
    UnansweredSend,
)

EVERY: Final = 150


class FaultyBus:
    """The same seed and the same exchanges meet the same faults."""

    def __init__(self, seed: int) -> None:
        self._emulator = Emulator()
        self._random = random.Random(seed)
        self._left = 0  # exchanges until the fault is over
        self.faults = 0

    def exchange(self, frames: bytes, frame_bytes: int = 4) -> bytes:
        if self._left:
            self._left -= 1
            if not self._left:
                self._emulator.clear_faults()
        elif self._random.randrange(EVERY) == 0:
            fault = self._draw()
            self._left = (fault.exchanges or 1) + 1
            self._emulator.inject(fault)
            self.faults += 1
        return self._emulator.exchange(frames, frame_bytes)

    def wait_interrupt(self, timeout_s: float) -> bool:
        return self._emulator.wait_interrupt(timeout_s)

    def close(self) -> None:
        self._emulator.close()

    def _draw(self) -> Fault:
        draw = self._random
        long = draw.randint(2, 10)
        return draw.choice(
            (
                ExchangeError(exchanges=draw.randint(1, 3), chip_hears=draw.random() < 0.5),
                FlippedBit(octet=draw.randrange(1, 3), bit=draw.randrange(8)),
                FlippedBit(octet=draw.randrange(3), bit=draw.randrange(8), heard=True),
                StuckBus(exchanges=long, octet=draw.choice((0x00, 0xFF)), chip_hears=draw.random() < 0.5),
                ChipReset(),
                ChipReset(exchanges=long, answers=False),
                StuckCommand(exchanges=20),
                UnansweredSend(exchanges=2),
            )
        )
