"""The Bus on /dev/spidevB.D: many frames in one system call, at a clock that was tested, with /INT and /RESET.

py-spidev (extra ``spi``) opens the device and sets it up. It has a system call for each frame, though; so the
frames go out by ``ioctl`` with ``SPI_IOC_MESSAGE(n)``: one ``struct spi_ioc_transfer`` a frame, ``cs_change`` set
in all but the last, which makes the kernel raise /CS after each (Linux, include/uapi/linux/spi/spidev.h).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import importlib
import logging
import os
import platform
import threading
from pathlib import Path
from typing import Any, Final

from plugin.w5100 import registers as reg
from plugin.w5100.bus import FRAME_BYTES, WRITE, Wire, read
from plugin.w5100.errors import BusError
from plugin.w5100.gpio import GpioLine, InterruptInput, ResetOutput
from plugin.w5100.model import W5100, held_to, recognised
from plugin.w5100.selftest import Finding, check_wire, clocks_to_try, settle

log = logging.getLogger("hardwire.w5100")

BUFSIZ: Final = Path("/sys/module/spidev/parameters/bufsiz")
DEFAULT_BUFSIZ_BYTES: Final = 4096
# The kernel gives each transfer of a call a place in its buffer that begins at ARCH_DMA_MINALIGN; so one frame of
# four octets takes as many as these. Where nothing is known, the largest that there is.
ALIGNMENT_BYTES: Final = {"x86_64": 8, "i686": 8, "armv6l": 32, "armv7l": 64, "riscv64": 64}
LARGEST_ALIGNMENT_BYTES: Final = 128
# asm-generic/ioctl.h: the size of the argument has 14 bits in the request's number.
IOC_SIZE_LIMIT: Final = 1 << 14
IOC_WRITE: Final = 1 << 30
SPI_IOC_MAGIC: Final = ord("k")
EINTR_TRIES: Final = 100

# After these the device file leads nowhere any more (the driver was unbound): it is opened anew.
GONE: Final = frozenset({errno.ESHUTDOWN, errno.ENODEV, errno.EBADF})
# Whatever an earlier user may have left: LSB first, /CS active high, no /CS, one data line, loop-back.
FLAGS_OFF: Final = ("lsbfirst", "cshigh", "no_cs", "threewire", "loop")
SOFT_RESET: Final = bytes((WRITE, reg.MR >> 8, reg.MR & 0xFF, reg.Mode.RST))


class SpiIocTransfer(ctypes.Structure):
    """``struct spi_ioc_transfer``: 32 octets, the same for programs of 32 and of 64 bits."""

    _fields_ = (
        ("tx_buf", ctypes.c_uint64),
        ("rx_buf", ctypes.c_uint64),
        ("len", ctypes.c_uint32),
        ("speed_hz", ctypes.c_uint32),
        ("delay_usecs", ctypes.c_uint16),
        ("bits_per_word", ctypes.c_uint8),
        ("cs_change", ctypes.c_uint8),
        ("tx_nbits", ctypes.c_uint8),
        ("rx_nbits", ctypes.c_uint8),
        ("word_delay_usecs", ctypes.c_uint8),
        ("pad", ctypes.c_uint8),
    )


TRANSFER_BYTES: Final = ctypes.sizeof(SpiIocTransfer)
MOST_TRANSFERS: Final = (IOC_SIZE_LIMIT - 1) // TRANSFER_BYTES


def spi_ioc_message(transfers: int) -> int:
    """Return SPI_IOC_MESSAGE(``transfers``), for 1 to MOST_TRANSFERS."""
    return IOC_WRITE | (transfers * TRANSFER_BYTES) << 16 | SPI_IOC_MAGIC << 8


def frames_per_call(buffer_bytes: int, frame_bytes: int, alignment_bytes: int) -> int:
    """Return how many frames the kernel takes in one call: at least one, for it may know better."""
    place_bytes = -(-frame_bytes // alignment_bytes) * alignment_bytes
    return max(1, min(buffer_bytes // place_bytes, MOST_TRANSFERS))


class _Transfers:
    """An array of transfers over buffers of its own: made once, so that a call only copies octets.

    A call of n frames uses the last n: the very last is the one without cs_change, however many there are.
    """

    def __init__(self, count: int, frame_bytes: int, speed_hz: int) -> None:
        self.count = count
        self.frame_bytes = frame_bytes
        octets = ctypes.c_ubyte * (count * frame_bytes)
        tx, rx = octets(), octets()
        self.tx, self.rx = memoryview(tx).cast("B"), memoryview(rx).cast("B")
        tx_address, rx_address = ctypes.addressof(tx), ctypes.addressof(rx)
        self._array = (SpiIocTransfer * count)(
            *(
                SpiIocTransfer(
                    tx_buf=tx_address + at,
                    rx_buf=rx_address + at,
                    len=frame_bytes,
                    speed_hz=speed_hz,
                    bits_per_word=8,
                    cs_change=1,
                )
                for at in range(0, count * frame_bytes, frame_bytes)
            )
        )
        self._array[count - 1].cs_change = 0
        self._address = ctypes.addressof(self._array)

    def address(self, frames: int) -> int:
        """Return where the transfers of the last ``frames`` begin."""
        return self._address + (self.count - frames) * TRANSFER_BYTES

    def clock(self, speed_hz: int) -> None:
        """Set the clock of all transfers, in Hz."""
        for transfer in self._array:
            transfer.speed_hz = speed_hz


class SpidevBus:
    """A Bus on a spidev device; thread-safe. Has ``wait_interrupt`` and ``reset_line`` where the wires are there.

    Nothing is opened before the first exchange, and what could not be opened is tried again at the next one. The
    device is locked (flock) while it is open, so that no second process speaks to the chip. The first soft reset
    that goes out is preceded by ``settle_clock``, for that may touch what a reset clears.
    """

    wait_interrupt: Any
    """``(timeout_s: float) -> bool``, as in Bus; only with ``interrupt``, since a Bus without it is polled."""
    reset_line: Any
    """``() -> None``: pull /RESET, return when the chip can be spoken to; raises OSError. Only with ``reset``."""

    def __init__(
        self,
        device: str = "/dev/spidev0.0",
        *,
        speed_hz: int = 14_000_000,
        interrupt: GpioLine | None = None,
        reset: GpioLine | None = None,
    ) -> None:
        """Take ``device`` at a clock of at most ``speed_hz``; raises BusError where an extra is not installed."""
        try:
            self._spidev = importlib.import_module("spidev")
        except ImportError as error:
            raise BusError(
                f"{device} needs the module spidev ({error}): install the extra, pip install 'hardwire[spi]'"
            ) from error
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
        self._libc.ioctl.restype = ctypes.c_int
        self._path = device
        self._wanted_hz = self._speed_hz = speed_hz
        self._lock = threading.RLock()
        self._device: Any = None
        self._closed = False
        self._settled = False
        self._alignment_bytes = ALIGNMENT_BYTES.get(platform.machine(), LARGEST_ALIGNMENT_BYTES)
        self._buffer_bytes = DEFAULT_BUFSIZ_BYTES
        self._transfers: dict[int, _Transfers] = {}
        self._interrupt = InterruptInput(interrupt) if interrupt else None
        self._reset = ResetOutput(reset) if reset else None
        if self._interrupt:
            self.wait_interrupt = self._interrupt.wait
        if self._reset:
            self.reset_line = self._reset.pulse

    @property
    def speed_hz(self) -> int:
        """The clock in force, in Hz: the one asked for, or a slower one that ``settle_clock`` has found."""
        return self._speed_hz

    def exchange(self, frames: bytes, frame_bytes: int = FRAME_BYTES) -> bytes:
        """Send equal frames end to end, /CS high between them; return as many octets as came back.

        Raises BusError, which has the system's errno.
        """
        if frame_bytes < 1 or len(frames) % frame_bytes:
            raise ValueError(f"{len(frames)} octets are no frames of {frame_bytes}")
        with self._lock:
            if not self._settled and frames[:FRAME_BYTES] == SOFT_RESET:
                self.settle_clock()
            self._open()
            return self._exchange(memoryview(frames), frame_bytes)

    def settle_clock(self) -> int:
        """Test the wire, at slower clocks where it fails; return the clock that holds from now on, in Hz.

        Resets the chip and overwrites its TX memory (``plugin.w5100.selftest``). Raises BusError when no clock
        will do; the next soft reset then begins anew.
        """
        with self._lock:
            self._open()
            self._settled = True  # the test itself sends a soft reset
            try:
                clocks = clocks_to_try(self._wanted_hz)
                settled = settle(clocks, self._check_at)
                if settled.speed_hz is None:
                    raise BusError(
                        f"{self._path} works at no clock from {clocks[0]} down to {clocks[-1]} Hz: {settled.fault}"
                    )
            except OSError:
                self._settled = False
                self._set_clock(self._wanted_hz)
                raise
            if settled.speed_hz != self._wanted_hz:
                log.warning(
                    "event=spi_clock_lowered device=%s from_hz=%d to_hz=%d problem=%r remedy=%r",
                    self._path,
                    self._wanted_hz,
                    settled.speed_hz,
                    f"at the faster clock: {settled.fault}",
                    "shorten the wires or give the chip a bus of its own, or write the lower chip.speed_hz",
                )
            return settled.speed_hz

    def close(self) -> None:
        """Release the device and the lines. May be repeated."""
        with self._lock:
            self._closed = True
            self._release()
            for line in (self._interrupt, self._reset):
                if line is not None:
                    line.close()

    # --- The device -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._device is not None:
            return
        if self._closed:
            raise BusError(f"{self._path} was closed")
        device = self._spidev.SpiDev()
        try:
            device.open_path(self._path)
            self._claim(device.fileno())
            device.mode = 0
            device.bits_per_word = 8
            for flag in FLAGS_OFF:
                if getattr(device, flag):
                    setattr(device, flag, False)
            device.max_speed_hz = self._wanted_hz
            for line in (self._interrupt, self._reset):
                if line is not None:
                    line.open()
        except OSError as error:
            device.close()
            if isinstance(error, BusError):  # has its words already
                raise
            raise self._failed("cannot be opened as an SPI device", error.errno, _REMEDIES) from error
        self._buffer_bytes = _bufsiz()
        self._device = device
        log.info("event=spi_open device=%s frames_per_call=%d", self._path, self._limit(FRAME_BYTES))

    def _claim(self, number: int) -> None:
        """Have the device alone: whoever resets the chip ends the connections of another program."""
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusError(
                f"{self._path} is in use by another process: stop the service first, for a chip has one master"
            ) from error

    def _release(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.close()

    def _exchange(self, frames: memoryview, frame_bytes: int) -> bytes:
        total = len(frames) // frame_bytes
        received = bytearray(len(frames))
        done = 0
        while done < total:
            count = min(total - done, self._limit(frame_bytes))
            transfers = self._transfers_for(frame_bytes, count)
            place = slice(done * frame_bytes, (done + count) * frame_bytes)
            first = (transfers.count - count) * frame_bytes
            transfers.tx[first:] = frames[place]
            if self._send(transfers, count):
                received[place] = transfers.rx[first:]
                done += count
        return bytes(received)

    def _send(self, transfers: _Transfers, count: int) -> bool:
        """Send the last ``count`` frames; False when these are too many for the kernel, which is remembered."""
        sent, number = -1, errno.EINTR
        for _ in range(EINTR_TRIES):
            sent = self._libc.ioctl(self._device.fileno(), spi_ioc_message(count), transfers.address(count))
            number = errno.EIO if sent >= 0 else ctypes.get_errno()
            if number != errno.EINTR:
                break
        if sent == count * transfers.frame_bytes:
            return True
        if number == errno.EMSGSIZE and count > 1:
            place_bytes = -(-transfers.frame_bytes // self._alignment_bytes) * self._alignment_bytes
            self._buffer_bytes = count // 2 * place_bytes
            log.warning("event=spi_call_too_large device=%s frames=%d now=%d", self._path, count, count // 2)
            return False
        if number in GONE:
            self._release()
        raise self._failed("did not carry out a transfer", number, _TRANSFER_REMEDIES)

    def _limit(self, frame_bytes: int) -> int:
        return frames_per_call(self._buffer_bytes, frame_bytes, self._alignment_bytes)

    def _transfers_for(self, frame_bytes: int, count: int) -> _Transfers:
        """Return transfers for at least ``count`` frames.

        Those of four octets are as many as a call takes, and stay. A burst has any length and comes alone, so the
        last length is kept, as long as it serves.
        """
        kept = self._transfers.get(frame_bytes)
        if kept is not None and kept.count >= count:
            return kept
        if frame_bytes != FRAME_BYTES:
            for other in [size for size in self._transfers if size != FRAME_BYTES]:
                del self._transfers[other]
        room = self._limit(frame_bytes) if frame_bytes == FRAME_BYTES else count
        made = self._transfers[frame_bytes] = _Transfers(room, frame_bytes, self._speed_hz)
        return made

    def _check_at(self, speed_hz: int) -> tuple[Finding, ...]:
        self._set_clock(speed_hz)
        wire = Wire(self)
        (version,), echo = wire.probe((read(reg.VERR),))
        model = recognised(version[0])
        if model is not W5100:  # another chip may have another echo, or none
            wire.speak(model, held_to(model, echo))
        return check_wire(wire)

    def _set_clock(self, speed_hz: int) -> None:
        """Give every transfer its clock: the device's own is shared with whoever else has it open."""
        self._speed_hz = speed_hz
        for transfers in self._transfers.values():
            transfers.clock(speed_hz)

    def _failed(self, what: str, number: int | None, remedies: dict[int, str]) -> BusError:
        number = number or errno.EIO
        remedy = remedies.get(number, "")
        error = BusError(f"{self._path} {what}: {os.strerror(number)}{remedy and f'; {remedy}'}")
        error.errno = number
        return error


_REMEDIES: Final = {
    errno.ENOENT: "switch SPI on (dtparam=spi=on in config.txt), and check chip.device",
    errno.EACCES: "let this user read and write it: on Raspberry Pi OS, add the user to the group spi",
    errno.ENOTTY: "chip.device must be a spidev device, such as /dev/spidev0.0",
    errno.EINVAL: "the SPI controller does not do mode 0 with 8 bits, or not this clock: check chip.speed_hz",
}
_TRANSFER_REMEDIES: Final = {
    errno.EMSGSIZE: "one frame is larger than spidev.bufsiz: add spidev.bufsiz=65536 to the kernel's command line",
    errno.ESHUTDOWN: "its driver was unbound",
    errno.ETIMEDOUT: "the SPI controller hangs: see the kernel's log",
}


def _bufsiz() -> int:
    """Return the size of the kernel's buffer for one call, in octets."""
    try:
        return max(1, int(BUFSIZ.read_text("ascii")))
    except (OSError, ValueError):
        return DEFAULT_BUFSIZ_BYTES
