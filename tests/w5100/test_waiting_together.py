"""Several threads wait on one /INT line, each for its own socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from plugin.w5100 import BusError, Chip, SocketTimeout, TcpSocket
from plugin.w5100 import registers as reg
from plugin.w5100.bus import Wire
from plugin.w5100.waiting import (
    INTERRUPT_LONGEST_S,
    InterruptLine,
)
from tests.w5100.scripted import ADDRESSING, PEER, PORT, InterruptChip, ScriptedChip, connected, ready


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


def test_a_socket_from_before_a_reset_leaves_imr_to_its_successor() -> None:
    bus = InterruptChip()
    chip = ready(bus, lanes=2)
    old = [chip.tcp_socket() for _ in range(2)]
    chip.reset()
    chip.configure(ADDRESSING, lanes=2)
    for _ in range(2):
        socket = chip.tcp_socket()
        socket.connect(PEER, PORT, timeout_s=1)
        with pytest.raises(SocketTimeout):
            socket.receive(1, timeout_s=0.1)
    for socket in old:
        socket.close()
    assert bus.memory[reg.IMR] == 0b11


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
