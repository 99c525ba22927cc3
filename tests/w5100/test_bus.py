"""SPI frames and the echo check on every one of them."""

from __future__ import annotations

import pytest

from plugin.w5100 import BusError
from plugin.w5100.bus import Wire, check_echo, read, write


def echo(*data: int) -> bytes:
    return b"".join(bytes((0, 1, 2, one)) for one in data)


def test_golden_frames_of_a_read_and_a_write() -> None:
    assert read(0x0017, 2).frames.hex() == "0f0017000f001800"
    assert write(0x00FF, b"\xab\xcd").frames.hex() == "f000ffabf00100cd"
    assert write(0x4000, b"").frames == b""


@pytest.mark.parametrize(("address", "size"), [(0x0000, 0x10000), (0x7FFF, 2), (0x0401, 700), (0xFFFF, 1)])
def test_each_frame_has_its_own_address(address: int, size: int) -> None:
    frames = read(address, size).frames
    assert len(frames) == 4 * size
    for n in range(0, size, max(1, size // 50)):
        assert frames[4 * n : 4 * n + 4] == b"\x0f" + (address + n).to_bytes(2, "big") + b"\x00"


@pytest.mark.parametrize(("address", "size"), [(0xFFFF, 2), (-1, 1), (0x10000, 1)])
def test_no_frame_leaves_the_address_space(address: int, size: int) -> None:
    with pytest.raises(ValueError, match="address space"):
        read(address, size)


def test_the_echo_is_checked_and_the_data_returned() -> None:
    assert check_echo(read(0, 3).frames, echo(7, 8, 9)) == b"\x07\x08\x09"


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("frame", [0, 1, 2])
def test_a_wrong_echo_is_found_in_any_frame_and_named(frame: int, position: int) -> None:
    received = bytearray(echo(7, 8, 9))
    received[4 * frame + position] ^= 0x40
    with pytest.raises(BusError, match=f"frame for 0x001{5 + frame}.*corrupt.*speed_hz"):
        check_echo(read(0x0015, 3).frames, bytes(received))


@pytest.mark.parametrize(("octet", "text"), [(0x00, "stuck at 0"), (0xFF, "stuck at 1")])
def test_a_stuck_line_is_named(octet: int, text: str) -> None:
    with pytest.raises(BusError, match=text):
        check_echo(read(0, 3).frames, bytes((octet,)) * 12)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, list])
def test_a_foreign_bus_may_answer_in_any_kind_of_octets(kind: type) -> None:
    class Foreign:
        def exchange(self, frames: bytes) -> bytes:
            answer: bytes = kind(echo(*range(len(frames) // 4)))
            return answer

    assert Wire(Foreign()).transfer((read(0, 2), write(5, b"x"), read(9))) == [b"\x00\x01", b"\x02", b"\x03"]


def test_accesses_go_out_in_order_in_one_exchange() -> None:
    sent: list[bytes] = []

    class Recording:
        def exchange(self, frames: bytes) -> bytes:
            sent.append(frames)
            return echo(*bytes(len(frames) // 4))

    wire = Wire(Recording())
    wire.transfer((write(0x0402, b"\x10"), read(0x0403)))
    assert [one.hex() for one in sent] == ["f00402100f040300"]
    assert wire.transfer(()) == []
    assert len(sent) == 1
