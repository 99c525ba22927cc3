"""Questions to a DNS server, and what its answers mean (RFC 1035). Pure; dnspython knows the wire format."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Literal

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from plugin.w5100.errors import InvalidName

ADDRESSES_AT_MOST: Final = 16
LIMITED_BROADCAST: Final = IPv4Address("255.255.255.255")
# What the chip cannot be told to connect to; servers that block names answer 0.0.0.0.
NOWHERE: Final = frozenset({IPv4Address(0), LIMITED_BROADCAST})
KNOWING: Final = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})  # all others have no answer for us


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """The name has ``addresses``, in the server's order; true for ``ttl_s`` seconds."""

    addresses: tuple[IPv4Address, ...]
    ttl_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """The name does not exist (NXDOMAIN), or has no address that can be connected to (NODATA, blocked)."""

    kind: Literal["nxdomain", "nodata", "blocked"]
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Truncated:
    """The answer did not fit a datagram: ask again over TCP."""


@dataclass(frozen=True, slots=True)
class Useless:
    """The server answered, and that does not help; ``reason`` says why, as the end of a sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stray:
    """No answer to our question: another id, another question, no DNS at all."""


Verdict = Addresses | Absent | Truncated | Useless | Stray


def host_name(text: str) -> dns.name.Name:
    """Return ``text`` as an absolute name in lower case; InvalidName for what no DNS server can be asked for.

    International names come as A-labels (xn--...); a label has 1 to 63 octets, a name 255 (section 2.3.4).
    """
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidName(f"{text!r} is no host name: letters, digits and hyphens only; xn--... for others")
    try:
        name = dns.name.from_text(text).canonicalize()
    except dns.exception.DNSException as error:
        raise InvalidName(f"{text[:80]!r} is no host name: {error}") from error
    if name == dns.name.root:
        raise InvalidName(f"{text!r} is no host name")
    return name


def question(name: dns.name.Name) -> dns.message.QueryMessage:
    """Return a new question for the A records of ``name``: random id, recursion desired.

    Without EDNS an answer over UDP has at most 512 octets: no IP fragments, which the W5100 cannot put together.
    """
    return dns.message.make_query(name, dns.rdatatype.A, id=secrets.randbelow(0x10000))


def judge(wire: bytes, asked: dns.message.QueryMessage) -> Verdict:
    """Return what ``wire``, from the server's address and port, says to ``asked``. Never raises."""
    try:
        head = dns.message.from_wire(wire, question_only=True)
        if not asked.is_response(head):
            return Stray()
    except (dns.exception.DNSException, ValueError):
        return Stray()
    return Truncated() if head.flags & dns.flags.TC else _judge_whole(wire)


def _judge_whole(wire: bytes) -> Addresses | Absent | Useless:
    try:
        answer = dns.message.from_wire(wire)
        rcode = answer.rcode()
        if rcode not in KNOWING or not isinstance(answer, dns.message.QueryMessage):
            return Useless(_refusal(rcode))
        chain = answer.resolve_chaining()
    except dns.message.ChainTooLong:
        return Useless("its CNAME records lead round in a circle, or through too many names")
    except (dns.exception.DNSException, ValueError) as error:
        return Useless(f"its answer is malformed ({type(error).__name__})")
    ttl_s = int(chain.minimum_ttl)
    if chain.answer is None:
        if rcode == dns.rcode.NOERROR and not answer.authority and not answer.flags & dns.flags.RA:
            return Useless("it looks up no names for others (RA is 0)")
        return Absent(kind="nxdomain" if rcode == dns.rcode.NXDOMAIN else "nodata", ttl_s=ttl_s)
    found = dict.fromkeys(IPv4Address(record.address) for record in chain.answer)
    usable = [one for one in found if not one.is_multicast and one not in NOWHERE][:ADDRESSES_AT_MOST]
    known = Addresses(addresses=tuple(usable), ttl_s=ttl_s)
    return known if usable else Absent(kind="blocked", ttl_s=ttl_s)


def _refusal(rcode: dns.rcode.Rcode) -> str:
    if rcode == dns.rcode.SERVFAIL:
        return "it could not look the name up (SERVFAIL)"
    if rcode == dns.rcode.REFUSED:
        return "it refuses to answer us (REFUSED)"
    return f"it answers {dns.rcode.to_text(rcode)}"
