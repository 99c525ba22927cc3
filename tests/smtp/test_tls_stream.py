"""TlsStream piece by piece: what has come already, what is no data, how much it holds, reading while it sends."""

from __future__ import annotations

import re
import shutil
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugin.smtp.stream import DEFAULT_WINDOW_BYTES, SocketStream, window_of
from plugin.smtp.tls import TlsError, TlsStream
from plugin.smtp.tls_stream import MAX_BARREN_BYTES, RECORD_BYTES
from tests.smtp.tls_servers import (
    CERTIFICATES,
    COMMAND,
    COMMANDS,
    VERSIONS,
    WAIT_S,
    MemoryServer,
    answer_each,
    narrow_connection,
    reply_to,
    reset,
    secured,
    secured_by,
    server_context,
    serving,
    trusting,
    until_taken,
)

TLS12, TLS13 = VERSIONS


def in_memory(version: ssl.TLSVersion = TLS13, *, tickets: int = 2) -> tuple[TlsStream, MemoryServer]:
    context = server_context(minimum=version, maximum=version)
    context.num_tickets = tickets
    server = MemoryServer(context)
    return secured(trusting(), server), server


def nothing_there(stream: TlsStream) -> None:
    with pytest.raises(TimeoutError):
        stream.receive(100, timeout_s=0)


# --- What has come already ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cut", [1, 4, 5, 6, 20, -1])
def test_part_of_a_record_is_nothing_yet(version: ssl.TLSVersion, cut: int) -> None:
    stream, server = in_memory(version)
    record = server.says(b"250 OK\r\n")
    server.deliver(record[:cut])
    nothing_there(stream)
    nothing_there(stream)
    stream.send_all(b"RSET\r\n", timeout_s=1)
    assert server.hears() == b"RSET\r\n"
    server.deliver(record[cut:])
    assert stream.receive(100, timeout_s=0) == b"250 OK\r\n"
    nothing_there(stream)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_engine_has_comes_first(version: ssl.TLSVersion) -> None:
    stream, server = in_memory(version)
    server.deliver(server.says(b"250 one\r\n") + server.says(b"250 two\r\n"))
    received = [stream.receive(5, timeout_s=0) for _ in range(4)]
    assert received == [b"250 o", b"ne\r\n", b"250 t", b"wo\r\n"]
    nothing_there(stream)


def test_a_long_record_comes_in_one_look_though_the_stream_below_gives_little_at_a_time() -> None:
    class Ring(MemoryServer):
        def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
            return super().receive(min(max_bytes, 500), timeout_s=timeout_s)

    server = Ring()
    stream = secured(trusting(), server)
    server.deliver(server.says(b"x" * RECORD_BYTES))
    assert stream.receive(2 * RECORD_BYTES, timeout_s=0) == b"x" * RECORD_BYTES


@pytest.mark.parametrize("version", VERSIONS)
def test_close_notify_is_the_end(version: ssl.TLSVersion) -> None:
    stream, server = in_memory(version)
    server.deliver(server.says(b"221 Bye\r\n") + server.farewell())
    assert [stream.receive(100, timeout_s=0) for _ in range(3)] == [b"221 Bye\r\n", b"", b""]


@pytest.mark.parametrize("tickets", [0, 1, 40])
def test_tickets_are_no_data(tickets: int) -> None:
    stream, server = in_memory(tickets=tickets)
    nothing_there(stream)
    assert server.received_bytes > 200 * tickets, "they were there"
    server.deliver(server.says(b"220 relay.test\r\n"))
    assert stream.receive(100, timeout_s=0) == b"220 relay.test\r\n"


@pytest.mark.parametrize("timeout_s", [0, 1000])
def test_tickets_without_end_are_cut_off(timeout_s: float) -> None:
    stream, server = in_memory(tickets=1000)
    before = server.received_bytes
    with pytest.raises(TlsError, match="without any data"):
        stream.receive(100, timeout_s=timeout_s)
    assert MAX_BARREN_BYTES < server.received_bytes - before <= MAX_BARREN_BYTES + RECORD_BYTES
    with pytest.raises(ConnectionResetError):
        stream.send_all(b"x", timeout_s=1)


def test_what_is_no_data_counts_only_since_the_last_data() -> None:
    stream, server = in_memory(tickets=100)
    for _ in range(4):
        nothing_there(stream)
        server.deliver(server.says(b"x" * RECORD_BYTES))
        assert stream.receive(RECORD_BYTES, timeout_s=0) == b"x" * RECORD_BYTES
    assert server.received_bytes > MAX_BARREN_BYTES


@settings(max_examples=150, deadline=None)
@given(
    version=st.sampled_from(VERSIONS),
    pieces=st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=40), st.sampled_from([b"say", b"\x17\x03\x03\x00", b"\x16\x03\x03"])
        ),
        max_size=8,
    ),
)
def test_any_octets_after_the_handshake(version: ssl.TLSVersion, pieces: list[bytes]) -> None:
    """No exception but those that are documented, and no data but the server's."""
    stream, server = in_memory(version)
    received = b""
    with suppress(TimeoutError, ConnectionError):
        for piece in pieces:
            server.deliver(server.says(b"x") if piece == b"say" else piece)
        while data := stream.receive(10, timeout_s=0):
            received += data
    assert received == b"x" * len(received)
    assert len(received) <= pieces.count(b"say")
    stream.close()


class Counting(SocketStream):
    """Counts what has come."""

    received_bytes = 0

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        data = super().receive(max_bytes, timeout_s=timeout_s)
        self.received_bytes += len(data)
        return data


