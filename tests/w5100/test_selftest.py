"""The self-test of the wire: what it finds on a good chip and on bad wires, and which clock follows from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from plugin.w5100 import registers as reg
from plugin.w5100.bus import Wire
from plugin.w5100.emulator import Emulator, StuckBus
from plugin.w5100.selftest import PATTERNS, Finding, check_wire, clocks_to_try, settle

GOOD = Finding(what="reset", ok=True, text="well")


class Wrong:
    """Registers over an emulator, of which reads are changed on their way: (address, octets) to octets."""

    def __init__(self, change: Callable[[int, bytes], bytes], model: str = "w5100") -> None:
        self._wire = Wire(Emulator(model=model))
        self._change = change

    def read(self, address: int, size: int = 1) -> bytes:
        return self._change(address, self._wire.read(address, size))

    def write(self, address: int, data: bytes) -> None:
        self._wire.write(address, data)


class Ticks:
    """A clock that sleeping turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def findings_of(wire: Wire | Wrong) -> tuple[Finding, ...]:
    ticks = Ticks()
    findings = check_wire(wire, clock=ticks.clock, sleep=ticks.sleep)
    assert ticks.now < 0.1
    return findings


@pytest.mark.parametrize("model", ["w5100", "w5100s"])
def test_a_good_chip_passes_in_all_parts(model: str) -> None:
    # A W5100S does not let two bits of MR be written.
    findings = findings_of(
        Wrong(lambda at, octets: octets if at else bytes((octets[0] | (3 if "s" in model else 0),)), model)
    )
    assert [(one.what, one.ok) for one in findings] == [("reset", True), ("mode", True), ("memory", True)]


def test_nothing_is_left_behind_in_mr() -> None:
    wire = Wire(Emulator())
    findings_of(wire)
    assert wire.read(reg.MR) == b"\x00"


@pytest.mark.parametrize(
    ("change", "what", "words"),
    [
        (lambda at, octets: b"\x07\xd1" if at == reg.RTR else octets, "reset", "RTR 0x07D1 instead of 0x07D0"),
        (lambda at, octets: b"\x80" if at == reg.MR else octets, "reset", "MR reads 0x80"),
        (lambda at, octets: bytes((octets[0] & 0x10,)) if at == reg.MR else octets, "mode", "0x10 after 0x12"),
        (
            lambda at, octets: octets[:7] + b"\x57" + octets[8:] if octets[:8] == b"\x55" * 8 else octets,
            "memory",
            "1 of 256 octets wrong (55): 0x4207 reads 0x57 instead of 0x55",
        ),
        (
            lambda at, octets: bytes(len(octets)) if at >= reg.TX_BASE else octets,
            "memory",
            "256 of 256 octets wrong (FF)",
        ),
    ],
)
def test_the_part_that_fails_is_the_last_and_says_how(
    change: Callable[[int, bytes], bytes], what: str, words: str
) -> None:
    *well, last = findings_of(Wrong(change))
    assert all(one.ok for one in well)
    assert (last.what, last.ok) == (what, False)
    assert words in last.text


@pytest.mark.parametrize("line", range(13))
@pytest.mark.parametrize("high", [False, True], ids=["low", "high"])
def test_an_address_line_that_hangs_is_found(line: int, high: bool) -> None:
    wire = Wire(Emulator())

    def hung(address: int) -> int:
        if address < reg.TX_BASE:
            return address
        return address | 1 << line if high else address & ~(1 << line)

    class Hanging:
        def read(self, address: int, size: int = 1) -> bytes:
            return b"".join([wire.read(hung(one)) for one in range(address, address + size)])

        def write(self, address: int, data: bytes) -> None:
            for at, octet in enumerate(data):
                wire.write(hung(address + at), bytes((octet,)))

    last = check_wire(Hanging(), clock=lambda: 0.0, sleep=lambda _: None)[-1]
    assert (last.what, last.ok) == ("memory", False)


def test_a_dead_bus_is_a_finding_with_the_sentence_of_the_bus() -> None:
    emulator = Emulator()
    emulator.inject(StuckBus(octet=0xFF))
    (finding,) = findings_of(Wire(emulator))
    assert (finding.what, finding.ok) == ("reset", False)
    assert "MISO is stuck at 1" in finding.text


def test_the_patterns_move_every_bit_both_ways() -> None:
    assert {len(pattern) for _, pattern in PATTERNS} == {256}
    for bit in range(8):
        seen = {octet >> bit & 1 for _, pattern in PATTERNS for octet in pattern}
        assert seen == {0, 1}


@pytest.mark.parametrize(
    ("speed_hz", "clocks"),
    [
        (14_000_000, (14_000_000, 10_000_000, 8_000_000, 4_000_000, 2_000_000, 1_000_000, 500_000)),
        (30_000_000, (30_000_000, 14_000_000, 10_000_000, 8_000_000, 4_000_000, 2_000_000, 1_000_000, 500_000)),
        (3_000_000, (3_000_000, 2_000_000, 1_000_000, 500_000)),
        (500_000, (500_000,)),
        (10_000, (10_000,)),
    ],
)
def test_clocks_go_down_and_never_up(speed_hz: int, clocks: tuple[int, ...]) -> None:
    assert clocks_to_try(speed_hz) == clocks


@pytest.mark.parametrize(
    ("walks", "speed_hz", "fault"),
    [
        (["+"], 8, ""),
        (["-+", "-+"], 4, "bad at 8"),
        (["--+", "--+"], 2, "bad at 8"),
        (["---"], None, "bad at 8"),
        (["--+", "+"], 8, ""),  # the chip came up in the middle of the first walk
        (["--+", "---"], None, "bad at 8"),
    ],
)
def test_a_slower_clock_has_to_be_needed_twice(walks: Sequence[str], speed_hz: int | None, fault: str) -> None:
    script = iter("".join(walks))
    asked: list[int] = []

    def check(clock: int) -> tuple[Finding, ...]:
        asked.append(clock)
        if next(script) == "+":
            return (GOOD,)
        return (GOOD, Finding(what="memory", ok=False, text=f"bad at {clock}"))

    settled = settle((8, 4, 2), check)
    assert (settled.speed_hz, settled.fault) == (speed_hz, fault)
    assert asked == [clock for walk in walks for clock in (8, 4, 2)[: len(walk)]]
    assert next(script, None) is None
