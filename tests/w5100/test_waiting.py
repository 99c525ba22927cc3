"""Waiting: /INT shared by several threads, growing poll steps without it, and lines that do not work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from plugin.w5100 import BusError, Chip, SocketTimeout, TcpSocket
from plugin.w5100 import registers as reg
from plugin.w5100.bus import Wire
from plugin.w5100.registers import Command, SocketInterrupt
from plugin.w5100.waiting import (
    INTERRUPT_LONGEST_S,
    POLL_LONGEST_S,
    POLL_SHORTEST_S,
    InterruptLine,
    Pace,
    Waiter,
)
from tests.w5100.scripted import ADDRESSING, PEER, PORT, FakeClock, InterruptChip, ScriptedChip, connected, ready


class LiveChip(ScriptedChip):
    """A scripted chip in real time: /INT wakes the sleeper in another thread, as a level does."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.sleepers = 0
        self.most_sleepers = 0
        super().__init__()

    def exchange(self, frames: bytes) -> bytes:
        with self.changed:
            out = super().exchange(frames)
            self.changed.notify_all()
            return out

    def happen(self, action: Callable[[], None]) -> None:
        with self.changed:
            action()
            self.changed.notify_all()

    def wait_interrupt(self, timeout_s: float) -> bool:
        with self.changed:
            self.sleepers += 1
            self.most_sleepers = max(self.most_sleepers, self.sleepers)
            try:
                return self.changed.wait_for(lambda: bool(self._read(reg.IR) & self.memory[reg.IMR]), timeout_s)
            finally:
                self.sleepers -= 1


def live(bus: LiveChip, lanes: int) -> list[TcpSocket]:
    chip = Chip(bus)
    chip.reset()
    chip.configure(ADDRESSING, lanes=lanes)
    sockets = [chip.tcp_socket() for _ in range(lanes)]
    for socket in sockets:
        socket.connect(PEER, PORT, timeout_s=5)
    return sockets


@contextmanager
def in_thread(action: Callable[[], None]) -> Iterator[None]:
    faults: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - raised again below
            faults.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(20)
    assert not thread.is_alive()
    if faults:
        raise faults[0]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


# --- One line for several sockets -------------------------------------------------------------------------------


def test_one_sleeps_on_the_line_for_all_and_each_gets_its_own() -> None:
    bus = LiveChip()
    sockets = live(bus, 3)
    rounds = 30
    received: dict[int, bytes] = {}

    def read(socket: TcpSocket) -> None:
        data = b""
        while len(data) < rounds:
            data += socket.receive(100, timeout_s=10)
        received[socket.number] = data

    with (
        in_thread(lambda: read(sockets[0])),
        in_thread(lambda: read(sockets[1])),
        in_thread(lambda: read(sockets[2])),
    ):
        for n in range(rounds):
            for number in range(3):
                bus.happen(lambda number=number, n=n: bus.peer_sends(bytes((n * 3 + number,)), number))  # type: ignore[misc]
            time.sleep(0.002)
    assert received == {number: bytes(n * 3 + number for n in range(rounds)) for number in range(3)}
    assert bus.most_sleepers == 1


def test_no_wake_up_is_lost_between_a_look_and_the_wait() -> None:
    """News arrives right after the look that found nothing; only the level of /INT can tell of it."""
    bus = LiveChip()
    (socket,) = live(bus, 1)
    started = time.monotonic()
    for n in range(20):
        bus.forget_frames()
        pending = [n]
        original = bus.wait_interrupt

        def just_before(
            timeout_s: float,
            pending: list[int] = pending,
            original: Callable[[float], bool] = original,
        ) -> bool:
            if pending:
                bus.happen(lambda: bus.peer_sends(bytes((pending.pop(),))))
            return original(timeout_s)

        socket._hw.waiter._line._wait_interrupt = just_before  # type: ignore[union-attr]
        assert socket.receive(10, timeout_s=10) == bytes((n,))
    assert time.monotonic() - started < INTERRUPT_LONGEST_S


def test_a_socket_whose_owner_is_busy_does_not_keep_the_others_awake() -> None:
    bus = LiveChip()
    waiting, busy = live(bus, 2)
    with pytest.raises(SocketTimeout):
        busy.receive(10, timeout_s=0.02)  # so that IMR has it
    assert bus.memory[reg.IMR] == 1 << busy.number
    bus.happen(lambda: bus.peer_sends(b"unread", busy.number))
    bus.forget_frames()
    with pytest.raises(SocketTimeout):
        waiting.receive(10, timeout_s=0.7)
    assert len(bus.exchanges) < 20
    assert busy.receive(10, timeout_s=1) == b"unread"


