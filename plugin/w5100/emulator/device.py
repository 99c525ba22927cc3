"""The whole chip behind its SPI: address decoder, IR and /INT, soft reset, and the waiting for news."""

from __future__ import annotations

import contextlib
import math
import secrets
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final, TypeAlias

from plugin.w5100 import registers as reg
from plugin.w5100.bus import FRAME_BYTES, HEADER_BYTES, READ, WRITE
from plugin.w5100.emulator.common import CommonRegisters
from plugin.w5100.emulator.datagram import ECHO_REPLY, ECHO_REQUEST, checksum
from plugin.w5100.emulator.faults import Fault, FaultPlan
from plugin.w5100.emulator.frames import ECHO, FrameRun, silent_answer, unrolled
from plugin.w5100.emulator.memory import deal_out, sizes_kib
from plugin.w5100.emulator.network import Network, poll
from plugin.w5100.emulator.sockets import HardwareSocket
from plugin.w5100.emulator.state import Surroundings
from plugin.w5100.errors import BusError
from plugin.w5100.model import W5100, model_named

MEMORY_START: Final = reg.TX_BASE
MEMORY_END: Final = reg.RX_BASE + reg.MEMORY_BYTES
COMMON_OR_SOCKET: Final = 0x0400  # A10 of an address below the memory
# The sizes of all sockets in one register, by a socket's own.
OF_SIZE: Final = {reg.Sn_RX_BUF_SIZE: reg.RMSR, reg.Sn_TX_BUF_SIZE: reg.TMSR}
PAGE: Final = 0xFF
# News that bring further news at once (accepted, then established, then data) are followed up this often.
ROUNDS: Final = 8
# ICMP messages are echoed right up to this many octets; beyond, each octet is the size less 12 (silicon's fault).
PING_GOOD_BYTES: Final = 119
PING_FILL_OFFSET: Final = 12
LONGEST_SLEEP_S: Final = 60.0
# A connected pair: who sleeps watches the first end, who wakes him writes to the second.
Waker: TypeAlias = tuple[socket.socket, socket.socket]
WAKE_BYTES: Final = 4096


