"""TCP through the emulator: opening, sending, receiving, and every way to end, against plain sockets."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from plugin.w5100.emulator import Emulator
from tests.w5100 import emulated as emu
from tests.w5100.emulated import Clock, Host


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def host(clock: Clock) -> Iterator[Host]:
    emulator = Emulator(clock=clock, initial_sequence=lambda: 0xABCDFFEF)
    yield Host(emulator)
    emulator.close()


# --- opening --------------------------------------------------------------------------------------------


def test_connect_passes_arp_and_ends_in_established(host: Host) -> None:
    with emu.listening() as server:
        host.open(0, port=0)
        host.aim(0, emu.port_of(server))
        # CONNECT and a read of Sn_SR in one exchange: the ARP request is on its way.
        assert host.chip.exchange(bytes.fromhex("f0040104 0f040100 0f040300"))[4:] == bytes.fromhex(
            "00010200 00010201"
        )
        peer, _ = server.accept()
        with peer:
            host.until_sr(0, emu.SR_ESTABLISHED)
            assert host.ir(0) == emu.IR_CON


def test_pointers_start_behind_the_initial_sequence_number(host: Host) -> None:
    with emu.connected(host):
        assert host.word(0x0422) == 0xFFF0
        assert host.word(0x0424) == 0xFFF0
        assert host.word(0x0428) == 0
        assert host.free(0) == 2048
        assert host.received(0) == 0


def test_initial_sequence_numbers_differ() -> None:
    emulator = Emulator()
    host = Host(emulator)
    seen = set()
    for _ in range(4):
        with emu.connected(host):
            seen.add(host.word(0x0424))
        host.command(0, emu.CLOSE)
    emulator.close()
    assert len(seen) > 1


def test_the_source_port_is_sn_port(host: Host) -> None:
    port = emu.free_port()
    with emu.listening() as server:
        host.connect(0, emu.port_of(server), source_port=port)
        peer, address = server.accept()
        peer.close()
        assert address == ("127.0.0.1", port)


def test_a_source_port_that_is_taken_does_not_hinder(host: Host) -> None:
    with emu.listening() as server, emu.listening() as other:
        host.connect(0, emu.port_of(server), source_port=emu.port_of(other))
        peer, address = server.accept()
        peer.close()
        assert address[1] != emu.port_of(other)


def test_the_same_source_port_again_at_once(host: Host) -> None:
    port = emu.free_port()
    with emu.listening() as server:
        for _ in range(3):
            host.connect(0, emu.port_of(server), source_port=port)
            peer, _ = server.accept()
            peer.settimeout(emu.DEADLINE_S)
            host.until_sr(0, emu.SR_ESTABLISHED)
            host.command(0, emu.DISCON)  # we close first: the host's kernel keeps this connection in TIME_WAIT
            with peer:
                assert peer.recv(1) == b""
            host.until_sr(0, emu.SR_CLOSED)


def test_refused(host: Host) -> None:
    host.connect(0, emu.free_port())
    host.until_sr(0, emu.SR_CLOSED)
    assert host.ir(0) == emu.IR_DISCON


def test_no_one_is_connected_to_itself(host: Host) -> None:
    port = emu.free_port()
    host.connect(0, port, source_port=port)
    host.until_sr(0, emu.SR_CLOSED)
    assert host.ir(0) == emu.IR_DISCON


def test_no_answer_to_arp(host: Host, clock: Clock) -> None:
    host.open(0)
    host.aim(0, 25, bytes(4))
    host.command(0, emu.CONNECT)
    clock.now_s += 1.79
    assert host.sr(0) == emu.SR_ARP
    assert host.ir(0) == 0
    clock.now_s += 0.02
    assert host.sr(0) == emu.SR_CLOSED
    assert host.ir(0) == emu.IR_TIMEOUT


def test_no_answer_to_syn(host: Host, clock: Clock) -> None:
    with emu.silent() as port:
        host.connect(0, port)
        host.until_sr(0, emu.SR_SYNSENT)
        clock.now_s += 31.7
        assert host.sr(0) == emu.SR_SYNSENT
        clock.now_s += 0.2
        assert host.sr(0) == emu.SR_CLOSED
        assert host.ir(0) == emu.IR_TIMEOUT


def test_rtr_and_rcr_decide_how_long_a_syn_is_tried(host: Host, clock: Clock) -> None:
    host.write_word(0x0017, 1000)
    host.write(0x0019, b"\x01")
    with emu.silent() as port:
        host.connect(0, port)
        host.until_sr(0, emu.SR_SYNSENT)
        clock.now_s += 0.31  # 100 ms and 200 ms
        assert host.sr(0) == emu.SR_CLOSED


def test_close_ends_an_attempt_to_connect(host: Host) -> None:
    with emu.silent() as port:
        host.connect(0, port)
        host.until_sr(0, emu.SR_SYNSENT)
        host.command(0, emu.CLOSE)
        assert host.sr(0) == emu.SR_CLOSED
        assert host.ir(0) == 0


# --- sending --------------------------------------------------------------------------------------------


def test_send_moves_tx_rd_and_raises_send_ok(host: Host) -> None:
    with emu.connected(host) as peer:
        host.send(0, b"EHLO chip\r\n")
        assert host.ir(0) == emu.IR_SEND_OK
        assert host.word(0x0422) == host.word(0x0424) == (0xFFF0 + 11)
        assert host.free(0) == 2048
        assert emu.receive_exactly(peer, 11) == b"EHLO chip\r\n"


def test_send_across_the_16_bit_wrap(host: Host) -> None:
    with emu.connected(host) as peer:
        sent = bytes(range(200))
        host.send(0, sent)
        assert host.word(0x0422) == host.word(0x0424) == (0xFFF0 + 200) & 0xFFFF
        assert emu.receive_exactly(peer, 200) == sent
        for turn in range(40):  # once more around the 16 bits
            block = bytes((turn,)) * 2000
            host.send(0, block)
            host.until(lambda: host.free(0) == 2048)
            assert emu.receive_exactly(peer, 2000) == block


def test_send_takes_all_of_the_window(host: Host) -> None:
    with emu.connected(host) as peer:
        sent = bytes(range(256)) * 8
        host.send(0, sent)
        assert emu.receive_exactly(peer, 2048) == sent


def test_send_of_nothing_is_done_at_once(host: Host) -> None:
    with emu.connected(host) as peer:
        host.command(0, emu.SEND)
        assert host.ir(0) == emu.IR_SEND_OK
        host.send(0, b"x")
        assert emu.receive_exactly(peer, 1) == b"x"


def _send_until_stuck(host: Host) -> bytes:
    """Send blocks of 2000 octets until one gets no SEND_OK; return all that was ordered."""
    ordered = b""
    for turn in range(4000):
        block = (turn % 251).to_bytes(1, "big") * 2000
        host.clear(0)
        host.send(0, block)
        ordered += block
        if not host.ir(0) & emu.IR_SEND_OK:
            return ordered
    raise AssertionError("a peer who does not read is not felt")


def test_a_peer_who_does_not_read_is_felt(host: Host) -> None:
    with emu.connected(host, receive_buffer_bytes=4096) as peer:
        ordered = _send_until_stuck(host)
        assert 48 <= host.free(0) < 2048
        pending = (host.word(0x0424) - host.word(0x0422)) & 0xFFFF
        assert host.free(0) == 2048 - pending
        assert len(ordered) < 400_000
        got = b""
        while len(got) < len(ordered):
            got += peer.recv(65536)
            host.ir(0)  # any exchange lets the emulator go on
        assert got == ordered
        host.until_ir(0, emu.IR_SEND_OK)
        assert host.free(0) == 2048
        assert host.word(0x0422) == host.word(0x0424)


def test_a_peer_who_never_reads_is_given_up(host: Host, clock: Clock) -> None:
    with emu.connected(host, receive_buffer_bytes=4096):
        _send_until_stuck(host)
        clock.now_s += 31.7
        assert host.sr(0) == emu.SR_ESTABLISHED
        clock.now_s += 0.2
        assert host.sr(0) == emu.SR_CLOSED
        assert host.ir(0) == emu.IR_TIMEOUT


def test_discon_with_data_pending_sends_the_data_first(host: Host) -> None:
    with emu.connected(host, receive_buffer_bytes=4096) as peer:
        ordered = _send_until_stuck(host)
        host.command(0, emu.DISCON)
        assert host.sr(0) == emu.SR_FIN_WAIT
        got = b""
        while more := peer.recv(65536):
            got += more
            host.ir(0)
        assert got == ordered
    host.until_sr(0, emu.SR_CLOSED)


def test_keep_alive_needs_data_before_it(host: Host) -> None:
    with emu.connected(host) as peer:
        host.command(0, emu.SEND_KEEP)
        host.send(0, b"data")
        host.command(0, emu.SEND_KEEP)
        assert host.sr(0) == emu.SR_ESTABLISHED
        assert emu.receive_exactly(peer, 4) == b"data"


# --- receiving ------------------------------------------------------------------------------------------


def test_receive_raises_recv_and_lies_at_rx_rd(host: Host) -> None:
    with emu.connected(host) as peer:
        peer.sendall(b"220 ready\r\n")
        host.until(lambda: host.received(0) == 11)
        assert host.ir(0) == emu.IR_RECV
        assert host.word(0x042A) == 11
        assert host.read(0x6000, 11) == b"220 ready\r\n"


def test_a_partial_read_leaves_the_rest_and_raises_recv_again(host: Host) -> None:
    with emu.connected(host) as peer:
        peer.sendall(b"abcdef")
        host.until(lambda: host.received(0) == 6)
        host.clear(0)
        assert host.take(0, 2) == b"ab"
        assert host.received(0) == 4
        assert host.ir(0) == emu.IR_RECV
        host.clear(0)
        assert host.take(0) == b"cdef"
        assert host.ir(0) == 0


def test_the_window_is_the_free_receive_space(host: Host) -> None:
    sent = bytes(range(256)) * 400
    with emu.connected(host) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        peer.setblocking(False)
        accepted = 0
        deadline = time.monotonic() + 0.3
        while accepted < len(sent) and time.monotonic() < deadline:
            try:
                accepted += peer.send(sent[accepted:])
            except BlockingIOError:
                host.sr(0)
                time.sleep(0.005)
        assert accepted < len(sent)  # back-pressure: the chip's window is closed
        assert host.received(0) == 2048
        got = b""
        while len(got) < len(sent):
            got += host.take_all(0, 1)
            if accepted < len(sent):
                with contextlib.suppress(BlockingIOError):
                    accepted += peer.send(sent[accepted:])
        assert got == sent
        assert host.word(0x0428) == len(sent) & 0xFFFF  # RX pointers have passed 65536


def test_no_more_is_received_after_rx_rd_went_too_far(host: Host) -> None:
    with emu.connected(host) as peer:
        peer.sendall(b"abc")
        host.until(lambda: host.received(0) == 3)
        host.write_word(0x0428, 4)
        host.command(0, emu.RECV)
        assert host.received(0) == 0xFFFF
        peer.sendall(b"def")
        time.sleep(0.02)
        assert host.received(0) == 0xFFFF


# --- ends -----------------------------------------------------------------------------------------------


def test_fin_comes_behind_the_data(host: Host) -> None:
    sent = bytes(range(250)) * 20
    with emu.connected(host) as peer:
        peer.sendall(sent)
        peer.shutdown(socket.SHUT_WR)
        host.until(lambda: host.received(0) == 2048)
        assert host.sr(0) == emu.SR_ESTABLISHED
        assert not host.ir(0) & emu.IR_DISCON
        got = host.take(0)
        host.until(lambda: host.received(0) == 2048)
        assert host.sr(0) == emu.SR_ESTABLISHED
        got += host.take(0)
        host.until_sr(0, emu.SR_CLOSE_WAIT)
        assert host.ir(0) & emu.IR_DISCON
        assert host.received(0) == len(sent) - 4096
        assert got + host.take(0) == sent


def test_established_is_seen_though_the_peer_is_gone_already(host: Host) -> None:
    # ioLibrary's connect waits for ESTABLISHED, CLOSED or TIMEOUT; CLOSE_WAIT instead would hold it for ever.
    with emu.listening() as server:
        host.open(0)
        host.aim(0, emu.port_of(server))
        host.command(0, emu.CONNECT)
        peer, _ = server.accept()
        peer.sendall(b"421 too busy")
        peer.close()
        time.sleep(0.02)
        seen = [host.sr(0) for _ in range(40)]
        assert seen.index(emu.SR_ESTABLISHED) < seen.index(emu.SR_CLOSE_WAIT)
        assert host.take(0) == b"421 too busy"


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("size", [12, 256])
def test_data_is_seen_before_its_end_by_a_host_that_reads_rsr_first(host: Host, how: str, size: int) -> None:
    # ioLibrary and Arduino read Sn_RX_RSR, then Sn_SR, and take 0 with CLOSE_WAIT for the end of all data.
    with emu.connected(host) as peer:
        assert host.read(0x0426) == b"\x00"  # a torn read: the low octet comes when the data is there
        peer.sendall(b"x" * size)
        emu.reset(peer) if how == "reset" else peer.close()
        time.sleep(0.02)
        received, status = host.read(0x0427)[0], host.sr(0)
        while not received:
            assert status == emu.SR_ESTABLISHED
            received, status = host.received(0), host.sr(0)
        assert host.take(0) == b"x" * size
        host.until_sr(0, emu.SR_CLOSED if how == "reset" else emu.SR_CLOSE_WAIT)


def test_a_host_that_never_reads_sn_sr_is_told_of_the_end(host: Host) -> None:
    with emu.listening() as server:
        host.open(0)
        host.aim(0, emu.port_of(server))
        host.command(0, emu.CONNECT)
        server.accept()[0].close()
        host.until_ir(0, emu.IR_CON | emu.IR_DISCON)


def test_a_half_closed_peer_can_still_be_written_to(host: Host) -> None:
    with emu.connected(host) as peer:
        peer.shutdown(socket.SHUT_WR)
        host.until_sr(0, emu.SR_CLOSE_WAIT)
        host.clear(0)
        host.send(0, b"late answer")
        assert host.ir(0) == emu.IR_SEND_OK
        assert emu.receive_exactly(peer, 11) == b"late answer"
        host.clear(0)
        host.command(0, emu.DISCON)
        assert peer.recv(1) == b""
        host.until_sr(0, emu.SR_CLOSED)
        assert host.ir(0) == emu.IR_DISCON


def test_discon_from_close_wait_shows_last_ack(host: Host) -> None:
    with emu.connected(host) as peer:
        peer.shutdown(socket.SHUT_WR)
        host.until_sr(0, emu.SR_CLOSE_WAIT)
        assert host.chip.exchange(bytes.fromhex("f0040108 0f040300"))[7] == emu.SR_LAST_ACK
        host.until_sr(0, emu.SR_CLOSED)


def test_discon_waits_for_the_peer_who_may_still_send(host: Host) -> None:
    with emu.connected(host) as peer:
        host.command(0, emu.DISCON)
        assert host.sr(0) == emu.SR_FIN_WAIT
        assert peer.recv(1) == b""
        peer.sendall(b"221 bye\r\n")
        host.until(lambda: host.received(0) == 9)
        assert host.sr(0) == emu.SR_FIN_WAIT
        assert host.take(0) == b"221 bye\r\n"
        host.clear(0)
    host.until_sr(0, emu.SR_CLOSED)
    assert host.ir(0) == emu.IR_DISCON


def test_the_last_data_comes_before_the_end_in_fin_wait_too(host: Host) -> None:
    with emu.connected(host) as peer:
        host.command(0, emu.DISCON)
        peer.sendall(bytes(range(250)) * 10)
        assert peer.recv(1) == b""
    host.until(lambda: host.received(0) == 2048)
    assert host.sr(0) == emu.SR_FIN_WAIT
    assert host.take(0) == (bytes(range(250)) * 10)[:2048]
    host.until_sr(0, emu.SR_CLOSED)
    assert host.take(0) == (bytes(range(250)) * 10)[2048:]


def test_a_host_may_send_and_end_after_the_peers_fin_with_a_full_ring(host: Host) -> None:
    with emu.connected(host) as peer:
        peer.sendall(bytes(2048))
        peer.shutdown(socket.SHUT_WR)
        host.until(lambda: host.received(0) == 2048)
        host.send(0, b"QUIT\r\n")
        host.command(0, emu.DISCON)
        assert peer.recv(100) == b"QUIT\r\n"
        assert peer.recv(100) == b""
        host.take(0)
        host.until_sr(0, emu.SR_CLOSED)


def test_fin_wait_stays_while_the_peer_does_not_close(host: Host, clock: Clock) -> None:
    with emu.connected(host):
        host.command(0, emu.DISCON)
        host.sr(0)
        clock.now_s += 1000
        assert host.sr(0) == emu.SR_FIN_WAIT
        host.command(0, emu.CLOSE)
        assert host.sr(0) == emu.SR_CLOSED


def test_send_in_fin_wait_is_ignored(host: Host) -> None:
    with emu.connected(host) as peer:
        host.command(0, emu.DISCON)
        host.send(0, b"too late")
        assert host.ir(0) == 0
        assert peer.recv(10) == b""


def test_reset_closes_at_once_and_leaves_the_data_readable(host: Host) -> None:
    with emu.connected(host) as peer:
        peer.sendall(b"554 go away\r\n")
        emu.reset(peer)
        host.until_sr(0, emu.SR_CLOSED)
        assert host.ir(0) == emu.IR_DISCON | emu.IR_RECV
        assert host.take(0) == b"554 go away\r\n"


def test_reset_is_seen_while_the_ring_is_full(host: Host) -> None:
    with emu.connected(host) as peer:
        peer.sendall(bytes(5000))
        host.until(lambda: host.received(0) == 2048)
        emu.reset(peer)
        host.until_sr(0, emu.SR_CLOSED)
        assert host.ir(0) & emu.IR_DISCON
        assert host.received(0) == 2048


def test_reset_in_close_wait(host: Host) -> None:
    with emu.connected(host) as peer:
        peer.shutdown(socket.SHUT_WR)
        host.until_sr(0, emu.SR_CLOSE_WAIT)
        host.clear(0)
        emu.reset(peer)
        host.until_sr(0, emu.SR_CLOSED)
        assert host.ir(0) == emu.IR_DISCON


def test_reset_while_sending(host: Host) -> None:
    with emu.connected(host, receive_buffer_bytes=4096) as peer:
        _send_until_stuck(host)
        emu.reset(peer)
        host.until_sr(0, emu.SR_CLOSED)
        assert host.ir(0) & emu.IR_DISCON
        assert not host.ir(0) & emu.IR_SEND_OK


def test_close_is_immediate_and_resets_the_peer(host: Host) -> None:
    with emu.connected(host) as peer:
        host.command(0, emu.CLOSE)
        assert host.sr(0) == emu.SR_CLOSED
        assert host.ir(0) == 0
        with pytest.raises(ConnectionResetError):
            peer.recv(1)


def test_close_right_after_discon_still_ends_in_order(host: Host) -> None:
    with emu.connected(host) as peer:
        host.send(0, b"QUIT\r\n")
        host.command(0, emu.DISCON)
        host.command(0, emu.CLOSE)
        assert host.sr(0) == emu.SR_CLOSED
        assert peer.recv(100) == b"QUIT\r\n"
        assert peer.recv(100) == b""


def test_open_again_after_close(host: Host) -> None:
    with emu.connected(host) as peer:
        peer.sendall(b"old")
        host.until(lambda: host.received(0) == 3)
        host.command(0, emu.CLOSE)
    with emu.connected(host) as peer:
        assert host.received(0) == 0
        assert host.word(0x0428) == 0
        peer.sendall(b"new")
        assert host.take_all(0, 3) == b"new"


def test_open_of_an_open_socket_starts_afresh(host: Host) -> None:
    with emu.connected(host) as peer:
        host.command(0, emu.OPEN)
        assert host.sr(0) == emu.SR_INIT
        assert host.word(0x0422) == host.word(0x0424) == 0
        with pytest.raises(ConnectionResetError):
            peer.recv(1)


def test_soft_reset_drops_all_connections(host: Host) -> None:
    with emu.connected(host, 0) as first, emu.connected(host, 3) as second:
        host.write(0x0000, b"\x80")
        assert host.sr(0) == host.sr(3) == emu.SR_CLOSED
        for peer in (first, second):
            with pytest.raises(ConnectionResetError):
                peer.recv(1)
