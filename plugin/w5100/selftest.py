"""Does the wire carry every octet, both ways: a test by writing and reading back, and the choice of a clock by it.

The test resets the chip and overwrites its TX memory: it belongs before a reset, never beside connections.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, final

from plugin.w5100 import registers as reg
from plugin.w5100.errors import BusError
from plugin.w5100.model import is_back, recognised

RESET_WAIT_S: Final = 0.05  # Linux waits 5 ms after RST, others 50
RESET_PAUSE_S: Final = 0.001
MR_PATTERNS: Final = (0x10, 0x12, 0x00)

RUN_BYTES: Final = 256
# What a bad wire gets wrong: lines that do not move, bits that disturb their neighbours, single bits, anything.
PATTERNS: Final[tuple[tuple[str, bytes], ...]] = (
    ("00", bytes(RUN_BYTES)),
    ("FF", b"\xff" * RUN_BYTES),
    ("55", b"\x55" * RUN_BYTES),
    ("AA", b"\xaa" * RUN_BYTES),
    ("a walking bit", bytes(1 << n % 8 for n in range(RUN_BYTES))),
    ("random octets", b"".join(hashlib.sha256(bytes((n,))).digest() for n in range(RUN_BYTES // 32))),
)
# Each run differs from the first in one address line above those within a run: a line that hangs puts two runs
# into one place. The lines within a run are told by the octets that are not all alike.
PLACES: Final = (reg.TX_BASE, *(reg.TX_BASE + (RUN_BYTES << line) for line in range(len(PATTERNS) - 1)))

CLOCKS_HZ: Final = (14_000_000, 10_000_000, 8_000_000, 4_000_000, 2_000_000, 1_000_000, 500_000)

What = Literal["reset", "mode", "memory"]


class Registers(Protocol):
    """Octets written and read at consecutive addresses; ``plugin.w5100.bus.Wire`` is one."""

    def read(self, address: int, size: int = 1) -> bytes:
        """Return ``size`` octets from ``address`` on; raises OSError, BusError for a wrong echo."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Write ``data`` from ``address`` on; raises as ``read`` does."""
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One part of the test: what was tested, whether it went well, and a sentence with the remedy if not."""

    what: What
    ok: bool
    text: str


def check_wire(
    wire: Registers,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Finding, ...]:
    """Reset the chip and test the wire: RTR after reset, patterns in MR, patterns in TX memory.

    A part that fails is the last one. Errors of the device that are no BusError pass through.
    """
    parts: tuple[tuple[What, Callable[[], str | None], str], ...] = (
        ("reset", lambda: _reset(wire, clock, sleep), "RTR reads 0x07D0 after a soft reset"),
        ("mode", lambda: _mode(wire), "MR holds what is written"),
        ("memory", lambda: _memory(wire), f"TX memory holds {len(PATTERNS)} patterns of {RUN_BYTES} octets"),
    )
    findings: list[Finding] = []
    for what, part, well in parts:
        try:
            fault = part()
        except BusError as error:
            fault = str(error)
        findings.append(Finding(what=what, ok=fault is None, text=fault or well))
        if fault is not None:
            break
    return tuple(findings)


def _reset(wire: Registers, clock: Callable[[], float], sleep: Callable[[float], None]) -> str | None:
    deadline = clock() + RESET_WAIT_S
    wire.write(reg.MR, bytes((reg.Mode.RST,)))
    while True:
        sleep(RESET_PAUSE_S)
        fault = _still_away(wire)
        if fault is None or clock() >= deadline:
            return fault


def _still_away(wire: Registers) -> str | None:
    try:
        mode, rtr = wire.read(reg.MR), wire.read(reg.RTR, 2)
    except BusError as error:
        return str(error)
    if is_back(mode[0], rtr):
        return None
    return (
        f"MR reads 0x{mode[0]:02X} and RTR 0x{rtr.hex().upper()} instead of 0x07D0 after a soft reset; "
        "check that the chip is a W5100, its power, /RESET and SEN"
    )


def _mode(wire: Registers) -> str | None:
    # What is set after a reset is not ours to clear: on a W5100S two bits.
    mask = 0xFF & ~recognised(wire.read(reg.VERR)[0]).mr_after_reset
    for value in MR_PATTERNS:
        wire.write(reg.MR, bytes((value,)))
        seen = wire.read(reg.MR)[0]
        if (seen ^ value) & mask:
            return (
                f"MR reads 0x{seen:02X} after 0x{value:02X} was written; "
                "lower chip.speed_hz, shorten the wires, check MOSI"
            )
    return None


def _memory(wire: Registers) -> str | None:
    for place, (_, pattern) in zip(PLACES, PATTERNS, strict=True):
        wire.write(place, pattern)
    # Read when all are written: a run that landed on another's place shows as well.
    for place, (name, pattern) in zip(PLACES, PATTERNS, strict=True):
        seen = wire.read(place, len(pattern))
        wrong = [at for at, (one, other) in enumerate(zip(seen, pattern, strict=True)) if one != other]
        if wrong:
            at = wrong[0]
            return (
                f"TX memory holds {len(wrong)} of {len(pattern)} octets wrong ({name}): 0x{place + at:04X} reads "
                f"0x{seen[at]:02X} instead of 0x{pattern[at]:02X}; lower chip.speed_hz, shorten the wires"
            )
    return None


def clocks_to_try(speed_hz: int) -> tuple[int, ...]:
    """Return ``speed_hz`` and the slower clocks of CLOCKS_HZ, fastest first, in Hz."""
    return (speed_hz, *(clock for clock in CLOCKS_HZ if clock < speed_hz))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """``speed_hz``: the fastest clock at which nothing went wrong, None if there is none.

    ``fault``: what went wrong at the fastest of all, "" if nothing.
    """

    speed_hz: int | None
    fault: str


def settle(clocks: Sequence[int], check: Callable[[int], Sequence[Finding]]) -> Settled:
    """Return the fastest of ``clocks`` (fastest first, in Hz) at which ``check`` finds nothing wrong.

    A slower clock counts only if the faster ones fail a second time: a chip that comes out of its power-up reset
    in the middle of the test looks as if the slower clock had helped.
    """
    settled = _walk(clocks, check)
    return settled if settled.speed_hz in (None, clocks[0]) else _walk(clocks, check)


def _walk(clocks: Sequence[int], check: Callable[[int], Sequence[Finding]]) -> Settled:
    first = ""
    for speed_hz in clocks:
        fault = next((one.text for one in check(speed_hz) if not one.ok), None)
        if fault is None:
            return Settled(speed_hz=speed_hz, fault=first)
        first = first or fault
    return Settled(speed_hz=None, fault=first)
