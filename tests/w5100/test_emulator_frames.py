"""The emulator at its pins: golden frames, echo, opcodes, lengths, the address map, reset values."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugin.w5100.bus import Bus
from plugin.w5100.emulator import Emulator
from plugin.w5100.errors import BusError
from tests.w5100.emulated import Host


@pytest.fixture
def chip() -> Iterator[Emulator]:
    emulator = Emulator()
    yield emulator
    emulator.close()


@pytest.fixture
def host(chip: Emulator) -> Host:
    return Host(chip)


@pytest.fixture(params=["w5100", "w5100s"])
def either(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    emulator = Emulator(model=request.param)
    yield emulator
    emulator.close()


def test_is_a_bus_without_arguments() -> None:
    bus: Bus = Emulator()
    assert bus.exchange(bytes.fromhex("0f001700 0f001800")) == bytes.fromhex("00010207 000102d0")
    bus.close()


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("0f 00 17 00", "00 01 02 07"),  # RTR, high octet
        ("0f 00 18 55", "00 01 02 d0"),  # RTR, low octet; what the host sends as data does not matter
        ("0f 00 19 00", "00 01 02 08"),  # RCR
        ("f0 00 01 c0", "00 01 02 03"),  # a write is answered 00 01 02 03
        ("0f 04 16 00", "00 01 02 80"),  # S0_TTL
        ("0f 07 20 00", "00 01 02 08"),  # S3_TX_FSR
    ],
)
def test_golden_frames(either: Emulator, sent: str, received: str) -> None:
    assert either.exchange(bytes.fromhex(sent)) == bytes.fromhex(received)


def test_frames_of_one_exchange_are_carried_out_in_order(either: Emulator) -> None:
    sent = bytes.fromhex("f0000f01 0f000f00 f0000f02 0f000f00 f0401011 0f401000 f0401012 0f401000")
    received = bytes.fromhex("00010203 00010201 00010203 00010202 00010203 00010211 00010203 00010212")
    assert either.exchange(sent) == received


def test_a_golden_connection_setup(either: Emulator) -> None:
    # MR reset, SHAR, GAR, SUBR, SIPR as the datasheet's example sets them, then a TCP socket that is opened.
    sent = bytes.fromhex(
        "f0000080"
        "f0000900f0000a08f0000bdcf0000c01f0000d02f0000e03"
        "f00001c0f00002a8f0000300f0000401"
        "f00005fff00006fff00007fff0000800"
        "f0000fc0f00010a8f0001100f000110a"
        "f0040021f0040413f0040588f0040101"
        "0f0401000f040300"
    )
    received = either.exchange(sent)
    assert received[:-8] == b"\x00\x01\x02\x03" * (len(sent) // 4 - 2)
    assert received[-8:] == bytes.fromhex("00010200 00010213")


@pytest.mark.parametrize("opcode", [0x00, 0x01, 0x0E, 0x1F, 0x8F, 0xF1, 0x7F, 0xFF])
def test_other_opcodes_change_nothing_and_are_only_counted(host: Host, opcode: int) -> None:
    host.write(0x0001, b"\x11")
    assert host.chip.exchange(bytes((opcode, 0x00, 0x01, 0x77))) == b"\x00\x01\x02\x03"
    assert host.read(0x0001) == b"\x11"


def test_foreign_probes_do_not_find_another_chip(host: Host) -> None:
    # W5500: address, control octet, data; version register 0x0039 must read 04.
    assert host.chip.exchange(bytes.fromhex("00390000"))[3] != 0x04
    # W5200: address, length, data; soft reset, then MR must read 00 and hold 08.
    assert host.chip.exchange(bytes.fromhex("0000800180"), 5)[4] == 0x00
    assert host.chip.exchange(bytes.fromhex("0000000100"), 5)[4] != 0x08
    # W5100S: version register 0x0080 must read 51; on a W5100 that is a mirror of an unused common register.
    assert host.read(0x0080) == b"\x00"
    # W5100, as the Arduino library does it: MR holds these three values.
    for value in (b"\x10", b"\x12", b"\x00"):
        host.write(0x0000, value)
        assert host.read(0x0000) == value


@pytest.mark.parametrize(
    ("sent", "frame_bytes", "received"),
    [
        ("0f", 1, "00"),
        ("0f00", 2, "0001"),
        ("f0000199f00001", 4, "00010203000102"),  # the last frame is cut off: it is not carried out
        ("f00001", 3, "000102"),
        ("0f00170000", 5, "0001020700"),  # no burst: what follows the data reads 00
        ("0f0017000f001800", 8, "0001020700000000"),
        ("", 4, ""),
    ],
)
def test_frames_of_other_lengths(chip: Emulator, sent: str, frame_bytes: int, received: str) -> None:
    assert chip.exchange(bytes.fromhex(sent), frame_bytes) == bytes.fromhex(received)
    assert Host(chip).read(0x0002) == b"\x00"


def test_a_long_frame_writes_its_first_data_octet_only(host: Host) -> None:
    host.chip.exchange(bytes.fromhex("f000010a0b0c0d"), 7)
    assert host.read(0x0001, 4) == b"\x0a\x00\x00\x00"
    host.chip.exchange(bytes.fromhex("f0000101ff f0000202ff f000"), 5)
    assert host.read(0x0001, 4) == b"\x01\x02\x00\x00"


def test_a_frame_has_at_least_one_octet(chip: Emulator) -> None:
    with pytest.raises(ValueError, match="at least one octet"):
        chip.exchange(b"\x0f\x00\x17\x00", 0)


def test_a_closed_chip_is_no_bus_any_more(chip: Emulator) -> None:
    chip.close()
    chip.close()
    with pytest.raises(BusError):
        chip.exchange(b"\x0f\x00\x17\x00")
    with pytest.raises(BusError):
        chip.wait_interrupt(0)


# --- the address map ------------------------------------------------------------------------------------

RESET_COMMON = bytes.fromhex("00 00000000 00000000 000000000000 00000000 0000 00 00 07d0 08 55 55 0000") + bytes(
    10
)
RESET_SOCKET = bytes.fromhex(
    "00 00 00 00 0000 ffffffffffff 00000000 0000 0000 00 00 80 00000000000000 02 02"
    "0800 0000 0000 0000 0000 0000 00 4000 00"
)


def test_reset_values(host: Host) -> None:
    assert host.read(0x0000, 0x30) == RESET_COMMON + bytes.fromhex("28 00 00000000 0000")
    for number in range(4):
        assert host.read(host.base(number), 0x30) == RESET_SOCKET
        assert host.read(host.base(number) + 0x30, 0xD0) == bytes(0xD0)
    assert host.read(0x4000, 0x4000) == bytes(0x4000)


def test_a15_is_not_decoded(host: Host) -> None:
    host.write(0x8001, b"\x5a")
    assert host.read(0x0001) == b"\x5a"
    host.write(0xC000, b"\x5b")
    assert host.read(0x4000) == b"\x5b"
    host.write(0xFFFF, b"\x5c")
    assert host.read(0x7FFF) == b"\x5c"


@pytest.mark.parametrize("mirror", [0x0101, 0x0201, 0x0301, 0x0801, 0x0901, 0x0B01, 0x1001, 0x3801, 0x3B01])
def test_common_registers_show_wherever_a10_is_low(host: Host, mirror: int) -> None:
    host.write(mirror, b"\x5a")
    assert host.read(0x0001) == b"\x5a"
    assert host.read(mirror) == b"\x5a"


@pytest.mark.parametrize("mirror", [0x0C15, 0x0D15, 0x0E15, 0x0F15, 0x1415, 0x2415, 0x3C15, 0x3F15, 0x8C15])
def test_undocumented_socket_pages_show_socket_3(host: Host, mirror: int) -> None:
    host.write(mirror, b"\x5a")
    assert [host.read(host.base(number) + 0x15) for number in range(4)] == [b"\x00"] * 3 + [b"\x5a"]
    assert host.read(mirror) == b"\x5a"


@pytest.mark.parametrize(
    "address", [0x0013, 0x0014, 0x001C, 0x001D, 0x001E, 0x0027, *range(0x002A, 0x0031), 0x00FF]
)
def test_common_registers_that_cannot_be_written(host: Host, address: int) -> None:
    before = host.read(address)
    host.write(address, b"\xa5")
    assert host.read(address) == before


@pytest.mark.parametrize(
    "offset", [0x03, 0x17, 0x1D, 0x20, 0x21, 0x22, 0x23, 0x26, 0x27, 0x2A, 0x2B, 0x2C, 0x2F, 0x30, 0xFF]
)
def test_socket_registers_that_cannot_be_written(host: Host, offset: int) -> None:
    before = host.read(0x0500 + offset)
    host.write(0x0500 + offset, b"\xa5")
    assert host.read(0x0500 + offset) == before


@pytest.mark.parametrize("address", [0x0001, 0x0008, 0x000E, 0x0012, 0x0016, 0x0017, 0x0019, 0x0028, 0x0029])
def test_common_registers_that_can_be_written(host: Host, address: int) -> None:
    host.write(address, b"\xa5")
    assert host.read(address) == b"\xa5"


@pytest.mark.parametrize("offset", [0x00, 0x04, 0x05, 0x14, 0x15, 0x16, 0x1E, 0x1F, 0x2D, 0x2E])
def test_socket_registers_that_can_be_written(host: Host, offset: int) -> None:
    host.write(0x0600 + offset, b"\x01")
    assert host.read(0x0600 + offset) == b"\x01"
    assert host.read(0x0500 + offset) == RESET_SOCKET[offset : offset + 1]


def test_soft_reset_clears_registers_and_keeps_memory(host: Host) -> None:
    host.write(0x0001, b"\x0a\x01\x02\x03")
    host.write(0x001A, b"\x03\x0a")
    host.write(0x0415, b"\x10")
    host.write(0x040C, b"\x0a\x00\x00\x01")
    host.open(2, mode=0x02)
    host.write(0x4000, b"kept")
    host.write(0x7FFC, b"kept")
    host.write(0x0000, b"\x80")
    assert host.read(0x0000, 0x28) == RESET_COMMON
    for number in range(4):
        assert host.read(host.base(number), 0x30) == RESET_SOCKET
    assert host.read(0x4000, 4) == b"kept"
    assert host.read(0x7FFC, 4) == b"kept"


def test_reset_within_one_exchange(chip: Emulator) -> None:
    sent = bytes.fromhex("f0000aff f0000092 0f000a00 0f000000")
    assert chip.exchange(sent) == bytes.fromhex("00010203 00010203 00010200 00010200")


# --- blocks ---------------------------------------------------------------------------------------------

ADDRESSES = st.one_of(
    st.sampled_from([0x3FFE, 0x3FFF, 0x4000, 0x5FFF, 0x7FFE, 0x7FFF, 0x8000, 0xBFFF, 0xC000, 0xFFFD, 0xFFFF]),
    st.integers(0x4000, 0x7FFF),
    st.integers(0x0001, 0x0012),
)
RUNS = st.lists(
    st.tuples(st.sampled_from([0x0F, 0xF0, 0x00]), ADDRESSES, st.binary(min_size=1, max_size=40)), max_size=8
)


@settings(max_examples=100, deadline=None)
@given(RUNS)
def test_many_frames_in_one_exchange_do_what_they_do_one_by_one(runs: list[tuple[int, int, bytes]]) -> None:
    frames = [
        bytes((opcode, (address + index) >> 8 & 0xFF, address + index & 0xFF, octet))
        for opcode, address, data in runs
        for index, octet in enumerate(data)
    ]
    together, one_by_one = Emulator(), Emulator()
    assert together.exchange(b"".join(frames)) == b"".join(one_by_one.exchange(frame) for frame in frames)
    assert Host(together).read(0x4000, 0x4000) == Host(one_by_one).read(0x4000, 0x4000)
    together.close()
    one_by_one.close()


def test_a_block_ends_with_the_address_space(host: Host) -> None:
    block = bytes(range(256)) * 64
    host.write(0x4000, block)
    assert host.read(0x4000, 0x4000) == block
    host.write(0x7FFE, b"\xe1\xe2\xe3")  # the third frame is for 0x8000, which is MR
    assert host.read(0x7FFE, 2) == b"\xe1\xe2"
    assert host.read(0x0000) == b"\x00"  # E3 has the RST bit: the chip has reset itself
