"""The chip brought up and kept up: hands out connected sockets to whoever has mail.

A chip forgets everything when it resets itself, so its addresses are read back before each connection, and it is
set up anew when they are gone or when the bus failed.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from plugin.w5100.chip import Addressing, Chip
from plugin.w5100.socket import TcpSocket

_log = logging.getLogger("hardwire.uplink")

Resolve = Callable[[str], Sequence[IPv4Address]]
"""A host's name -> its IPv4 addresses, best first; raises OSError."""


def resolve_by_host(name: str) -> tuple[IPv4Address, ...]:
    """Look ``name`` up with the host's own resolver, whose time-outs are those of its configuration."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(f"the name {name} cannot be resolved by this host: {error.strerror or error}") from error
    return tuple(dict.fromkeys(IPv4Address(str(one[4][0])) for one in found))


def resolve_literal(text: str) -> tuple[IPv4Address, ...]:
    """Take ``text`` for an IPv4 address: all that works where nobody resolves names."""
    return (IPv4Address(text),)


class Uplink:
    """One chip for all lanes; thread-safe."""

    def __init__(self, chip: Chip, addressing: Addressing, *, lanes: int, resolve: Resolve) -> None:
        self._chip = chip
        self._addressing = addressing
        self._lanes = lanes
        self._resolve = resolve
        self._lock = threading.Lock()
        self._up = False
        self._problem: str | None = None

    @property
    def problem(self) -> str | None:
        """Return what is wrong with the chip, in one sentence, or None."""
        return self._problem

    def bring_up(self) -> None:
        """Make sure that the chip is there and holds its addresses; raises OSError, or what a foreign bus does."""
        with self._lock:
            try:
                # Twice, for one flipped bit must not cost the other lanes their connections.
                if self._up and (self._chip.holds(self._addressing) or self._chip.holds(self._addressing)):
                    self._problem = None
                    return
                if self._up:
                    _log.warning("event=chip_lost_its_addresses action=reset")
                self._up = False
                self._chip.reset()
                self._chip.configure(self._addressing, lanes=self._lanes)
            except Exception as error:
                # An SPI device raises a plain OSError, a foreign bus anything; whatever it is, health tells it.
                # A chip that did not answer may still hold its addresses, so other lanes' connections stay.
                self._problem = str(error) or type(error).__name__
                raise
            self._up = True
            self._problem = None

    def connect(self, host: str, port: int, timeout_s: float) -> TcpSocket:
        """Return a socket connected to ``host``:``port``; each of its addresses is given ``timeout_s``."""
        addresses = self._resolve(host)
        self.bring_up()
        refused: OSError | None = None
        for address in addresses:
            connection = self._chip.tcp_socket()
            try:
                connection.connect(address, port, timeout_s=timeout_s)
            except (ConnectionError, TimeoutError) as error:
                connection.close()
                refused = error
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise refused or OSError(f"the name {host} has no IPv4 address")

    def close(self) -> None:
        """Let go of the chip and its bus."""
        self._chip.close()
