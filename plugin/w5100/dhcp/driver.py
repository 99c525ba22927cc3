"""The DHCP client on the chip: a lease obtained and kept over one hardware socket, each under a deadline."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Final

from plugin.w5100.chip import Addressing, Chip
from plugin.w5100.dhcp.client import DhcpClient, Send, State
from plugin.w5100.dhcp.lease import Lease, unaddressed
from plugin.w5100.dhcp.message import CLIENT_PORT, MOST_BYTES, SERVER_PORT
from plugin.w5100.errors import ChipTimeout, LeaseLost, NoLease, PeerTimeout, SocketTimeout
from plugin.w5100.udp_socket import UdpSocket

log = logging.getLogger("hardwire.w5100")

SEND_S: Final = 4.0
RENEW_S: Final = 5.0
CONFLICT_LOOK_S: Final = 1.0
CONFLICT_STEP_S: Final = 0.1

Configure = Callable[[Addressing], None]
"""Writes the addresses to the chip: ``lambda addressing: chip.configure(addressing, lanes=lanes)``."""


def obtain(
    chip: Chip,
    client: DhcpClient,
    configure: Configure,
    *,
    clock: Callable[[], float],
    timeout_s: float = 60.0,
) -> Lease:
    """Get a lease and configure the chip with it; see for a second more whether another host has its address.

    Before, the chip is configured with no address: nothing else may use it meanwhile. A lease that ``client`` has
    or had is asked for first. Raises NoLease when no server gave one within ``timeout_s``, with the last reason;
    NoSocketError, ChipTimeout, ChipLost, BusError. The chip has no address then; try again with the same client.
    """
    deadline = clock() + timeout_s
    client.restart()
    configure(unaddressed(client.mac))
    with closing(chip.udp_socket(CLIENT_PORT)) as socket:
        while (left := deadline - clock()) > 0:
            send = client.step(clock())
            if send is not None:
                _send(socket, send, min(SEND_S, left))
            _hear(socket, client, clock, min(deadline, client.due_at))
            lease = client.lease
            if lease is None:
                continue
            configure(lease.addressing(client.mac))
            if not _conflict(chip, socket, clock):
                log.info(
                    "event=lease server=%s address=%s expires_s=%g", lease.server, lease.address, lease.expires_s
                )
                return lease
            configure(unaddressed(client.mac))
            if (declined := client.decline(clock())) is not None:
                log.warning("event=lease_declined problem=%r", client.problem)
                _send(socket, declined, SEND_S)
    raise NoLease(
        f"no DHCP server gave an address within {timeout_s:g} s: {client.problem or 'none answered'}; "
        "check the cable and the DHCP server, or give chip.network an address"
    )


def renew(
    chip: Chip,
    client: DhcpClient,
    configure: Configure,
    *,
    clock: Callable[[], float],
    timeout_s: float = RENEW_S,
) -> Lease:
    """Renew or rebind the lease if ``client.due_at`` has come; return the one that holds afterwards.

    That is the old one if nothing is due, or if no server answered within ``timeout_s``; ``client.due_at`` is then
    the moment for the next attempt. Raises LeaseLost once it has expired or a server took it back: connections
    from its address are dead, the chip is configured with no address, and ``obtain`` may get another.
    NoSocketError when no hardware socket is free: try again when one is. ChipTimeout, ChipLost, BusError.
    """
    before = client.lease
    if before is None:
        raise LeaseLost("there is no lease to renew")
    if clock() < client.due_at:
        return before
    with closing(chip.udp_socket(CLIENT_PORT)) as socket:
        deadline = clock() + timeout_s
        send = client.step(clock())
        if send is not None:
            _send(socket, send, min(SEND_S, timeout_s))
            _hear(socket, client, clock, deadline)
    lease = client.lease
    if lease is None:
        configure(unaddressed(client.mac))
        raise LeaseLost(f"the chip has no address any more: {client.problem}")
    if client.state is not State.BOUND:
        log.warning("event=lease_not_renewed address=%s problem='no answer'", lease.address)
    elif lease.addressing(client.mac) != before.addressing(client.mac):
        configure(lease.addressing(client.mac))
    return lease


def _send(socket: UdpSocket, send: Send, timeout_s: float) -> None:
    """Send; a datagram that does not leave is one that is lost, and what is lost is sent again."""
    try:
        socket.send_to(send.data, send.address, SERVER_PORT, timeout_s=timeout_s)
    except (PeerTimeout, SocketTimeout, ChipTimeout) as error:
        log.info("event=dhcp_not_sent problem=%r", str(error))


def _hear(socket: UdpSocket, client: DhcpClient, clock: Callable[[], float], deadline: float) -> None:
    """Let ``client`` hear servers until its state changes, or until ``deadline``."""
    state = client.state
    while client.state is state:
        try:
            data, _, port = socket.receive_from(MOST_BYTES, timeout_s=max(0.0, deadline - clock()))
        except SocketTimeout:
            return
        if port == SERVER_PORT:
            client.receive(data, clock())


def _conflict(chip: Chip, socket: UdpSocket, clock: Callable[[], float]) -> bool:
    """Look for a short time whether ARP tells of another host that has our address."""
    deadline = clock() + CONFLICT_LOOK_S
    while clock() < deadline:
        with suppress(SocketTimeout):
            socket.receive_from(MOST_BYTES, timeout_s=CONFLICT_STEP_S)
        if chip.conflict():
            return True
    return False
