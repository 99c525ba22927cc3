"""What can go wrong with the chip. Each error is also one of the standard library's, so that those who know
nothing of chips (``plugin.smtp``) can tell a refused connection from a time-out.
"""

from __future__ import annotations


class W5100Error(OSError):
    """Base of all errors of this room."""


class BusError(W5100Error):
    """The SPI bus gave something that no W5100 gives: MISO stuck, a flipped bit, too few octets."""


class ChipNotFound(W5100Error):
    """After a soft reset RTR does not read 0x07D0: no W5100 answers."""


class ChipLost(W5100Error):
    """The chip no longer holds what was written to it: it has reset itself."""


class ChipTimeout(W5100Error, TimeoutError):
    """A register did not reach the value it must reach: Sn_CR not taken, SEND without SEND_OK."""


class NoSocketError(W5100Error):
    """All hardware sockets are in use."""


class SocketTimeout(W5100Error, TimeoutError):
    """Our own deadline passed while the chip and the peer were silent."""


class PeerTimeout(W5100Error, TimeoutError):
    """The chip gave up (Sn_IR.TIMEOUT): no answer to ARP, SYN, data or FIN within RTR and RCR."""


class ConnectRefused(W5100Error, ConnectionRefusedError):
    """The peer answered the SYN with RST."""


class ConnectionLost(W5100Error, ConnectionResetError):
    """The connection was reset, or ended where it must not end."""
