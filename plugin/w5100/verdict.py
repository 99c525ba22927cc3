"""What Sn_SR and Sn_IR say of a TCP connection. Pure functions; W5100 datasheet, chapter 4."""

from __future__ import annotations

from typing import Literal

from plugin.w5100.errors import ConnectionLost, PeerTimeout, W5100Error
from plugin.w5100.registers import SocketInterrupt, Status, status_name

Connecting = Literal["wait", "open", "refused", "timeout"]
Ended = Literal["no", "end", "reset", "timeout"]


def connecting(status: int, events: SocketInterrupt) -> Connecting:
    """Return what Sn_SR and the Sn_IR bits seen since OPEN say of a CONNECT.

    A status may pass unseen: CLOSE_WAIT is an open connection that the peer has ended already, and CLOSED with
    CON one that was reset at once, whose data can still be read. All others are on their way.
    """
    if status in (Status.ESTABLISHED, Status.CLOSE_WAIT):
        return "open"
    if status != Status.CLOSED:
        return "wait"
    if events & SocketInterrupt.TIMEOUT:
        return "timeout"
    return "open" if events & SocketInterrupt.CON else "refused"


def ended(status: int, events: SocketInterrupt, *, seen_end: bool) -> Ended:
    """Return what Sn_SR says to a reader that found the ring empty; ``seen_end``: the peer's FIN was seen.

    Only CLOSE_WAIT and CLOSED are an end. What the driver does not expect here, and what it does not know, is
    neither open nor closed: the reader's deadline decides.
    """
    if status == Status.CLOSE_WAIT:
        return "end"
    if status != Status.CLOSED:
        return "no"
    if events & SocketInterrupt.TIMEOUT:
        return "timeout"
    return "end" if seen_end else "reset"


def silence(status: int, *, shows_arp: bool = True) -> str:
    """Return in words what has not come while a CONNECT was in ``status``; not every chip ``shows_arp`` there."""
    if status == Status.ARP:
        return "no answer to ARP: is the address right, or the gateway, and the cable in"
    if status == Status.SYNSENT and not shows_arp:
        return (
            "no answer to ARP or SYN: is the address right, the cable in, the host up, and no firewall in between"
        )
    if status == Status.SYNSENT:
        return "no answer to SYN: is the host up, and no firewall in between"
    return f"not connected (Sn_SR {status_name(status)})"


def loss(peer: str, events: SocketInterrupt) -> W5100Error:
    """Return the error for Sn_SR = CLOSED in a connection with ``peer``."""
    if events & SocketInterrupt.TIMEOUT:
        return PeerTimeout(f"{peer}: no acknowledgement; the chip gave up (Sn_IR.TIMEOUT)")
    return ConnectionLost(f"{peer}: connection reset by the peer")


def portion(*, left: int, room: int, staged: int, ring_bytes: int, most: int) -> int:
    """Return how many octets to copy into the TX ring now.

    ``left``: octets not copied yet; ``staged``: copied and not SENT; ``room``: free octets behind ``staged``, at
    least; ``most``: octets that one SEND should have at most. A trickle is not worth a SEND: room of less than a
    quarter of the ring is left to grow, unless it takes all that is wanted.
    """
    wanted = min(left, most - staged)
    count = min(wanted, room)
    return count if count >= min(wanted, ring_bytes // 4) else 0