def test_a_busy_owner_finds_its_news_when_it_waits_again() -> None:
    bus = LiveChip()
    first, second = live(bus, 2)

    def leads() -> None:
        with pytest.raises(SocketTimeout):
            first.receive(10, timeout_s=1.0)

    with in_thread(leads):
        until(lambda: bus.sleepers == 1)
        with pytest.raises(SocketTimeout):
            second.receive(10, timeout_s=0.02)  # joins, so that IMR has it
        bus.happen(lambda: bus.peer_sends(b"x", second.number))
        until(lambda: not bus.memory[reg.IMR] & 1 << second.number)  # the leader has masked it
        started = time.monotonic()
        assert second.receive(10, timeout_s=5) == b"x"
        assert time.monotonic() - started < INTERRUPT_LONGEST_S / 2


def test_the_lead_passes_on_when_the_leader_leaves() -> None:
    bus = LiveChip()
    first, second = live(bus, 2)

    def leaves() -> None:
        with pytest.raises(SocketTimeout):
            first.receive(10, timeout_s=0.1)

    received: list[bytes] = []
    with in_thread(leaves):
        until(lambda: bus.sleepers == 1)
        with in_thread(lambda: received.append(second.receive(10, timeout_s=5))):
            time.sleep(0.15)
            started = time.monotonic()
            bus.happen(lambda: bus.peer_sends(b"x", second.number))
        assert time.monotonic() - started < INTERRUPT_LONGEST_S / 2
    assert received == [b"x"]


def test_a_leader_that_fails_does_not_leave_the_others_without_one() -> None:
    bus = LiveChip()
    first, second = live(bus, 2)
    line = first._hw.waiter._line
    assert line is not None
    original = bus.wait_interrupt

    def fails_for_the_first(timeout_s: float) -> bool:
        if threading.current_thread().name == "first":
            time.sleep(0.05)
            raise OSError("the line is gone")
        return original(timeout_s)

    line._wait_interrupt = fails_for_the_first
    received: list[bytes] = []

    def leads() -> None:
        threading.current_thread().name = "first"
        with pytest.raises(OSError, match="the line is gone"):
            first.receive(10, timeout_s=5)

    with in_thread(leads):
        time.sleep(0.01)
        with in_thread(lambda: received.append(second.receive(10, timeout_s=5))):
            time.sleep(0.1)
            bus.happen(lambda: bus.peer_sends(b"x", second.number))
    assert received == [b"x"]


def test_the_line_reads_ir_only_when_several_sockets_share_it() -> None:
    bus = InterruptChip()
    socket = connected(bus)
    bus.clock.at(0.1, lambda: bus.peer_sends(b"x"))
    assert socket.receive(10, timeout_s=1) == b"x"
    assert "0f001500" not in bus.frames()


def test_a_closed_socket_leaves_imr_to_the_others() -> None:
    bus = InterruptChip()
    chip = ready(bus, lanes=2)
    sockets = [chip.tcp_socket() for _ in range(2)]
    for socket in sockets:
        socket.connect(PEER, PORT, timeout_s=1)
        with pytest.raises(SocketTimeout):
            socket.receive(1, timeout_s=0.1)
    assert bus.memory[reg.IMR] == 0b11
    sockets[1].close()
    assert bus.memory[reg.IMR] == 0b01
    sockets[0].close()
    again = chip.tcp_socket()
    again.connect(PEER, PORT, timeout_s=1)
    bus.forget_frames()
    with pytest.raises(SocketTimeout):
        again.receive(1, timeout_s=0.1)
    assert not [frame for frame in bus.frames() if frame.startswith("f00016")]


def test_imr_is_written_again_after_a_reset() -> None:
    bus = InterruptChip()
    chip = ready(bus)
    for _ in range(2):
        socket = chip.tcp_socket()
        socket.connect(PEER, PORT, timeout_s=1)
        with pytest.raises(SocketTimeout):
            socket.receive(1, timeout_s=0.1)
        assert bus.memory[reg.IMR] == 1
        chip.reset()
        chip.configure(ADDRESSING)
        assert bus.memory[reg.IMR] == 0


def test_an_imr_that_cannot_be_written_wakes_nobody_wrongly() -> None:
    bus = InterruptChip()
    wire = Wire(bus)
    line = InterruptLine(wire, bus.wait_interrupt, clock=bus.clock)
    bus.corrupt = lambda out: bytes(len(out))
    with pytest.raises(BusError):
        line.wait(0, 1.0)
    bus.corrupt = None
    assert line.wait(0, 1.0) is False
    assert bus.memory[reg.IMR] == 1


# --- Lines that do not work -----------------------------------------------------------------------------------


def test_a_line_stuck_low_costs_poll_steps_and_not_the_processor() -> None:
    class StuckLow(InterruptChip):
        def interrupt(self) -> bool:
            return True

    bus = StuckLow()
    socket = connected(bus)
    bus.forget_frames()
    with pytest.raises(SocketTimeout):
        socket.receive(10, timeout_s=5)
    assert len(bus.exchanges) < 5 / POLL_LONGEST_S + 40
    bus.clock.at(0.5, lambda: bus.peer_sends(b"x"))
    assert socket.receive(10, timeout_s=5) == b"x"


