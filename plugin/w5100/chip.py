"""The chip as a whole: reset, presence, addressing, memory split, and who has which hardware socket."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from plugin.w5100 import registers as reg
from plugin.w5100.bus import ECHO, Bus, ExchangeOnly, Wire, read, translated, write
from plugin.w5100.errors import BusError, ChipLost, ChipNotFound, NoSocketError, W5100Error
from plugin.w5100.hardware_socket import HardwareSocket, Observer, Ring
from plugin.w5100.model import AUTO, W5100, W5100S, Model, held_to, is_back, mismatch, model_named, recognised
from plugin.w5100.register_map import areas
from plugin.w5100.socket import TcpSocket
from plugin.w5100.udp_socket import UdpSocket
from plugin.w5100.waiting import InterruptLine, Pace, Waiter

log = logging.getLogger("hardwire.w5100")

RESET_TRY_S: Final = 0.1
RESET_PAUSE_S: Final = 0.001

# Octets of TX and of RX memory by hardware socket, by number of lanes. A lane gets as much as there is: a mail
# waits for its relay's acknowledgements once per ring. Sockets that are left over get none and are not handed out;
# three equal lanes would leave 2 of 8 KiB unused, since the sizes are powers of two.
SPLITS: Final[dict[int, tuple[int, ...]]] = {
    1: (8 * reg.KIB,),
    2: (4 * reg.KIB, 4 * reg.KIB),
    3: (4 * reg.KIB, 2 * reg.KIB, 2 * reg.KIB),
}
SPLIT_AFTER_RESET: Final = (2 * reg.KIB,) * reg.SOCKETS

FIRST_DYNAMIC_PORT: Final = 49152  # RFC 6335, section 6
DYNAMIC_PORTS: Final = 0x10000 - FIRST_DYNAMIC_PORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressing:
    """Who the chip is on the network: SHAR, SIPR, SUBR, GAR. The chip has no MAC address of its own."""

    mac: bytes
    address: IPv4Address
    subnet_mask: IPv4Address
    gateway: IPv4Address

    def __post_init__(self) -> None:
        """Refuse a MAC address that no switch would forward."""
        if len(self.mac) != 6:
            raise ValueError(f"a MAC address has 6 octets, not {len(self.mac)}")
        if self.mac[0] & 1:
            raise ValueError(
                f"MAC address {self.mac.hex(':')}: the first octet is odd, which marks a group of hosts; "
                "switches drop frames that come from one. Take an even one, 02 for instance"
            )
        if not any(self.mac):
            raise ValueError("the MAC address is all zero")

    def as_registers(self) -> bytes:
        """Return the 18 octets of GAR, SUBR, SHAR and SIPR, which lie in this order from 0x0001 on."""
        return self.gateway.packed + self.subnet_mask.packed + self.mac + self.address.packed


class SourcePorts:
    """Source ports from the dynamic range: a random start, then one after the other. Thread-safe.

    The chip keeps no TIME_WAIT, but the peer does: a port that comes back soon may meet its own past.
    """

    def __init__(self) -> None:
        self._next = secrets.randbelow(DYNAMIC_PORTS)
        self._lock = threading.Lock()

    def take(self) -> int:
        """Return the next port."""
        with self._lock:
            self._next = (self._next + 1) % DYNAMIC_PORTS
            return FIRST_DYNAMIC_PORT + self._next


class Chip:
    """A W5100 or a W5100S behind a Bus. Thread-safe; the sockets it hands out belong to one thread each.

    ``observe`` is told (socket number, old Sn_SR, new Sn_SR) in WIZnet's names whenever a status seen differs from
    the one seen before; it is called in the thread that looked, and must neither raise nor take long.
    """

    def __init__(
        self,
        bus: Bus | ExchangeOnly,
        *,
        model: str = AUTO,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        observe: Observer | None = None,
    ) -> None:
        """Take ``bus``; it is not touched yet. One without ``wait_interrupt`` is polled.

        ``model`` is ``w5100`` or ``w5100s``, which ``reset`` then insists on, or ``auto``.
        """
        self._wanted = None if model == AUTO else model_named(model)
        self._found: Model | None = None
        self._bus = bus
        self._clock = clock
        self._sleep = sleep
        self._observe = observe
        self._wire = Wire(bus)
        wait_interrupt = getattr(bus, "wait_interrupt", None)
        line = InterruptLine(self._wire, translated(wait_interrupt), clock=clock) if wait_interrupt else None
        self._waiter = Waiter(clock=clock, sleep=sleep, line=line)
        self._ports = SourcePorts()
        self._lock = threading.Lock()
        self._sizes: tuple[int, ...] = SPLIT_AFTER_RESET
        self._sockets: dict[int, TcpSocket | UdpSocket] = {}

    # --- Reset and configuration --------------------------------------------------------------------------

    def reset(self, timeout_s: float = 1.0) -> None:
        """Soft reset, and see which chip answers: RTR reads 0x07D0 afterwards, VERR tells a W5100S. All
        connections are gone.

        A board's own reset chip may hold the W5100 for half a second after power-up; until ``timeout_s`` has
        passed, silence is therefore no verdict. Raises ChipNotFound, with what was read and the remedy, also when
        it is another chip than the one that was asked for.
        """
        with self._lock:
            for socket in self._sockets.values():
                socket.hardware.retire()
            self._sockets.clear()
            self._sizes = SPLIT_AFTER_RESET
        self._found = None
        self._waiter.restart()
        deadline = self._clock() + timeout_s
        while (fault := self._try_reset(deadline)) is not None:
            if self._clock() >= deadline:
                raise ChipNotFound(f"no {self._title} answers within {timeout_s:g} s: {fault}")
            self._sleep(RESET_PAUSE_S)
        log.info("event=chip_found model=%r", self._title)

    @property
    def model(self) -> str | None:
        """Which chip ``reset`` has found: "w5100" or "w5100s"; None before, and after a reset that failed."""
        return None if self._found is None else self._found.name

    def link(self) -> bool | None:
        """Return whether the link stands, by PHYSR; None where no register tells: a W5100, or before ``reset``."""
        if self._found is None or self._found.physr is None:
            return None
        return bool(self._wire.read(self._found.physr)[0] & reg.PhyStatus.LNK)

    @property
    def _title(self) -> str:
        """WIZnet's name of the chip that is there, or should be."""
        return (self._found or self._wanted or W5100).title

    def _try_reset(self, deadline: float) -> str | None:
        """Return None once the chip has come back from a soft reset, else what was wrong."""
        pace = Pace()
        end = min(deadline, self._clock() + RESET_TRY_S)
        self._wire.speak(W5100, ECHO)
        try:
            self._wire.write(reg.MR, bytes((reg.Mode.RST,)))
            while True:
                self._waiter.pause(RESET_TRY_S, pace)
                mode, rtr = self._wire.transfer((read(reg.MR), read(reg.RTR, 2)))
                if is_back(mode[0], rtr):
                    return self._accept(self._version(), ECHO)
                if self._clock() >= end:
                    return (
                        f"MR reads 0x{mode[0]:02X} and RTR 0x{rtr.hex().upper()} instead of 0x07D0 after a soft "
                        f"reset; check that the chip is a {self._title}, its power, /RESET and SEN, and lower "
                        "chip.speed_hz"
                    )
        except BusError as error:
            return self._try_another_echo(str(error), end)
        except OSError as error:  # of the bus: an adapter may come late too
            return str(error)

    def _version(self) -> int | None:
        """Return what VERR reads; None from a bus that refuses an address which a W5100 does not have."""
        for _ in range(2):
            try:
                return self._wire.read(reg.VERR)[0]
            except OSError as error:
                log.debug("VERR cannot be read: %s", error)
        return None

    def _try_another_echo(self, fault: str, end: float) -> str | None:
        """Return None if it is a W5100S that answers otherwise than a W5100 does, else ``fault``."""
        pace = Pace()
        while self._wanted is not W5100 and self._clock() < end:
            self._waiter.pause(RESET_TRY_S, pace)
            try:
                (mode, rtr, version), echo = self._wire.probe((read(reg.MR), read(reg.RTR, 2), read(reg.VERR)))
            except OSError as error:
                return str(error)
            if echo == ECHO:
                break  # it can answer so: a frame was corrupt, or the chip was not awake yet
            if is_back(mode[0], rtr) and version[0] == W5100S.verr:
                return self._accept(version[0], echo)
        return fault

    def _accept(self, version: int | None, echo: bytes | None) -> str | None:
        """Take the chip that reads ``version`` for found; return what is wrong if it is not the one wanted."""
        found = recognised(version)
        if fault := mismatch(self._wanted, found, version):
            return fault
        self._wire.speak(found, held_to(found, echo))
        self._found = found
        return None

    def configure(
        self, addressing: Addressing, *, lanes: int = 1, retry_time_s: float = 0.2, retry_count: int = 8
    ) -> None:
        """Write addressing, time-outs and the memory split for ``lanes`` sockets (1 to 3), and read all back.

        RTR is ``retry_time_s`` in units of 100 us, RCR ``retry_count``: ARP gives up after RTR x (RCR + 1), TCP
        after the sum of doubled times. The split can only be changed while no socket is handed out. Raises
        ChipLost when the chip does not hold what was written, ValueError for what no register can hold.
        """
        sizes = SPLITS.get(lanes)
        if sizes is None:
            raise ValueError(f"lanes is {lanes}; a {self._title} serves 1 to {max(SPLITS)}")
        rtr = round(retry_time_s / reg.RTR_UNIT_S)
        if not 0 < rtr < 0x10000 or not 0 <= retry_count < 0x100:
            raise ValueError(f"retry_time_s {retry_time_s} or retry_count {retry_count} fits no register")
        identity = addressing.as_registers()
        timing = rtr.to_bytes(2, "big") + bytes((retry_count,)) + _split(sizes)
        with self._lock:
            if self._sockets and sizes != self._sizes:
                raise W5100Error("the memory split cannot change while sockets are in use")
            *_, identity_seen, timing_seen = self._wire.transfer(
                (
                    write(reg.GAR, identity),
                    write(reg.RTR, timing),
                    read(reg.GAR, len(identity)),
                    read(reg.RTR, len(timing)),
                )
            )
            different = _different(reg.GAR, identity, identity_seen) + _different(reg.RTR, timing, timing_seen)
            if different:
                raise ChipLost(
                    f"the chip does not hold what was written: {', '.join(different)}; lower chip.speed_hz, check "
                    "power and /RESET"
                )
            self._sizes = sizes
        log.info("event=chip_configured model=%r address=%s lanes=%d", self._title, addressing.address, lanes)

    def holds(self, addressing: Addressing, *, whole: bool = True) -> bool:
        """Return True if the chip still has ``addressing`` and its memory split: it has not reset itself.

        Without ``whole`` only SIPR and the split are read, 6 frames instead of 20: enough to see a reset.
        """
        with self._lock:
            split = _split(self._sizes)
        wanted = addressing.as_registers() if whole else addressing.address.packed
        start = reg.GAR if whole else reg.SIPR
        identity, memory = self._wire.transfer((read(start, len(wanted)), read(reg.RMSR, 2)))
        return identity == wanted and memory == split

    # --- Sockets ----------------------------------------------------------------------------------------------

    def tcp_socket(self) -> TcpSocket:
        """Hand out a free hardware socket; NoSocketError when there is none. ``close`` gives it back."""
        with self._lock:
            socket = TcpSocket(self._free(), next_port=self._ports.take, release=self._release)
            self._sockets[socket.number] = socket
            return socket

    def udp_socket(self, port: int = 0) -> UdpSocket:
        """Hand out a free hardware socket, open for UDP on ``port``; 0 means a random one of the dynamic range.

        It has the memory of a lane: look up a name before the lane connects. NoSocketError when none is free,
        ChipTimeout, ChipLost or BusError when it does not open. ``close`` gives it back.
        """
        if not 0 <= port < 0x10000:
            raise ValueError(f"port {port} is not between 0 and 65535")
        with self._lock:
            # Not the next one: whoever forges answers must not know the port (RFC 5452, section 9.2).
            chosen = port or FIRST_DYNAMIC_PORT + secrets.randbelow(DYNAMIC_PORTS)
            socket = UdpSocket(self._free(), port=chosen, release=self._release)
            self._sockets[socket.number] = socket
        try:
            socket.open()
        except BaseException:
            socket.close()
            raise
        return socket

    def _free(self) -> HardwareSocket:
        """Return the registers of a hardware socket that is not handed out."""
        number = next((one for one in range(len(self._sizes)) if one not in self._sockets), None)
        if number is None:
            raise NoSocketError(f"all {len(self._sizes)} hardware sockets are in use")
        size, offset = self._sizes[number], sum(self._sizes[:number])
        return HardwareSocket(
            number,
            tx=Ring(base=reg.TX_BASE + offset, size_bytes=size),
            rx=Ring(base=reg.RX_BASE + offset, size_bytes=size),
            split=_split(self._sizes),
            wire=self._wire,
            waiter=self._waiter,
            observe=self._observe,
        )

    def conflict(self) -> bool:
        """Return True if another host has used our address since the last call (IR.CONFLICT), which is cleared."""
        seen = bool(self._wire.read(reg.IR)[0] & reg.Interrupt.CONFLICT)
        if seen:
            self._wire.write(reg.IR, bytes((reg.Interrupt.CONFLICT,)))
        return seen

    @property
    def connections(self) -> int:
        """How many hardware sockets are handed out."""
        with self._lock:
            return len(self._sockets)

    def wait(self, number: int, timeout_s: float) -> None:
        """Sleep until socket ``number`` may have news, at most ``timeout_s``; look at its registers then."""
        self._waiter.wait(number, timeout_s, Pace())

    def close(self) -> None:
        """Close all sockets at once and release the bus. Call it when no other thread uses the chip any more.

        Never raises.
        """
        with self._lock:
            sockets = list(self._sockets.values())
        for socket in sockets:
            if isinstance(socket, TcpSocket):
                socket.close(timeout_s=0.0)
            else:
                socket.close()
        release = getattr(self._bus, "close", None)
        if release is None:
            return
        try:
            release()
        except Exception as error:  # noqa: BLE001 - a foreign bus may raise anything
            log.warning("event=bus_not_released problem=%r", f"{type(error).__name__}: {error}")

    def _release(self, socket: TcpSocket | UdpSocket) -> None:
        with self._lock:
            if self._sockets.get(socket.number) is not socket:
                return  # the chip was reset, the number may have a new owner
        try:
            self._waiter.forget(socket.number)  # before the number is free: its next owner may wait at once
        except Exception as error:  # noqa: BLE001 - a foreign bus may raise anything, and close must not
            log.warning("event=imr_not_written socket=%d problem=%r", socket.number, str(error))
        with self._lock:
            if self._sockets.get(socket.number) is socket:
                del self._sockets[socket.number]


def _split(sizes: tuple[int, ...]) -> bytes:
    """Return RMSR and TMSR."""
    return bytes((reg.memory_size_register(sizes),)) * 2


def _different(address: int, written: bytes, seen: bytes) -> list[str]:
    """Return in words which registers from ``address`` on do not read as they were written."""
    words = []
    for area in areas(address, len(written)):
        part = slice(area.address - address, area.address - address + area.size)
        if seen[part] != written[part]:
            words.append(f"{area.name} reads {seen[part].hex(' ')} instead of {written[part].hex(' ')}")
    return words
