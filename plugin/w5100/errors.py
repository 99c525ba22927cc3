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


class LookupFailed(W5100Error):
    """A name has no address for us; base of the four below."""


class InvalidName(LookupFailed, ValueError):
    """What was to be looked up cannot be a host's name."""


class NameNotFound(LookupFailed):
    """A DNS server says that the name does not exist (NXDOMAIN)."""


class NoAddressError(LookupFailed):
    """A DNS server says that the name exists and has no IPv4 address (NODATA)."""


class NoAnswerError(LookupFailed, TimeoutError):
    """No DNS server gave an answer that can be used: silent, failing (SERVFAIL), or answering something else."""


class NoLease(W5100Error, TimeoutError):
    """No DHCP server gave a lease that can be used."""


class LeaseLost(W5100Error):
    """The lease is over: expired, or taken back by its server. Its address must not be used any more."""
