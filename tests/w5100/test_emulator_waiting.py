"""wait_interrupt: it sleeps, it wakes, and it never spins."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from plugin.w5100.emulator import Emulator, LinkDown
from plugin.w5100.errors import BusError
from tests.w5100 import emulated as emu
from tests.w5100.emulated import Host

LONG_S = 10.0
SOON_S = 2.0


@pytest.fixture
def host() -> Iterator[Host]:
    emulator = Emulator()
    host = Host(emulator)
    host.write(0x0016, b"\x0f")
    yield host
    emulator.close()


def _timed(wait: Callable[[], bool]) -> tuple[bool, float]:
    start = time.monotonic()
    return wait(), time.monotonic() - start


def _later(action: Callable[[], object], delay_s: float = 0.05) -> threading.Timer:
    timer = threading.Timer(delay_s, action)
    timer.start()
    return timer


def test_without_news_the_time_passes(host: Host) -> None:
    low, spent_s = _timed(lambda: host.chip.wait_interrupt(0.05))
    assert not low
    assert 0.045 <= spent_s < SOON_S


@pytest.mark.parametrize("timeout_s", [0, -1])
def test_no_time_is_no_sleep(host: Host, timeout_s: float) -> None:
    assert not host.chip.wait_interrupt(timeout_s)


def test_what_is_pending_is_told_at_once(host: Host) -> None:
    with emu.connected(host) as peer:
        peer.sendall(b"news")
        assert host.chip.wait_interrupt(LONG_S)
        assert host.chip.wait_interrupt(0)
        assert host.ir(0) == emu.IR_RECV


def test_data_wakes(host: Host) -> None:
    with emu.connected(host) as peer:
        timer = _later(lambda: peer.sendall(b"news"))
        low, spent_s = _timed(lambda: host.chip.wait_interrupt(LONG_S))
        timer.join()
        assert low
        assert 0.04 <= spent_s < SOON_S
        assert host.read(0x0015) == b"\x01"
        assert host.received(0) == 4


def test_a_connection_wakes_both_ends(host: Host) -> None:
    port = emu.free_port()
    host.open(2, port=port)
    host.command(2, emu.LISTEN)
    callers: list[socket.socket] = []
    timer = _later(lambda: callers.append(socket.create_connection(("127.0.0.1", port), emu.DEADLINE_S)))
    assert host.chip.wait_interrupt(LONG_S)
    timer.join()
    assert host.read(0x0015) == b"\x04"
    host.clear(2)
    callers[0].close()
    assert host.chip.wait_interrupt(LONG_S)
    assert host.ir(2) == emu.IR_DISCON


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda peer: peer.shutdown(socket.SHUT_WR), emu.SR_CLOSE_WAIT),
        (emu.reset, emu.SR_CLOSED),
    ],
)
def test_the_end_wakes(host: Host, end: Callable[[socket.socket], None], status: int) -> None:
    with emu.connected(host) as peer:
        timer = _later(lambda: end(peer))
        assert host.chip.wait_interrupt(LONG_S)
        timer.join()
        assert host.ir(0) == emu.IR_DISCON
        assert host.sr(0) == status


def test_the_completion_of_a_send_wakes(host: Host) -> None:
    with emu.connected(host, receive_buffer_bytes=4096) as peer:
        ordered = 0
        while True:
            host.clear(0)
            host.send(0, bytes(2000))
            ordered += 2000
            if not host.ir(0) & emu.IR_SEND_OK:
                break
        timer = _later(lambda: emu.receive_exactly(peer, ordered - 2000))
        assert host.chip.wait_interrupt(LONG_S)
        timer.join()
        assert host.ir(0) == emu.IR_SEND_OK


def test_a_timer_of_the_chip_wakes(host: Host) -> None:
    host.write_word(0x0017, 100)
    host.write(0x0019, b"\x04")
    host.open(0)
    host.aim(0, 25, bytes(4))
    host.command(0, emu.CONNECT)
    low, spent_s = _timed(lambda: host.chip.wait_interrupt(LONG_S))
    assert low
    assert 0.045 <= spent_s < SOON_S  # 5 tries of 10 ms
    assert host.ir(0) == emu.IR_TIMEOUT


def test_another_threads_exchange_wakes(host: Host) -> None:
    with emu.listening() as server, ThreadPoolExecutor() as pool:
        host.open(0)
        host.aim(0, emu.port_of(server))
        sleeping = pool.submit(_timed, lambda: host.chip.wait_interrupt(LONG_S))
        time.sleep(0.05)
        host.command(0, emu.CONNECT)  # only now is there anything to wait for
        low, spent_s = sleeping.result(LONG_S)
        assert low
        assert spent_s < SOON_S
        assert host.ir(0) == emu.IR_CON


def test_unmasking_wakes(host: Host) -> None:
    host.write(0x0016, b"\x00")
    with emu.connected(host) as peer, ThreadPoolExecutor() as pool:
        peer.sendall(b"news")
        host.until_ir(0, emu.IR_RECV)
        sleeping = pool.submit(_timed, lambda: host.chip.wait_interrupt(LONG_S))
        time.sleep(0.05)
        assert not sleeping.done()
        host.write(0x0016, b"\x01")
        low, spent_s = sleeping.result(LONG_S)
        assert low
        assert spent_s < SOON_S


def test_several_may_wait(host: Host) -> None:
    with emu.connected(host) as peer, ThreadPoolExecutor() as pool:
        sleeping = [pool.submit(host.chip.wait_interrupt, LONG_S) for _ in range(3)]
        time.sleep(0.05)
        peer.sendall(b"news")
        assert [one.result(SOON_S) for one in sleeping] == [True] * 3


def test_close_wakes(host: Host) -> None:
    with ThreadPoolExecutor() as pool:
        sleeping = pool.submit(host.chip.wait_interrupt, LONG_S)
        time.sleep(0.05)
        host.chip.close()
        with pytest.raises(BusError):
            sleeping.result(SOON_S)


def test_a_masked_chip_lets_time_pass(host: Host) -> None:
    host.write(0x0016, b"\x00")
    with emu.connected(host) as peer:
        peer.sendall(b"news")
        low, spent_s = _timed(lambda: host.chip.wait_interrupt(0.05))
        assert not low
        assert spent_s >= 0.045
        assert host.received(0) == 4


def _cpu_spent_s(wait: Callable[[], bool]) -> float:
    start = time.thread_time()
    assert not wait()
    return time.thread_time() - start


@pytest.mark.parametrize(
    "situation",
    ["full ring", "half closed", "both ended, ring full", "no link", "listening", "no transmit memory"],
)
def test_it_does_not_spin(host: Host, situation: str) -> None:
    host.write(0x0016, b"\x00")
    with emu.connected(host, receive_buffer_bytes=4096) as peer:
        if situation in {"full ring", "both ended, ring full"}:
            peer.sendall(bytes(4000))
            host.until(lambda: host.received(0) == 2048)
        if situation == "both ended, ring full":
            host.command(0, emu.DISCON)
        if situation in {"half closed", "both ended, ring full"}:
            peer.shutdown(socket.SHUT_WR)
        if situation == "half closed":
            host.until_sr(0, emu.SR_CLOSE_WAIT)
        if situation == "no transmit memory":
            host.write(0x041F, b"\x00")
            host.send(0, b"x")
        if situation == "no link":
            host.chip.inject(LinkDown())
            peer.sendall(b"unheard")
        if situation == "listening":
            host.open(1, port=emu.free_port())
            host.command(1, emu.LISTEN)
        assert _cpu_spent_s(lambda: host.chip.wait_interrupt(0.3)) < 0.1


def test_unreachable_ports_do_not_make_it_spin(host: Host) -> None:
    host.write(0x0016, b"\x00")
    host.open(0, mode=emu.UDP)
    host.aim(0, emu.free_port(socket.SOCK_DGRAM))
    host.send(0, b"anyone?")
    assert _cpu_spent_s(lambda: host.chip.wait_interrupt(0.3)) < 0.1
    assert host.read(0x0015)[0] & 0x40
