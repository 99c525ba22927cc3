"""ICMP echo as RFC 792 has it: requests made, and what comes back judged. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Literal, final

ECHO_REPLY: Final = 0
UNREACHABLE: Final = 3
ECHO_REQUEST: Final = 8
TIME_EXCEEDED: Final = 11
HEADER_BYTES: Final = 8
IP_HEADER_BYTES: Final = 20
PAYLOAD_BYTES: Final = 32
"""The chip's own replies are corrupt from 120 octets on; two of them may test each other."""

PAYLOAD: Final = bytes(0x20 + one for one in range(PAYLOAD_BYTES))
_UNREACHABLE: Final = {0: "network", 1: "host", 2: "protocol", 3: "port", 13: "filtered by a firewall"}

Kind = Literal["reply", "corrupt", "refused", "other"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an ICMP message is to a request of ours; ``text`` says it unless it is a "reply" or nothing of ours."""

    kind: Kind
    text: str = ""


def checksum(message: bytes) -> int:
    """Return the Internet checksum (RFC 1071): 0 over a message that carries its own."""
    padded = message + b"\x00" * (len(message) % 2)
    total = sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def request(identifier: int, sequence: int) -> bytes:
    """Return an echo request with PAYLOAD; both numbers have 16 bits."""
    rest = identifier.to_bytes(2, "big") + sequence.to_bytes(2, "big") + PAYLOAD
    code = checksum(bytes((ECHO_REQUEST, 0, 0, 0)) + rest)
    return bytes((ECHO_REQUEST, 0)) + code.to_bytes(2, "big") + rest


def judge(message: bytes, source: IPv4Address, *, asked: IPv4Address, identifier: int, sequence: int) -> Verdict:
    """Return what ``message`` from ``source`` is to the request that went to ``asked``."""
    if len(message) < HEADER_BYTES:
        return Verdict(kind="other")
    kind, code = message[0], message[1]
    ours = identifier.to_bytes(2, "big") + sequence.to_bytes(2, "big")
    if kind == ECHO_REPLY and source == asked and message[4:8] == ours:
        if message[HEADER_BYTES:] != PAYLOAD or checksum(message):
            return Verdict(kind="corrupt", text="the reply is corrupt: the octets are not those that were sent")
        return Verdict(kind="reply")
    quoted = message[HEADER_BYTES + IP_HEADER_BYTES :]
    if kind in (UNREACHABLE, TIME_EXCEEDED) and quoted[4:8] == ours:
        if kind == TIME_EXCEEDED:
            return Verdict(kind="refused", text=f"{source} says that it is too far away (TTL)")
        reason = _UNREACHABLE.get(code, f"code {code}")
        return Verdict(kind="refused", text=f"{source} says that it cannot be reached ({reason})")
    return Verdict(kind="other")
