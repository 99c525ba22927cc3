"""The test of a chip by hand: what is well, what is found, and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from plugin.w5100 import registers as reg
from plugin.w5100.bus import Wire, read, write
from plugin.w5100.emulator import Emulator, FlippedBit, StuckBus
from plugin.w5100.errors import BusError
from plugin.workbench.testing import Finding, examine


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def examined(bus: Any, *, reset: bool = False) -> dict[str, Finding]:
    clock = Clock()
    return {one.what: one for one in examine(bus, reset=reset, clock=clock, sleep=clock.sleep)}


class Meddled:
    """A W5100 of which some reads are not what was written."""

    def __init__(self, address: int, *, after_frames: int = 0) -> None:
        self._chip = Emulator()
        self._address = address
        self._after = after_frames
        self._seen = 0

    def exchange(self, frames: bytes) -> bytes:
        answer = bytearray(self._chip.exchange(frames))
        for at in range(0, len(frames), 4):
            if frames[at] == 0x0F and int.from_bytes(frames[at + 1 : at + 3], "big") == self._address:
                self._seen += 1
                if self._seen > self._after:
                    answer[at + 3] ^= 0x10
        return bytes(answer)


def test_a_good_chip_passes_and_keeps_what_it_holds() -> None:
    emulator = Emulator()
    wire = Wire(emulator)
    identity = bytes(range(1, 19))
    wire.transfer([write(reg.GAR, identity), write(reg.PTIMER, b"\x11\x22"), write(reg.TX_BASE, b"mail")])
    findings = examined(emulator)
    assert all(one.ok for one in findings.values())
    assert set(findings) == {"frames", "chip", "reading", "writing", "note"}
    after = wire.transfer([read(reg.GAR, 18), read(reg.PTIMER, 2), read(reg.TX_BASE, 4)])
    assert after == [identity, b"\x11\x22", b"mail"]


def test_with_a_reset_all_is_tested_and_the_chip_is_left_fresh() -> None:
    emulator = Emulator()
    wire = Wire(emulator)
    wire.write(reg.GAR, bytes(range(1, 19)))
    findings = examined(emulator, reset=True)
    assert {name for name, one in findings.items() if one.ok} == {
        "frames", "chip", "reading", "writing", "reset", "MR", "TX memory", "/INT", "note",
    }  # fmt: skip
    assert wire.transfer([read(reg.MR), read(reg.GAR, 18)]) == [b"\x00", bytes(18)]


@pytest.mark.parametrize(
    ("bus", "what", "words"),
    [
        (Meddled(reg.SIPR, after_frames=30), "reading", "0x000F reads 0x00 and then 0x10"),
        (Meddled(reg.PTIMER), "writing", "PTIMER and PMAGIC read 10 00 after 00 00 was written"),
        (Meddled(reg.RTR), "reset", "instead of 0x07D0"),
        (Meddled(reg.TX_BASE), "TX memory", "0x4000 reads 0x10 instead of 0x00"),
    ],
)
def test_what_is_wrong_ends_the_test_with_its_remedy(bus: Meddled, what: str, words: str) -> None:
    findings = list(examined(bus, reset=True).values())
    assert [one.what for one in findings if not one.ok] == [what]
    assert findings[-1].what == what
    assert words in findings[-1].text


@pytest.mark.parametrize(
    ("fault", "words"), [(StuckBus(octet=0), "stuck at 0"), (StuckBus(octet=0xFF), "stuck at 1")]
)
def test_without_an_answer_nothing_more_is_tried(fault: Any, words: str) -> None:
    emulator = Emulator()
    emulator.inject(fault)
    (finding,) = examined(emulator, reset=True).values()
    assert (finding.what, finding.ok) == ("frames", False)
    assert words in finding.text


def test_a_flipped_bit_in_an_echo_is_found_among_many_frames() -> None:
    emulator = Emulator()
    emulator.inject(FlippedBit(frame=100, octet=1, bit=7))
    assert "1 of 256 frames" in examined(emulator)["frames"].text


def test_an_interrupt_line_that_hangs_is_found() -> None:
    class Hanging:
        def __init__(self) -> None:
            self.exchange = Emulator().exchange

        def wait_interrupt(self, _timeout_s: float) -> bool:
            return True

    finding = examined(Hanging(), reset=True)["/INT"]
    assert not finding.ok
    assert "low, though IMR is 0" in finding.text


class Clocked:
    """A bus that loses octets above ``good_hz``, and can find that out."""

    def __init__(self, good_hz: int | None) -> None:
        self._chip = Emulator()
        self._good_hz = good_hz
        self.speed_hz = 14_000_000

    def exchange(self, frames: bytes) -> bytes:
        answer = self._chip.exchange(frames)
        good = self._good_hz is not None and self.speed_hz <= self._good_hz
        return answer if good else bytes(one >> 1 for one in answer)

    def settle_clock(self) -> int:
        if self._good_hz is None:
            raise BusError("works at no clock")
        self.speed_hz = min(self.speed_hz, self._good_hz)
        return self.speed_hz


@pytest.mark.parametrize(
    ("good_hz", "wrong", "words"),
    [
        (14_000_000, set(), "nothing is lost at 14000000 Hz"),
        (8_000_000, {"frames", "clock"}, "set chip.speed_hz to 8000000"),
        (None, {"frames", "clock"}, "works at no clock"),
    ],
)
def test_the_clock_is_found_with_a_reset_and_all_else_is_tested_at_it(
    good_hz: int | None, wrong: set[str], words: str
) -> None:
    findings = examined(Clocked(good_hz), reset=True)
    assert {name for name, one in findings.items() if not one.ok} == wrong
    assert words in findings["clock"].text
    assert ("TX memory" in findings) is (good_hz is not None)


def test_without_a_reset_the_clock_is_left_alone() -> None:
    bus = Clocked(8_000_000)
    assert set(examined(bus)) == {"frames"}
    assert bus.speed_hz == 14_000_000


def test_a_w5100s_is_told_and_has_no_fault_of_sen() -> None:
    findings = examined(Emulator(model="w5100s"), reset=True)
    assert all(one.ok for one in findings.values())
    assert "W5100S" in findings["chip"].text
    assert "note" not in findings


@pytest.mark.parametrize("reset", [False, True])
def test_whatever_a_foreign_bus_raises_is_a_finding(reset: bool) -> None:
    class Broken:
        def exchange(self, frames: bytes) -> bytes:
            raise KeyError("spi")

    findings = examined(Broken(), reset=reset)
    assert [(one.ok, one.text) for one in findings.values()] == [
        (False, "SPI: the bus adapter failed: KeyError: 'spi'")
    ]


def test_a_foreign_line_that_fails_is_told_as_a_fault_of_the_bus() -> None:
    class Lineless(Emulator):
        def wait_interrupt(self, timeout_s: float) -> bool:
            raise KeyError("gpio")

    with pytest.raises(BusError, match="KeyError: 'gpio'"):
        examined(Lineless(), reset=True)
