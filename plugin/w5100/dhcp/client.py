"""The DHCP client of RFC 2131 without input and output: what to send when, and what an answer changes.

States and times are those of the RFC, section 4.4 and figure 5. The broadcast flag is set as long as there is no
address: the chip hears no datagram for an address that it does not have yet (section 4.1).
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from typing import Final

from plugin.w5100.dhcp.lease import BadLease, Lease, lease_of
from plugin.w5100.dhcp.message import (
    BOOTREPLY,
    BOOTREQUEST,
    ETHERNET,
    NOBODY,
    PARAMETERS,
    MalformedMessage,
    Message,
    MessageType,
    Option,
    decode,
    encode,
)

EVERYBODY: Final = IPv4Address("255.255.255.255")
FIRST_WAIT_S: Final = 4.0  # section 4.1: 4, 8, 16 ... 64 s, each give or take a second
LONGEST_WAIT_S: Final = 64.0
REQUEST_TRIES: Final = 4
REBOOT_TRIES: Final = 2
SHORTEST_RENEWAL_S: Final = 60.0  # section 4.4.5
AFTER_DECLINE_S: Final = 10.0  # section 3.1, step 5
TEXT_AT_MOST: Final = 80
HOST_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


class State(Enum):
    """States of figure 5; REBOOTING is its INIT-REBOOT once the request is out."""

    INIT = "init"
    SELECTING = "selecting"
    REQUESTING = "requesting"
    REBOOTING = "rebooting"
    BOUND = "bound"
    RENEWING = "renewing"
    REBINDING = "rebinding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A message to be sent now, to port 67 of ``address``."""

    data: bytes
    address: IPv4Address


def random_jitter_s() -> float:
    """Return between -1 and 1 s."""
    return secrets.randbelow(2001) / 1000 - 1


def backoff_s(tries: int, jitter_s: float) -> float:
    """Return how long to wait for an answer after ``tries`` earlier ones have failed."""
    return min(FIRST_WAIT_S * (1 << min(tries, 10)), LONGEST_WAIT_S) + jitter_s


