"""What runs in the child: the real spidev extension and the real ioctl, down to the stand-in for the device."""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import json
import logging
import platform
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

from plugin.w5100 import Addressing, Chip
from plugin.w5100 import registers as reg
from plugin.w5100.bus import Wire
from plugin.w5100.spidev import SpidevBus
from tests.spidev.rig import DEVICE


def pattern(size: int) -> bytes:
    return b"".join(hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(size // 32 + 1))[:size]


def memory(size: int, machine: str = "x86_64") -> bool:
    """Write and read TX memory on such a machine; tell whether it came back."""
    platform.machine = lambda: machine
    with closing(SpidevBus(DEVICE)) as bus:
        wire = Wire(bus)
        wire.write(reg.TX_BASE, pattern(size))
        return wire.read(reg.TX_BASE, size) == pattern(size)


def exchange(frames: str, frame_bytes: int) -> str:
    """Exchange ``frames``, in hexadecimal."""
    with closing(SpidevBus(DEVICE)) as bus:
        return bus.exchange(bytes.fromhex(frames), frame_bytes).hex()


def reset(speed_hz: int) -> dict[str, Any]:
    """Bring the chip up as the service does; tell the clock, and what was said."""
    records: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                records.append(record.getMessage())

    logging.getLogger("hardwire").addHandler(Listener())
    with closing(SpidevBus(DEVICE, speed_hz=speed_hz)) as bus:
        error = None
        try:
            Chip(bus).reset(timeout_s=0.3)
        except OSError as fault:
            error = str(fault)
        return {"speed_hz": bus.speed_hz, "said": records, "error": error}


def errors(tries: int) -> list[list[Any]]:
    """Read RTR so many times; for each, what was read, or errno and sentence."""
    told: list[list[Any]] = []
    with closing(SpidevBus(DEVICE)) as bus:
        wire = Wire(bus)
        for _ in range(tries):
            try:
                told.append([wire.read(reg.RTR, 2).hex()])
            except OSError as error:
                told.append([error.errno, str(error)])
    return told


def second() -> list[str]:
    """Exchange while another has the device open, and once it is closed."""
    told: list[str] = []
    with closing(SpidevBus(DEVICE)) as mine, closing(SpidevBus(DEVICE)) as other:
        for use in (mine, other):
            try:
                told.append(use.exchange(bytes.fromhex("0f001700")).hex())
            except OSError as error:
                told.append(str(error))
        mine.close()
        told.append(other.exchange(bytes.fromhex("0f001700")).hex())
    return told


def together() -> list[str]:
    """Exchange from two threads, each with the device open for itself, which its lock would not have."""
    fcntl.flock = lambda *_: None
    answers: list[str] = []

    def one() -> None:
        answers.append(exchange("0f001700", 4))

    threads = [threading.Thread(target=one, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def send(port: int, size: int, machine: str) -> None:
    """Send so many octets to 127.0.0.1 through one lane."""
    platform.machine = lambda: machine
    addressing = Addressing(
        mac=bytes.fromhex("0208dc010203"),
        address=ipaddress.IPv4Address("127.0.0.10"),
        subnet_mask=ipaddress.IPv4Address("255.0.0.0"),
        gateway=ipaddress.IPv4Address(0),
    )
    with closing(SpidevBus(DEVICE)) as bus:
        chip = Chip(bus)
        chip.reset()
        chip.configure(addressing, lanes=1)
        with closing(chip.tcp_socket()) as socket:
            socket.connect("127.0.0.1", port, timeout_s=10)
            socket.send_all(pattern(size), timeout_s=60)
            assert socket.receive(10, timeout_s=60) == b"taken"


WHAT: dict[str, Callable[..., Any]] = {
    one.__name__: one for one in (memory, exchange, reset, errors, second, together, send)
}

if __name__ == "__main__":
    json.dump(WHAT[sys.argv[1]](*(json.loads(one) for one in sys.argv[2:])), sys.stdout)
