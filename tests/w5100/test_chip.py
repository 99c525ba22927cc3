"""The chip as a whole: reset, presence, addressing, memory split, allocation of hardware sockets."""

from __future__ import annotations

from collections import deque
from ipaddress import IPv4Address

import pytest

from plugin.w5100 import (
    Addressing,
    BusError,
    Chip,
    ChipLost,
    ChipNotFound,
    NoSocketError,
    W5100Error,
)
from plugin.w5100 import registers as reg
from plugin.w5100.chip import FIRST_DYNAMIC_PORT, SPLITS, SourcePorts
from plugin.w5100.registers import Command
from tests.w5100.scripted import ADDRESSING, PEER, PORT, FakeClock, ScriptedChip, ready


class Stuck:
    """A wire on which every bit reads the same."""

    def __init__(self, octet: int, clock: FakeClock) -> None:
        self.octet = octet
        self.clock = clock

    def exchange(self, frames: bytes) -> bytes:
        return bytes((self.octet,)) * len(frames)


def test_the_constructor_does_not_touch_the_bus() -> None:
    bus = ScriptedChip()
    Chip(bus)
    assert bus.exchanges == []


def test_golden_frames_of_reset() -> None:
    bus = ScriptedChip()
    Chip(bus, clock=bus.clock, sleep=bus.clock.sleep).reset()
    assert [one.hex() for one in bus.exchanges] == ["f0000080", "0f0000000f0017000f001800", "0f008000"]


def test_reset_waits_until_mr_rst_has_cleared_itself() -> None:
    bus = ScriptedChip()
    bus.reads[reg.MR] = deque([0x80, 0x80, 0x80])
    Chip(bus, clock=bus.clock, sleep=bus.clock.sleep).reset()
    assert len(bus.exchanges) == 6


def test_the_model_is_told_once_the_chip_has_been_found() -> None:
    bus = ScriptedChip()
    chip = Chip(bus, clock=bus.clock, sleep=bus.clock.sleep)
    told = [(chip.model, chip.link())]
    chip.reset()
    told.append((chip.model, chip.link()))
    bus.corrupt = lambda out: bytes(len(out))
    with pytest.raises(ChipNotFound):
        chip.reset(timeout_s=0.1)
    told.append((chip.model, chip.link()))
    assert told == [(None, None), ("w5100", None), (None, None)]


@pytest.mark.parametrize(("octet", "remedy"), [(0x00, "SEN"), (0xFF, "/RESET")])
def test_reset_names_wiring_when_miso_is_stuck(octet: int, remedy: str) -> None:
    clock = FakeClock()
    with pytest.raises(ChipNotFound, match=f"(?s)stuck.*{remedy}"):
        Chip(Stuck(octet, clock), clock=clock, sleep=clock.sleep).reset(timeout_s=0.5)
    assert 1000.5 <= clock.now < 1001


def test_reset_says_what_rtr_read_when_it_is_not_the_reset_value() -> None:
    class Other(ScriptedChip):
        def reset(self) -> None:
            super().reset()
            self.memory[reg.RTR : reg.RTR + 2] = b"\x12\x34"

    bus = Other()
    with pytest.raises(ChipNotFound, match="0x1234 instead of 0x07D0"):
        Chip(bus, clock=bus.clock, sleep=bus.clock.sleep).reset(timeout_s=0.3)
    assert bus.clock.now < 1001


def test_reset_outlasts_a_board_whose_reset_chip_holds_the_w5100_after_power_up() -> None:
    bus = ScriptedChip()
    bus.corrupt = lambda out: bytes(len(out))

    def awake() -> None:
        bus.corrupt = None

    bus.clock.at(0.56, awake)
    Chip(bus, clock=bus.clock, sleep=bus.clock.sleep).reset()
    assert 1000.56 <= bus.clock.now < 1001


def test_golden_frames_of_configure() -> None:
    bus = ScriptedChip()
    Chip(bus).configure(ADDRESSING)
    (frames,) = bus.exchanges
    values = "c0000201" + "ffffff00" + "0208dc010203" + "c000020a"
    written = "".join(f"f0{0x0001 + n:04x}{values[2 * n : 2 * n + 2]}" for n in range(18))
    written += "f0001707f00018d0f0001908f0001a03f0001b03"
    read = "".join(f"0f{0x0001 + n:04x}00" for n in range(18)) + "".join(f"0f{0x0017 + n:04x}00" for n in range(5))
    assert frames.hex() == written + read


@pytest.mark.parametrize(("lanes", "register"), [(1, 0x03), (2, 0x0A), (3, 0x16)])
def test_memory_is_split_among_the_lanes(lanes: int, register: int) -> None:
    bus = ScriptedChip()
    Chip(bus).configure(ADDRESSING, lanes=lanes)
    assert bus.memory[reg.RMSR] == bus.memory[reg.TMSR] == register
    assert reg.memory_size_register(SPLITS[lanes]) == register
    assert sum(SPLITS[lanes]) == reg.MEMORY_BYTES


def test_time_outs_go_into_rtr_and_rcr() -> None:
    bus = ScriptedChip()
    Chip(bus).configure(ADDRESSING, retry_time_s=0.1, retry_count=3)
    assert bus.memory[reg.RTR : reg.RCR + 1] == b"\x03\xe8\x03"


@pytest.mark.parametrize(
    "wrong", [{"lanes": 0}, {"lanes": 4}, {"retry_time_s": 7.0}, {"retry_time_s": 0.0}, {"retry_count": 256}]
)
def test_configure_refuses_what_no_register_holds(wrong: dict[str, int]) -> None:
    bus = ScriptedChip()
    with pytest.raises(ValueError, match=r"\d"):
        Chip(bus).configure(ADDRESSING, **wrong)
    assert bus.exchanges == []


