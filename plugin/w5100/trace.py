"""What goes over the Bus, written down: a text for people, and a VCD dump for those who look at wires.

A TracingBus stands before the Bus and is as much of a Bus as the one below: nothing is added to it, nothing taken
away. It is put there only while somebody wants to know; without it nothing of this costs anything.

Mails and passwords travel through the chip's memory, so memory is written as counts alone, and its frames are left
out of the dump, unless ``data`` asks for them.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, final

from plugin.w5100.bus import FRAME_BYTES, HEADER_BYTES, READ, WRITE, Bus, ExchangeOnly, octets
from plugin.w5100.errors import BusError
from plugin.w5100.model import ECHOES
from plugin.w5100.register_map import Area, areas, words
from plugin.w5100.vcd import HEADER, Waveform, comment

log = logging.getLogger("hardwire.w5100")

LIMIT_BYTES: Final = 64 * 1024 * 1024
A15: Final = 0x8000  # the chip does not decode it
ROW_OCTETS: Final = 16
_LETTERS: Final = {READ: "R", WRITE: "W"}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Frames of one opcode on consecutive addresses: their data octets on MOSI and on MISO.

    ``echo`` is the first wrong echo, None if all are right.
    """

    opcode: int
    address: int
    mosi: bytes
    miso: bytes
    echo: bytes | None


def runs(sent: bytes, received: bytes, frame_bytes: int = FRAME_BYTES) -> Iterator[Run]:
    """Yield the frames of an exchange, those of one opcode on consecutive addresses together."""
    begun = False
    opcode = address = first = 0
    mosi, miso = bytearray(), bytearray()
    echo: bytes | None = None
    for at in range(0, len(sent) - frame_bytes + 1, frame_bytes):
        code = sent[at]
        where = int.from_bytes(sent[at + 1 : at + HEADER_BYTES], "big") & ~A15
        if begun and not (code == opcode and where == address and code in _LETTERS):
            yield Run(opcode=opcode, address=first, mosi=bytes(mosi), miso=bytes(miso), echo=echo)
            begun = False
        if not begun:
            begun, opcode, first, echo = True, code, where, None
            mosi, miso = bytearray(), bytearray()
        heard = received[at : at + HEADER_BYTES]
        if heard not in ECHOES and echo is None:
            echo = heard
        mosi += sent[at + HEADER_BYTES : at + frame_bytes]
        miso += received[at + HEADER_BYTES : at + frame_bytes]
        address = where + frame_bytes - HEADER_BYTES
    if begun:
        yield Run(opcode=opcode, address=first, mosi=bytes(mosi), miso=bytes(miso), echo=echo)


def lines(run: Run, *, data: bool) -> Iterator[str]:
    """Yield a line for each register of ``run``, one for memory, or with ``data`` its octets in rows."""
    letter = _LETTERS.get(run.opcode)
    if letter is None:
        hidden = not data and any(one.memory for one in areas(run.address, len(run.mosi)))
        shown = f"{len(run.mosi)} octets" if hidden else f"{run.mosi.hex(' ')} -> {run.miso.hex(' ')}"
        yield f"?  opcode 0x{run.opcode:02X} at 0x{run.address:04X}  {shown}"
        return
    content = run.miso if run.opcode == READ else run.mosi
    start = 0
    for area in areas(run.address, len(content)):
        value = content[start : start + area.size]
        start += area.size
        for line in _area_lines(area, value, data=data):
            yield f"{letter}  {line}{_echo(run, hidden=area.memory and not data)}"


def _area_lines(area: Area, value: bytes, *, data: bool) -> Iterator[str]:
    if not area.memory:
        said = words(area.register, value) if area.register else ""
        yield f"{area.name:<10} 0x{area.address:04X}  {value.hex(' '):<18} {said}".rstrip()
        return
    yield f"{area.name:<10} 0x{area.address:04X}  +{area.size} octets"
    for at in range(0, len(value) if data else 0, ROW_OCTETS):
        row = value[at : at + ROW_OCTETS]
        text = "".join(chr(one) if 0x20 <= one < 0x7F else "." for one in row)
        yield f"{'':<10} 0x{area.address + at:04X}  {row.hex(' '):<{3 * ROW_OCTETS - 1}} {text}"


def _echo(run: Run, *, hidden: bool) -> str:
    if run.echo is None:
        return ""
    return "  ! the echo is wrong" if hidden else f"  ! {run.echo.hex(' ')} instead of 00 01 02"


class _Bounded:
    """A file that is written up to a limit, and whose failure ends the trace and nothing else."""

    def __init__(self, file: BinaryIO, *, limit_bytes: int, last: bytes) -> None:
        self._file = file
        self._left_bytes = limit_bytes - len(last)
        self._last = last
        self.open = True

    def write(self, content: bytes, *, flush: bool = False) -> None:
        if not self.open:
            return
        self._left_bytes -= len(content)
        if self._left_bytes < 0:
            self.open, content = False, self._last
        try:
            self._file.write(content)
            if flush or not self.open:
                self._file.flush()
        except OSError as error:
            self.open = False
            log.warning("event=trace_stopped problem=%r", str(error))


