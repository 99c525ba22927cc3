"""An address for the chip from a DHCP server (RFC 2131, RFC 2132): obtained, renewed, rebound, given up."""

from plugin.w5100.dhcp.client import DhcpClient, State
from plugin.w5100.dhcp.driver import obtain, renew
from plugin.w5100.dhcp.lease import Lease, unaddressed

__all__ = ["DhcpClient", "Lease", "State", "obtain", "renew", "unaddressed"]
