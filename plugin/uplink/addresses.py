"""Whose addresses the chip holds: fixed ones, or those that a DHCP server lends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import Final, Protocol

from plugin.w5100.chip import Addressing, Chip
from plugin.w5100.dhcp import DhcpClient, Lease, obtain, renew
from plugin.w5100.errors import LeaseLost, NoLease, NoSocketError

_log = logging.getLogger("hardwire.uplink")

Configure = Callable[[Addressing], None]
"""Writes addresses, and all else that a chip has to hold, to the chip."""

OBTAIN_S: Final = 30.0
RETRY_S: Final = 300.0
"""How often DHCP is tried again while the fallback is in force, and nobody is connected."""


class Addresses(Protocol):
    """Where the chip's addresses come from."""

    problem: str | None

    def obtain(self, chip: Chip, configure: Configure) -> Addressing:
        """Give a chip that was just reset its addresses, and return them; raises OSError."""
        ...

    def keep(self, chip: Chip, configure: Configure) -> Addressing | None:
        """Do what is due; return the addresses that hold, None where there are none any more; raises OSError."""
        ...


class Fixed:
    """Addresses that the configuration tells."""

    def __init__(self, addressing: Addressing) -> None:
        self.problem: str | None = None
        self._addressing = addressing

    def obtain(self, _chip: Chip, configure: Configure) -> Addressing:
        """Write them."""
        configure(self._addressing)
        return self._addressing

    def keep(self, _chip: Chip, _configure: Configure) -> Addressing:
        """Nothing is ever due."""
        return self._addressing


class Leased:
    """Addresses lent by a DHCP server; ``fallback`` where there is none that answers.

    ``use_servers`` is told the DNS servers of each lease.
    """

    def __init__(
        self,
        client: DhcpClient,
        *,
        fallback: Addressing | None,
        use_servers: Callable[[Sequence[IPv4Address]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problem: str | None = None
        self._client = client
        self._fallback = fallback
        self._use_servers = use_servers
        self._clock = clock
        self._retry_at = 0.0
        self._servers: tuple[IPv4Address, ...] = ()  # that are asked

    def obtain(self, chip: Chip, configure: Configure) -> Addressing:
        """Take up the lease that there is, or obtain one; else the fallback. Raises NoLease without any."""
        lease = self._client.lease
        if lease is not None and self._clock() < lease.obtained_at + lease.expires_s:
            addressing = lease.addressing(self._client.mac)  # a chip that has reset itself need not ask again
            configure(addressing)
            return addressing
        try:
            lease = obtain(chip, self._client, configure, clock=self._clock, timeout_s=OBTAIN_S)
        except NoLease as error:
            self.problem = str(error)
            if self._fallback is None:
                raise
            _log.warning("event=dhcp_fallback address=%s problem=%r", self._fallback.address, self.problem)
            self._retry_at = self._clock() + RETRY_S
            configure(self._fallback)
            return self._fallback
        self.problem = None
        return self._use(lease)

    def keep(self, chip: Chip, configure: Configure) -> Addressing | None:
        """Renew the lease when that is due; from the fallback, try to get one again."""
        if self._client.lease is None:
            if self._clock() < self._retry_at or chip.connections:
                return self._fallback
            return None
        try:
            lease = renew(chip, self._client, configure, clock=self._clock)
        except NoSocketError:
            lease = self._client.lease  # all lanes are at work: the next time will do
        except LeaseLost as error:
            _log.warning("event=lease_lost problem=%r", str(error))
            self.problem = str(error)
            return None
        return self._use(lease)

    def _use(self, lease: Lease) -> Addressing:
        """Have the lease's DNS servers asked, which a renewal may change, and return its addresses."""
        if lease.dns and lease.dns != self._servers:
            self._servers = lease.dns
            self._use_servers(lease.dns)
        return lease.addressing(self._client.mac)
