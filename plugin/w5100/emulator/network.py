"""The host's network in place of the chip's Ethernet: kernel sockets, never blocking, all closed in the end."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import logging
import select
import socket
import struct
import sys
from collections.abc import Iterable
from typing import Final

log = logging.getLogger("hardwire.w5100")

# Small kernel buffers let the peer and the host feel the chip's back-pressure, as 8 KiB of chip memory would.
KERNEL_BUFFER_BYTES: Final = 16 * 1024
NO_LINGER: Final = struct.pack("ii", 1, 0)
ANY: Final = "0.0.0.0"  # noqa: S104 - a chip answers on its one interface; the host has several
LIMITED_BROADCAST: Final = "255.255.255.255"
# Linux: IP_PKTINFO with struct in_pktinfo chooses the interface of one datagram; SIOCGIFFLAGS of struct ifreq.
IP_PKTINFO: Final = 8
PACKET_INFO: Final = struct.Struct("=i4s4s")
SIOCGIFFLAGS: Final = 0x8913
INTERFACE_REQUEST: Final = struct.Struct("=16sH22x")
UP_AND_BROADCAST: Final = 0x0003
IP_RECVERR: Final = 11
ERROR_HEADER: Final = struct.Struct("=IBBBxII")
ERROR_FROM_ICMP: Final = 2
PORT_UNREACHABLE: Final = (3, 3)
# Linux: a packet filter (struct sock_filter) that drops every segment with SYN set. Whoever is past his SYN may
# finish his handshake, since the kernel has told him already that he is connected.
SO_ATTACH_FILTER: Final = 26
SO_DETACH_FILTER: Final = 27
DROP_SYN: Final = (
    (0x30, 0, 0, 13),  # load the octet with the flags of the TCP header
    (0x45, 0, 1, 0x02),  # SYN? else skip one
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # take all
)
# Callers whom the kernel connects before the chip has looked. A full queue would leave them half connected.
LISTEN_QUEUE: Final = 8
QUIET_PORTS: Final = 4
TCP_STATE_WAITING_FOR_ACK_OF_FIN: Final = frozenset({4, 9, 11})  # FIN_WAIT1, LAST_ACK, CLOSING


class Listener:
    """One kernel listener, shared by all hardware sockets that LISTEN on its port.

    Without users it is quiet: who calls gets no answer and calls again, who waits in its queue keeps his place.
    """

    def __init__(self, kernel: socket.socket, port: int) -> None:
        self.kernel = kernel
        self.port = port
        self.users = 1

    def hush(self) -> bool:
        """Leave further callers without an answer; False where the host cannot do so."""
        if sys.platform != "linux":
            return False
        code = b"".join([struct.pack("=HBBI", *instruction) for instruction in DROP_SYN])
        instructions = ctypes.create_string_buffer(code, len(code))
        program = struct.pack("@HP", len(DROP_SYN), ctypes.addressof(instructions))
        try:
            self.kernel.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        except OSError:
            return False
        return True

    def hear(self) -> None:
        """Answer callers again."""
        with contextlib.suppress(OSError):
            self.kernel.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


class Network:
    """Opens kernel sockets and keeps account of them, so that none outlives the chip."""

    def __init__(self) -> None:
        self._open: set[socket.socket] = set()
        self._listeners: dict[int, Listener] = {}

    def close(self) -> None:
        """Close every kernel socket."""
        self._listeners.clear()
        for one in self._open:
            one.close()
        self._open.clear()

    # --- TCP --------------------------------------------------------------------------------------------

    def connect(self, source_port: int, address: tuple[str, int]) -> tuple[socket.socket | None, int]:
        """Begin to connect; return the socket and an errno, 0 or EINPROGRESS where it is under way.

        The source port is Sn_PORT where the host lets us have it. Where it does not (taken, privileged, the
        same connection still in TIME_WAIT, or our own destination on this host) the kernel picks another one.
        """
        error = 0
        for port in dict.fromkeys((source_port, 0)):
            if port == address[1]:
                continue
            try:
                kernel = self._new(socket.SOCK_STREAM)
            except OSError as trouble:
                log.warning("event=no_kernel_socket problem=%r", str(trouble))
                return None, trouble.errno or errno.EMFILE
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._prepare(kernel)
            try:
                if port:
                    kernel.bind((ANY, port))
                error = kernel.connect_ex(address)
            except OSError as trouble:
                error = trouble.errno or errno.EADDRINUSE
                self.drop(kernel)
                continue
            if port and error in {errno.EADDRNOTAVAIL, errno.EADDRINUSE}:
                self.drop(kernel)
                continue
            return kernel, error
        return None, error

    def listen(self, port: int) -> Listener | None:
        """Return the listener on ``port``, opened if it is the first; None where the host refuses."""
        listener = self._listeners.get(port)
        if listener is not None:
            if not listener.users:
                listener.hear()
            listener.users += 1
            return listener
        try:
            kernel = self._new(socket.SOCK_STREAM)
        except OSError as trouble:
            log.warning("event=no_kernel_socket problem=%r", str(trouble))
            return None
        try:
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._prepare(kernel)
            kernel.bind((ANY, port))
            kernel.listen(LISTEN_QUEUE)
        except OSError as trouble:
            log.warning("event=listen_hears_nothing port=%d problem=%r", port, str(trouble))
            self.drop(kernel)
            return None
        listener = self._listeners[port] = Listener(kernel, port)
        return listener

    def release(self, listener: Listener) -> None:
        """Give back a listener by CLOSE; the last one to do so closes it."""
        listener.users -= 1
        if not listener.users:
            self._close_listener(listener)

    def leave(self, listener: Listener) -> None:
        """Give back a listener that has brought its connection; the last one to do so makes it quiet.

        A W5100 answers a SYN for a port where no socket listens (any more) with an RST without an acknowledgement
        number, which has no effect. So a caller who comes between two LISTENs is not refused but calls again.
        """
        listener.users -= 1
        if listener.users:
            return
        if not listener.hush():
            self._close_listener(listener)
        quiet = [one for one in self._listeners.values() if not one.users]
        for one in quiet[:-QUIET_PORTS]:
            self._close_listener(one)

    def forget_quiet_listeners(self) -> None:
        """Close the listeners that no hardware socket uses: the chip has been reset."""
        for one in [one for one in self._listeners.values() if not one.users]:
            self._close_listener(one)

    def _close_listener(self, listener: Listener) -> None:
        self._listeners.pop(listener.port, None)
        self.drop(listener.kernel)

    def accept(self, listener: Listener) -> tuple[socket.socket, tuple[str, int]] | None:
        """Return a connection that waits at ``listener`` and its peer; None if there is none."""
        try:
            kernel, peer = listener.kernel.accept()
        except OSError:
            return None  # none there, or gone again
        kernel.setblocking(False)
        kernel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.add(kernel)
        return kernel, peer

    def _prepare(self, kernel: socket.socket) -> None:
        kernel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER_BYTES)
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER_BYTES)

    # --- datagrams --------------------------------------------------------------------------------------

    def open_udp(self, port: int) -> socket.socket | None:
        """Return a socket bound to ``port`` or, where the host refuses it, to any; None without sockets."""
        try:
            kernel = self._new(socket.SOCK_DGRAM)
        except OSError as trouble:
            log.warning("event=no_kernel_socket problem=%r", str(trouble))
            return None
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        _report_errors(kernel)
        try:
            kernel.bind((ANY, port))
        except OSError as trouble:
            log.warning("event=another_udp_port port=%d problem=%r", port, str(trouble))
            with contextlib.suppress(OSError):
                kernel.bind((ANY, 0))
        return kernel

    def open_raw(self, protocol: int) -> tuple[socket.socket | None, bool]:
        """Return a socket for ``protocol`` of IP, and whether datagrams come with their IP header.

        ICMP works without privileges where net.ipv4.ping_group_range admits us; all else needs CAP_NET_RAW.
        """
        kinds = [(socket.SOCK_RAW, True)]
        if protocol == socket.IPPROTO_ICMP:
            kinds.insert(0, (socket.SOCK_DGRAM, False))
        trouble: OSError | None = None
        for kind, with_header in kinds:
            try:
                kernel = self._new(kind, protocol)
            except OSError as refused:
                trouble = refused
                continue
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            return kernel, with_header
        log.warning("event=no_raw_socket protocol=%d problem=%r", protocol, str(trouble))
        return None, False

    # --- all --------------------------------------------------------------------------------------------

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Return a connected pair, to wake one who sleeps in poll."""
        ends = socket.socketpair()
        for end in ends:
            end.setblocking(False)
        self._open.update(ends)
        return ends

    def drop(self, kernel: socket.socket, *, reset: bool = False) -> None:
        """Close ``kernel``; with ``reset`` its peer gets RST and nothing that was still unsent."""
        self._open.discard(kernel)
        if reset:
            with contextlib.suppress(OSError):
                kernel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        kernel.close()

    def _new(self, kind: int, protocol: int = 0) -> socket.socket:
        kernel = socket.socket(socket.AF_INET, kind, protocol)
        kernel.setblocking(False)
        self._open.add(kernel)
        return kernel


