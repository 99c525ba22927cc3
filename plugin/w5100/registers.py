"""Registers of the W5100 under WIZnet's own names: addresses, bits, commands, states, reset values. No behaviour.

Source: W5100 datasheet, chapters 3 and 4, and WIZnet's ioLibrary (w5100.h, w5100s.h). Registers wider than one
octet are big-endian: the high octet stands at the lower address. The W5100S has all of them at the same addresses.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

# --- Common registers -------------------------------------------------------------------------------------
MR: Final = 0x0000
GAR: Final = 0x0001
SUBR: Final = 0x0005
SHAR: Final = 0x0009
SIPR: Final = 0x000F
IR: Final = 0x0015
IMR: Final = 0x0016
RTR: Final = 0x0017
RCR: Final = 0x0019
RMSR: Final = 0x001A
TMSR: Final = 0x001B
PATR: Final = 0x001C
PTIMER: Final = 0x0028
PMAGIC: Final = 0x0029
UIPR: Final = 0x002A
UPORT: Final = 0x002E

RTR_UNIT_S: Final = 100e-6

# Of what the W5100S has beyond that (0x0030 to 0x0088): the registers that are used here.
PHYSR: Final = 0x003C
VERR: Final = 0x0080

# --- Socket registers: add socket_base(n) ---------------------------------------------------------------
SOCKETS: Final = 4
SOCKET_BASE: Final = 0x0400
SOCKET_STRIDE: Final = 0x0100

Sn_MR: Final = 0x00
Sn_CR: Final = 0x01
Sn_IR: Final = 0x02
Sn_SR: Final = 0x03
Sn_PORT: Final = 0x04
Sn_DHAR: Final = 0x06
Sn_DIPR: Final = 0x0C
Sn_DPORT: Final = 0x10
Sn_MSSR: Final = 0x12
Sn_PROTO: Final = 0x14
Sn_TOS: Final = 0x15
Sn_TTL: Final = 0x16
Sn_RX_BUF_SIZE: Final = 0x1E
Sn_TX_BUF_SIZE: Final = 0x1F
Sn_TX_FSR: Final = 0x20
Sn_TX_RD: Final = 0x22
Sn_TX_WR: Final = 0x24
Sn_RX_RSR: Final = 0x26
Sn_RX_RD: Final = 0x28
Sn_RX_WR: Final = 0x2A
Sn_FRAGR: Final = 0x2D

# --- Memory ---------------------------------------------------------------------------------------------
TX_BASE: Final = 0x4000
RX_BASE: Final = 0x6000
KIB: Final = 1024
MEMORY_BYTES: Final = 0x2000


def socket_base(number: int) -> int:
    """Return the address of the first register of socket ``number`` (0 to 3)."""
    return SOCKET_BASE + SOCKET_STRIDE * number


class Mode(IntFlag):
    """Bits of MR."""

    IND = 0x01
    AI = 0x02
    PPPOE = 0x08
    PB = 0x10
    RST = 0x80


class Interrupt(IntFlag):
    """Bits of IR and IMR; bits 0 to 3 stand for the sockets."""

    S0 = 0x01
    S1 = 0x02
    S2 = 0x04
    S3 = 0x08
    PPPOE = 0x20
    UNREACH = 0x40
    CONFLICT = 0x80


class PhyStatus(IntFlag):
    """Bits of PHYSR (W5100S): the link stands; the cable is out."""

    LNK = 0x01
    CABOFF = 0x80


class SocketMode(IntFlag):
    """Sn_MR: the protocol in bits 3..0, options above."""

    CLOSED = 0x00
    TCP = 0x01
    UDP = 0x02
    IPRAW = 0x03
    MACRAW = 0x04
    PPPOE = 0x05
    ND = 0x20
    MF = 0x40
    MULTI = 0x80


PROTOCOL_MASK: Final = 0x0F


class Command(IntEnum):
    """Sn_CR; reads back 0 once the chip has taken the command, not when it is done."""

    OPEN = 0x01
    LISTEN = 0x02
    CONNECT = 0x04
    DISCON = 0x08
    CLOSE = 0x10
    SEND = 0x20
    SEND_MAC = 0x21
    SEND_KEEP = 0x22
    PCON = 0x23
    PDISCON = 0x24
    PCR = 0x25
    PCN = 0x26
    PCJ = 0x27
    RECV = 0x40


class SocketInterrupt(IntFlag):
    """Bits of Sn_IR; writing 1 clears."""

    CON = 0x01
    DISCON = 0x02
    RECV = 0x04
    TIMEOUT = 0x08
    SEND_OK = 0x10
    PNEXT = 0x20
    PFAIL = 0x40
    PRECV = 0x80


class Status(IntEnum):
    """Sn_SR; those marked as passing are neither "open" nor "closed"."""

    CLOSED = 0x00
    ARP = 0x01  # passing
    INIT = 0x13
    LISTEN = 0x14
    SYNSENT = 0x15  # passing
    SYNRECV = 0x16  # passing
    ESTABLISHED = 0x17
    FIN_WAIT = 0x18  # passing
    CLOSING = 0x1A  # passing
    TIME_WAIT = 0x1B  # passing
    CLOSE_WAIT = 0x1C
    LAST_ACK = 0x1D  # passing
    UDP = 0x22
    IPRAW = 0x32
    MACRAW = 0x42
    PPPOE = 0x5F


# --- Reset values that are not zero ---------------------------------------------------------------------
RESET_COMMON: Final[dict[int, bytes]] = {
    RTR: b"\x07\xd0",
    RCR: b"\x08",
    RMSR: b"\x55",
    TMSR: b"\x55",
    PTIMER: b"\x28",
}
RESET_SOCKET: Final[dict[int, bytes]] = {
    Sn_DHAR: b"\xff" * 6,
    Sn_TTL: b"\x80",
    Sn_RX_BUF_SIZE: b"\x02",
    Sn_TX_BUF_SIZE: b"\x02",
    Sn_TX_FSR: b"\x08\x00",
    Sn_FRAGR: b"\x40\x00",
}


def memory_size_register(sizes: tuple[int, ...]) -> int:
    """Return RMSR or TMSR for ``sizes`` in octets: two bits a socket from bit 0, 1 to 8 KiB as 0 to 3."""
    return sum(((size // KIB).bit_length() - 1) << (2 * number) for number, size in enumerate(sizes))


def sizes_of(value: int) -> tuple[int, ...]:
    """Return the sizes in octets that RMSR or TMSR deals out, to all four sockets."""
    return tuple(KIB << (value >> (2 * number) & 3) for number in range(SOCKETS))


def status_name(value: int) -> str:
    """Return WIZnet's name of an Sn_SR value, or the value in hexadecimal."""
    try:
        return Status(value).name
    except ValueError:
        return f"0x{value:02X}"
