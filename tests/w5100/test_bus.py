"""SPI frames and the echo check on every one of them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.w5100 import BusError
from plugin.w5100 import registers as reg
from plugin.w5100.bus import (
    LEAST_BURST_BYTES,
    LONGEST_FRAME_BYTES,
    Access,
    Wire,
    check_echo,
    exchanges,
    read,
    takes_long_frames,
    write,
)
from plugin.w5100.emulator import Emulator
from plugin.w5100.model import W5100S


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


# --- long frames ----------------------------------------------------------------------------------------------


def shape(*accesses: Access) -> list[tuple[int, int]]:
    """How many frames each exchange has, and how many octets each frame."""
    return [(len(frames) // each, each) for frames, each in exchanges(accesses, burst=True)]


@pytest.mark.parametrize(
    ("accesses", "expected"),
    [
        ([], []),
        ([read(0x4000, 0)], []),
        ([read(0x0000, 64)], [(64, 4)]),  # registers live while they are read
        ([write(0x4000, bytes(LEAST_BURST_BYTES - 1))], [(15, 4)]),
        ([write(0x4000, bytes(LEAST_BURST_BYTES))], [(1, 19)]),
        ([read(0x6000, 4093)], [(1, 4096)]),
        ([read(0x6000, 4094)], [(2, 2050)]),
        ([read(0x6000, 4095)], [(2, 2050), (1, 4)]),
        ([read(0x6000, 8192)], [(3, 2733), (2, 4)]),
        ([read(0x6000, 8192), write(0x0428, bytes(2))], [(3, 2733), (4, 4)]),  # what is left goes along
        ([write(0x0402, b"x"), write(0x5FF0, bytes(16)), write(0x4000, bytes(16))], [(1, 4), (1, 19), (1, 19)]),
    ],
)
def test_memory_goes_in_equal_long_frames_and_the_rest_in_single_ones(
    accesses: list[Access], expected: list[tuple[int, int]]
) -> None:
    assert shape(*accesses) == expected


def test_golden_long_frames_of_a_write_and_a_read() -> None:
    data = bytes(range(16))
    plan = exchanges((write(0x4123, data), read(0x7FF0, 16)), burst=True)
    assert [(frames.hex(), each) for frames, each in plan] == [
        ("f04123" + data.hex(), 19),
        ("0f7ff0" + "00" * 16, 19),
    ]


ACCESSES = st.builds(
    lambda address, size, seed: write(address, random.Random(seed).randbytes(min(size, 0x8000 - address))),
    st.sampled_from([0x0402, 0x0424, 0x4000, 0x4FFF, 0x6000, 0x7000]),
    st.one_of(st.integers(0, 40), st.integers(0, 8192)),
    st.integers(0, 255),
)


@given(st.lists(ACCESSES, max_size=6))
def test_long_frames_carry_each_octet_once_to_its_address_and_in_order(accesses: list[Access]) -> None:
    carried: list[tuple[int, int]] = []
    for frames, each in exchanges(accesses, burst=True):
        assert len(frames) % each == 0
        assert 4 <= each <= LONGEST_FRAME_BYTES
        for start in range(0, len(frames), each):
            address = int.from_bytes(frames[start + 1 : start + 3], "big")
            carried += enumerate(frames[start + 3 : start + each], address)
    assert carried == [pair for one in accesses for pair in enumerate(one.data, one.address)]


def test_a_wrong_echo_is_found_in_a_long_frame_and_named() -> None:
    ((sent, each),) = exchanges((read(0x6000, 8190),), burst=True)
    received = bytearray(b"\x01\x02\x03" + bytes(each - 3)) * 3
    assert check_echo(sent, bytes(received), frame_bytes=each, echo=b"\x01\x02\x03") == bytes(8190)
    received[each + 1] ^= 0x10
    with pytest.raises(BusError, match=r"frame for 0x6AAA answered 01 12 03 00 instead of 01 02 03 .*corrupt"):
        check_echo(sent, bytes(received), frame_bytes=each, echo=b"\x01\x02\x03")
    assert check_echo(sent, bytes(received), frame_bytes=each, echo=None) == bytes(8190)


class Foreign:
    def spread(self, *frames: bytes, **more: int) -> bytes:
        return b"".join(frames)

    def timed(self, frames: bytes, timeout_s: float = 1.0) -> bytes:
        return frames

    def positional(self, frames: bytes, frame_bytes: int = 4, /) -> bytes:
        return frames


@pytest.mark.parametrize(
    ("exchange", "takes"),
    [
        (Emulator.exchange, True),
        (Foreign().spread, False),
        (Foreign().timed, False),
        (Foreign().positional, False),
        (bytes.fromhex, False),
        (dict, False),
    ],
)
def test_a_bus_takes_long_frames_if_it_has_the_parameter(exchange: object, takes: bool) -> None:
    assert callable(exchange)
    assert takes_long_frames(exchange) is takes


class Recording:
    """A bus that notes how long the frames of its exchanges were."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.lengths: list[int] = []

    def exchange(self, frames: bytes, frame_bytes: int = 4) -> bytes:
        self.lengths.append(frame_bytes)
        return self.emulator.exchange(frames, frame_bytes)


class OnlyFour(Recording):
    def exchange(self, frames: bytes, /) -> bytes:  # type: ignore[override]
        return super().exchange(frames)


@pytest.mark.parametrize(
    ("bus", "w5100s", "lengths"),
    [
        (Recording, False, [4, 4]),
        (Recording, True, [203, 203, 203, 4, 19]),
        (OnlyFour, False, [4, 4]),
        (OnlyFour, True, [4, 4]),
    ],
)
def test_a_wire_speaks_long_frames_where_chip_and_bus_do(
    bus: type[Recording], w5100s: bool, lengths: list[int]
) -> None:
    recording = bus(Emulator(model="w5100s"))
    wire = Wire(recording)
    if w5100s:
        wire.speak(W5100S, b"\x00\x01\x02")
    data = bytes(range(200))
    wire.transfer((write(0x4000, bytes(200)), write(0x4000, data)))
    assert wire.transfer((read(0x4000, 200), read(reg.VERR), read(0x4010, 16))) == [data, b"\x51", data[16:32]]
    assert recording.lengths == lengths
    recording.emulator.close()