def test_configure_verifies_what_it_wrote() -> None:
    bus = ScriptedChip()
    bus.reads[reg.SIPR + 3] = deque([0x0B])
    with pytest.raises(ChipLost, match="does not hold") as told:
        Chip(bus).configure(ADDRESSING)
    assert "SIPR reads" in str(told.value)
    assert not any(name in str(told.value) for name in ("GAR", "SUBR", "SHAR", "RTR", "RCR", "RMSR", "TMSR"))


def test_the_split_does_not_change_under_open_sockets() -> None:
    bus = ScriptedChip()
    chip = ready(bus, lanes=2)
    chip.tcp_socket()
    with pytest.raises(W5100Error, match="in use"):
        chip.configure(ADDRESSING, lanes=1)
    chip.configure(ADDRESSING, lanes=2, retry_count=3)


def test_holds_is_false_after_the_chip_has_reset_itself() -> None:
    bus = ScriptedChip()
    chip = ready(bus)
    assert chip.holds(ADDRESSING)
    bus.reset()
    assert not chip.holds(ADDRESSING)


def test_holds_is_false_when_only_the_split_is_gone() -> None:
    bus = ScriptedChip()
    chip = ready(bus)
    bus.memory[reg.TMSR] = 0x55
    assert not chip.holds(ADDRESSING)


@pytest.mark.parametrize("first", [0x01, 0x03, 0xFF])
def test_an_odd_first_mac_octet_is_refused(first: int) -> None:
    with pytest.raises(ValueError, match="odd"):
        Addressing(
            mac=bytes((first, 8, 0xDC, 1, 2, 3)),
            address=IPv4Address("192.0.2.10"),
            subnet_mask=IPv4Address("255.255.255.0"),
            gateway=IPv4Address("192.0.2.1"),
        )


@pytest.mark.parametrize("mac", [b"\x02\x08\xdc\x01\x02", bytes(6), bytes(7)])
def test_a_mac_address_has_six_octets_and_is_not_zero(mac: bytes) -> None:
    with pytest.raises(ValueError, match="MAC"):
        Addressing(
            mac=mac,
            address=IPv4Address("192.0.2.10"),
            subnet_mask=IPv4Address("255.255.255.0"),
            gateway=IPv4Address("192.0.2.1"),
        )


@pytest.mark.parametrize(("lanes", "sockets"), [(1, 1), (2, 2), (3, 3)])
def test_each_lane_has_a_socket_and_no_other_has(lanes: int, sockets: int) -> None:
    chip = ready(ScriptedChip(), lanes)
    handed_out = [chip.tcp_socket() for _ in range(sockets)]
    assert [one.number for one in handed_out] == list(range(sockets))
    with pytest.raises(NoSocketError):
        chip.tcp_socket()
    handed_out[0].close()
    assert chip.tcp_socket().number == 0


def test_a_closed_socket_is_given_back_once_only() -> None:
    chip = ready(ScriptedChip())
    first = chip.tcp_socket()
    first.close()
    second = chip.tcp_socket()
    first.close()
    with pytest.raises(NoSocketError):
        chip.tcp_socket()
    second.close()


def test_a_socket_from_before_a_reset_touches_nothing_any_more() -> None:
    bus = ScriptedChip()
    chip = ready(bus)
    old = chip.tcp_socket()
    old.connect(PEER, PORT, timeout_s=1)
    chip.reset()
    chip.configure(ADDRESSING)
    new = chip.tcp_socket()
    new.connect(PEER, PORT, timeout_s=1)
    bus.forget_frames()
    with pytest.raises(ChipLost, match="reset"):
        old.send_all(b"x", timeout_s=1)
    with pytest.raises(ChipLost, match="reset"):
        old.receive(1, timeout_s=1)
    old.close()
    assert bus.exchanges == []
    with pytest.raises(NoSocketError):
        chip.tcp_socket()
    new.send_all(b"still here", timeout_s=1)
    assert bus.sent == b"still here"


def test_close_closes_the_sockets_and_the_bus() -> None:
    class Closable(ScriptedChip):
        closed = False

        def close(self) -> None:
            self.closed = True

    bus = Closable()
    chip = ready(bus, lanes=2)
    chip.tcp_socket().connect(PEER, PORT, timeout_s=1)
    chip.close()
    assert bus.closed
    assert bus.commands[-1] == (0, Command.CLOSE)


def test_source_ports_are_dynamic_and_never_the_same_twice_in_a_row() -> None:
    ports = SourcePorts()
    taken = [ports.take() for _ in range(20_000)]
    assert min(taken) >= FIRST_DYNAMIC_PORT
    assert max(taken) <= 0xFFFF
    assert len(set(taken[:16_384])) == 16_384
    assert len({SourcePorts().take() for _ in range(20)}) > 1


def test_a_bus_error_in_configure_passes_through() -> None:
    bus = ScriptedChip()
    chip = Chip(bus)
    bus.corrupt = lambda out: out[:5] + b"\x07" + out[6:]
    with pytest.raises(BusError, match="corrupt"):
        chip.configure(ADDRESSING)


def test_a_bus_that_returns_too_little_is_named() -> None:
    bus = ScriptedChip()
    bus.corrupt = lambda out: out[:-1]
    with pytest.raises(BusError, match="adapter"):
        Chip(bus).configure(ADDRESSING)
