"""The uplink on an emulated chip that fails on order: what is told apart, repaired, and left to others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from plugin.uplink import Fixed, Uplink, resolve_literal
from plugin.uplink.uplink import CONFLICT_HOLDS_S
from plugin.w5100 import Addressing, BusError, Chip, ChipTimeout, ConnectRefused
from plugin.w5100.emulator import ChipReset, Emulator, ExchangeError, Fault, StuckBus, StuckCommand, UnansweredSend
from tests.smtp.scripted import Clock

ADDRESSING = Addressing(
    mac=bytes.fromhex("0208dc010203"),
    address=IPv4Address("127.0.0.10"),
    subnet_mask=IPv4Address("255.0.0.0"),
    gateway=IPv4Address(0),
)


class Board:
    """An emulated chip with a /RESET line, and a listener for it to connect to."""

    def __init__(self, *, lanes: int = 2, wired: bool = True) -> None:
        self.emulator = Emulator()
        self.chip = Chip(self.emulator)
        self.pulled = 0
        self.mended_by_line = False
        self.clock = Clock()
        self.uplink = Uplink(
            self.chip,
            Fixed(ADDRESSING),
            lanes=lanes,
            resolve=resolve_literal,
            reset_line=self._pull if wired else None,
            clock=self.clock,
        )
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])

    def _pull(self) -> None:
        self.pulled += 1
        if self.mended_by_line:
            self.emulator.clear_faults()

    def connect(self, port: int | None = None) -> None:
        connection = self.uplink.connect("127.0.0.1", port or self.port, 5)
        served, _ = self.listener.accept()
        with served:
            connection.send_all(b"hello", timeout_s=5)
            assert served.recv(100) == b"hello"
            served.sendall(b"world")
            assert connection.receive(100, timeout_s=5) == b"world"
        assert connection.local_address == ADDRESSING.address
        connection.close()

    def close(self) -> None:
        self.uplink.close()
        self.listener.close()


@pytest.fixture
def board() -> Iterator[Board]:
    one = Board()
    one.connect()
    yield one
    one.close()


@pytest.mark.parametrize(
    "fault",
    [
        ExchangeError(exchanges=1),
        StuckBus(exchanges=1),
        ChipReset(),
        StuckCommand(first_exchange=2, exchanges=1),
    ],
)
def test_one_fault_costs_no_connection(board: Board, fault: Fault) -> None:
    board.emulator.inject(fault)
    board.connect()
    assert board.uplink.problem is None
    assert board.pulled == 0


def test_a_bus_that_stays_broken_is_told_and_tried_again(board: Board) -> None:
    board.emulator.inject(StuckBus())
    with pytest.raises(BusError, match="MISO is stuck at 0"):
        board.uplink.connect("127.0.0.1", board.port, 5)
    assert "MISO is stuck at 0" in (board.uplink.problem or "")
    board.emulator.clear_faults()
    board.uplink.watch()
    assert board.uplink.problem is None
    board.connect()


def test_the_reset_line_is_the_last_resort(board: Board) -> None:
    board.emulator.inject(ChipReset(exchanges=None, answers=False))
    board.mended_by_line = True
    board.connect()
    assert board.pulled == 1
    assert board.uplink.problem is None


def test_a_network_that_refuses_is_not_the_chips_fault(board: Board) -> None:
    port = board.port
    board.listener.close()
    for _ in range(8):
        with pytest.raises(ConnectRefused):
            board.uplink.connect("127.0.0.1", port, 5)
    assert board.uplink.problem is None
    assert board.pulled == 0


def test_a_chip_that_forgot_its_addresses_is_set_up_between_letters(board: Board) -> None:
    kept = board.uplink.connect("127.0.0.1", board.port, 5)
    board.emulator.inject(ChipReset())
    board.uplink.watch()
    assert board.chip.holds(ADDRESSING)
    with pytest.raises(OSError, match="the chip was reset"):
        kept.receive(10, timeout_s=0)
    kept.close()


def test_a_chip_that_connects_and_never_sends_is_reset_when_nobody_is_connected(board: Board) -> None:
    board.emulator.inject(UnansweredSend(exchanges=None))
    for _ in range(2):
        connection = board.uplink.connect("127.0.0.1", board.port, 5)
        with pytest.raises(ChipTimeout):
            connection.send_all(b"hello", timeout_s=0.05)
        connection.close(timeout_s=0.05)
    seen: list[int] = []
    before = board.chip.reset

    def reset(timeout_s: float = 1.0) -> None:
        seen.append(1)
        before(timeout_s)

    board.chip.reset = reset  # type: ignore[method-assign]
    board.uplink.connect("127.0.0.1", board.port, 5).close(timeout_s=0.05)
    assert seen == [1]


def test_a_stuck_lane_does_not_cost_the_other_its_connection(board: Board) -> None:
    kept = board.uplink.connect("127.0.0.1", board.port, 5)
    served, _ = board.listener.accept()
    with served:
        board.emulator.inject(UnansweredSend(exchanges=None))
        for _ in range(3):
            connection = board.uplink.connect("127.0.0.1", board.port, 5)
            with pytest.raises(ChipTimeout):
                connection.send_all(b"hello", timeout_s=0.05)
            connection.close(timeout_s=0.05)
        board.emulator.clear_faults()
        kept.send_all(b"still there", timeout_s=5)
        assert served.recv(100) == b"still there"
    kept.close()


def test_an_address_conflict_is_told_for_an_hour_after_it_was_last_seen(board: Board) -> None:
    for _ in range(2):
        board.emulator.arp_request(str(ADDRESSING.address))
        board.uplink.watch()
        board.clock.pass_s(CONFLICT_HOLDS_S - 1)
        board.uplink.watch()
        assert "another host on the network uses the chip's address 127.0.0.10" in (board.uplink.problem or "")
    board.clock.pass_s(1)
    board.uplink.watch()
    assert board.uplink.problem is None


def test_a_chip_that_comes_late_is_found_without_a_letter() -> None:
    board = Board(wired=False)
    try:
        board.emulator.inject(StuckBus(octet=0xFF))
        with pytest.raises(OSError, match="MISO is stuck at 1"):
            board.uplink.bring_up()
        board.emulator.clear_faults()
        board.uplink.watch()
        assert board.uplink.problem is None
        board.connect()
    finally:
        board.close()


def test_a_foreign_bus_that_raises_what_it_likes() -> None:
    class Foreign:
        def __init__(self) -> None:
            self.emulator = Emulator()
            self.broken = False

        def exchange(self, frames: bytes, /) -> bytes:
            if self.broken:
                raise RuntimeError("the adapter was unplugged")
            return self.emulator.exchange(frames)

    bus = Foreign()
    uplink = Uplink(Chip(bus), Fixed(ADDRESSING), lanes=1, resolve=resolve_literal)
    uplink.bring_up()
    bus.broken = True
    uplink.watch()
    assert "unplugged" in (uplink.problem or "")
    bus.broken = False
    uplink.watch()
    assert uplink.problem is None
    uplink.close()
    bus.emulator.close()
