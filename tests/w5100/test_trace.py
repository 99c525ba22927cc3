"""The trace: what it writes, what it keeps to itself, and that nothing on the bus changes by it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from plugin.w5100 import BusError, Chip
from plugin.w5100.bus import read, takes_long_frames, write
from plugin.w5100.emulator import Emulator, StuckBus
from plugin.w5100.trace import Trace, TracingBus
from plugin.w5100.vcd import TICK_S

SECRET = b"AUTH PLAIN AGFsaWNlAHNlY3JldA=="


class Foreign:
    """The least that a bus may be."""

    def __init__(
        self, answer: Callable[[bytes], Any] = lambda frames: b"\x00\x01\x02\x03" * (len(frames) // 4)
    ) -> None:
        self._answer = answer

    def exchange(self, frames: bytes) -> Any:
        return self._answer(frames)


class Traced:
    """A bus under trace, and what was written of it; each call of its clock is a second later."""

    def __init__(self, bus: Any, *, data: bool = False, limit_bytes: int = 1_000_000) -> None:
        self.text_file, self.vcd_file = io.BytesIO(), io.BytesIO()
        self._now = 0.0
        trace = Trace(self.text_file, self.vcd_file, title="T", data=data, limit_bytes=limit_bytes)
        self.bus = TracingBus(bus, trace, clock=self._tick)

    def _tick(self) -> float:
        self._now += 1.0
        return self._now

    @property
    def lines(self) -> list[str]:
        return [one for one in self.text_file.getvalue().decode().splitlines() if not one.startswith("#")]

    @property
    def vcd(self) -> str:
        return self.vcd_file.getvalue().decode()


def decoded(vcd: str) -> list[tuple[float, bytes, bytes]]:
    """Return time, MOSI and MISO of each frame, as an SPI decoder in mode 0 sees them."""
    level = dict.fromkeys("ckoi", "0")
    frames: list[tuple[float, bytes, bytes]] = []
    bits: list[tuple[str, str]] = []
    tick, began = 0, 0
    for line in vcd.partition("$enddefinitions $end\n")[2].splitlines():
        if line.startswith("$comment"):
            continue
        if line[0] == "#":
            assert int(line[1:]) >= tick, "time goes back"
            tick = int(line[1:])
            continue
        before, level[line[1]] = level[line[1]], line[0]
        if line == "0c":
            began, bits = tick, []
        elif line == "1k" and before == "0" and level["c"] == "0":
            bits.append((level["o"], level["i"]))
        elif line == "1c" and bits:
            mosi, miso = (
                bytes(int("".join(one[at : at + 8]), 2) for at in range(0, len(one), 8))
                for one in zip(*bits, strict=True)
            )
            frames.append((began * TICK_S, mosi, miso))
    return frames


# --- The text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "received", "line"),
    [
        (write(0x0000, b"\x80").frames, "00010203", "W  MR         0x0000  80                 RST"),
        (read(0x0017, 2).frames, "00010207 000102d0", "R  RTR        0x0017  07 d0              200 ms"),
        (read(0x0018, 1).frames, "000102d0", "R  RTR        0x0018  d0"),
        (read(0x0703, 1).frames, "00010217", "R  S3_SR      0x0703  17                 ESTABLISHED"),
        (write(0x0401, b"\x20").frames, "00010203", "W  S0_CR      0x0401  20                 SEND"),
        (read(0x0080, 1).frames, "01020351", "R  VERR       0x0080  51"),
        (read(0x0013, 1).frames, "00010200", "R  ?          0x0013  00"),
        (read(0x0015, 1).frames, "00000000", "R  IR         0x0015  00  ! 00 00 00 instead of 00 01 02"),
        (write(0x4000, SECRET).frames, "00010203" * len(SECRET), f"W  TX memory  0x4000  +{len(SECRET)} octets"),
        (read(0x6010, 2).frames, "00010241" * 2, "R  RX memory  0x6010  +2 octets"),
        (read(0x6010, 2).frames, "41424344" * 2, "R  RX memory  0x6010  +2 octets  ! the echo is wrong"),
        (b"\x0e\x40\x00\x41", "00010203", "?  opcode 0x0E at 0x4000  1 octets"),
        (b"\x0e\x00\x01\x41", "00010203", "?  opcode 0x0E at 0x0001  41 -> 03"),
        (b"\xf0\xc0\x00\x41", "00010203", "W  TX memory  0x4000  +1 octets"),
    ],
)  # fmt: skip
def test_a_line_for_each_register_and_none_for_what_memory_holds(sent: bytes, received: str, line: str) -> None:
    traced = Traced(Foreign(lambda _: bytes.fromhex(received)))
    traced.bus.exchange(sent)
    assert traced.lines == [f"    1.000000  {line}"]


def test_frames_on_consecutive_addresses_are_one_register_and_others_are_not() -> None:
    traced = Traced(Emulator())
    traced.bus.exchange(write(0x0001, bytes((192, 168, 1, 1, 255, 255, 255, 0))).frames + read(0x0001, 4).frames)
    assert [line[14:25] for line in traced.lines] == ["W  GAR     ", "W  SUBR    ", "R  GAR     "]
    assert traced.lines[2].endswith("c0 a8 01 01        192.168.1.1")


def test_long_frames_of_a_w5100s() -> None:
    class Bursts:
        def exchange(self, frames: bytes, frame_bytes: int = 4) -> bytes:
            assert frame_bytes == 7
            return b"\x00\x01\x02" + bytes(4)

    traced = Traced(Bursts(), data=True)
    traced.bus.exchange(write(0x4000, b"mail").long_frame, frame_bytes=7)
    assert [line[14:] for line in traced.lines] == [
        "W  TX memory  0x4000  +4 octets",
        f"W             0x4000  {'6d 61 69 6c':<47} mail",
    ]
    assert decoded(traced.vcd) == [(1.0, write(0x4000, b"mail").long_frame, b"\x00\x01\x02" + bytes(4))]


# --- The signals -----------------------------------------------------------------------------------------------


def test_the_signals_are_the_frames_bit_by_bit() -> None:
    traced = Traced(Emulator())
    sent = [write(0x0028, b"\xa5\x5a").frames, read(0x0017, 2).frames]
    received = [traced.bus.exchange(one) for one in sent]
    frames = decoded(traced.vcd)
    assert b"".join(mosi for _, mosi, _ in frames) == b"".join(sent)
    assert b"".join(miso for _, _, miso in frames) == b"".join(received)
    assert [int(at) for at, _, _ in frames] == [1, 1, 2, 2]  # when each exchange began


def test_frames_faster_than_the_nominal_clock_follow_each_other() -> None:
    text, vcd = io.BytesIO(), io.BytesIO()
    bus = TracingBus(Emulator(), Trace(text, vcd, title="T"), clock=lambda: 5.0)
    for _ in range(3):
        bus.exchange(read(0x0017, 2).frames)
    begins = [at for at, _, _ in decoded(vcd.getvalue().decode())]
    assert len(set(begins)) == 6
    assert begins == sorted(begins)


# --- Secrets and bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [False, True])
def test_memory_is_written_only_where_it_is_asked_for(data: bool) -> None:
    traced = Traced(Emulator(), data=data)
    traced.bus.exchange(write(0x4000, SECRET).frames)
    traced.bus.exchange(read(0x4000, len(SECRET)).frames)
    traced.bus.exchange(read(0x0000).frames)
    shown = "".join(line[84:] for line in traced.lines if line[14] == "W")
    assert shown == (SECRET.decode() if data else "")
    octets = b"".join(mosi[3:] for _, mosi, _ in decoded(traced.vcd))
    assert (SECRET in octets) is data
    assert (SECRET in b"".join(miso[3:] for _, _, miso in decoded(traced.vcd))) is data
    assert len(decoded(traced.vcd)) == (2 * len(SECRET) + 1 if data else 1)


def test_the_trace_ends_at_its_limit_and_says_so_and_the_bus_goes_on() -> None:
    limit_bytes = 3000
    traced = Traced(Emulator(), limit_bytes=limit_bytes)
    for _ in range(200):
        assert traced.bus.exchange(read(0x0017, 2).frames) == bytes.fromhex("00010207 000102d0")
    for content in (traced.text_file.getvalue(), traced.vcd_file.getvalue()):
        assert limit_bytes / 2 < len(content) <= limit_bytes
        assert b"the trace ends here: it has reached its limit of 3000 octets" in content.splitlines()[-1]
    assert decoded(traced.vcd)  # whole frames, up to the end


def test_a_full_disk_ends_the_trace_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Full(io.BytesIO):
        def write(self, content: Any) -> int:
            if self.tell() > 200:
                raise OSError(28, "No space left on device")
            return super().write(content)

    bus = TracingBus(Emulator(), Trace(Full(), Full(), title="T"))
    for _ in range(10):
        assert bus.exchange(read(0x0017).frames) == b"\x00\x01\x02\x07"
    assert [one.message for one in caplog.records] == [
        "event=trace_stopped problem='[Errno 28] No space left on device'"
    ] * 2


# --- Transparent -----------------------------------------------------------------------------------------------


def test_it_has_what_the_bus_below_has_and_no_more() -> None:
    plain = Traced(Foreign()).bus
    assert not hasattr(plain, "wait_interrupt")
    assert not hasattr(plain, "reset_line")
    assert not hasattr(plain, "close")
    assert not takes_long_frames(plain.exchange)
    full = Traced(Emulator()).bus
    assert takes_long_frames(full.exchange)
    full.close()
    with pytest.raises(BusError, match="switched off"):
        full.exchange(read(0).frames)


def test_the_lines_of_the_chip_are_written_too() -> None:
    class Lines(Foreign):
        pulled = 0

        def wait_interrupt(self, timeout_s: float) -> bool:
            return timeout_s > 1

        def reset_line(self) -> None:
            self.pulled += 1

    below = Lines()
    traced = Traced(below)
    assert traced.bus.wait_interrupt(2.0) is True
    assert traced.bus.wait_interrupt(0.5) is False
    traced.bus.reset_line()
    assert below.pulled == 1
    assert [line[14:] for line in traced.lines] == [
        "I  /INT low after 1.000000 s", "I  /INT high after 1.000000 s", "L  /RESET is pulled low",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "words"),
    [(b"", "4 octets were sent, and 0 came back"), (7, "no run of octets"), (None, "no run of octets")],
)
def test_what_the_bus_gives_is_passed_on_whatever_it_is(answer: Any, words: str) -> None:
    traced = Traced(Foreign(lambda _: answer))
    assert traced.bus.exchange(read(0).frames) == answer
    (line,) = traced.lines
    assert words in line


def test_what_the_bus_raises_is_passed_on_and_written() -> None:
    def fail(_frames: bytes) -> bytes:
        raise KeyError("boom")

    traced = Traced(Foreign(fail))
    with pytest.raises(KeyError):
        traced.bus.exchange(read(0).frames)
    assert traced.lines == ["    1.000000  !  KeyError: 'boom'"]


def test_a_chip_is_driven_as_without_it() -> None:
    emulator = Emulator()
    traced = Traced(emulator)
    chip = Chip(traced.bus)
    chip.reset()
    assert chip.model == "w5100"
    emulator.inject(StuckBus(octet=0))
    with pytest.raises(OSError, match="stuck at 0"):
        chip.tcp_socket().hardware.look()
    assert traced.lines[-1].endswith("! 00 00 00 instead of 00 01 02")
