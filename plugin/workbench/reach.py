"""The way from a configuration to a bus, and to a chip, for those who look by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, final

from plugin.build import Tap, addressing_of, bus_of
from plugin.config import Config
from plugin.w5100 import Addressing, Bus, Chip, ExchangeOnly
from plugin.w5100.dhcp import DhcpClient, Lease, obtain
from plugin.w5100.errors import NoLease

LANES: Final = 1  # one socket with all of the memory
LEASE_S: Final = 20.0  # for a DHCP server to answer


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What these commands take from outside: a clock in seconds, rising; sleep; what is put before the bus."""

    clock: Callable[[], float]
    sleep: Callable[[float], None]
    tap: Tap | None = None


@contextmanager
def bus_by_hand(config: Config, tap: Tap | None) -> Iterator[Bus | ExchangeOnly]:
    """Give the configured bus, and let go of it at the end; raises OSError."""
    bus = bus_of(config)
    try:
        yield tap(bus) if tap else bus
    finally:
        close = getattr(bus, "close", None)
        if close is not None:
            close()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A chip that was brought up, with the addresses that it holds, and the DNS servers that came with them."""

    chip: Chip
    addressing: Addressing
    dns: tuple[IPv4Address, ...]


@contextmanager
def fresh_chip(config: Config, hands: Hands) -> Iterator[Chip]:
    """Give the chip after a reset, without addresses; it is let go of at the end.

    All connections of the chip are gone. Raises OSError where chip or bus fail.
    """
    bus = bus_of(config)
    chip = Chip(
        hands.tap(bus) if hands.tap else bus, model=config.chip.model, clock=hands.clock, sleep=hands.sleep
    )
    try:
        chip.reset()
        yield chip
    finally:
        chip.close()


@contextmanager
def chip_of(config: Config, hands: Hands) -> Iterator[Reached]:
    """Give the chip with its addresses, by DHCP where the configuration says so; it is let go of at the end.

    All connections of the chip are gone. Raises NoLease, or OSError where chip or bus fail.
    """
    network = config.chip.network
    with fresh_chip(config, hands) as chip:
        addressing, dns = addressing_of(config), network.dns if network else ()
        if network is not None and network.dhcp:
            try:
                lease = leased(chip, addressing.mac, hands, timeout_s=LEASE_S)
            except NoLease:
                if network.address is None:
                    raise
            else:
                addressing, dns = lease.addressing(addressing.mac), lease.dns or dns
        chip.configure(addressing, lanes=LANES)
        yield Reached(chip=chip, addressing=addressing, dns=dns)


def leased(chip: Chip, mac: bytes, hands: Hands, *, timeout_s: float) -> Lease:
    """Obtain an address for ``chip`` by DHCP, and configure it with that; raises NoLease, OSError."""
    return obtain(
        chip,
        DhcpClient(mac),
        lambda addressing: chip.configure(addressing, lanes=LANES),
        clock=hands.clock,
        timeout_s=timeout_s,
    )


def wanted_of(config: Config) -> Addressing | None:
    """Return what the chip is configured to be; None where the configuration leaves that to others."""
    network = config.chip.network
    return addressing_of(config) if network is not None and not network.dhcp else None
