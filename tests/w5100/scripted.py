"""A small W5100 at the register level, independent of the emulator: it does what a test tells it to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from plugin.w5100 import Addressing, Chip, TcpSocket
from plugin.w5100 import registers as reg
from plugin.w5100.registers import Command, SocketInterrupt, Status

PEER = "192.0.2.25"
PORT = 25
ADDRESSING = Addressing(
    mac=bytes.fromhex("0208dc010203"),
    address=IPv4Address("192.0.2.10"),
    subnet_mask=IPv4Address("255.255.255.0"),
    gateway=IPv4Address("192.0.2.1"),
)
ECHO = b"\x00\x01\x02"


class FakeClock:
    """Time that passes only in ``sleep``, and what is to happen at some moment of it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._agenda: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def at(self, delay_s: float, action: Callable[[], None]) -> None:
        self._agenda.append((self.now + delay_s, action))
        self._agenda.sort(key=lambda entry: entry[0])

    def next_delay(self) -> float:
        return self._agenda[0][0] - self.now if self._agenda else float("inf")

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        end = self.now + max(seconds, 1e-6)
        while self._agenda and self._agenda[0][0] <= end:
            self.now, action = self._agenda.pop(0)
            action()
        self.now = end


class ScriptedChip:
    """Bus with ``exchange`` alone. ``on`` replaces what a command does; ``reads`` what an address reads next."""

    def __init__(self, clock: FakeClock | None = None, *, isn: int = 0xFFF0, mirror: int = 0) -> None:
        self.clock = clock or FakeClock()
        self.isn = isn
        self.rx_start = mirror
        self.exchanges: list[bytes] = []
        self.sent = b""
        self.commands: list[tuple[int, Command]] = []
        self.reads: dict[int, deque[int]] = {}
        self.on: dict[Command, Callable[[int], None]] = {}
        self.corrupt: Callable[[bytes], bytes] | None = None
        self.untaken: set[Command] = set()
        self.reset()

    def reset(self) -> None:
        self.memory = bytearray(0x10000)
        self.shadow: dict[int, int] = {}
        self.rx_wr = [0] * reg.SOCKETS
        for address, value in reg.RESET_COMMON.items():
            self.memory[address : address + len(value)] = value
        for number in range(reg.SOCKETS):
            self.set16(number, reg.Sn_TX_FSR, 0x0800)

    # --- the wire -----------------------------------------------------------------------------------------

    def exchange(self, frames: bytes) -> bytes:
        assert frames
        assert len(frames) % 4 == 0
        self.exchanges.append(frames)
        out = bytearray()
        for start in range(0, len(frames), 4):
            opcode, high, low, data = frames[start : start + 4]
            address = high << 8 | low
            out += ECHO
            if opcode == 0x0F:
                out.append(self._read(address))
            else:
                assert opcode == 0xF0
                self._write(address, data)
                out.append(3)
        return self.corrupt(bytes(out)) if self.corrupt else bytes(out)

    def frames(self) -> list[str]:
        """All frames so far, as text, one a frame."""
        whole = b"".join(self.exchanges)
        return [whole[start : start + 4].hex() for start in range(0, len(whole), 4)]

    def forget_frames(self) -> None:
        self.exchanges.clear()

    def _read(self, address: int) -> int:
        scripted = self.reads.get(address)
        if scripted:
            return scripted.popleft()
        if address == reg.IR:
            return sum(bool(self.memory[reg.socket_base(n) + reg.Sn_IR]) << n for n in range(reg.SOCKETS))
        return self.memory[address]

    def _write(self, address: int, data: int) -> None:
        number, register = divmod(address - reg.SOCKET_BASE, reg.SOCKET_STRIDE)
        if address == reg.MR:
            if data & 0x80:
                self.reset()
        elif 0 <= number < reg.SOCKETS and register == reg.Sn_IR:
            self.memory[address] &= ~data & 0xFF
        elif 0 <= number < reg.SOCKETS and register == reg.Sn_CR:
            self._command(number, Command(data))
        elif 0 <= number < reg.SOCKETS and register in (
            reg.Sn_TX_WR,
            reg.Sn_TX_WR + 1,
            reg.Sn_RX_RD,
            reg.Sn_RX_RD + 1,
        ):
            self.shadow[address] = data  # latched: in force with the next command only
        else:
            self.memory[address] = data

    # --- registers ----------------------------------------------------------------------------------------

    def script(self, register: int, values: Iterable[int], number: int = 0) -> None:
        """Let a socket register read ``values`` first, octet by octet."""
        self.reads[reg.socket_base(number) + register] = deque(values)

    def get16(self, number: int, register: int) -> int:
        at = reg.socket_base(number) + register
        return int.from_bytes(self.memory[at : at + 2], "big")

    def set16(self, number: int, register: int, value: int) -> None:
        at = reg.socket_base(number) + register
        self.memory[at : at + 2] = (value & 0xFFFF).to_bytes(2, "big")

    def status(self, value: int, number: int = 0) -> None:
        self.memory[reg.socket_base(number) + reg.Sn_SR] = value

    def event(self, bits: int, number: int = 0) -> None:
        self.memory[reg.socket_base(number) + reg.Sn_IR] |= bits

    def tx_size(self, number: int = 0) -> int:
        return 1024 << (self.memory[reg.TMSR] >> 2 * number & 3)

    def tx_base(self, number: int) -> int:
        return reg.TX_BASE + sum(self.tx_size(one) for one in range(number))

    # --- commands -----------------------------------------------------------------------------------------

    def _command(self, number: int, command: Command) -> None:
        self.commands.append((number, command))
        if command in self.untaken:
            self.memory[reg.socket_base(number) + reg.Sn_CR] = command
            return
        self.on.get(command, getattr(self, f"do_{command.name.lower()}"))(number)

    def do_open(self, number: int) -> None:
        self.status(Status.INIT, number)
        self.shadow = {}
        self.rx_wr[number] = 0
        for register in (reg.Sn_TX_RD, reg.Sn_TX_WR, reg.Sn_RX_RD, reg.Sn_RX_RSR):
            self.set16(number, register, 0)
        self.set16(number, reg.Sn_TX_FSR, self.tx_size(number))

    def do_connect(self, number: int) -> None:
        self.establish(number)

    def establish(self, number: int = 0) -> None:
        self.status(Status.ESTABLISHED, number)
        self.event(SocketInterrupt.CON, number)
        self.set16(number, reg.Sn_TX_RD, self.isn)
        self.set16(number, reg.Sn_TX_WR, self.isn)
        self.set16(number, reg.Sn_RX_RD, self.rx_start)
        self.rx_wr[number] = self.rx_start

    def do_send(self, number: int) -> None:
        self.transmit(number)
        self.event(SocketInterrupt.SEND_OK, number)

    def transmit(self, number: int = 0, *, acknowledged: bool = True) -> None:
        """Put what lies between Sn_TX_RD and the new Sn_TX_WR on the network."""
        self._latch(number, reg.Sn_TX_WR)
        start, end = self.get16(number, reg.Sn_TX_RD), self.get16(number, reg.Sn_TX_WR)
        size, base = self.tx_size(number), self.tx_base(number)
        count = (end - start) & 0xFFFF
        assert count <= self.get16(number, reg.Sn_TX_FSR), "more was sent than was free"
        self.sent += bytes(self.memory[base + ((start + n) & (size - 1))] for n in range(count))
        self.set16(number, reg.Sn_TX_RD, end)
        if not acknowledged:
            self.set16(number, reg.Sn_TX_FSR, self.get16(number, reg.Sn_TX_FSR) - count)

    def do_recv(self, number: int) -> None:
        self._latch(number, reg.Sn_RX_RD)
        left = (self.rx_wr[number] - self.get16(number, reg.Sn_RX_RD)) & 0xFFFF
        self.set16(number, reg.Sn_RX_RSR, left)
        if left:
            self.event(SocketInterrupt.RECV, number)

    def do_discon(self, number: int) -> None:
        self.status(Status.CLOSED, number)
        self.event(SocketInterrupt.DISCON, number)

    def do_close(self, number: int) -> None:
        self.status(Status.CLOSED, number)

    def _latch(self, number: int, register: int) -> None:
        at = reg.socket_base(number) + register
        for address in (at, at + 1):
            self.memory[address] = self.shadow.pop(address, self.memory[address])

    # --- the peer -----------------------------------------------------------------------------------------

    def window(self, number: int = 0) -> int:
        """Return how many octets the peer may send: what is free of the RX ring."""
        return self.tx_size(number) - ((self.rx_wr[number] - self.get16(number, reg.Sn_RX_RD)) & 0xFFFF)

    def peer_sends(self, data: bytes, number: int = 0) -> None:
        base = self.tx_base(number) - reg.TX_BASE + reg.RX_BASE
        size = self.tx_size(number)
        assert len(data) <= self.window(number), "the peer sends more than its window"
        for octet in data:
            self.memory[base + (self.rx_wr[number] & (size - 1))] = octet
            self.rx_wr[number] = (self.rx_wr[number] + 1) & 0xFFFF
        self.set16(number, reg.Sn_RX_RSR, self.get16(number, reg.Sn_RX_RSR) + len(data))
        self.event(SocketInterrupt.RECV, number)

    def peer_ends(self, number: int = 0) -> None:
        self.status(Status.CLOSE_WAIT, number)
        self.event(SocketInterrupt.DISCON, number)

    def peer_resets(self, number: int = 0) -> None:
        self.status(Status.CLOSED, number)
        self.event(SocketInterrupt.DISCON, number)

    def gives_up(self, number: int = 0) -> None:
        self.status(Status.CLOSED, number)
        self.event(SocketInterrupt.TIMEOUT, number)


