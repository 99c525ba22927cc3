"""DHCP messages on the wire: RFC 2131, section 2, and the options of RFC 2132. Pure; knows no state."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address
from typing import Final

CLIENT_PORT: Final = 68
SERVER_PORT: Final = 67
FIXED: Final = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
COOKIE: Final = bytes((99, 130, 83, 99))
LEAST_BYTES: Final = 300  # of a BOOTP message; some relays drop shorter ones
MOST_BYTES: Final = 1472
BOOTREQUEST: Final = 1
BOOTREPLY: Final = 2
ETHERNET: Final = 1
MAC_BYTES: Final = 6
BROADCAST_FLAG: Final = 0x8000
SECONDS_AT_MOST: Final = 0xFFFF
NOBODY: Final = IPv4Address(0)
OVERLOAD_FILE: Final = 1
OVERLOAD_SNAME: Final = 2


class Option(IntEnum):
    """Options of RFC 2132 that are understood here."""

    PAD = 0
    SUBNET_MASK = 1
    ROUTER = 3
    DNS = 6
    HOST_NAME = 12
    DOMAIN_NAME = 15
    REQUESTED_ADDRESS = 50
    LEASE_TIME = 51
    OVERLOAD = 52
    MESSAGE_TYPE = 53
    SERVER_ID = 54
    PARAMETER_LIST = 55
    MESSAGE = 56
    T1 = 58
    T2 = 59
    CLIENT_ID = 61
    END = 255


class MessageType(IntEnum):
    """Option 53."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6


PARAMETERS: Final = bytes(
    (
        Option.SUBNET_MASK,
        Option.ROUTER,
        Option.DNS,
        Option.DOMAIN_NAME,
        Option.LEASE_TIME,
        Option.SERVER_ID,
        Option.T1,
        Option.T2,
    )
)


class MalformedMessage(ValueError):
    """What came is no DHCP message, or a broken one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The fields that a client uses; ``chaddr`` is a MAC address of 6 octets, ``options`` are by their code."""

    op: int
    xid: int
    chaddr: bytes
    secs: int = 0
    broadcast: bool = False
    ciaddr: IPv4Address = NOBODY
    yiaddr: IPv4Address = NOBODY
    options: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def kind(self) -> int:
        """Option 53 as a number; 0 where there is none, as in a BOOTP message."""
        value = self.options.get(Option.MESSAGE_TYPE, b"")
        return value[0] if len(value) == 1 else 0

    def addresses(self, option: Option) -> tuple[IPv4Address, ...]:
        """Return the addresses of an option; none where it is missing or no multiple of four octets."""
        value = self.options.get(option, b"")
        if len(value) % 4:
            return ()
        return tuple(IPv4Address(value[at : at + 4]) for at in range(0, len(value), 4))

    def seconds(self, option: Option) -> int | None:
        """Return a time of four octets; None where it is missing or of another size."""
        value = self.options.get(option, b"")
        return int.from_bytes(value, "big") if len(value) == 4 else None


def encode(message: Message) -> bytes:
    """Return the octets of ``message``; each option has 255 octets at most."""
    flags = BROADCAST_FLAG if message.broadcast else 0
    fixed = FIXED.pack(
        message.op,
        ETHERNET,
        MAC_BYTES,
        0,
        message.xid,
        min(message.secs, SECONDS_AT_MOST),
        flags,
        message.ciaddr.packed,
        message.yiaddr.packed,
        NOBODY.packed,
        NOBODY.packed,
        message.chaddr,
        b"",
        b"",
        COOKIE,
    )
    options = b"".join(bytes((code, len(value))) + value for code, value in message.options.items())
    return (fixed + options + bytes((Option.END,))).ljust(LEAST_BYTES, b"\0")


def decode(data: bytes) -> Message:
    """Return the message in ``data``; MalformedMessage says what is wrong with it.

    An option that comes in parts is put together (RFC 3396); options may go on in ``file`` and ``sname`` (52).
    """
    if not FIXED.size <= len(data) <= MOST_BYTES:
        raise MalformedMessage(f"a DHCP message has {FIXED.size} to {MOST_BYTES} octets, not {len(data)}")
    op, htype, hlen, _, xid, secs, flags, ciaddr, yiaddr, _, _, chaddr, sname, file, cookie = FIXED.unpack_from(
        data
    )
    if cookie != COOKIE:
        raise MalformedMessage("the magic cookie is missing")
    if (htype, hlen) != (ETHERNET, MAC_BYTES):
        raise MalformedMessage(f"hardware type {htype} with {hlen} octets is not Ethernet")
    options: dict[int, bytes] = {}
    _gather(data[FIXED.size :], options)
    overload = options.pop(Option.OVERLOAD, b"\0")[:1]
    if overload and overload[0] & OVERLOAD_FILE:
        _gather(file, options)
    if overload and overload[0] & OVERLOAD_SNAME:
        _gather(sname, options)
    return Message(
        op=op,
        xid=xid,
        chaddr=chaddr[:MAC_BYTES],
        secs=secs,
        broadcast=bool(flags & BROADCAST_FLAG),
        ciaddr=IPv4Address(ciaddr),
        yiaddr=IPv4Address(yiaddr),
        options=options,
    )


def _gather(field_octets: bytes, options: dict[int, bytes]) -> None:
    """Add the options in ``field_octets`` to ``options``."""
    at = 0
    while at < len(field_octets) and (code := field_octets[at]) != Option.END:
        if code == Option.PAD:
            at += 1
            continue
        size = field_octets[at + 1] if at + 1 < len(field_octets) else len(field_octets)
        value = field_octets[at + 2 : at + 2 + size]
        if len(value) < size:
            raise MalformedMessage(f"option {code} is longer than the message")
        options[code] = options.get(code, b"") + value
        at += 2 + size