@contextmanager
def key_updater() -> Iterator[tuple[int, Callable[[bytes], None], subprocess.Popen[bytes]]]:
    """Serve TLS 1.3 by the openssl command; yield port, what types a line into it, and the process."""
    pem = str(CERTIFICATES / "server.pem")
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-tls1_3"]
    command += ["-cert", pem, "-key", pem]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            typing = process.stdin
            port = 0
            while not port and (line := process.stdout.readline()):
                found = re.match(rb"ACCEPT .*:(\d+)", line)
                port = int(found[1]) if found else 0

            def type_in(line: bytes) -> None:
                typing.write(line)
                typing.flush()

            yield port, type_in, process
        finally:
            process.kill()


@pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs the openssl command, which can ask for new keys"
)
def test_new_keys_in_the_middle() -> None:
    """TLS 1.3 KeyUpdate (RFC 8446 §4.6.3): it comes unasked, is no data, is answered with what we send next."""
    with key_updater() as (port, type_in, process):
        below = Counting.connect("127.0.0.1", port, timeout_s=WAIT_S)
        stream = secured(trusting(), below)
        until = time.monotonic() + WAIT_S
        for number in range(3):
            nothing_there(stream)  # with the tickets out of the way
            before = below.received_bytes
            type_in(b"K\n")
            while below.received_bytes == before:
                assert time.monotonic() < until
                with pytest.raises(TimeoutError):
                    stream.receive(100, timeout_s=0.01)
            stream.send_all(b"question %d\n" % number, timeout_s=WAIT_S)
            type_in(b"answer %d\n" % number)
            assert stream.receive(100, timeout_s=WAIT_S) == b"answer %d\n" % number
        stream.close()
        told, _ = process.communicate(timeout=WAIT_S)
    assert all(b"question %d\n" % number in told for number in range(3))


# --- Sending ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("octets", [1, 1000, RECORD_BYTES, RECORD_BYTES + 1, 3 * RECORD_BYTES])
def test_each_send_below_is_one_record(version: ssl.TLSVersion, octets: int) -> None:
    stream, server = in_memory(version)
    server.sent.clear()
    stream.send_all(b"x" * octets, timeout_s=1)
    assert len(server.sent) == -(-octets // RECORD_BYTES)
    for record in server.sent:
        kind, length = struct.unpack("!BxxH", record[:5])
        assert (kind, length) == (23, len(record) - 5), "application_data, and nothing behind it"


class HalfTicket:
    """An engine that has seen the first part of a ticket in two records: it writes nothing before the rest."""

    def __init__(self, stream: TlsStream) -> None:
        self._engine, self._incoming = stream._engine, stream._incoming

    def write(self, data: memoryview) -> int:
        if not self._incoming.pending:
            raise ssl.SSLWantReadError
        return self._engine.write(data)

    def read(self, max_bytes: int) -> bytes:
        return self._engine.read(max_bytes)


def test_a_send_in_the_middle_of_a_ticket_waits_for_the_rest() -> None:
    stream, server = in_memory(tickets=0)
    stream._engine = cast("ssl.SSLObject", HalfTicket(stream))
    server.deliver(server.says(b"250 OK\r\n"))
    stream.send_all(b"RSET\r\n", timeout_s=1)
    assert server.hears() == b"RSET\r\n"
    assert stream.receive(100, timeout_s=0) == b"250 OK\r\n"
    with pytest.raises(TimeoutError):
        stream.send_all(b"NOOP\r\n", timeout_s=1)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_reads_on_only_when_its_replies_are_read(version: ssl.TLSVersion) -> None:
    context = server_context(minimum=version, maximum=version)
    with serving(secured_by(context, answer_each)) as server:
        stream = secured(trusting(), SocketStream(narrow_connection(server.port)))
        stream.send_all(COMMAND * COMMANDS, timeout_s=WAIT_S)
        for number in range(COMMANDS):
            reply = b""
            while not reply.endswith(b"\r\n"):
                reply += stream.receive(len(reply_to(number)) - len(reply), timeout_s=WAIT_S)
            assert reply == reply_to(number)
        stream.close()


def test_last_words_before_a_reset() -> None:
    def serve(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"421 enough\r\n")
        connection.recv(1)
        until_taken(connection)  # a reset throws away what is still on its way
        reset(connection)

    with serving(secured_by(server_context(), serve)) as server:
        stream = secured(trusting(), SocketStream(narrow_connection(server.port)))
        with pytest.raises(ConnectionError):
            stream.send_all(b"x" * 10_000_000, timeout_s=WAIT_S)
        assert stream.receive(100, timeout_s=WAIT_S) == b"421 enough\r\n"
        with pytest.raises(ConnectionError):
            stream.receive(100, timeout_s=WAIT_S)
        stream.close()


# --- The window ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window_bytes", [None, 1024, 8192])
@pytest.mark.parametrize(
    ("version", "cipher"),
    [
        (TLS13, None),
        (TLS12, "ECDHE-ECDSA-AES128-GCM-SHA256"),
        (TLS12, "ECDHE-ECDSA-CHACHA20-POLY1305"),
        (TLS12, "ECDHE-ECDSA-AES256-SHA384"),  # CBC, which costs most
    ],
)
def test_replies_in_records_of_their_own_fit_the_window_below(
    version: ssl.TLSVersion, cipher: str | None, window_bytes: int | None
) -> None:
    context = server_context(minimum=version, maximum=version)
    if cipher is not None:
        context.set_ciphers(cipher)
    server = MemoryServer(context)
    if window_bytes is not None:
        server.window_bytes = window_bytes  # type: ignore[attr-defined]  # a Stream may have it
    stream = secured(trusting(), server)
    assert cipher in (None, stream.secured.cipher)
    replies = window_of(stream) // 60
    below = window_bytes or DEFAULT_WINDOW_BYTES
    assert below // 4 < len(b"".join(server.says(b"x" * 60) for _ in range(replies))) <= below