class InterruptChip(ScriptedChip):
    """The same with /INT: ``wait_interrupt`` lets time pass until the line is low."""

    broken_line = False

    def interrupt(self) -> bool:
        return bool(self._read(reg.IR) & self.memory[reg.IMR]) and not self.broken_line

    def wait_interrupt(self, timeout_s: float) -> bool:
        end = self.clock.now + timeout_s
        while not self.interrupt() and self.clock.now < end:
            self.clock.sleep(min(self.clock.next_delay(), end - self.clock.now))
        return self.interrupt()


class LongFrameChip(InterruptChip):
    """A W5100S: VERR, PHYSR, and frames with many octets of data, whose addresses count up."""

    def __init__(self, clock: FakeClock | None = None, *, isn: int = 0xFFF0) -> None:
        self.wire: list[tuple[str, int]] = []  # what went out, in hexadecimal, and the length of its frames
        super().__init__(clock, isn=isn)

    def reset(self) -> None:
        super().reset()
        self.memory[reg.MR] = 0x03
        self.memory[reg.VERR] = 0x51
        self.memory[reg.PHYSR] = 0x01

    def exchange(self, frames: bytes, frame_bytes: int = 4) -> bytes:
        self.wire.append((frames.hex(), frame_bytes))
        if frame_bytes == 4:
            return super().exchange(frames)
        assert 4 < frame_bytes <= 4096
        assert len(frames) % frame_bytes == 0
        out = b""
        for start in range(0, len(frames), frame_bytes):
            opcode, address = frames[start], int.from_bytes(frames[start + 1 : start + 3], "big")
            data = frames[start + 3 : start + frame_bytes]
            single = [bytes((opcode, *(address + n).to_bytes(2, "big"), octet)) for n, octet in enumerate(data)]
            out += ECHO + super().exchange(b"".join(single))[3::4]
        return out

    def forget_frames(self) -> None:
        super().forget_frames()
        self.wire.clear()


