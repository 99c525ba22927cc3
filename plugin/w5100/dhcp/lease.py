"""A lease: what a DHCP server grants, looked at before it is believed. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from typing import Final

from plugin.w5100.chip import Addressing
from plugin.w5100.dhcp.message import NOBODY, Message, Option

DNS_AT_MOST: Final = 4
PREFIX_AT_MOST: Final = 30  # above that there is no room for a gateway
SHORTEST_LEASE_S: Final = 60
FOR_EVER: Final = 0xFFFFFFFF
T1_SHARE: Final = 0.5  # RFC 2131, section 4.4.5
T2_SHARE: Final = 0.875


class BadLease(ValueError):
    """A server offers what cannot be used; the text says what, as the end of a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """An address for a time. ``t1_s`` (renew), ``t2_s`` (rebind) and ``expires_s`` count from ``obtained_at``.

    ``obtained_at`` is of the caller's rising clock, when the request was sent; a lease without end has ``inf``.
    """

    address: IPv4Interface
    gateway: IPv4Address | None
    dns: tuple[IPv4Address, ...]
    server: IPv4Address
    obtained_at: float
    t1_s: float
    t2_s: float
    expires_s: float

    def addressing(self, mac: bytes) -> Addressing:
        """Return what the chip is to be configured with: GAR is 0.0.0.0 where the lease names no gateway."""
        return Addressing(
            mac=mac,
            address=self.address.ip,
            subnet_mask=self.address.netmask,
            gateway=self.gateway or NOBODY,
        )


def unaddressed(mac: bytes) -> Addressing:
    """Return what a chip that has no lease (any more) is to be configured with: no address, no mask."""
    return Addressing(mac=mac, address=NOBODY, subnet_mask=NOBODY, gateway=NOBODY)


def lease_of(message: Message, *, sent_at: float) -> Lease:
    """Return the lease that an OFFER or ACK grants to a request sent at ``sent_at``; BadLease if it is none."""
    servers = message.addresses(Option.SERVER_ID)
    if len(servers) != 1:
        raise BadLease("it does not say which server it comes from (option 54)")
    address = _interface(message)
    routers = message.addresses(Option.ROUTER)
    gateway = routers[0] if routers and routers[0] != NOBODY else None
    if gateway is not None and (gateway not in address.network or gateway == address.ip):
        raise BadLease(f"the gateway {gateway} is not another host of {address.network}")
    names = [one for one in message.addresses(Option.DNS) if one != NOBODY and not one.is_multicast]
    t1_s, t2_s, expires_s = _times(message)
    return Lease(
        address=address,
        gateway=gateway,
        dns=tuple(dict.fromkeys(names))[:DNS_AT_MOST],
        server=servers[0],
        obtained_at=sent_at,
        t1_s=t1_s,
        t2_s=t2_s,
        expires_s=expires_s,
    )


def _interface(message: Message) -> IPv4Interface:
    masks = message.addresses(Option.SUBNET_MASK)
    if len(masks) != 1:
        raise BadLease("it names no subnet mask (option 1)")
    prefix = int(masks[0]).bit_count()
    address = IPv4Interface((message.yiaddr, prefix))
    if address.netmask != masks[0] or not 1 <= prefix <= PREFIX_AT_MOST:
        raise BadLease(f"the subnet mask {masks[0]} is none of 1 to {PREFIX_AT_MOST} leading ones")
    ip, network = address.ip, address.network
    unusable = ip.is_multicast or ip.is_loopback or ip.is_reserved or ip == NOBODY
    if unusable or ip in (network.network_address, network.broadcast_address):
        raise BadLease(f"the address {address} is none for a host")
    return address


def _times(message: Message) -> tuple[float, float, float]:
    """Return T1, T2 and the end; T1 and T2 by shares of it where the server's own make no sense."""
    granted = message.seconds(Option.LEASE_TIME)
    if granted is None:
        raise BadLease("it names no lease time (option 51)")
    if granted < SHORTEST_LEASE_S:
        raise BadLease(f"a lease time of {granted} s is less than {SHORTEST_LEASE_S}")
    if granted == FOR_EVER:
        return math.inf, math.inf, math.inf
    t1_s, t2_s = message.seconds(Option.T1), message.seconds(Option.T2)
    if t1_s and t2_s and t1_s < t2_s < granted:
        return float(t1_s), float(t2_s), float(granted)
    return granted * T1_SHARE, granted * T2_SHARE, float(granted)
