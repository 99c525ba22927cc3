"""Which register stands at an address, and what its value says, for people who look at the chip by hand. Pure.

Names are WIZnet's, with the socket's number for n: S0_SR at 0x0403. Source: W5100 datasheet, chapters 2 to 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag
from ipaddress import IPv4Address
from typing import Final, final

from plugin.w5100 import registers as reg

PTIMER_UNIT_S: Final = 25e-3


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """One register of ``size`` octets; ``said`` puts its octets in words, "" where the number says it all."""

    name: str
    address: int
    size: int
    said: Callable[[bytes], str]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """``size`` octets from ``address`` on; ``register`` is None in memory and where no register is documented."""

    name: str
    address: int
    size: int
    register: Register | None = None
    memory: bool = False


# --- Values in words ------------------------------------------------------------------------------------------


def flags(kind: type[IntFlag], value: int) -> str:
    """Return the names of the bits that are set, highest last; those without a name in hexadecimal."""
    names = [str(one.name) for one in kind if value & one]
    if unknown := value & ~sum(kind):
        names.append(f"0x{unknown:02X}")
    return ", ".join(names)


def socket_mode(value: int) -> str:
    """Return the protocol and the options of Sn_MR."""
    protocol = value & reg.PROTOCOL_MASK
    known = {
        int(one): str(one.name)
        for one in (
            reg.SocketMode.TCP,
            reg.SocketMode.UDP,
            reg.SocketMode.IPRAW,
            reg.SocketMode.MACRAW,
            reg.SocketMode.PPPOE,
        )
    }
    words = [known.get(protocol, "closed" if not protocol else f"protocol {protocol}")]
    options = (reg.SocketMode.ND, reg.SocketMode.MF, reg.SocketMode.MULTI)
    words += [str(one.name) for one in options if value & one]
    if value & 0x10:
        words.append("0x10")
    return ", ".join(words)


def _number(value: bytes) -> str:
    return str(int.from_bytes(value, "big"))


def _address(value: bytes) -> str:
    return str(IPv4Address(value))


def _mac(value: bytes) -> str:
    return value.hex(":")


def _sizes(value: bytes) -> str:
    return ", ".join(str(size // reg.KIB) for size in reg.sizes_of(value[0])) + " KiB"


def _command(value: bytes) -> str:
    try:
        return reg.Command(value[0]).name
    except ValueError:
        return "taken" if not value[0] else f"0x{value[0]:02X}"


def _rtr(value: bytes) -> str:
    return f"{int.from_bytes(value, 'big') * reg.RTR_UNIT_S * 1000:g} ms"


def _protocol(value: bytes) -> str:
    return {0: "", 1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP"}.get(value[0], _number(value))


def _nothing(_value: bytes) -> str:
    return ""


_Rows = tuple[tuple[str, int, int, Callable[[bytes], str]], ...]
"""Name, address or offset, size in octets, words."""

# --- The map --------------------------------------------------------------------------------------------------

_COMMON: Final[_Rows] = (
    ("MR", reg.MR, 1, lambda value: flags(reg.Mode, value[0])),
    ("GAR", reg.GAR, 4, _address),
    ("SUBR", reg.SUBR, 4, _address),
    ("SHAR", reg.SHAR, 6, _mac),
    ("SIPR", reg.SIPR, 4, _address),
    ("IR", reg.IR, 1, lambda value: flags(reg.Interrupt, value[0])),
    ("IMR", reg.IMR, 1, lambda value: flags(reg.Interrupt, value[0])),
    ("RTR", reg.RTR, 2, _rtr),
    ("RCR", reg.RCR, 1, lambda value: f"{value[0] + 1} tries"),
    ("RMSR", reg.RMSR, 1, _sizes),
    ("TMSR", reg.TMSR, 1, _sizes),
    ("PATR", reg.PATR, 2, _nothing),
    ("PTIMER", reg.PTIMER, 1, lambda value: f"{value[0] * PTIMER_UNIT_S * 1000:g} ms"),
    ("PMAGIC", reg.PMAGIC, 1, _nothing),
    ("UIPR", reg.UIPR, 4, _address),
    ("UPORT", reg.UPORT, 2, _number),
)
_W5100S: Final[_Rows] = (
    ("PHYSR", reg.PHYSR, 1, lambda value: flags(reg.PhyStatus, value[0])),
    ("VERR", reg.VERR, 1, _nothing),
)
_SOCKET: Final[_Rows] = (
    ("MR", reg.Sn_MR, 1, lambda value: socket_mode(value[0])),
    ("CR", reg.Sn_CR, 1, _command),
    ("IR", reg.Sn_IR, 1, lambda value: flags(reg.SocketInterrupt, value[0])),
    ("SR", reg.Sn_SR, 1, lambda value: reg.status_name(value[0])),
    ("PORT", reg.Sn_PORT, 2, _number),
    ("DHAR", reg.Sn_DHAR, 6, _mac),
    ("DIPR", reg.Sn_DIPR, 4, _address),
    ("DPORT", reg.Sn_DPORT, 2, _number),
    ("MSSR", reg.Sn_MSSR, 2, _number),
    ("PROTO", reg.Sn_PROTO, 1, _protocol),
    ("TOS", reg.Sn_TOS, 1, _nothing),
    ("TTL", reg.Sn_TTL, 1, _number),
    ("TX_FSR", reg.Sn_TX_FSR, 2, _number),
    ("TX_RD", reg.Sn_TX_RD, 2, _number),
    ("TX_WR", reg.Sn_TX_WR, 2, _number),
    ("RX_RSR", reg.Sn_RX_RSR, 2, _number),
    ("RX_RD", reg.Sn_RX_RD, 2, _number),
)


def _registers(rows: _Rows, before: str, base: int) -> tuple[Register, ...]:
    return tuple(
        Register(name=f"{before}{name}", address=base + offset, size=size, said=said)
        for name, offset, size, said in rows
    )


COMMON: Final = _registers(_COMMON, "", 0)
"""The common registers, by address."""
W5100S_ALONE: Final = _registers(_W5100S, "", 0)
"""Common registers that a W5100 has not got, as far as they are used here."""
SOCKETS: Final = tuple(
    _registers(_SOCKET, f"S{number}_", reg.socket_base(number)) for number in range(reg.SOCKETS)
)
"""The registers of each socket that the datasheet tells of, by address."""

_BY_ADDRESS: Final = {
    address: one
    for one in (*COMMON, *W5100S_ALONE, *(one for registers in SOCKETS for one in registers))
    for address in range(one.address, one.address + one.size)
}
_MEMORIES: Final = (("TX memory", reg.TX_BASE), ("RX memory", reg.RX_BASE))


def areas(address: int, size: int) -> list[Area]:
    """Return what lies in ``size`` octets from ``address`` on, in order: registers, memory, and what is neither.

    A register of which only a part is covered is named all the same, with the octets that are.
    """
    found: list[Area] = []
    end = address + size
    while address < end:
        area = _area(address, end)
        found.append(area)
        address += area.size
    return found


def _area(address: int, end: int) -> Area:
    for name, base in _MEMORIES:
        if base <= address < base + reg.MEMORY_BYTES:
            size = min(end, base + reg.MEMORY_BYTES) - address
            return Area(name=name, address=address, size=size, memory=True)
    register = _BY_ADDRESS.get(address)
    if register is None:
        return Area(name="?", address=address, size=1)
    size = min(end, register.address + register.size) - address
    return Area(name=register.name, address=address, size=size, register=register)


def words(register: Register, value: bytes) -> str:
    """Return what ``value`` says in ``register``; "" for a part of one."""
    return register.said(value) if len(value) == register.size else ""
