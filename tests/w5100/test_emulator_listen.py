"""LISTEN through the emulator: who is connected, who gets no answer, who keeps his place between two."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterator

import pytest

from plugin.w5100.emulator import Emulator, HeldStatus
from plugin.w5100.emulator.network import QUIET_PORTS, Listener
from tests.brokers import SOCKET_FILTER
from tests.w5100 import emulated as emu
from tests.w5100.emulated import Host


@pytest.fixture
def host() -> Iterator[Host]:
    emulator = Emulator(initial_sequence=lambda: 0xABCDFFEF)
    yield Host(emulator)
    emulator.close()


@pytest.fixture
def silence() -> None:
    """Needs a host that can leave callers without an answer; some let root alone do that."""
    with socket.create_server(("127.0.0.1", 0)) as kernel:
        if Listener(kernel, 0).hush():
            return
    reason = "no filter can be attached to a socket here, which may take root"
    if SOCKET_FILTER in os.environ.get("HARDWIRE_REQUIRE", "").replace(" ", "").split(","):
        pytest.fail(f"HARDWIRE_REQUIRE: {SOCKET_FILTER}: {reason}")
    pytest.skip(reason)


def _call(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), emu.DEADLINE_S)


@contextlib.contextmanager
def _calling(port: int) -> Iterator[socket.socket]:
    """Yield a socket that is about to be connected."""
    with socket.socket() as caller:
        caller.setblocking(False)
        caller.connect_ex(("127.0.0.1", port))
        yield caller


def _answered(caller: socket.socket, timeout_s: float) -> bool:
    return bool(select.select([], [caller], [], timeout_s)[1])


def _listen(host: Host, number: int, port: int) -> None:
    host.open(number, port=port)
    host.command(number, emu.LISTEN)
    assert host.sr(number) == emu.SR_LISTEN


def test_listen_accepts_one_connection(host: Host) -> None:
    port = emu.free_port()
    _listen(host, 0, port)
    with _call(port) as peer:
        host.until_sr(0, emu.SR_ESTABLISHED)
        assert host.ir(0) & emu.IR_CON
        assert host.read(0x040C, 4) == emu.LOCAL
        assert host.word(0x0410) == emu.port_of(peer)
        assert host.word(0x0422) == host.word(0x0424) == 0xFFF0
        peer.sendall(b"hello")
        assert host.take_all(0, 5) == b"hello"
        host.send(0, b"welcome")
        assert emu.receive_exactly(peer, 7) == b"welcome"


@pytest.mark.usefixtures("silence")
def test_who_calls_between_two_listens_is_not_refused_but_calls_again(host: Host) -> None:
    port = emu.free_port()
    _listen(host, 0, port)
    with _call(port):
        host.until_sr(0, emu.SR_ESTABLISHED)
        with _calling(port) as late:
            assert not _answered(late, 0.1)
            _listen(host, 1, port)
            host.until_sr(1, emu.SR_ESTABLISHED)  # his TCP repeats the SYN after a second
            assert _answered(late, emu.DEADLINE_S)
            assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            assert host.word(0x0510) == emu.port_of(late)


@pytest.mark.usefixtures("silence")
def test_who_waits_in_the_queue_keeps_his_place(host: Host) -> None:
    port = emu.free_port()
    _listen(host, 0, port)
    with _call(port) as first, _call(port) as second:
        host.until_sr(0, emu.SR_ESTABLISHED)
        assert host.word(0x0410) == emu.port_of(first)
        second.sendall(b"EHLO")
        _listen(host, 1, port)
        host.until_sr(1, emu.SR_ESTABLISHED)
        assert host.word(0x0510) == emu.port_of(second)
        assert host.take_all(1, 4) == b"EHLO"


@pytest.mark.usefixtures("silence")
def test_a_server_of_one_socket_serves_several_callers_at_once(host: Host) -> None:
    port = emu.free_port()
    with contextlib.ExitStack() as stack:
        _listen(host, 0, port)
        callers = [stack.enter_context(_calling(port)) for _ in range(4)]
        served = set()
        for _ in callers:
            host.until_sr(0, emu.SR_ESTABLISHED)
            served.add(host.word(0x0410))
            host.send(0, b"221")
            host.until_ir(0, emu.IR_SEND_OK)
            host.command(0, emu.DISCON)
            host.command(0, emu.CLOSE)
            host.clear(0)
            _listen(host, 0, port)
        assert served == {emu.port_of(caller) for caller in callers}
        for caller in callers:
            caller.settimeout(emu.DEADLINE_S)
            assert emu.receive_exactly(caller, 3) == b"221"
            assert caller.recv(1) == b""


@pytest.mark.usefixtures("silence")
def test_listen_is_seen_though_someone_waits(host: Host) -> None:
    # ioLibrary closes a socket that does not show LISTEN right after the command.
    port = emu.free_port()
    _listen(host, 0, port)
    with _call(port), _call(port):
        host.until_sr(0, emu.SR_ESTABLISHED)
        host.open(1, port=port)
        host.command(1, emu.LISTEN)
        for _ in range(3):
            host.ir(1)
        assert host.sr(1) == emu.SR_LISTEN
        assert host.sr(1) in {emu.SR_SYNRECV, emu.SR_ESTABLISHED}


@pytest.mark.parametrize("by_interrupt", [False, True])
def test_a_host_that_never_reads_sn_sr_is_told_of_a_caller(host: Host, *, by_interrupt: bool) -> None:
    port = emu.free_port()
    host.write(0x0016, b"\x0f")
    host.open(0, port=port)
    host.command(0, emu.LISTEN)
    with _call(port):
        if by_interrupt:
            assert host.chip.wait_interrupt(emu.DEADLINE_S)
        host.until_ir(0, emu.IR_CON)


def test_a_reset_forgets_who_waits(host: Host) -> None:
    port = emu.free_port()
    _listen(host, 0, port)
    with _call(port), _call(port) as waiting:
        host.until_sr(0, emu.SR_ESTABLISHED)
        host.write(0x0000, b"\x80")
        with pytest.raises(ConnectionResetError):
            waiting.recv(1)
    with pytest.raises(ConnectionRefusedError):
        _call(port)


@pytest.mark.usefixtures("silence")
def test_ports_between_two_listens_are_bounded(host: Host) -> None:
    ports = []
    for _ in range(QUIET_PORTS + 1):
        ports.append(emu.free_port())
        _listen(host, 0, ports[-1])
        with _call(ports[-1]):
            host.until_sr(0, emu.SR_ESTABLISHED)
    with pytest.raises(ConnectionRefusedError):
        _call(ports[0])
    for port in ports[1:]:
        with _calling(port) as caller:
            assert not _answered(caller, 0.02)


def test_where_the_host_cannot_be_silent_it_refuses(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Listener, "hush", lambda _: False)
    port = emu.free_port()
    _listen(host, 0, port)
    with _call(port):
        host.until_sr(0, emu.SR_ESTABLISHED)
        with pytest.raises(ConnectionRefusedError):
            _call(port)
        _listen(host, 1, port)
        with _call(port):
            host.until_sr(1, emu.SR_ESTABLISHED)


def test_a_port_without_a_listener_costs_no_time_to_wait_on(host: Host) -> None:
    port = emu.free_port()
    host.write(0x0016, b"\x0f")
    _listen(host, 0, port)
    with _call(port), _calling(port):
        host.until_sr(0, emu.SR_ESTABLISHED)
        host.clear(0)
        before_s = time.process_time()
        assert not host.chip.wait_interrupt(0.2)
        assert time.process_time() - before_s < 0.1


def test_several_sockets_listen_on_one_port(host: Host) -> None:
    port = emu.free_port()
    for number in (1, 2):
        host.open(number, port=port)
        host.command(number, emu.LISTEN)
    with _call(port) as first:
        host.until(lambda: emu.SR_ESTABLISHED in {host.sr(1), host.sr(2)})
        assert {host.sr(1), host.sr(2)} == {emu.SR_ESTABLISHED, emu.SR_LISTEN}
        with _call(port) as second:
            host.until_sr(1, emu.SR_ESTABLISHED)
            host.until_sr(2, emu.SR_ESTABLISHED)
            assert {host.word(0x0510), host.word(0x0610)} == {emu.port_of(first), emu.port_of(second)}


def test_close_ends_listening(host: Host) -> None:
    port = emu.free_port()
    host.open(0, port=port)
    host.command(0, emu.LISTEN)
    host.command(0, emu.CLOSE)
    with pytest.raises(ConnectionRefusedError):
        _call(port)
    host.open(0, port=port)
    host.command(0, emu.LISTEN)
    _call(port).close()


def test_a_port_that_is_taken_hears_nothing(host: Host) -> None:
    with emu.listening() as other:
        host.open(0, port=emu.port_of(other))
        host.command(0, emu.LISTEN)
        assert host.sr(0) == emu.SR_LISTEN
        with _call(emu.port_of(other)):
            assert host.sr(0) == emu.SR_LISTEN


def test_a_listening_socket_passes_synrecv(host: Host) -> None:
    port = emu.free_port()
    host.chip.inject(HeldStatus(status=emu.SR_SYNRECV))
    host.open(0, port=port)
    host.command(0, emu.LISTEN)
    with _call(port):
        host.until_sr(0, emu.SR_SYNRECV)
        host.chip.clear_faults()
        host.until_sr(0, emu.SR_ESTABLISHED)


def test_one_chip_can_call_itself(host: Host) -> None:
    port = emu.free_port()
    host.open(1, port=port)
    host.command(1, emu.LISTEN)
    host.connect(0, port)
    host.until_sr(0, emu.SR_ESTABLISHED)
    host.until_sr(1, emu.SR_ESTABLISHED)
    host.send(0, b"over there")
    assert host.take_all(1, 10) == b"over there"
