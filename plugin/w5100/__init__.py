"""The chip: driver and emulator of the WIZnet W5100. Knows nothing of mail."""

from plugin.w5100.bus import Bus, ExchangeOnly
from plugin.w5100.chip import Addressing, Chip
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
from plugin.w5100.socket import TcpSocket

__all__ = [
    "Addressing",
    "Bus",
    "BusError",
    "Chip",
    "ChipLost",
    "ChipNotFound",
    "ChipTimeout",
    "ConnectRefused",
    "ConnectionLost",
    "ExchangeOnly",
    "NoSocketError",
    "PeerTimeout",
    "SocketTimeout",
    "TcpSocket",
    "W5100Error",
]