class Trace:
    """Writes down what a Bus did, on two files of at most ``limit_bytes`` each. For one thread at a time.

    Times are seconds since the trace began, by the clock of the one who calls. Never raises for a file that cannot
    be written any more: the trace ends there, with a warning in the log.
    """

    def __init__(
        self, text: BinaryIO, vcd: BinaryIO, *, title: str, data: bool = False, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        """Begin both files. ``data``: the memory's content is written too, with mails and perhaps passwords."""
        ended = f"the trace ends here: it has reached its limit of {limit_bytes} octets"
        self._text = _Bounded(text, limit_bytes=limit_bytes, last=f"# {ended}\n".encode())
        self._vcd = _Bounded(vcd, limit_bytes=limit_bytes, last=comment(ended))
        self._data = data
        self._waveform = Waveform()
        memory = "in full" if data else "as counts alone"
        self._text.write(f"# {title}: seconds, R read or W write, register, address, octets\n".encode())
        self._text.write(f"# the memory's content is written {memory}\n".encode())
        self._vcd.write(comment(title) + HEADER)

    def exchanged(self, began_s: float, sent: bytes, received: bytes, frame_bytes: int = FRAME_BYTES) -> None:
        """Write an exchange down."""
        if len(received) != len(sent):
            self.noted(began_s, f"!  {len(sent)} octets were sent, and {len(received)} came back")
            return
        if self._text.open:
            found = [line for run in runs(sent, received, frame_bytes) for line in lines(run, data=self._data)]
            self._text.write("".join(f"{began_s:12.6f}  {line}\n" for line in found).encode(), flush=True)
        for at in range(0, len(sent) - frame_bytes + 1, frame_bytes):
            if not self._vcd.open:
                return
            address = int.from_bytes(sent[at + 1 : at + HEADER_BYTES], "big") & ~A15
            if self._data or not any(one.memory for one in areas(address, frame_bytes - HEADER_BYTES)):
                end = at + frame_bytes
                self._vcd.write(self._waveform.frame(began_s, sent[at:end], received[at:end]))

    def noted(self, at_s: float, line: str) -> None:
        """Write down what was no exchange."""
        self._text.write(f"{at_s:12.6f}  {line}\n".encode("utf-8", "backslashreplace"), flush=True)


class TracingBus:
    """The Bus below, with what goes over it written to ``trace``. Thread-safe; one exchange at a time.

    It has what the Bus below has, and no more: ``wait_interrupt`` and ``reset_line`` only where there are such.
    """

    exchange: Callable[..., bytes]
    """That of the Bus below: the same arguments, the same answer, the same errors."""

    def __init__(
        self, bus: Bus | ExchangeOnly, trace: Trace, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bus = bus
        self._trace = trace
        self._clock = clock
        self._began_at = clock()
        self._lock = threading.Lock()  # held for an exchange, so that they are written in the order of the wire
        below = bus.exchange

        @functools.wraps(below)  # whoever asks what it takes is told what the one below takes
        def exchange(frames: bytes, *more: Any, **named: Any) -> bytes:
            with self._lock:
                began_s = self._now_s()
                try:
                    received = below(frames, *more, **named)
                except BaseException as error:
                    self._trace.noted(began_s, f"!  {type(error).__name__}: {error}")
                    raise
                self._note(began_s, frames, received, more[0] if more else named.get("frame_bytes", FRAME_BYTES))
                return received

        self.exchange = exchange

    def __getattr__(self, name: str) -> Any:
        """Return what the Bus below has by this name; what it may be asked for is written down."""
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._bus, name)
        if name == "wait_interrupt":
            return functools.partial(self._wait_interrupt, found)
        if name == "reset_line":
            return functools.partial(self._reset_line, found)
        return found

    def _note(self, began_s: float, frames: bytes, received: Any, frame_bytes: int) -> None:
        try:
            self._trace.exchanged(began_s, bytes(frames), octets(received), frame_bytes)
        except BusError as error:  # what came back is for the caller to judge
            self._trace.noted(began_s, f"!  {error}")

    def _wait_interrupt(self, below: Callable[[float], bool], timeout_s: float) -> bool:
        began_s = self._now_s()
        low = below(timeout_s)
        now_s = self._now_s()
        with self._lock:
            self._trace.noted(now_s, f"I  /INT {'low' if low else 'high'} after {now_s - began_s:.6f} s")
        return low

    def _reset_line(self, below: Callable[[], None]) -> None:
        with self._lock:
            self._trace.noted(self._now_s(), "L  /RESET is pulled low")
        below()

    def _now_s(self) -> float:
        return self._clock() - self._began_at