def test_a_bit_of_sn_ir_that_cannot_be_cleared_does_not_spin() -> None:
    class Sticky(InterruptChip):
        def _read(self, address: int) -> int:
            return super()._read(address) | (SocketInterrupt.DISCON if address == 0x0402 else 0)

    bus = Sticky()
    socket = connected(bus)
    bus.forget_frames()
    with pytest.raises(SocketTimeout):
        socket.receive(10, timeout_s=5)
    assert len(bus.exchanges) < 5 / POLL_LONGEST_S + 40


def test_a_bus_whose_wait_returns_at_once_does_not_spin() -> None:
    class Impatient(ScriptedChip):
        def wait_interrupt(self, timeout_s: float) -> bool:
            return False

    bus = Impatient()
    socket = connected(bus)
    bus.forget_frames()
    with pytest.raises(SocketTimeout):
        socket.receive(10, timeout_s=5)
    assert len(bus.exchanges) < 5 / POLL_LONGEST_S + 40


def test_a_bus_without_int_sleeps_its_own_poll_step() -> None:
    class Stepping(ScriptedChip):
        def wait_interrupt(self, timeout_s: float) -> bool:
            self.clock.sleep(min(timeout_s, 0.001))
            return False

    bus = Stepping()
    socket = connected(bus)
    bus.clock.at(0.05, lambda: bus.peer_sends(b"x"))
    assert socket.receive(10, timeout_s=5) == b"x"
    assert bus.clock.now < 1000.08


def test_an_int_line_that_is_not_connected_is_given_up_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    bus = InterruptChip()
    bus.broken_line = True
    socket = connected(bus)
    for n in range(10):
        bus.clock.at(0.01, lambda n=n: bus.peer_sends(b"%d" % n))  # type: ignore[misc]
        assert socket.receive(10, timeout_s=5) == b"%d" % n
    assert bus.clock.now < 1000 + 3 * INTERRUPT_LONGEST_S + 1
    assert [record.message for record in caplog.records if "/INT" in record.message] == [
        "/INT stays high although data came: is the line connected? Polling from now on"
    ]


def test_an_int_line_that_works_is_not_given_up_for_slow_answers() -> None:
    bus = InterruptChip()
    socket = connected(bus)
    for n in range(10):
        bus.clock.at(1.7, lambda n=n: bus.peer_sends(b"%d" % n))  # type: ignore[misc]
        assert socket.receive(10, timeout_s=5) == b"%d" % n
    assert socket._hw.waiter.by_interrupt


# --- Without a line ---------------------------------------------------------------------------------------------


def test_poll_steps_grow_to_a_bound() -> None:
    clock = FakeClock()
    waiter = Waiter(clock=clock, sleep=clock.sleep, line=None)
    pace = Pace()
    for _ in range(30):
        waiter.wait(0, 10.0, pace)
    assert clock.slept[0] == POLL_SHORTEST_S
    assert clock.slept[-1] == POLL_LONGEST_S
    assert clock.slept == sorted(clock.slept)


def test_a_step_never_passes_the_deadline() -> None:
    clock = FakeClock()
    waiter = Waiter(clock=clock, sleep=clock.sleep, line=None)
    pace = Pace(step_s=POLL_LONGEST_S)
    waiter.wait(0, 0.001, pace)
    waiter.wait(0, -1.0, pace)
    assert clock.slept == [0.001, 0.0]


def test_polling_a_silent_peer_costs_a_hundred_looks_a_second_at_most() -> None:
    bus = ScriptedChip()
    socket = connected(bus)
    bus.forget_frames()
    with pytest.raises(SocketTimeout):
        socket.receive(10, timeout_s=10)
    assert 900 < len(bus.exchanges) < 1050


def test_chip_wait_returns_when_the_socket_has_news() -> None:
    bus = InterruptChip()
    chip = ready(bus)
    bus.clock.at(0.2, lambda: bus.event(SocketInterrupt.RECV))
    chip.wait(0, 5.0)
    assert bus.clock.now == pytest.approx(1000.2, abs=0.01)


def test_room_is_polled_because_an_acknowledgement_raises_no_interrupt() -> None:
    bus = InterruptChip()
    socket = connected(bus)

    def send(number: int) -> None:
        free = bus.get16(0, reg.Sn_TX_FSR)
        bus.transmit(number, acknowledged=False)
        bus.event(SocketInterrupt.SEND_OK)
        bus.clock.at(0.02, lambda: bus.set16(0, reg.Sn_TX_FSR, free))

    bus.on[Command.SEND] = send
    socket.send_all(bytes(32_768), timeout_s=10)
    assert bus.clock.now < 1000 + 8 * 0.04
