"""The chip's wires, clock and memory under test: what is found, step by step, each with its remedy.

Without ``reset`` no connection is disturbed: PTIMER and PMAGIC alone are written, which only PPPoE uses,
and given their values back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, final

from plugin.w5100 import registers as reg
from plugin.w5100.bus import Bus, ExchangeOnly, Wire, octets, read, translated
from plugin.w5100.errors import BusError
from plugin.w5100.selftest import check_wire
from plugin.workbench.snapshot import wire_to
from plugin.workbench.wiring import diagnosis

FRAMES_READ: Final = 256
REPEATED_READS: Final = 64
PATTERNS: Final = (
    b"\x00\x00",
    b"\xff\xff",
    b"\x55\xaa",
    b"\xaa\x55",
    *(bytes((1 << n, 0x80 >> n)) for n in range(8)),
)
LINE_WAIT_S: Final = 0.05

SEN: Final = (
    "a W5100 drives MISO even while /CS is high, unless SEN (SPI_EN) goes low then: software cannot see it, but "
    "nothing else on this SPI bus works; give the chip a bus of its own, or invert /CS into SEN"
)
ALONE: Final = "reset, MR, TX memory and /INT are not tested: --reset does, and drops all connections of the chip"

_PLACES: Final[dict[str, str]] = {"reset": "reset", "mode": "MR", "memory": "TX memory"}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was tested; ``text`` is one sentence, with the remedy where it is not ``ok``."""

    what: str
    ok: bool
    text: str


def examine(
    bus: Bus | ExchangeOnly, *, reset: bool, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[Finding]:
    """Yield what is found, one by one; one that is not well is mostly the last, for all else follows from it.

    With ``reset`` the chip is reset, its connections are gone, its TX memory is overwritten. Raises OSError where
    the bus itself fails.
    """
    fault = _frames(bus)
    yield Finding(what="frames", ok=fault is None, text=fault or f"{FRAMES_READ} frames carry the echo 00 01 02")
    settle_clock = getattr(bus, "settle_clock", None) if reset else None
    if settle_clock is not None:  # a slower clock may do: then all else is tested at that
        found = _clock(bus, settle_clock)
        yield found
        fault = _frames(bus)  # once more, at the clock that was found
    if fault is not None:
        return
    wire, model = wire_to(bus)
    yield Finding(what="chip", ok=True, text=f"a {model.title}, as VERR tells")
    for what, step, well in (
        ("reading", _reading, f"{REPEATED_READS} times the same was read"),
        ("writing", _writing, "PTIMER and PMAGIC hold what is written, and have their values back"),
    ):
        fault = _said(step, wire)
        yield Finding(what=what, ok=fault is None, text=fault or well)
        if fault is not None:
            return
    if reset:
        for one in _after_reset(bus, wire, clock, sleep):
            yield one
            if not one.ok:
                return
    else:
        yield Finding(what="note", ok=True, text=ALONE)
    if not model.burst:
        yield Finding(what="note", ok=True, text=SEN)


def _said(step: Callable[[Wire], str | None], wire: Wire) -> str | None:
    try:
        return step(wire)
    except BusError as error:
        return str(error)


def _frames(bus: Bus | ExchangeOnly) -> str | None:
    sent = read(reg.GAR, reg.IR - reg.GAR).frames
    sent *= -(-4 * FRAMES_READ // len(sent))
    sent = sent[: 4 * FRAMES_READ]
    try:
        return diagnosis(sent, octets(translated(bus.exchange)(sent)))
    except BusError as error:
        return str(error)


def _clock(bus: Any, settle_clock: Callable[[], int]) -> Finding:
    """Have the bus find the fastest clock at which nothing is lost."""
    asked_hz = bus.speed_hz
    try:
        found_hz = settle_clock()
    except BusError as error:
        return Finding(what="clock", ok=False, text=str(error))
    if found_hz == asked_hz:
        return Finding(what="clock", ok=True, text=f"nothing is lost at {found_hz} Hz")
    text = (
        f"octets get lost at {asked_hz} Hz and none at {found_hz} Hz, at which all else is tested: shorten the "
        f"wires, give the chip a bus of its own, or set chip.speed_hz to {found_hz}"
    )
    return Finding(what="clock", ok=False, text=text)


def _reading(wire: Wire) -> str | None:
    """Read what nobody changes but by writing, over and over."""
    size = reg.IR - reg.GAR
    first, *others = wire.transfer([read(reg.GAR, size)] * REPEATED_READS)
    different = [one for one in others if one != first]
    if not different:
        return None
    at = next(at for at in range(size) if different[0][at] != first[at])
    return (
        f"0x{reg.GAR + at:04X} reads 0x{first[at]:02X} and then 0x{different[0][at]:02X}; the echo is right, so "
        "bits flip: lower chip.speed_hz, shorten the wires, give the chip a good ground"
    )


def _writing(wire: Wire) -> str | None:
    before = wire.read(reg.PTIMER, 2)
    try:
        for pattern in PATTERNS:
            wire.write(reg.PTIMER, pattern)
            seen = wire.read(reg.PTIMER, 2)
            if seen != pattern:
                return (
                    f"PTIMER and PMAGIC read {seen.hex(' ')} after {pattern.hex(' ')} was written: check "
                    "the wire of MOSI, lower chip.speed_hz"
                )
    finally:
        wire.write(reg.PTIMER, before)
    return None


def _after_reset(
    bus: Bus | ExchangeOnly, wire: Wire, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[Finding]:
    for one in check_wire(wire, clock=clock, sleep=sleep):
        yield Finding(what=_PLACES[one.what], ok=one.ok, text=one.text)
    wire.write(reg.MR, bytes((reg.Mode.RST,)))  # what the patterns left in MR is gone with it
    wait_interrupt = getattr(bus, "wait_interrupt", None)
    if wait_interrupt is not None:
        low = translated(wait_interrupt)(LINE_WAIT_S)
        yield Finding(
            what="/INT",
            ok=not low,
            text="low, though IMR is 0: is it connected to another line, or has it no pull-up?"
            if low
            else "high while IMR is 0",
        )
