"""The chip brought up and kept up: hands out connected sockets to whoever has mail."""

from plugin.uplink.uplink import Resolve, Uplink, resolve_by_host, resolve_literal

__all__ = ["Resolve", "Uplink", "resolve_by_host", "resolve_literal"]