def poll(watched: Iterable[tuple[socket.socket, int]], timeout_ms: int) -> dict[int, int]:
    """Return the events of the sockets by file descriptor; 0 ms does not wait."""
    poller = select.poll()
    any_watched = False
    for kernel, events in watched:
        if kernel.fileno() >= 0:
            poller.register(kernel, events)
            any_watched = True
    return dict(poller.poll(timeout_ms)) if any_watched else {}


def fin_is_acknowledged(kernel: socket.socket) -> bool:
    """Tell whether the peer's TCP has acknowledged our FIN; where the kernel cannot say, whether it took it."""
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return True
    try:
        state = kernel.getsockopt(socket.IPPROTO_TCP, option, 1)
    except OSError:
        return True
    return state[0] not in TCP_STATE_WAITING_FOR_ACK_OF_FIN


def connected_to_itself(kernel: socket.socket) -> bool:
    """Tell whether the kernel joined both ends of one socket, as it may when no one listens on a local port."""
    try:
        return bool(kernel.getsockname() == kernel.getpeername())
    except OSError:
        return False


def broadcast(kernel: socket.socket, data: bytes, port: int) -> int:
    """Send to 255.255.255.255 on every interface that can broadcast; return 0 if one did, else an errno.

    For hosts, and namespaces, that know no route there: a chip without an address needs none. The source address
    is the interface's, 0.0.0.0 where it has none.
    """
    error = errno.ENETUNREACH
    for index, name in socket.if_nameindex():
        try:
            asked = INTERFACE_REQUEST.pack(name.encode(), 0)
            _, flags = INTERFACE_REQUEST.unpack(fcntl.ioctl(kernel, SIOCGIFFLAGS, asked))
            if flags & UP_AND_BROADCAST == UP_AND_BROADCAST:
                way = (socket.IPPROTO_IP, IP_PKTINFO, PACKET_INFO.pack(index, bytes(4), bytes(4)))
                kernel.sendmsg([data], [way], 0, (LIMITED_BROADCAST, port))
                error = 0
        except OSError as trouble:
            log.debug("no broadcast on %s: %s", name, trouble)
    return error


def _report_errors(kernel: socket.socket) -> None:
    with contextlib.suppress(OSError):
        kernel.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)


def unreachable_ports(kernel: socket.socket) -> list[tuple[str, int]]:
    """Take the ICMP errors that wait at a UDP socket; return the destinations whose port was unreachable."""
    flag = getattr(socket, "MSG_ERRQUEUE", None)
    found: list[tuple[str, int]] = []
    while flag is not None:
        try:
            _, ancillary, _, address = kernel.recvmsg(1, 256, flag)
        except OSError:
            break
        for level, kind, content in ancillary:
            if level == socket.IPPROTO_IP and kind == IP_RECVERR and len(content) >= ERROR_HEADER.size:
                _, origin, icmp_type, code, _, _ = ERROR_HEADER.unpack_from(content)
                if origin == ERROR_FROM_ICMP and (icmp_type, code) == PORT_UNREACHABLE:
                    found.append((address[0], address[1]))
    # The pending error is not part of the queue; reading it clears it, so that poll does not report it for ever.
    with contextlib.suppress(OSError):
        kernel.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return found
