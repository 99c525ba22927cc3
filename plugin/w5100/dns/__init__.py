"""Names to IPv4 addresses through the chip (RFC 1035): over UDP, over TCP where an answer does not fit."""

from plugin.w5100.dns.resolver import Resolver

__all__ = ["Resolver"]
