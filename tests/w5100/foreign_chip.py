"""A W5100 and a W5100S by another hand: kernel sockets behind SPI frames, odd in every way that the facts allow.

It was written from the description of the chip alone, shares no code with the product, and needs the standard
library only, so that a copy of this file can be the bus of a service. All that the chip leaves open is drawn from
a seed (``Temper``). What a driver must never do, it notes in ``complaints``.
"""

from __future__ import annotations

import contextlib
import errno
import random
import socket as kernel
import time
from collections.abc import Callable
from dataclasses import dataclass, fields

OPEN, CONNECT, DISCON, CLOSE, SEND, RECV = 0x01, 0x04, 0x08, 0x10, 0x20, 0x40
CON, DISCONNECTED, RECEIVED, TIMEOUT, SEND_OK = 0x01, 0x02, 0x04, 0x08, 0x10
CLOSED, ARP, INIT, SYNSENT, ESTABLISHED = 0x00, 0x01, 0x13, 0x15, 0x17
FIN_WAIT, CLOSE_WAIT, LAST_ACK = 0x18, 0x1C, 0x1D
ALIVE = (ESTABLISHED, CLOSE_WAIT)
FOR_EVER = 1 << 60
GRAVES = 8
ECHOES = (b"\x00\x01\x02", b"\x01\x02\x03", b"\x00\x00\x00", b"\xff\xff\xff", b"\x5a\x00\xff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Temper:
    """What the facts leave open. Lengths are in ticks: one an exchange, one a register read if ``restless``."""

    write_echo: int = 3  # what MISO carries in the data octet of a write
    deaf_exchanges: int = 0  # after power-up, while the board's reset chip holds the W5100
    reset_reads: int = 0  # reads of MR until RST has cleared itself
    restless: bool = False  # live registers change between the two octets of a read
    command_reads: int = 0  # reads of Sn_CR until it is 0
    command_late: bool = False  # takes effect when Sn_CR becomes 0, not when it is written
    open_needs_closed: bool = False  # OPEN is ignored in another status than CLOSED
    arp: int = 0
    synsent: int = 0
    silent_in_arp: bool = True  # a peer that is not there: no answer to ARP, or none to SYN
    isn: int = 0
    rx_start: int = 0
    event_lag: int = 0  # a bit of Sn_IR comes so long after what it tells of
    event_early: bool = False  # RECV and DISCON come a tick before what they tell of
    recv_again: bool = True  # RECV with data left raises Sn_IR.RECV once more
    recv_needs_connection: bool = False  # RECV is ignored in CLOSED
    dribble: int = 1460  # octets received in a tick
    send_ok: int = 0
    acknowledged_first: bool = False  # TX_FSR recovers before SEND_OK, else after it
    acknowledged: int = 8192  # octets acknowledged in a tick
    fin_wait: int = 0
    last_ack: int = 0
    w5100s: bool = False
    echo: bytes = b"\x00\x01\x02"  # of a W5100S, on MISO during opcode and address

    @classmethod
    def drawn(cls, seed: int, *, w5100s: bool = False) -> Temper:
        """Return one of many."""
        draw = random.Random(seed)
        return cls(
            write_echo=draw.choice((0, 3)),
            deaf_exchanges=draw.choice((0, 0, 3)),
            reset_reads=draw.randrange(4),
            restless=draw.random() < 0.6,
            command_reads=draw.choice((0, 0, 1, 2, 5)),
            command_late=draw.random() < 0.5,
            open_needs_closed=draw.random() < 0.5,
            arp=draw.choice((0, 0, 1, 7)),
            synsent=draw.choice((0, 0, 1, 7)),
            silent_in_arp=draw.random() < 0.5,
            isn=draw.choice((0, 0xFFFF, 0xFFFE, 0x7FFF, 0xFF00, draw.randrange(0x10000))),
            rx_start=draw.choice((0, 0, 0xFFFD, draw.randrange(0x10000))),
            event_lag=draw.choice((0, 0, 1, 3)),
            event_early=draw.random() < 0.3,
            recv_again=draw.random() < 0.6,
            recv_needs_connection=draw.random() < 0.5,
            dribble=draw.choice((61, 255, 536, 1460, 4096)),
            send_ok=draw.choice((0, 0, 1, 6)),
            acknowledged_first=draw.random() < 0.5,
            acknowledged=draw.choice((37, 150, 536, 1460, 8192)),
            fin_wait=draw.choice((0, 1, 8)),
            last_ack=draw.choice((0, 1, 8, FOR_EVER)),
            w5100s=w5100s,
            echo=draw.choice(ECHOES) if w5100s else ECHOES[0],
        )

    def __str__(self) -> str:
        """Return what differs from the defaults."""
        odd = [one.name for one in fields(self) if getattr(self, one.name) != one.default]
        return ", ".join(f"{name}={getattr(self, name)}" for name in odd)


class Socket:
    """One of the four; registers that are neither live nor latched lie in ``page``."""

    def __init__(self, chip: ForeignChip, number: int) -> None:
        self.chip = chip
        self.number = number
        self.wire: kernel.socket | None = None
        self.reset()

    def reset(self) -> None:
        """Take the reset values."""
        self.bury()
        self.page = bytearray(0x100)
        self.page[0x06:0x0C] = b"\xff" * 6
        self.page[0x16] = 0x80
        self.page[0x2D] = 0x40
        self.shadow = bytearray(0x100)
        self.status = CLOSED
        self.events = 0
        self.command = self.command_left = 0
        self.coming: list[tuple[int, int]] = []  # (tick, bits of Sn_IR)
        self.tx_rd = self.tx_wr = self.acknowledged = self.rx_rd = self.rx_wr = 0
        self.sending = b""
        self.send_ok_at: int | None = None
        self.since = 0  # tick of the last command that takes long
        self.gives_up_at = 0.0
        self.failure = 0  # of connect()
        self.ending = False

    def bury(self) -> None:
        """Let go of the connection without telling the peer, as CLOSE does."""
        if self.wire is not None:
            self.chip.graves.append(self.wire)
            self.wire = None
            while len(self.chip.graves) > GRAVES:
                self.chip.graves.pop(0).close()

    # --- rings ------------------------------------------------------------------------------------------------

    def window(self, register: int) -> tuple[int, int]:
        """Return offset and size of this socket's window; ``register`` is RMSR or TMSR."""
        sizes = [1024 << (self.chip.common[register] >> 2 * number & 3) for number in range(4)]
        return sum(sizes[: self.number]), sizes[self.number]

    @property
    def free(self) -> int:
        """Sn_TX_FSR: measured from the last acknowledged octet."""
        return self.window(0x1B)[1] - ((self.tx_wr - self.acknowledged) & 0xFFFF)

    @property
    def waiting(self) -> int:
        """Sn_RX_RSR."""
        return (self.rx_wr - self.rx_rd) & 0xFFFF

    def guard(self, offset: int) -> None:
        """Complain if a write to TX memory hits what was sent and is not acknowledged."""
        base, size = self.window(0x1B)
        if base <= offset < base + size and self.status in ALIVE:
            under_way = (self.tx_wr - self.acknowledged) & 0xFFFF
            if (offset - base - self.acknowledged) & (size - 1) < under_way:
                self.complain("TX memory overwritten before it was acknowledged")

    def complain(self, what: str) -> None:
        """Note what a driver must not do."""
        self.chip.complaints.append(f"socket {self.number}, Sn_SR {self.status:02X}: {what}")

    # --- registers --------------------------------------------------------------------------------------------

    def read(self, register: int) -> int:
        """Return one octet."""
        if register == 0x01:
            value = self.command
            if value:
                self.command_left -= 1
                if self.command_left < 0:
                    return self._take_up()
            return value
        if register == 0x02:
            return self.events
        if register == 0x03:
            return self.status
        live = {0x20: self.free, 0x22: self.tx_rd, 0x24: self.tx_wr}
        live |= {0x26: self.waiting, 0x28: self.rx_rd, 0x2A: self.rx_wr}
        pair = live.get(register & 0xFE)
        if pair is None:
            return self.page[register]
        return pair & 0xFF if register & 1 else pair >> 8

    def write(self, register: int, value: int) -> None:
        """Take one octet."""
        if register == 0x01:
            if self.command:
                self.complain(f"command {value:02X} while {self.command:02X} is not taken")
                return
            self.command, self.command_left = value, self.chip.temper.command_reads
            if not self.chip.temper.command_late:
                self._do(value)
            if not self.command_left:
                self._take_up()
        elif register == 0x02:
            self.events &= ~value
        elif 0x06 <= register < 0x14 or register in (0x24, 0x25, 0x28, 0x29):
            self.shadow[register] = value  # latched
        elif register not in (0x03, *range(0x20, 0x2C)):
            self.page[register] = value

    def _take_up(self) -> int:
        value, self.command = self.command, 0
        if self.chip.temper.command_late and value:
            self._do(value)
        return 0

    def _latched(self, register: int) -> int:
        return int.from_bytes(self.shadow[register : register + 2], "big")

    def tell(self, bits: int) -> None:
        """Set ``bits`` of Sn_IR, now or later."""
        if self.chip.temper.event_lag:
            self.coming.append((self.chip.now + self.chip.temper.event_lag, bits))
        else:
            self.events |= bits

    # --- commands ---------------------------------------------------------------------------------------------

    def _do(self, command: int) -> None:
        temper = self.chip.temper
        self.since = self.chip.now
        if command == OPEN:
            if self.status != CLOSED and temper.open_needs_closed:
                return
            self.bury()
            self.tx_rd = self.tx_wr = self.acknowledged = 0
            self.rx_rd = self.rx_wr = temper.rx_start
            self.sending, self.send_ok_at = b"", None
            self.ending = False
            self.coming.clear()
            self.status = INIT if self.page[0] & 0x0F == 1 else CLOSED
        elif command == CONNECT and self.status == INIT:
            self._connect()
        elif command == SEND and self.status in ALIVE:
            self._send()
        elif command == RECV and (self.status in (*ALIVE, FIN_WAIT) or not temper.recv_needs_connection):
            self._recv()
        elif command == DISCON and self.status in ALIVE:
            self._discon()
        elif command == CLOSE:
            self.bury()
            self.status = CLOSED
            self.sending, self.send_ok_at = b"", None
            self.coming.clear()

    def _connect(self) -> None:
        self.page[0x0C:0x12] = self.shadow[0x0C:0x12]
        address, port = kernel.inet_ntoa(self.page[0x0C:0x10]), int.from_bytes(self.page[0x10:0x12], "big")
        rtr, rcr = int.from_bytes(self.chip.common[0x17:0x19], "big"), self.chip.common[0x19]
        tries = range(rcr + 1)
        silent_in_arp = self.chip.temper.silent_in_arp
        units = sum(
            rtr if silent_in_arp else max(rtr << n for n in range(n + 1) if rtr << n < 65536) for n in tries
        )
        self.gives_up_at = self.chip.clock() + units * 1e-4
        self.status = ARP if self.chip.temper.arp or silent_in_arp else SYNSENT
        if address.startswith("127."):
            self.wire = kernel.socket()
            self.wire.setblocking(False)
            self.wire.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_NODELAY, 1)
            self.failure = self.wire.connect_ex((address, port))

    def _send(self) -> None:
        if self.sending or self.send_ok_at is not None:
            self.complain("SEND before the SEND_OK of the one before")
            return
        end, (base, size) = self._latched(0x24), self.window(0x1B)
        count = (end - self.tx_wr) & 0xFFFF
        if count > self.free:
            self.complain(f"SEND of {count} octets with Sn_TX_FSR = {self.free}")
        memory = self.chip.tx[base : base + size]
        self.sending = bytes(memory[(self.tx_wr + n) & (size - 1)] for n in range(count))
        self.tx_wr = end
        self.send_ok_at = FOR_EVER

    def _recv(self) -> None:
        count = (self._latched(0x28) - self.rx_rd) & 0xFFFF
        if count > self.waiting:
            self.complain(f"RECV of {count} octets with Sn_RX_RSR = {self.waiting}")
        self.rx_rd = self._latched(0x28)
        if self.waiting and self.chip.temper.recv_again:
            self.tell(RECEIVED)

    def _discon(self) -> None:
        if self.sending or self.acknowledged != self.tx_wr:
            self.complain("DISCON with data pending")
            return
        assert self.wire is not None
        self.status = FIN_WAIT if self.status == ESTABLISHED else LAST_ACK
        with contextlib.suppress(OSError):
            self.wire.shutdown(kernel.SHUT_WR)

    # --- what happens by itself -------------------------------------------------------------------------------

    def tick(self) -> None:
        """Let a little happen."""
        if self.coming:
            self.events |= sum({bits for at, bits in self.coming if at <= self.chip.now})
            self.coming = [one for one in self.coming if one[0] > self.chip.now]
        if self.status in (ARP, SYNSENT):
            self._connecting()
        elif self.status in (*ALIVE, FIN_WAIT):
            self._transmit()
            self._arrive()
        elif self.status == LAST_ACK and self.chip.now - self.since > self.chip.temper.last_ack:
            self._over(DISCONNECTED)

    def _over(self, *reason: int) -> None:
        self.status = CLOSED
        for bits in reason:
            self.tell(bits)
        if self.wire is not None:
            self.wire.close()
            self.wire = None

    def _connecting(self) -> None:
        temper, age = self.chip.temper, self.chip.now - self.since
        if self.wire is None:  # nobody there
            if not temper.silent_in_arp and age >= temper.arp:
                self.status = SYNSENT
            if self.chip.clock() >= self.gives_up_at:
                self._over(TIMEOUT)
            return
        if age >= temper.arp:
            self.status = SYNSENT
        if age < temper.arp + temper.synsent:
            return
        failure = self.wire.getsockopt(kernel.SOL_SOCKET, kernel.SO_ERROR) or self.failure
        if failure == errno.ECONNREFUSED:
            self._over(DISCONNECTED)
            return
        if failure == errno.ECONNRESET:  # connected and reset while the status lingered: ESTABLISHED is never seen
            self.tx_rd = self.tx_wr = self.acknowledged = temper.isn
            self._over(CON, DISCONNECTED)
            return
        try:
            self.wire.getpeername()
        except OSError:
            self.failure = 0 if self.failure == errno.EINPROGRESS else self.failure
            return
        self.tx_rd = self.tx_wr = self.acknowledged = temper.isn
        self.status = ESTABLISHED
        self.tell(CON)

    def _transmit(self) -> None:
        temper, wire = self.chip.temper, self.wire
        if wire is None:
            return
        if self.sending:
            try:
                done = wire.send(self.sending)
            except BlockingIOError:
                return
            except OSError:
                self._over(DISCONNECTED)
                return
            self.sending = self.sending[done:]
            self.tx_rd = (self.tx_wr - len(self.sending)) & 0xFFFF
            if not self.sending:
                self.send_ok_at = self.chip.now + temper.send_ok
        sent = (self.tx_rd - self.acknowledged) & 0xFFFF
        if sent and (temper.acknowledged_first or self.send_ok_at is None):
            self.acknowledged = (self.acknowledged + min(sent, temper.acknowledged)) & 0xFFFF
        if self.send_ok_at is not None and self.chip.now >= self.send_ok_at:
            self.send_ok_at = None
            self.tell(SEND_OK)

    def _arrive(self) -> None:
        if self.wire is None or self.status == CLOSE_WAIT:
            return
        base, size = self.window(0x1A)
        room = size - self.waiting
        temper = self.chip.temper
        try:
            peeked = self.wire.recv(max(1, min(temper.dribble, room)), kernel.MSG_PEEK)
            if peeked and not room:
                return
            if temper.event_early and not self.ending:
                self.ending = True  # this tick only the bit, what it tells of in the next one
                self.tell(RECEIVED if peeked else DISCONNECTED)
                return
            data = self.wire.recv(len(peeked)) if peeked else b""
        except BlockingIOError:
            return
        except OSError:
            self._over(DISCONNECTED)
            return
        self.ending = False
        for octet in data:
            self.chip.rx[base + (self.rx_wr & (size - 1))] = octet
            self.rx_wr = (self.rx_wr + 1) & 0xFFFF
        if data:
            self.tell(RECEIVED)
        elif self.status == ESTABLISHED:
            self.status = CLOSE_WAIT
            self.tell(DISCONNECTED)
        elif self.chip.now - self.since > temper.fin_wait:
            self._over(DISCONNECTED)