class DhcpClient:
    """One client for the life of one chip. Not thread-safe; the clock is the caller's, in seconds, rising.

    Call ``step`` when ``due_at`` has come and ``receive`` for each datagram from port 67; ``lease`` is what holds.
    """

    def __init__(
        self,
        mac: bytes,
        *,
        host_name: str = "",
        remembered: IPv4Address | None = None,
        xid: Callable[[], int] = lambda: secrets.randbits(32),
        jitter_s: Callable[[], float] = random_jitter_s,
    ) -> None:
        """``mac``: SHAR, 6 octets. ``host_name`` is told to the server (option 12), one label of 1 to 63 letters,
        digits and hyphens, or none. ``remembered``: the address of an earlier lease, which is asked for first.
        """
        if host_name and not HOST_NAME.fullmatch(host_name):
            raise ValueError(f"{host_name!r} is no host name of one label: letters, digits and hyphens only")
        self.mac: Final = mac
        self.state = State.INIT
        self.lease: Lease | None = None
        self.due_at = -math.inf
        self.problem: str | None = None  # why there is no lease (yet), as a sentence's end
        self._host_name = host_name.encode()
        self._remembered = remembered
        self._new_xid = xid
        self._jitter_s = jitter_s
        self._xid = 0
        self._began_at = 0.0
        self._sent_at = 0.0
        self._tries = 0
        self._refusals = 0  # NAKs to our requests in a row
        self._offer: Lease | None = None

    # --- The clock --------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Begin anew with the next step; an address that there is, or was, is asked for first (INIT-REBOOT)."""
        self.lease = self._offer = None
        self.state = State.INIT
        self.due_at = -math.inf

    def step(self, now: float) -> Send | None:
        """Return what is to be sent at ``now``, and set ``due_at`` anew; None when there is nothing.

        A lease that has expired is gone after it: ``lease`` is None, and the next step begins anew.
        """
        if now < self.due_at:
            return None
        if self.lease is not None:
            return self._keep(self.lease, now)
        if self.state is State.REQUESTING and self._offer is not None and self._tries < REQUEST_TRIES:
            return self._request(self._offer, now)
        if self.state is State.REBOOTING and self._remembered is not None and self._tries < REBOOT_TRIES:
            return self._reboot(self._remembered, now)
        if self.state is State.REBOOTING:
            self._remembered = None  # its server is silent: begin from nothing
        if self.state is not State.SELECTING:
            self._begin(now)
            if self._remembered is not None:
                self.state = State.REBOOTING
                return self._reboot(self._remembered, now)
            self.state = State.SELECTING
        return self._broadcast(MessageType.DISCOVER, {Option.PARAMETER_LIST: PARAMETERS}, now)

    def _begin(self, now: float) -> None:
        self._xid = self._new_xid()
        self._began_at = now
        self._tries = 0
        self._offer = None

    def _keep(self, lease: Lease, now: float) -> Send | None:
        # Moments, not ages: obtained_at + t1_s - obtained_at may be less than t1_s.
        t1, t2, end = (lease.obtained_at + span_s for span_s in (lease.t1_s, lease.t2_s, lease.expires_s))
        if now >= end:
            self._lose(f"the lease of {lease.address.ip} has expired, {lease.server} did not renew it", now)
            return None
        if now < t1:
            self.due_at = t1
            return None
        if self.state is State.BOUND:
            self._begin(now)
        rebinding = now >= t2
        self.state = State.REBINDING if rebinding else State.RENEWING
        limit = end if rebinding else t2
        self._sent_at = now
        self.due_at = min(limit, now + max(SHORTEST_RENEWAL_S, (limit - now) / 2))
        options: dict[int, bytes] = {Option.PARAMETER_LIST: PARAMETERS}
        data = self._message(MessageType.REQUEST, options, now, ciaddr=lease.address.ip)
        return Send(data=data, address=EVERYBODY if rebinding else lease.server)

    def _request(self, offer: Lease, now: float) -> Send:
        wanted: dict[int, bytes] = {
            Option.REQUESTED_ADDRESS: offer.address.ip.packed,
            Option.SERVER_ID: offer.server.packed,
        }
        return self._broadcast(MessageType.REQUEST, {**wanted, Option.PARAMETER_LIST: PARAMETERS}, now)

    def _reboot(self, address: IPv4Address, now: float) -> Send:
        options: dict[int, bytes] = {Option.REQUESTED_ADDRESS: address.packed, Option.PARAMETER_LIST: PARAMETERS}
        return self._broadcast(MessageType.REQUEST, options, now)

    def _broadcast(self, kind: MessageType, options: dict[int, bytes], now: float) -> Send:
        self._sent_at = now
        self.due_at = now + backoff_s(self._tries, self._jitter_s())
        self._tries += 1
        return Send(data=self._message(kind, options, now), address=EVERYBODY)

    def _message(
        self, kind: MessageType, options: dict[int, bytes], now: float, *, ciaddr: IPv4Address = NOBODY
    ) -> bytes:
        common: dict[int, bytes] = {
            Option.MESSAGE_TYPE: bytes((kind,)),
            Option.CLIENT_ID: bytes((ETHERNET,)) + self.mac,
            **({Option.HOST_NAME: self._host_name} if self._host_name else {}),
        }
        message = Message(
            op=BOOTREQUEST,
            xid=self._xid,
            chaddr=self.mac,
            secs=int(now - self._began_at),
            broadcast=ciaddr == NOBODY,
            ciaddr=ciaddr,
            options={**common, **options},
        )
        return encode(message)

    # --- Answers ----------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take in a datagram from a server's port; what is not for us, or not waited for, changes nothing."""
        try:
            message = decode(data)
        except MalformedMessage as error:
            self.problem = f"what came from a DHCP server cannot be read: {error}"
            return
        if (message.op, message.xid, message.chaddr) != (BOOTREPLY, self._xid, self.mac):
            return
        if message.kind == MessageType.OFFER and self.state is State.SELECTING:
            self._offered(message, now)
        elif message.kind == MessageType.ACK and self.state in _ASKED:
            self._acknowledged(message, now)
        elif message.kind == MessageType.NAK and self.state in _ASKED:
            self._refused(message, now)

    def _offered(self, message: Message, now: float) -> None:
        self._offer = self._read(message)
        if self._offer is not None:
            self.state = State.REQUESTING
            self._tries = 0
            self.due_at = now

    def _acknowledged(self, message: Message, now: float) -> None:
        granted = self._read(message)
        if granted is None or not self._from_chosen(message):
            return
        asked = self._asked_for()
        if granted.address.ip != asked:
            self.problem = f"the DHCP server {granted.server} grants {granted.address.ip} instead of {asked}"
            return
        self.lease = granted
        self.state = State.BOUND
        self.problem = None
        self._refusals = 0
        self._remembered = granted.address.ip
        self.due_at = max(now, granted.obtained_at + granted.t1_s)

    def _refused(self, message: Message, now: float) -> None:
        if not self._from_chosen(message):
            return
        words = message.options.get(Option.MESSAGE, b"")[:TEXT_AT_MOST].decode("ascii", errors="replace")
        reason = "".join(one for one in words if one.isascii() and one.isprintable()) or "no reason given"
        asked, requesting = self._asked_for(), self.state is State.REQUESTING
        self._lose(f"a DHCP server refuses {asked} (NAK: {reason})", now)
        if requesting:  # it refuses what it has offered: not again at once
            self.due_at = now + backoff_s(self._refusals, self._jitter_s())
            self._refusals += 1

    def _read(self, message: Message) -> Lease | None:
        try:
            return lease_of(message, sent_at=self._sent_at)
        except BadLease as error:
            servers = message.addresses(Option.SERVER_ID)
            self.problem = f"the answer of DHCP server {servers[0] if servers else '?'} is of no use: {error}"
            return None

    def _from_chosen(self, message: Message) -> bool:
        """Return False if one server was asked, and this is another."""
        chosen = {State.REQUESTING: self._offer, State.RENEWING: self.lease}.get(self.state)
        return chosen is None or message.addresses(Option.SERVER_ID) == (chosen.server,)

    def _asked_for(self) -> IPv4Address | None:
        if self.lease is not None:
            return self.lease.address.ip
        return self._offer.address.ip if self._offer is not None else self._remembered

    def _lose(self, problem: str, now: float) -> None:
        self.lease = self._offer = self._remembered = None
        self.state = State.INIT
        self.problem = problem
        self.due_at = now

    def decline(self, now: float) -> Send | None:
        """Give the lease back, as another host uses its address; begin anew in ten seconds. None without one."""
        lease = self.lease
        if lease is None:
            return None
        options: dict[int, bytes] = {
            Option.REQUESTED_ADDRESS: lease.address.ip.packed,
            Option.SERVER_ID: lease.server.packed,
        }
        self._lose(f"another host uses {lease.address.ip}, which DHCP server {lease.server} gave us", now)
        self.due_at = now + AFTER_DECLINE_S
        return Send(data=self._message(MessageType.DECLINE, options, now), address=EVERYBODY)


_ASKED: Final = frozenset({State.REQUESTING, State.REBOOTING, State.RENEWING, State.REBINDING})
