"""Waiting alone: growing poll steps without /INT, and lines that do not work."""

from __future__ import annotations

import pytest

from plugin.w5100 import SocketTimeout
from plugin.w5100 import registers as reg
from plugin.w5100.registers import Command, SocketInterrupt
from plugin.w5100.waiting import (
    INTERRUPT_LONGEST_S,
    INTERRUPT_NOT_HEARD,
    POLL_LONGEST_S,
    POLL_SHORTEST_S,
    Pace,
    Waiter,
)
from tests.w5100.scripted import FakeClock, InterruptChip, ScriptedChip, connected, ready


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
        f"event=interrupt_not_heard problem={INTERRUPT_NOT_HEARD!r}"
    ]


def test_a_line_that_is_not_connected_is_noticed_while_sending(caplog: pytest.LogCaptureFixture) -> None:
    bus = InterruptChip()
    bus.broken_line = True
    socket = connected(bus)

    def send(number: int) -> None:
        bus.clock.at(0.01, lambda: bus.do_send(number))

    bus.on[Command.SEND] = send
    for _ in range(10):
        socket.send_all(b"x", timeout_s=5)
    assert bus.sent == b"x" * 10
    assert bus.clock.now < 1000 + 3 * INTERRUPT_LONGEST_S + 1
    assert [record.message for record in caplog.records if "/INT" in record.message] == [
        f"event=interrupt_not_heard problem={INTERRUPT_NOT_HEARD!r}"
    ]


def test_an_int_line_that_works_is_not_given_up_for_slow_answers() -> None:
    bus = InterruptChip()
    socket = connected(bus)
    for n in range(10):
        bus.clock.at(1.7, lambda n=n: bus.peer_sends(b"%d" % n))  # type: ignore[misc]
        assert socket.receive(10, timeout_s=5) == b"%d" % n
    assert socket._hw.waiter.by_interrupt


def test_a_bus_that_wakes_on_the_edge_of_int_is_not_slept_over() -> None:
    """GPIO adapters report the falling edge; what was set before the wait makes none."""

    class Edge(InterruptChip):
        def wait_interrupt(self, timeout_s: float) -> bool:
            end = self.clock.now + timeout_s
            was_low = self.interrupt()
            while self.clock.now < end:
                self.clock.sleep(min(self.clock.next_delay(), end - self.clock.now))
                if self.interrupt() and not was_low:
                    return True
                was_low = self.interrupt()
            return False

    bus = Edge()
    socket = connected(bus)

    def ends() -> None:
        bus.script(reg.Sn_SR, [0x17])  # read just before the FIN came in
        bus.peer_ends()

    bus.clock.at(0.1, ends)
    assert socket.receive(10, timeout_s=5) == b""
    assert bus.clock.now < 1000.2


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
