"""One chip for all lanes, brought up and kept up.

A chip forgets everything when it resets itself, so its addresses are read back before each connection and in
between, and it is set up anew when they are gone. What fails is told apart and repaired (``recovery``); a letter
is never on the wire meanwhile, because repairs belong to the time before a connection stands.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import Final

from plugin.uplink.addresses import Addresses
from plugin.uplink.recovery import SUSPECT, Kind, kind_of, remedy_for
from plugin.w5100.chip import Addressing, Chip
from plugin.w5100.errors import LookupFailed
from plugin.w5100.socket import TcpSocket

_log = logging.getLogger("hardwire.uplink")

Resolve = Callable[[str], Sequence[IPv4Address]]
"""A host's name -> its IPv4 addresses, best first; raises OSError."""

CONFLICT_HOLDS_S: Final = 3600.0
"""So long an address conflict is told of after it was last seen: ARP shows it now and then only."""

TRIES: Final = 3
"""So often a connection is tried while it is the chip that fails, each time after the next remedy."""


def resolve_by_host(name: str) -> tuple[IPv4Address, ...]:
    """Look ``name`` up with the host's own resolver, whose time-outs are those of its configuration."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        text = f"the name {name} cannot be resolved by this host: {error.strerror or error}"
        raise LookupFailed(text) from error
    return tuple(dict.fromkeys(IPv4Address(str(one[4][0])) for one in found))


def resolve_literal(text: str) -> tuple[IPv4Address, ...]:
    """Take ``text`` for an IPv4 address: all that works where nobody resolves names."""
    return (IPv4Address(text),)


class Uplink:
    """One chip for all lanes; thread-safe. ``reset_line`` pulls /RESET, where that is wired; it raises OSError."""

    def __init__(
        self,
        chip: Chip,
        addresses: Addresses,
        *,
        lanes: int,
        resolve: Resolve,
        reset_line: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chip = chip
        self._addresses = addresses
        self._addressing: Addressing | None = None  # what the chip holds
        self._lanes = lanes
        self._resolve = resolve
        self._reset_line = reset_line
        self._clock = clock
        self._lock = threading.Lock()  # held while the chip is looked at as a whole, or set up
        self._up = False
        self._strikes = 0  # faults of the chip since something last went well
        self._problem: str | None = None
        self._conflict: IPv4Address | None = None  # the address that another host uses as well
        self._conflict_at = 0.0  # when it was last seen
        self._link: bool | None = None

    @property
    def problem(self) -> str | None:
        """Return what is wrong with the chip or its addresses, in one sentence, or None."""
        return self._problem or self._twice() or self._addresses.problem

    def _twice(self) -> str | None:
        address = self._conflict
        if address is None:
            return None
        return f"another host on the network uses the chip's address {address}: give one of them another"

    @property
    def link(self) -> bool | None:
        """Whether the cable is in, as it was last seen; None for a chip that cannot tell."""
        return self._link

    @property
    def model(self) -> str | None:
        """Which chip was found, None before."""
        return self._chip.model

    # --- Up and kept up -------------------------------------------------------------------------------------

    def bring_up(self, *, whole: bool = True) -> None:
        """Make sure that the chip is there and holds its addresses; raises OSError, or what a foreign bus does.

        Without ``whole`` an address and the memory split stand for all of it.
        """
        with self._lock:
            try:
                if not (self._up and self._holds(whole=whole)):
                    if self._up:
                        _log.warning("event=chip_lost_its_addresses action=reset")
                    self._set_up()
            except Exception as error:
                # An SPI device raises a plain OSError, a foreign bus anything; whatever it is, health tells it.
                # A chip that did not answer may still hold its addresses, so other lanes' connections stay.
                self._problem = _words(error)
                raise
            self._problem = None

    def _holds(self, *, whole: bool = True) -> bool:
        # Twice, for one flipped bit must not cost the other lanes their connections.
        addressing = self._addressing
        return addressing is not None and any(self._chip.holds(addressing, whole=whole) for _ in range(2))

    def _set_up(self) -> None:
        self._up = False
        self._addressing = None
        self._chip.reset()
        self._addressing = self._addresses.obtain(self._chip, self._configure)
        self._up = True

    def _configure(self, addressing: Addressing) -> None:
        self._chip.configure(addressing, lanes=self._lanes)

    def watch(self) -> None:
        """Look after the chip between connections: has it forgotten its addresses? Never raises.

        A chip that has is set up at once, so that lanes which kept a connection find out now and not with a
        letter.
        """
        try:
            self.bring_up()
            with self._lock:
                self._tend()
        except Exception as error:  # noqa: BLE001 - a foreign bus raises whatever it likes
            if not self._repair(error) and self._problem is None:
                self._problem = _words(error)
        else:
            self._strikes = 0

    def _tend(self) -> None:
        """Renew what has to be renewed, and look for what nobody reports: another host, the cable."""
        addressing = self._addresses.keep(self._chip, self._configure)
        if addressing is None:
            self._set_up()
        else:
            self._addressing = addressing
        address = None if self._addressing is None else self._addressing.address
        now = self._clock()
        if address is not None and self._chip.conflict():
            self._conflict, self._conflict_at = address, now
            _log.warning("event=address_conflict address=%s", address)
        elif self._conflict != address or now >= self._conflict_at + CONFLICT_HOLDS_S:
            self._conflict = None
        self._link = self._chip.link()

    # --- Connections ----------------------------------------------------------------------------------------

    def connect(self, host: str, port: int, timeout_s: float) -> Connection:
        """Return a connection to ``host``:``port``; each of its addresses is given ``timeout_s``.

        Where it is the chip that fails, it is repaired and the connection tried again, TRIES times in all. Raises
        OSError, or what a foreign bus does.
        """
        if self._strikes >= SUSPECT:
            # It lets itself be connected and then does not send: nothing is on the wire now, so this is the time.
            self._heal("socket")
        for left in range(TRIES - 1, -1, -1):
            try:
                return self._connect(host, port, timeout_s)
            except Exception as error:
                if not self._repair(error) or not left:
                    raise
        raise AssertionError("unreachable")  # pragma: no cover - the last try returns or raises

    def _connect(self, host: str, port: int, timeout_s: float) -> Connection:
        self.bring_up(whole=False)
        addresses = self._resolve(host)
        refused: OSError = LookupFailed(f"the name {host} has no IPv4 address")
        for address in addresses:
            connection = self._chip.tcp_socket()
            try:
                connection.connect(address, port, timeout_s=timeout_s)
            except (ConnectionError, TimeoutError) as error:
                connection.close()
                if kind_of(error) != "network":
                    raise
                refused = error
            except BaseException:
                connection.close()
                raise
            else:
                return Connection(connection, self._note, self._addressing)
        raise refused

    def _note(self, error: Exception | None) -> None:
        """Take note of what a connection has met: a fault of the chip, or None for something that went well."""
        if error is None:
            self._strikes = 0
        elif kind_of(error) != "network":
            self._strikes += 1
            _log.warning("event=chip_fault strikes=%d problem=%r", self._strikes, _words(error))

    def _repair(self, error: Exception) -> bool:
        """Do what helps against ``error``; return whether another try may do better."""
        kind = kind_of(error)
        if kind == "network":
            return False
        self._note(error)
        self._problem = _words(error)
        return self._heal(kind)

    def _heal(self, kind: Kind) -> bool:
        with self._lock:
            others = self._chip.connections > 0 and self._up and self._still_holds()
            remedy = remedy_for(kind, strikes=self._strikes, others=others)
            if remedy in {"none", "reopen"}:  # a socket was closed by whoever had it
                return remedy == "reopen"
            # A chip that does not come back from its own reset is given the line at once.
            line = self._reset_line
            if (remedy == "reset" or line is None) and self._set_up_anew():
                return True
            return line is not None and self._set_up_anew(line)

    def _set_up_anew(self, pull: Callable[[], None] | None = None) -> bool:
        _log.warning("event=chip_repair remedy=%s strikes=%d", "line" if pull else "reset", self._strikes)
        try:
            if pull is not None:
                pull()
            self._set_up()
        except Exception as fault:  # noqa: BLE001 - a foreign bus raises whatever it likes
            self._problem = _words(fault)
            return False
        self._problem = None
        return True

    def _still_holds(self) -> bool:
        try:
            return self._holds()
        except Exception:  # noqa: BLE001 - a bus that fails keeps no connection alive
            return False

    def close(self) -> None:
        """Let go of the chip and its bus."""
        self._chip.close()


class Connection:
    """A connected hardware socket that tells the uplink when it is the chip that fails under it."""

    def __init__(
        self, below: TcpSocket, note: Callable[[Exception | None], None], addressing: Addressing | None
    ) -> None:
        self._below = below
        self._note = note
        self.local_address = None if addressing is None else addressing.address

    @property
    def window_bytes(self) -> int:
        """As ``TcpSocket.window_bytes``."""
        return self._below.window_bytes

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        """As ``TcpSocket.send_all``."""
        try:
            self._below.send_all(data, timeout_s=timeout_s)
        except Exception as error:
            self._note(error)
            raise
        self._note(None)

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        """As ``TcpSocket.receive``."""
        try:
            return self._below.receive(max_bytes, timeout_s=timeout_s)
        except Exception as error:
            self._note(error)
            raise

    def close(self, *, timeout_s: float = 1.0) -> None:
        """As ``TcpSocket.close``."""
        self._below.close(timeout_s=timeout_s)


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
