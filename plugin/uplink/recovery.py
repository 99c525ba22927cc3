"""What is wrong when the chip fails, and what is done about it. Pure.

==========  ===========================================  ==================================================
kind        what it looks like                           what is done
==========  ===========================================  ==================================================
network     refused, no answer to ARP or SYN, reset      nothing: the chip does as it should
forgotten   the addresses or the memory split are gone   reset and configure, at once: no connection is left
socket      a command is not taken, no SEND_OK           the socket is closed; then reset; then /RESET
bus         wrong echo, an error of the SPI device       another try; then reset; then /RESET
==========  ===========================================  ==================================================

A reset costs every lane its connection. As long as the chip holds its addresses and other lanes are connected, it
is put off until the faults have come so often that the others can hardly fare better.
"""

from __future__ import annotations

from typing import Final, Literal

from plugin.w5100.errors import (
    BusError,
    ChipLost,
    ChipNotFound,
    ChipTimeout,
    ConnectionLost,
    ConnectRefused,
    NoSocketError,
    PeerTimeout,
    SocketTimeout,
    W5100Error,
)

Kind = Literal["network", "forgotten", "socket", "bus"]
Remedy = Literal["none", "reopen", "reset", "line"]

SUSPECT: Final = 2
"""So many faults in connections that stood, with nothing sent in between, and the chip is not trusted as it is."""
PATIENCE: Final = 6
"""So many faults in a row are borne for the sake of other lanes before the chip is reset under them."""

_KINDS: Final[tuple[tuple[type[BaseException], Kind], ...]] = (
    (ConnectRefused, "network"),
    (ConnectionLost, "network"),
    (PeerTimeout, "network"),
    (SocketTimeout, "network"),
    (NoSocketError, "network"),
    (ChipLost, "forgotten"),
    (ChipNotFound, "bus"),
    (ChipTimeout, "socket"),
    (BusError, "bus"),
    (W5100Error, "network"),  # an address that cannot be a peer, say: nothing is wrong with the chip
)
_LADDER: Final[tuple[Remedy, ...]] = ("reopen", "reset", "line")


def kind_of(error: BaseException) -> Kind:
    """Return what ``error`` tells of; whatever the driver does not know is of the bus below it."""
    return next((kind for known, kind in _KINDS if isinstance(error, known)), "bus")


def remedy_for(kind: Kind, *, strikes: int, others: bool) -> Remedy:
    """Return what to do about the fault number ``strikes`` (from 1) in a row.

    ``others``: other lanes are connected, and the chip holds its addresses.
    """
    if kind == "network":
        return "none"
    if kind == "forgotten":
        return "reset" if strikes <= len(_LADDER) else "line"
    remedy = _LADDER[min(strikes, len(_LADDER)) - 1]
    return "none" if remedy != "reopen" and others and strikes < PATIENCE else remedy