def ready(bus: ScriptedChip, lanes: int = 1) -> Chip:
    """Return a configured driver for ``bus``."""
    chip = Chip(bus, clock=bus.clock, sleep=bus.clock.sleep)
    chip.reset()
    chip.configure(ADDRESSING, lanes=lanes)
    return chip


def connected(bus: ScriptedChip, lanes: int = 1) -> TcpSocket:
    """Return a socket connected to PEER:PORT."""
    socket = ready(bus, lanes).tcp_socket()
    socket.connect(PEER, PORT, timeout_s=5)
    return socket


def carry_mail(bus: ScriptedChip, socket: TcpSocket, size: int) -> int:
    """Greeting, EHLO, then MAIL RCPT DATA in one group, content of ``size`` octets, QUIT; return the payload.

    Connecting and closing are in it.
    """
    answers = {20: 150, 120: 60, size: 50}
    asked = 0

    def answer(number: int) -> None:
        nonlocal asked
        before = len(bus.sent)
        bus.do_send(number)
        asked += len(bus.sent) - before
        if octets := answers.pop(asked, 0):
            asked = 0
            bus.clock.at(0.02, lambda: bus.peer_sends(bytes(octets)))

    bus.on[Command.SEND] = answer
    socket.connect(PEER, PORT, timeout_s=1)
    bus.clock.at(0.02, lambda: bus.peer_sends(bytes(80)))
    payload = len(socket.receive(4096, timeout_s=5)) + 6
    for part in (20, 120, size):
        socket.send_all(bytes(part), timeout_s=5)
        payload += part + len(socket.receive(4096, timeout_s=5))
    socket.send_all(b"QUIT\r\n", timeout_s=5)
    socket.close()
    assert payload == 80 + 150 + 60 + 50 + 20 + 120 + size + 6
    return payload


def silently(number: int) -> None:
    """A command that is taken and does nothing."""


def unacknowledged(bus: ScriptedChip) -> Callable[[int], None]:
    """A SEND that is transmitted at once and acknowledged never."""

    def send(number: int) -> None:
        bus.transmit(number, acknowledged=False)
        bus.event(SocketInterrupt.SEND_OK, number)

    return send
