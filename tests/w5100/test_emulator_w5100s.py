"""The emulator as a W5100S: long frames, and the registers that differ. What is not here is as on a W5100."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugin.w5100.emulator import ChipReset, Emulator, FlippedBit, LinkDown
from tests.w5100 import emulated as emu
from tests.w5100.emulated import Host


@pytest.fixture
def chip() -> Iterator[Emulator]:
    emulator = Emulator(model="w5100s", initial_sequence=lambda: 0x1234FFEF)
    yield emulator
    emulator.close()


@pytest.fixture
def host(chip: Emulator) -> Host:
    return Host(chip)


def test_a_model_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="w5200"):
        Emulator(model="w5200")


# --- long frames ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "frame_bytes", "received"),
    [
        ("0f0017 000000000000", 9, "000102 07d008555500"),  # RTR, RCR, RMSR, TMSR, PATR
        ("f00001 c0a80001", 7, "000102 03030303"),  # GAR
        ("0f0080 00", 4, "000102 51"),  # VERR
        ("0f0000 00 0f0080 00", 4, "000102 03 000102 51"),  # MR after a reset
        ("0f0017 0000 0f001a 0000", 5, "000102 07d0 000102 5555"),  # two frames
        ("0f0017 0000 0f00", 5, "000102 07d0 0001"),  # the last one is cut off
        ("aa0001 7777", 5, "000102 0303"),  # no opcode
        ("0f00", 2, "0001"),
    ],
)
def test_golden_long_frames(chip: Emulator, sent: str, frame_bytes: int, received: str) -> None:
    assert chip.exchange(bytes.fromhex(sent), frame_bytes) == bytes.fromhex(received)


def test_the_address_counts_on_into_the_next_registers(host: Host) -> None:
    identity = bytes.fromhex("c0a80001 ffffff00 0208dc010203 c0a8000a")
    host.chip.exchange(b"\xf0\x00\x01" + identity, 3 + len(identity))
    assert host.read(0x0001, 18) == identity
    sent = bytes.fromhex("f00400 21 00 ff 00 c001")  # S0_MR to S0_PORT; S0_CR 00 is no command, S0_SR read only
    host.chip.exchange(sent, len(sent))
    assert host.read(0x0400, 6) == bytes.fromhex("21 00 00 00 c001")


def test_a_command_in_a_long_frame_is_carried_out_in_its_turn(host: Host) -> None:
    host.chip.exchange(bytes.fromhex("f00400 21 01"), 5)  # S0_MR, S0_CR OPEN
    assert host.chip.exchange(bytes.fromhex("0f0402 0000"), 5) == bytes.fromhex("000102 0013")


@pytest.mark.parametrize("address", [0x1FFD, 0x3FFD, 0x5FFD, 0x7FFD, 0xDFFD])
def test_the_address_counts_within_8_kib(host: Host, address: int) -> None:
    host.write(address & 0x6000, bytes.fromhex("00 c0a800"))  # the block's first octets
    host.write(address, b"\x11\x22\x33")
    received = host.chip.exchange(bytes((0x0F, address >> 8, address & 0xFF)) + bytes(7), 10)
    assert received[3:] == host.read(address, 3) + host.read(address & 0xE000, 4)
    assert received[6:] == host.read(address & 0x6000, 4)


def test_a_frame_may_be_longer_than_a_memory(host: Host) -> None:
    pattern = bytes(range(256)) * 32
    host.write(0x4000, pattern)
    received = host.chip.exchange(b"\x0f\x40\x10" + bytes(9000), 9003)
    assert received[3:] == (pattern * 2)[16:9016]


RUNS = st.lists(
    st.tuples(
        st.sampled_from([0x0F, 0xF0]),
        st.one_of(st.integers(0x4000, 0x7FFF), st.integers(0x0001, 0x0012), st.sampled_from([0x5FFF, 0x7FFE])),
        st.binary(min_size=4, max_size=4),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=100, deadline=None)
@given(RUNS)
def test_a_long_frame_does_what_single_frames_do(runs: list[tuple[int, int, bytes]]) -> None:
    long = b"".join(bytes((opcode, address >> 8, address & 0xFF)) + data for opcode, address, data in runs)
    single = b"".join(
        bytes((opcode, at >> 8, at & 0xFF, octet))
        for opcode, address, data in runs
        for n, octet in enumerate(data)
        for at in [address & 0xE000 | (address + n) & 0x1FFF]
    )
    one, other = Emulator(model="w5100s"), Emulator(model="w5100s")
    received = one.exchange(long, 7)
    assert (
        b"".join(received[start + 3 : start + 7] for start in range(0, len(received), 7))
        == (other.exchange(single)[3::4])
    )
    assert Host(one).read(0x4000, 0x4000) == Host(other).read(0x4000, 0x4000)
    one.close()
    other.close()


def test_faults_of_the_wire_meet_long_frames_too(chip: Emulator) -> None:
    frame = bytes.fromhex("0f0017 000000")
    chip.inject(FlippedBit(octet=4, bit=7))
    assert chip.exchange(frame, 6) == bytes.fromhex("000102 075008")
    chip.clear_faults()
    chip.inject(ChipReset(answers=False))
    assert chip.exchange(frame, 6) == bytes(6)


# --- registers ------------------------------------------------------------------------------------------------


def test_reset_values(host: Host) -> None:
    with_w5100 = Emulator()
    other = Host(with_w5100)
    assert host.read(0x0000) == b"\x03"
    assert host.read(0x0001, 0x3B) == other.read(0x0001, 0x3B)
    assert (host.read(0x003C), host.read(0x0080)) == (b"\x01", b"\x51")
    assert (other.read(0x003C), other.read(0x0080)) == (b"\x00", b"\x00")
    assert host.read(0x0400, 0x400) == other.read(0x0400, 0x400)
    with_w5100.close()


def test_mr_holds_what_is_written_until_a_reset(host: Host) -> None:
    for value in (b"\x13", b"\x1b", b"\x03"):  # as Ethernet_Generic probes for it
        host.write(0x0000, value)
        assert host.read(0x0000) == value
    host.write(0x0000, b"\x10")
    host.write(0x0000, b"\x80")
    assert host.read(0x0000) == b"\x03"


@pytest.mark.parametrize("address", [0x003C, 0x0080])
def test_link_and_version_cannot_be_written(host: Host, address: int) -> None:
    before = host.read(address)
    host.write(address, b"\xa4")
    assert host.read(address) == before


def test_physr_tells_the_link(host: Host) -> None:
    assert host.read(0x003C)[0] & 0x01
    host.chip.inject(LinkDown(exchanges=1))
    assert not host.read(0x003C)[0] & 0x01
    assert host.read(0x003C)[0] & 0x01


@pytest.mark.parametrize(("own", "common"), [(0x1E, 0x001A), (0x1F, 0x001B)])
def test_a_sockets_own_size_and_the_common_register_follow_each_other(host: Host, own: int, common: int) -> None:
    host.write(common, b"\x0a")
    assert [host.read(host.base(number) + own)[0] for number in range(4)] == [4, 4, 1, 1]
    for number, kib in enumerate((1, 2, 1, 8)):
        host.write(host.base(number) + own, bytes((kib,)))
    assert host.read(common) == bytes((0b11_00_01_00,))
    host.write(host.base(1) + own, b"\x00")  # no memory: the common register cannot say so
    assert host.read(common) == bytes((0b11_00_01_00,))


def test_undocumented_socket_pages_show_all_four_sockets(host: Host) -> None:
    for number in range(4):
        host.write(0x0C15 + 0x0100 * number, bytes((number + 1,)))
    assert [host.read(host.base(number) + 0x15)[0] for number in range(4)] == [1, 2, 3, 4]


def test_sn_sr_never_is_arp(chip: Emulator, host: Host) -> None:
    chip.inject(LinkDown())
    host.connect(0, 25)
    assert host.sr(0) == emu.SR_SYNSENT
    host.open(1, mode=emu.UDP)
    host.aim(1, 25)
    host.send(1, b"anybody?")
    assert host.sr(1) == emu.SR_UDP
    assert not host.ir(1) & emu.IR_SEND_OK


def test_a_connection_whose_data_go_in_long_frames(chip: Emulator, host: Host) -> None:
    with emu.connected(host) as peer:
        chip.exchange(b"\xf0" + (0x4000 + 0x07F0).to_bytes(2, "big") + b"0123456789abcdef", 19)
        chip.exchange(b"\xf0\x40\x00wrapped", 10)
        host.write_word(0x0424, 0xFFF0 + 23)
        host.command(0, emu.SEND)
        assert emu.receive_exactly(peer, 23) == b"0123456789abcdefwrapped"
        peer.sendall(b"and back")
        host.until(lambda: host.received(0) == 8)
        assert chip.exchange(b"\x0f\x60\x00" + bytes(8), 11) == b"\x00\x01\x02and back"
