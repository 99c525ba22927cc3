"""The chip brought up and kept up: hands out connected sockets to whoever has mail."""

from plugin.uplink.addresses import Addresses, Fixed, Leased
from plugin.uplink.uplink import Resolve, Uplink, resolve_by_host, resolve_literal

__all__ = ["Addresses", "Fixed", "Leased", "Resolve", "Uplink", "resolve_by_host", "resolve_literal"]