class ForeignChip:
    """The chip behind its SPI: ``exchange(frames)``, frames of four octets."""

    def __init__(self, temper: Temper | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.temper = temper or Temper()
        self.clock = clock
        self.now = 0
        self.complaints: list[str] = []
        self.graves: list[kernel.socket] = []
        self.exchanges = 0
        self.common = bytearray(0x100)
        self.tx, self.rx = bytearray(b"\xa5" * 0x2000), bytearray(b"\x5a" * 0x2000)
        self.resetting = 0
        self.sockets = [Socket(self, number) for number in range(4)]

    def reset(self) -> None:
        """Take the reset values; memory keeps what it has."""
        self.common = bytearray(0x100)
        self.common[0x17:0x1C] = b"\x07\xd0\x08\x55\x55"
        self.common[0x28] = 0x28
        for socket in self.sockets:
            socket.reset()

    def litter(self, events: int = 0x1F) -> None:
        """Leave behind what a chip in use has: bits of Sn_IR at all sockets, CONFLICT and UNREACH in IR."""
        self.common[0x15] = 0xC0
        for socket in self.sockets:
            socket.events |= events

    def tick(self) -> None:
        """Let a little happen everywhere."""
        self.now += 1
        for socket in self.sockets:
            socket.tick()

    def close(self) -> None:
        """Give all kernel sockets back."""
        for socket in self.sockets:
            socket.bury()
        for wire in self.graves:
            wire.close()
        self.graves.clear()

    def exchange(self, frames: bytes, /) -> bytes:
        """Carry out each frame; MISO is 00 01 02, and the data of a read."""
        assert frames, "an exchange of nothing"
        assert len(frames) % 4 == 0, "frames have four octets"
        self.exchanges += 1
        if self.exchanges <= self.temper.deaf_exchanges:
            return b"\xff" * len(frames)
        self.tick()
        out = bytearray(b"\x00\x01\x02\x00" * (len(frames) // 4))
        for start in range(0, len(frames), 4):
            opcode, high, low, data = frames[start : start + 4]
            address = (high << 8 | low) & 0x7FFF
            if opcode == 0x0F:
                out[start + 3] = self.rx[address - 0x6000] if address >= 0x6000 else self._read(address)
            elif opcode == 0xF0:
                out[start + 3] = self.temper.write_echo
                self._write(address, data)
        return bytes(out)

    def _socket(self, address: int) -> Socket:
        return self.sockets[address >> 8 & 3 if address < 0x0800 else 3]

    def _read(self, address: int) -> int:
        if address >= 0x4000:
            return self.tx[address - 0x4000]
        if self.temper.restless:
            self.tick()
        if address & 0x0400:
            return self._socket(address).read(address & 0xFF)
        address &= 0xFF
        if address == 0x15:
            return self.common[0x15] | sum(bool(one.events) << one.number for one in self.sockets)
        if address == 0 and self.resetting:
            self.resetting -= 1
            self.common[0] = 0x80 if self.resetting else 0
        return self.common[address]

    def _write(self, address: int, data: int) -> None:
        if address >= 0x6000:
            self.rx[address - 0x6000] = data
        elif address >= 0x4000:
            for socket in self.sockets:
                if socket.wire is not None:
                    socket.guard(address - 0x4000)
            self.tx[address - 0x4000] = data
        elif address & 0x0400:
            self._socket(address).write(address & 0xFF, data)
        elif address & 0xFF == 0 and data & 0x80:
            self.reset()
            self.resetting = self.temper.reset_reads
            self.common[0] = 0x80 if self.resetting else 0
        elif address & 0xFF == 0x15:
            self.common[0x15] &= ~data
        else:
            self.common[address & 0xFF] = data


class ForeignW5100S(ForeignChip):
    """The W5100S: the same, and long frames, for which the address counts up."""

    def __init__(self, temper: Temper | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(temper, clock)
        self.long_frames = 0

    def exchange(self, frames: bytes, frame_bytes: int = 4) -> bytes:
        """Carry out each frame octet by octet of its data."""
        size = frame_bytes - 3
        assert size > 0, "a frame without data"
        assert len(frames) % frame_bytes == 0, "frames have one length"
        single = bytearray()
        for start in range(0, len(frames), frame_bytes):
            address = int.from_bytes(frames[start + 1 : start + 3], "big")
            for n, octet in enumerate(frames[start + 3 : start + frame_bytes]):
                single += bytes((frames[start], address + n >> 8, address + n & 0xFF, octet))
        answer = super().exchange(bytes(single))
        if answer.startswith(b"\xff"):  # still deaf
            return b"\xff" * len(frames)
        self.long_frames += len(frames) // frame_bytes if size > 1 else 0
        data = answer[3::4]
        return b"".join([self.temper.echo + data[start : start + size] for start in range(0, len(data), size)])

    def _read(self, address: int) -> int:
        value = super()._read(address)
        if address >= 0x4000:
            return value
        if address & 0x0400:
            return SYNSENT if address & 0xFF == 0x03 and value == ARP else value
        return {0x00: value | 0x03, 0x3C: 0x01, 0x80: 0x51}.get(address & 0xFF, value)


def chip_of(temper: Temper, clock: Callable[[], float] = time.monotonic) -> ForeignChip:
    """Return the chip that ``temper`` tells of."""
    return (ForeignW5100S if temper.w5100s else ForeignChip)(temper, clock)
