"""The driver on a W5100S: which chip is found, and what goes in long frames."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from plugin.w5100 import BusError, Chip, ChipLost, ChipNotFound, ChipTimeout, SocketTimeout, TcpSocket
from plugin.w5100.emulator import Emulator, LinkDown
from plugin.w5100.registers import Command, Status
from tests.w5100.scripted import ADDRESSING, PEER, PORT, FakeClock, LongFrameChip, carry_mail, ready

# --- which chip is there --------------------------------------------------------------------------------------


class Miso:
    """A Bus whose MISO ``change`` has touched: (octets, octets of a frame) to octets."""

    def __init__(self, below: Emulator | LongFrameChip, change: Callable[[bytes, int], bytes]) -> None:
        self.below = below
        self.change = change

    def exchange(self, frames: bytes, frame_bytes: int = 4) -> bytes:
        return self.change(self.below.exchange(frames, frame_bytes), frame_bytes)


def answering(echo: bytes) -> Callable[[bytes, int], bytes]:
    """Put ``echo`` in the place of opcode and address."""

    def change(received: bytes, frame_bytes: int) -> bytes:
        out = bytearray(received)
        for place in range(3):
            out[place::frame_bytes] = echo[place : place + 1] * (len(out) // frame_bytes)
        return bytes(out)

    return change


@pytest.fixture(params=["w5100", "w5100s"])
def emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    with closing(Emulator(model=request.param)) as emulator:
        yield emulator


def model_of(emulator: Emulator) -> str:
    return "w5100s" if emulator.exchange(b"\x0f\x00\x80\x00")[3] else "w5100"


@pytest.mark.parametrize("configured", [True, False])
def test_the_model_is_found_and_may_be_insisted_on(emulator: Emulator, configured: bool) -> None:
    there = model_of(emulator)
    chip = Chip(emulator, model=there if configured else "auto")
    chip.reset()
    assert chip.model == there


def test_another_model_than_configured_is_refused_with_the_remedy(emulator: Emulator) -> None:
    there = model_of(emulator)
    other = "w5100" if there == "w5100s" else "w5100s"
    clock = FakeClock()
    chip = Chip(emulator, model=other, clock=clock, sleep=clock.sleep)
    with pytest.raises(
        ChipNotFound, match=rf"no {other.upper()} answers.*VERR.*set chip.model to {there} or auto"
    ):
        chip.reset(timeout_s=0.2)
    assert chip.model is None


def test_a_model_that_is_not_known_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="w5500"):
        Chip(LongFrameChip(), model="w5500")


@pytest.mark.parametrize("echo", ["010203", "000000", "ffffff", "a50017"])
@pytest.mark.parametrize("model", ["auto", "w5100s"])
def test_a_w5100s_may_answer_opcode_and_address_as_it_likes(echo: str, model: str) -> None:
    clock = FakeClock()
    chip = Chip(Miso(LongFrameChip(), answering(bytes.fromhex(echo))), model=model, clock=clock, sleep=clock.sleep)
    chip.reset()
    assert chip.model == "w5100s"
    chip.configure(ADDRESSING)
    assert chip.holds(ADDRESSING)


@pytest.mark.parametrize("echo", ["000102", "010203"])
def test_a_w5100s_that_counts_is_held_to_it(echo: str) -> None:
    wire = Miso(LongFrameChip(), answering(bytes.fromhex(echo)))
    clock = FakeClock()
    chip = Chip(wire, clock=clock, sleep=clock.sleep)
    chip.reset()
    wire.change = lambda received, _: bytes(len(received))
    with pytest.raises(BusError, match=f"instead of {bytes.fromhex(echo).hex(' ')}.*MISO is stuck at 0"):
        chip.holds(ADDRESSING)


@pytest.mark.parametrize("model", ["auto", "w5100"])
def test_a_w5100_must_answer_00_01_02(model: str) -> None:
    with closing(Emulator()) as emulator:
        clock = FakeClock()
        wire = Miso(emulator, answering(b"\x01\x02\x03"))
        chip = Chip(wire, model=model, clock=clock, sleep=clock.sleep)
        with pytest.raises(ChipNotFound, match=r"answered 01 02 03 \w\w instead of 00 01 02"):
            chip.reset(timeout_s=0.3)


def test_one_corrupt_echo_during_reset_does_not_lower_the_guard() -> None:
    wire = Miso(LongFrameChip(), lambda received, _: received)
    wrong = answering(b"\x00\x01\x06")

    def once(received: bytes, frame_bytes: int) -> bytes:
        wire.change = lambda received, _: received
        return wrong(received, frame_bytes)

    wire.change = once
    clock = FakeClock()
    chip = Chip(wire, clock=clock, sleep=clock.sleep)
    chip.reset()
    assert wire.change is not once
    wire.change = wrong
    with pytest.raises(BusError, match="corrupt"):
        chip.holds(ADDRESSING)


@pytest.mark.parametrize("stuck", [0x00, 0xFF])
def test_a_wire_that_breaks_under_a_w5100s_without_an_echo_is_noticed_by_what_the_registers_read(
    stuck: int,
) -> None:
    below = LongFrameChip()
    wire = Miso(below, answering(b"\xff\xff\xff"))
    chip = Chip(wire, clock=below.clock, sleep=below.clock.sleep)
    chip.reset()
    chip.configure(ADDRESSING)
    socket = chip.tcp_socket()
    socket.connect(PEER, PORT, timeout_s=1)
    wire.change = lambda received, _: bytes((stuck,)) * len(received)
    before = below.clock.now
    with pytest.raises(ChipLost):
        socket.receive(10, timeout_s=5)
    with pytest.raises(ChipTimeout if stuck else ChipLost):
        socket.send_all(bytes(100), timeout_s=5)
    assert not chip.holds(ADDRESSING)
    socket.close()
    assert below.clock.now - before < 10


def test_a_bus_that_refuses_undocumented_addresses_has_a_w5100() -> None:
    class Strict(LongFrameChip):
        def exchange(self, frames: bytes, frame_bytes: int = 4) -> bytes:
            if frames[1:3] == b"\x00\x80":
                raise ValueError("no register 0x0080")
            return super().exchange(frames, frame_bytes)

    clock = FakeClock()
    chip = Chip(Strict(), clock=clock, sleep=clock.sleep)
    chip.reset()
    assert chip.model == "w5100"


def test_the_link_is_told_by_physr() -> None:
    with closing(Emulator(model="w5100s")) as emulator:
        chip = Chip(emulator)
        chip.reset()
        assert chip.link() is True
        emulator.inject(LinkDown())
        assert chip.link() is False


# --- long frames ----------------------------------------------------------------------------------------------


@pytest.fixture
def bus() -> LongFrameChip:
    return LongFrameChip(isn=0xFFFE)


@pytest.fixture
def socket(bus: LongFrameChip) -> TcpSocket:
    socket = ready(bus).tcp_socket()
    socket.connect(PEER, PORT, timeout_s=1)
    bus.forget_frames()
    return socket


def test_configuration_goes_in_single_frames(bus: LongFrameChip) -> None:
    ready(bus)
    assert {frame_bytes for _, frame_bytes in bus.wire} == {4}


def test_golden_exchanges_of_a_send_across_the_end_of_the_ring(bus: LongFrameChip, socket: TcpSocket) -> None:
    data = bytes(range(20))
    socket.send_all(data, timeout_s=1)
    assert (
        bus.wire
        == [
            ("f0040211" + "f05ffe00" + "f05fff01", 4),  # Sn_IR; two octets are not worth a long frame
            ("f04000" + data[2:].hex(), 21),
            ("f0042400" + "f0042512" + "f0040120" + "0f040100" + "0f040200", 4),  # Sn_TX_WR, SEND, Sn_IR
        ]
    )
    assert bus.sent == data


def test_golden_exchanges_of_a_receive_that_frees_the_ring(bus: LongFrameChip, socket: TcpSocket) -> None:
    data = random.Random(0).randbytes(1024)
    bus.peer_sends(data)
    assert socket.receive(2000, timeout_s=1) == data
    assert bus.wire[-2:] == [
        ("0f6000" + bytes(1024).hex(), 1027),
        ("f0042804" + "f0042900" + "f0040140" + "0f040100", 4),  # Sn_RX_RD = 1024, RECV
    ]


def test_a_whole_ring_goes_in_equal_frames_that_fit_a_page(bus: LongFrameChip, socket: TcpSocket) -> None:
    data = random.Random(1).randbytes(8192)
    socket.send_all(data, timeout_s=1)
    assert bus.sent == data
    sizes = [(len(frames) // 2 // frame_bytes, frame_bytes) for frames, frame_bytes in bus.wire]
    # Sn_IR and the two octets before the ring's end; 8190 octets; Sn_TX_WR, SEND, Sn_CR, Sn_IR
    assert sizes == [(3, 4), (3, 2733), (5, 4)]


def test_after_an_exchange_that_failed_none_follows(bus: LongFrameChip, socket: TcpSocket) -> None:
    bus.corrupt = lambda out: b"\x07" + out[1:]
    with pytest.raises(BusError):
        socket.send_all(bytes(100), timeout_s=1)
    assert len(bus.wire) == 1
    assert bus.sent == b""


@pytest.mark.parametrize(("mail", "octets", "most"), [(1024, 2.0, 60), (102_400, 1.03, 90)])
def test_what_a_mail_costs_on_the_wire(bus: LongFrameChip, mail: int, octets: float, most: int) -> None:
    socket = ready(bus).tcp_socket()
    bus.forget_frames()
    payload = carry_mail(bus, socket, mail)
    assert sum(len(frames) // 2 for frames, _ in bus.wire) / payload <= octets
    assert len(bus.wire) <= most


def test_registers_that_live_are_read_as_on_a_w5100(bus: LongFrameChip, socket: TcpSocket) -> None:
    bus.peer_sends(b"OK")
    assert socket.receive(10, timeout_s=1) == b"OK"
    count = "0f040300" + "0f040200" + ("0f042600" + "0f042700") * 2
    assert ("f0040204" + count, 4) in bus.wire
    assert {frame_bytes for _, frame_bytes in bus.wire} == {4}


def test_a_chip_that_does_not_show_arp_blames_neither_it_nor_the_host() -> None:
    bus = LongFrameChip()
    bus.on[Command.CONNECT] = lambda number: bus.status(Status.SYNSENT)
    with closing(ready(bus).tcp_socket()) as socket, pytest.raises(SocketTimeout, match="no answer to ARP or SYN"):
        socket.connect(PEER, PORT, timeout_s=3)
