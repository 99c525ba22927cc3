"""How long the W5100 tries before it raises Sn_IR.TIMEOUT: pure functions of RTR and RCR.

Source: W5200 datasheet, pages 20 and 32, and W5500 datasheet, page 39, which describe the same counters.
"""

from __future__ import annotations

from typing import Final

from plugin.w5100 import registers as reg

RTR_BITS: Final = 16


def arp_timeout_s(rtr: int, rcr: int) -> float:
    """Return the time after which an unanswered ARP request is given up: RTR for each of RCR + 1 tries."""
    return rtr * (rcr + 1) * reg.RTR_UNIT_S


def tcp_timeout_s(rtr: int, rcr: int) -> float:
    """Return the time after which an unanswered SYN, data or FIN is given up.

    RTR doubles from try to try as long as it stays within 16 bits, then repeats: 31.8 s with the reset values.
    """
    tries = rcr + 1
    doublings = min(rcr, RTR_BITS - rtr.bit_length())
    rising = (1 << (doublings + 1)) - 1
    level = (tries - doublings - 1) << doublings
    return rtr * (rising + level) * reg.RTR_UNIT_S
