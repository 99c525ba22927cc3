"""The chip on its network by hand: a name looked up, an address obtained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, final

from plugin.build import addressing_of
from plugin.config import Config
from plugin.w5100.dhcp import Lease
from plugin.w5100.dns import Resolver
from plugin.w5100.errors import LookupFailed, NoLease
from plugin.workbench.reach import Hands, chip_of, fresh_chip, leased


class NoServer(ValueError):
    """There is no DNS server to ask."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a look-up brought: addresses, or the ``problem`` in a sentence; who was asked, the seconds it took."""

    addresses: tuple[IPv4Address, ...] = ()
    problem: str | None = None
    servers: tuple[IPv4Address, ...]
    duration_s: float


def resolve(config: Config, name: str, servers: Sequence[IPv4Address], hands: Hands) -> Answer:
    """Look ``name`` up by the chip, with ``servers`` or those that it knows.

    Raises NoServer before the chip is touched, OSError where chip or bus fail.
    """
    network = config.chip.network
    if not (servers or (network is not None and (network.dns or network.dhcp))):
        raise NoServer("no DNS server is known (chip.network.dns): give one with --server")
    with chip_of(config, hands) as reached:
        asked = tuple(servers) or reached.dns
        resolver = Resolver(reached.chip.udp_socket, reached.chip.tcp_socket, asked, hands.clock)
        began_at = hands.clock()
        try:
            addresses = resolver.resolve(name)
        except LookupFailed as error:
            return Answer(problem=str(error), servers=asked, duration_s=hands.clock() - began_at)
        return Answer(addresses=addresses, servers=asked, duration_s=hands.clock() - began_at)


def lease_by_hand(config: Config, hands: Hands, *, timeout_s: float) -> Lease | str:
    """Obtain an address by DHCP, or return why there is none, in a sentence; it is not given back.

    Raises OSError where chip or bus fail.
    """
    with fresh_chip(config, hands) as chip:
        try:
            return leased(chip, addressing_of(config).mac, hands, timeout_s=timeout_s)
        except NoLease as error:
            return str(error)


def as_json(lease: Lease | None) -> dict[str, Any]:
    """Return what ``--json`` prints of a lease, nulls without one; times are in seconds from its begin."""
    return {
        "address": lease and str(lease.address),
        "gateway": lease and lease.gateway and str(lease.gateway),
        "dns": [str(one) for one in lease.dns] if lease else [],
        "server": lease and str(lease.server),
        "t1_s": lease and _finite(lease.t1_s),
        "t2_s": lease and _finite(lease.t2_s),
        "expires_s": lease and _finite(lease.expires_s),
    }


def _finite(seconds: float) -> float | None:
    """Return None for a lease without end: JSON has no infinity."""
    return seconds if math.isfinite(seconds) else None