class Emulator:
    """A W5100 or W5100S in software; see the package's docstring for what it does and does not.

    ``model`` is "w5100" or "w5100s"; ValueError for another.
    ``clock`` drives RTR and RCR only (seconds, rising). ``initial_sequence`` gives the ISN of each TCP connection,
    32 bits; TX_RD and TX_WR start at the low 16 bits of it plus 1. Thread-safe.
    """

    def __init__(
        self,
        *,
        model: str = W5100.name,
        clock: Callable[[], float] = time.monotonic,
        initial_sequence: Callable[[], int] | None = None,
    ) -> None:
        self._lock = threading.RLock()
        self._closed = False
        self._memory = bytearray(2 * reg.MEMORY_BYTES)
        self._model = model_named(model)
        self._common = CommonRegisters(self._model)
        self._network = Network()
        weakref.finalize(self, self._network.close)  # also an emulator that is forgotten leaves no kernel socket
        self._faults = FaultPlan()
        self._clock = clock
        around = Surroundings(
            model=self._model,
            common=self._common,
            network=self._network,
            faults=self._faults,
            clock=clock,
            initial_sequence=initial_sequence or (lambda: secrets.randbits(32)),
        )
        self._sockets = [HardwareSocket(number, self._memory, around) for number in range(reg.SOCKETS)]
        self._slept_on: object = None
        self._sleepers: list[Waker] = []
        self._idle_wakers: list[Waker] = []
        self._reset()

    # --- the bus ----------------------------------------------------------------------------------------

    def exchange(self, frames: bytes, frame_bytes: int = FRAME_BYTES) -> bytes:
        """Carry out equal frames end to end; return what MISO carries, as many octets.

        Frames of four octets are the W5100's. In longer ones the first four octets count and the others read 00
        (there is no burst and no auto-increment); on a W5100S all octets from the fourth on are data. Shorter
        ones, and an incomplete last one, do nothing.
        Raises BusError after ``close``, OSError where an ExchangeError was injected.
        """
        if frame_bytes < 1:
            raise ValueError("a frame has at least one octet")
        frames = bytes(frames)
        with self._lock:
            self._check_open()
            received = (
                self._exchange(frames, frame_bytes) if not self._faults else self._faulty(frames, frame_bytes)
            )
            self._wake_if_changed()
            return received

    def _faulty(self, frames: bytes, frame_bytes: int) -> bytes:
        faults = self._faults
        faults.begin_exchange(len(frames) // frame_bytes)
        if faults.resets_now():
            self._reset()
        received = silent_answer(len(frames), frame_bytes)
        if faults.chip_hears():
            received = self._exchange(faults.corrupt(frames, frame_bytes, heard=True), frame_bytes)
        error = faults.exchange_error()
        if error is not None:
            raise error
        stuck = faults.stuck_octet()
        if stuck is not None:
            return bytes((stuck,)) * len(frames)
        return faults.corrupt(received, frame_bytes, heard=False)

    def _exchange(self, frames: bytes, frame_bytes: int) -> bytes:
        if frame_bytes == FRAME_BYTES and len(frames) % FRAME_BYTES == 0:
            run = FrameRun(frames)
            received = bytearray(ECHO * run.count)
            received[3::4] = self._carry_out(run)
            return bytes(received)
        received = bytearray(silent_answer(len(frames), frame_bytes))
        if frame_bytes >= FRAME_BYTES:
            starts = range(0, len(frames) - frame_bytes + 1, frame_bytes)
            if self._model.burst:
                size = frame_bytes - HEADER_BYTES
                run = FrameRun(b"".join([unrolled(frames[start : start + frame_bytes]) for start in starts]))
                data = self._carry_out(run)
                for number, start in enumerate(starts):
                    received[start + HEADER_BYTES : start + frame_bytes] = data[number * size :][:size]
            else:
                run = FrameRun(b"".join([frames[start : start + FRAME_BYTES] for start in starts]))
                received[3 : len(starts) * frame_bytes : frame_bytes] = self._carry_out(run)
        return bytes(received)

    def _carry_out(self, run: FrameRun) -> bytes:
        """Carry out frames of four octets; return the fourth octets of MISO."""
        answer = bytearray(ECHO[3:] * run.count)
        serviced = False
        at = 0
        while at < run.count:
            opcode, address = run.opcodes[at], run.address(at)
            if opcode not in {READ, WRITE}:
                at += 1
                continue
            if address >= MEMORY_START:
                count = run.block(at, MEMORY_END - address)
                start = address - MEMORY_START
                if opcode == READ:
                    answer[at : at + count] = self._memory[start : start + count]
                else:
                    self._memory[start : start + count] = run.data[at : at + count]
                at += count
                continue
            if not serviced:
                self._service()
                serviced = True
            if opcode == READ:
                answer[at] = self._read_register(address)
            else:
                self._write_register(address, run.data[at])
            at += 1
        return bytes(answer)

    def wait_interrupt(self, timeout_s: float) -> bool:
        """Sleep in the kernel until /INT is low (IR & IMR is not 0): True; or until the time is over: False."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._check_open()
            waker = self._idle_wakers.pop() if self._idle_wakers else self._network.pair()
            self._sleepers.append(waker)
        try:
            while True:
                with self._lock:
                    self._check_open()
                    _drain(waker[0])
                    self._service()
                    self._wake_if_changed(but=waker)
                    if self.interrupt_asserted:
                        return True
                    watched = [*self._watched(), (waker[0], select.POLLIN)]
                    remaining_s = deadline - time.monotonic()
                    sleep_s = min([LONGEST_SLEEP_S, remaining_s, *self._timers_s()])
                if remaining_s <= 0:
                    return False
                poll(watched, math.ceil(max(sleep_s, 0) * 1000))
        finally:
            with self._lock:
                self._sleepers.remove(waker)
                self._idle_wakers.append(waker)

    def close(self) -> None:
        """Switch the chip off: its connections are reset, all kernel sockets closed. May be repeated."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for one in self._sockets:
                    one.reset()
                self._wake_sleepers()
                self._network.close()

    @property
    def interrupt_asserted(self) -> bool:
        """Whether /INT is low, as of the last exchange or wait."""
        with self._lock:
            return bool(self._ir() & self._common.read(reg.IMR))

    # --- the world around -------------------------------------------------------------------------------

    def inject(self, *faults: Fault) -> None:
        """Arm faults; their exchanges are counted from here."""
        with self._lock:
            self._faults.inject(*faults)
            self._wake_sleepers()

    def clear_faults(self) -> None:
        """Disarm all faults. What they have done to the chip stays done."""
        with self._lock:
            self._faults.clear()
            self._wake_sleepers()

    def ping(
        self, data: bytes, *, identifier: int = 1, sequence: int = 1, source: str = "127.0.0.1"
    ) -> bytes | None:
        """Let ``source`` send the chip an echo request (RFC 792); return the ICMP message that comes back.

        None where none comes: MR.PB is set, the link is down, or an IPRAW socket with Sn_PROTO 1 takes the
        request. Like silicon's, a reply of more than 119 octets is corrupt from there on.
        """
        header = identifier.to_bytes(2, "big") + sequence.to_bytes(2, "big")
        with self._lock:
            self._check_open()
            if self._faults.link_down():
                return None
            request = _echo_message(ECHO_REQUEST, header + data)
            if any(one.takes_icmp(socket.inet_aton(source), request) for one in self._sockets):
                self._wake_sleepers()
                return None
            if self._common.ping_blocked:
                return None
        reply = _echo_message(ECHO_REPLY, header + data)
        spoilt = len(reply) - PING_GOOD_BYTES
        if spoilt <= 0:
            return reply
        return reply[:PING_GOOD_BYTES] + bytes(((len(reply) - PING_FILL_OFFSET) & 0xFF,)) * spoilt

    def arp_request(self, sender: str) -> None:
        """Let someone ask by ARP from the address ``sender``; if that is SIPR, the chip raises IR.CONFLICT."""
        with self._lock:
            self._check_open()
            if socket.inet_aton(sender) == self._common.sipr and not self._faults.link_down():
                self._common.raise_interrupt(reg.Interrupt.CONFLICT)
                self._wake_sleepers()

    # --- registers --------------------------------------------------------------------------------------

    def _read_register(self, address: int) -> int:
        offset = address & PAGE
        if address & COMMON_OR_SOCKET:
            return self._socket_at(address).read(offset)
        if offset == self._model.physr:
            return reg.PhyStatus.CABOFF if self._faults.link_down() else reg.PhyStatus.LNK
        return self._ir() if offset == reg.IR else self._common.read(offset)

    def _write_register(self, address: int, value: int) -> None:
        offset = address & PAGE
        if address & COMMON_OR_SOCKET:
            one = self._socket_at(address)
            one.write(offset, value)
            if offset in OF_SIZE:
                if self._model.mirrors_sizes:
                    self._common.note_size(OF_SIZE[offset], one.state.number, value)
                self._deal_out()
            return
        self._common.write(offset, value)
        if offset == reg.MR and value & reg.Mode.RST:
            self._reset()
        elif offset == reg.RMSR:
            self._split(reg.Sn_RX_BUF_SIZE, value)
        elif offset == reg.TMSR:
            self._split(reg.Sn_TX_BUF_SIZE, value)

    def _socket_at(self, address: int) -> HardwareSocket:
        """A8 and A9 choose the socket in its documented page; everywhere else a W5100 shows socket 3."""
        documented = address < reg.SOCKET_BASE + reg.SOCKETS * reg.SOCKET_STRIDE
        return self._sockets[address >> 8 & 0x03 if documented or self._model.mirrors_sockets else 3]

    def _ir(self) -> int:
        bits = self._common.read(reg.IR)
        for one in self._sockets:
            if one.state.interrupts:
                bits |= 1 << one.state.number
        return bits

    def _reset(self) -> None:
        """Soft reset: all registers to their reset values, all connections forgotten, memory untouched."""
        for one in self._sockets:
            one.reset()
        self._network.forget_quiet_listeners()
        self._common.reset()
        self._deal_out()

    def _split(self, register: int, value: int) -> None:
        """RMSR or TMSR was written: each socket's own size register follows."""
        for one, kib in zip(self._sockets, sizes_kib(value), strict=True):
            one.state.write(register, kib)
        self._deal_out()

    def _deal_out(self) -> None:
        states = [one.state for one in self._sockets]
        deal_out([state.rx for state in states], [state.read(reg.Sn_RX_BUF_SIZE) for state in states])
        deal_out([state.tx for state in states], [state.read(reg.Sn_TX_BUF_SIZE) for state in states])

    # --- news -------------------------------------------------------------------------------------------

    def _service(self) -> None:
        """Let every socket see what the network and the clock have brought, until all is quiet."""
        for _ in range(ROUNDS):
            events = poll(self._watched(), 0)
            moved = [one.step(events) for one in self._sockets]
            if not any(moved):
                return

    def _watched(self) -> list[tuple[socket.socket, int]]:
        return [watched for one in self._sockets if (watched := one.watched()) is not None]

    def _waited_for(self) -> object:
        """Return what a sleeper depends on; when an exchange changes it, he has to look again."""
        return self.interrupt_asserted, self._watched(), [one.due_at() for one in self._sockets]

    def _timers_s(self) -> list[float]:
        now = self._clock()
        return [due - now for one in self._sockets if (due := one.due_at()) is not None]

    def _wake_if_changed(self, but: Waker | None = None) -> None:
        if self._sleepers and (now := self._waited_for()) != self._slept_on:
            self._slept_on = now
            self._wake_sleepers(but)

    def _wake_sleepers(self, but: Waker | None = None) -> None:
        for waker in self._sleepers:
            if waker is not but:
                with contextlib.suppress(BlockingIOError):  # full: it has been woken often enough
                    waker[1].send(b"\x00")

    def _check_open(self) -> None:
        if self._closed:
            raise BusError("the emulated W5100 is switched off")


def _drain(waker: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        waker.recv(WAKE_BYTES)


def _echo_message(kind: int, rest: bytes) -> bytes:
    blank = bytes((kind, 0, 0, 0)) + rest
    return blank[:2] + checksum(blank).to_bytes(2, "big") + rest
