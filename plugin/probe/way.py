"""How the octets travel: through the chip or through an ordinary socket, and only while there is time left."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import final

from plugin.build import Tap, uplink_of
from plugin.config import Config
from plugin.service import Crew
from plugin.smtp import SocketStream, Stream
from plugin.smtp.stream import window_of
from plugin.uplink import resolve_by_host


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """``connect`` takes host, port and seconds, and raises OSError, TimeoutError or ConnectionError.

    ``host_resolves``: names are looked up by this machine, and ``connect`` is given addresses.
    """

    described: str
    host_resolves: bool
    connect: Callable[[str, int, float], Stream]


def way_by_host() -> Way:
    """Return the way through an ordinary socket of this machine."""
    return Way(
        described="an ordinary socket of this machine (--host)",
        host_resolves=True,
        connect=lambda host, port, timeout_s: SocketStream.connect(host, port, timeout_s=timeout_s),
    )


@contextmanager
def way_by_chip(config: Config, tap: Tap | None = None) -> Iterator[Way]:
    """Give the way through the chip of ``config``, which is let go of at the end; raises BusUnavailable."""
    uplink = uplink_of(config, tap=tap)

    def connect(host: str, port: int, timeout_s: float) -> Stream:
        try:
            return uplink.connect(host, port, timeout_s)
        except AddressValueError:
            text = f"nobody looks up {host} on the chip's network: give an IPv4 address, or take --host"
            raise OSError(text) from None

    try:
        yield Way(described=_chip(config), host_resolves=config.chip.network is None, connect=connect)
    finally:
        uplink.close()


def _chip(config: Config) -> str:
    chip = config.chip
    which = "the emulated W5100" if chip.bus == "emulator" else f"the W5100 on {chip.bus}"
    if chip.network is None:
        return f"{which}, on this machine's network"
    return f"{which} as {chip.network.address}" if chip.network.address else f"{which}, its address by DHCP"


def look_up(name: str, *, timeout_s: float) -> tuple[str, ...]:
    """Return the IPv4 addresses of ``name``, best first; raises OSError, TimeoutError after ``timeout_s``.

    The system's resolver can neither be told to hurry nor be interrupted: it is asked by a thread, which is left
    alone with it when time is up.
    """
    answers: queue.SimpleQueue[tuple[IPv4Address, ...] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(resolve_by_host(name))
        except OSError as error:
            answers.put(error)

    Crew().start("look-up", ask)
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError(f"the name {name} is not resolved within {timeout_s:.3g} s") from None
    if isinstance(answer, OSError):
        raise answer
    return tuple(map(str, answer))


class Patience:
    """The seconds that the whole may take."""

    def __init__(self, timeout_s: float, clock: Callable[[], float]) -> None:
        self.timeout_s = timeout_s
        self._clock = clock
        self._ends_at = clock() + timeout_s

    def left_s(self) -> float:
        """Return the seconds left, more than 0; raises TimeoutError without any."""
        left_s = self._ends_at - self._clock()
        if left_s <= 0:
            raise TimeoutError(f"the {self.timeout_s:g} s of --timeout are over")
        return left_s


class BoundedStream:
    """A Stream on which nothing is waited for once ``patience`` has ended; only ``close`` has its own time."""

    def __init__(self, stream: Stream, patience: Patience) -> None:
        self._stream = stream
        self._patience = patience

    @property
    def window_bytes(self) -> int:
        """That of the Stream below."""
        return window_of(self._stream)

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        """Send all of ``data``, or raise."""
        self._stream.send_all(data, timeout_s=min(timeout_s, self._patience.left_s()))

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        """Return 1 to ``max_bytes`` octets; b"" at the end."""
        return self._stream.receive(max_bytes, timeout_s=min(timeout_s, self._patience.left_s()))

    def close(self, *, timeout_s: float = 1.0) -> None:
        """Close the Stream below."""
        self._stream.close(timeout_s=timeout_s)
