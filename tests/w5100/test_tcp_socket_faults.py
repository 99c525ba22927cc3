"""The driver on an emulator that is told to misbehave: it ends with an error for people, and in time."""

from __future__ import annotations

import socket as kernel
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from plugin.w5100 import (
    BusError,
    Chip,
    ChipLost,
    ChipNotFound,
    ChipTimeout,
    PeerTimeout,
    SocketTimeout,
)
from plugin.w5100.emulator import (
    ChipReset,
    Emulator,
    ExchangeError,
    Fault,
    FlippedBit,
    HeldStatus,
    LinkDown,
    StuckBus,
    StuckCommand,
    UnansweredSend,
)
from plugin.w5100.registers import Status
from tests.w5100.scripted import ADDRESSING


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with closing(Emulator()) as emulator:
        yield emulator


class Echo:
    """A server that greets, and repeats what it is told."""

    def __init__(self) -> None:
        self.listener = kernel.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: kernel.socket) -> None:
        with connection:
            try:
                connection.sendall(b"220 ready\r\n")
                while data := connection.recv(4096):
                    connection.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self.listener.shutdown(kernel.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    with closing(Echo()) as echo:
        yield echo


def configured(emulator: Emulator) -> Chip:
    chip = Chip(emulator)
    chip.reset()
    chip.configure(ADDRESSING)
    return chip


def dialogue(chip: Chip, port: int) -> None:
    with closing(chip.tcp_socket()) as socket:
        socket.connect("127.0.0.1", port, timeout_s=2)
        greeting = b""
        while len(greeting) < 11:
            greeting += socket.receive(100, timeout_s=2)
        assert greeting == b"220 ready\r\n"
        socket.send_all(b"NOOP\r\n", timeout_s=2)
        answer = b""
        while len(answer) < 6:
            answer += socket.receive(100, timeout_s=2)
        assert answer == b"NOOP\r\n"


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


@pytest.mark.parametrize("octet", [0x00, 0xFF])
def test_a_stuck_bus_is_no_chip(emulator: Emulator, octet: int) -> None:
    emulator.inject(StuckBus(octet=octet))
    with within(1.0), pytest.raises(ChipNotFound, match="stuck"):
        Chip(emulator).reset(timeout_s=0.2)


def test_a_bus_that_dies_in_a_connection_is_a_bus_error(emulator: Emulator, echo: Echo) -> None:
    chip = configured(emulator)
    with closing(chip.tcp_socket()) as socket:
        socket.connect("127.0.0.1", echo.port, timeout_s=2)
        emulator.inject(StuckBus(octet=0xFF))
        with within(1.0), pytest.raises(BusError, match="stuck at 1"):
            socket.receive(100, timeout_s=5)


def test_a_send_that_is_never_answered_is_a_chip_timeout(emulator: Emulator, echo: Echo) -> None:
    chip = configured(emulator)
    with closing(chip.tcp_socket()) as socket:
        socket.connect("127.0.0.1", echo.port, timeout_s=2)
        emulator.inject(UnansweredSend(socket=0))
        with within(1.0), pytest.raises(ChipTimeout, match=f"127.0.0.1:{echo.port}.*SEND_OK"):
            socket.send_all(b"NOOP\r\n", timeout_s=0.3)
        with within(1.0):
            socket.close(timeout_s=0.3)
    emulator.clear_faults()
    dialogue(chip, echo.port)


def test_a_command_that_is_never_taken_is_a_chip_timeout(emulator: Emulator, echo: Echo) -> None:
    chip = configured(emulator)
    emulator.inject(StuckCommand())
    with within(2.0), pytest.raises(ChipTimeout, match="does not take OPEN"):
        dialogue(chip, echo.port)
    emulator.clear_faults()
    dialogue(chip, echo.port)


@pytest.mark.parametrize("status", [Status.ARP, Status.SYNSENT])
def test_a_connect_that_hangs_ends_at_its_deadline(emulator: Emulator, echo: Echo, status: Status) -> None:
    chip = configured(emulator)
    emulator.inject(HeldStatus(socket=0, status=status))
    with closing(chip.tcp_socket()) as socket, within(1.0), pytest.raises(SocketTimeout, match=r"within 0\.3 s"):
        socket.connect("127.0.0.1", echo.port, timeout_s=0.3)
    emulator.clear_faults()
    dialogue(chip, echo.port)


def test_a_connection_without_a_cable_is_given_up_by_the_chip(emulator: Emulator, echo: Echo) -> None:
    chip = Chip(emulator)
    chip.reset()
    chip.configure(ADDRESSING, retry_time_s=0.01, retry_count=2)
    emulator.inject(LinkDown())
    with closing(chip.tcp_socket()) as socket, within(2.0), pytest.raises(PeerTimeout, match="gave up"):
        socket.connect("127.0.0.1", echo.port, timeout_s=10)


def test_a_fin_wait_that_lasts_does_not_hold_up_close(emulator: Emulator, echo: Echo) -> None:
    chip = configured(emulator)
    socket = chip.tcp_socket()
    socket.connect("127.0.0.1", echo.port, timeout_s=2)
    emulator.inject(HeldStatus(socket=0, status=Status.FIN_WAIT))
    with within(0.8):
        socket.close(timeout_s=0.3)
    emulator.clear_faults()
    dialogue(chip, echo.port)


def exchanges_of_a_dialogue(port: int) -> int:
    class Counting:
        def __init__(self, emulator: Emulator) -> None:
            self.emulator = emulator
            self.count = 0

        def exchange(self, frames: bytes) -> bytes:
            self.count += 1
            return self.emulator.exchange(frames)

        def wait_interrupt(self, timeout_s: float) -> bool:
            return self.emulator.wait_interrupt(timeout_s)

    with closing(Emulator()) as emulator:
        bus = Counting(emulator)
        chip = Chip(bus)
        chip.reset()
        chip.configure(ADDRESSING)
        bus.count = 0
        dialogue(chip, port)
        return bus.count


def echo_of_frame(n: int) -> Fault:
    return FlippedBit(first_exchange=n, octet=1, bit=0)


def unheard(n: int) -> Fault:
    return ExchangeError(first_exchange=n)


def heard(n: int) -> Fault:
    return ExchangeError(first_exchange=n, chip_hears=True)


def reset_at(n: int) -> Fault:
    return ChipReset(first_exchange=n)


@pytest.mark.parametrize("fault", [echo_of_frame, unheard, heard, reset_at])
def test_a_fault_at_any_exchange_ends_in_time_and_the_next_dialogue_works(
    echo: Echo, fault: Callable[[int], Fault]
) -> None:
    """The nth exchange of a dialogue fails, for every n; what the driver says is an OSError, never a hang."""
    count = exchanges_of_a_dialogue(echo.port)
    failed = set()
    for n in range(1, count + 1):
        with closing(Emulator()) as emulator:
            chip = configured(emulator)
            emulator.inject(fault(n))
            with within(4.0):
                try:
                    dialogue(chip, echo.port)
                except OSError:
                    failed.add(n)
            emulator.clear_faults()
            if not chip.holds(ADDRESSING):
                chip.reset()
                chip.configure(ADDRESSING)
            dialogue(chip, echo.port)
    # Three to connect, two to read the greeting, one to send and one to look: a dialogue has no less than these
    # before the last octets are on the table, however the peer's segments fall. Close never raises.
    assert failed >= set(range(1, 8))


def test_a_chip_that_has_reset_itself_is_named(emulator: Emulator, echo: Echo) -> None:
    chip = configured(emulator)
    with closing(chip.tcp_socket()) as socket:
        socket.connect("127.0.0.1", echo.port, timeout_s=2)
        assert socket.receive(100, timeout_s=2) == b"220 ready\r\n"
        emulator.inject(ChipReset())
        with within(2.0), pytest.raises(ChipLost, match="reset itself"):
            socket.receive(100, timeout_s=5)
    assert not chip.holds(ADDRESSING)
