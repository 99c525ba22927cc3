"""The address book ``recipients``: names for addresses, and groups of names and addresses, nested as one likes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Final

from plugin.route.address import Pattern, parse_recipient, quoted

MAX_CYCLES: Final = 10
MAX_CHAIN: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientFault:
    """What is wrong in ``recipients``: in the entry ``name``, at ``position`` of its list (None: as a whole).

    ``unknown`` is the name that nothing stands for, where that is the trouble.
    """

    name: str
    position: int | None = None
    reason: str
    unknown: str | None = None


def members(entry: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names and addresses of one entry of ``recipients``, or of ``to``, ``cc``, ``bcc``."""
    return (entry,) if isinstance(entry, str) else tuple(entry)


def check_recipients(recipients: Mapping[str, str | Sequence[str]]) -> Iterator[RecipientFault]:
    """Yield all that is wrong: names like addresses, bad addresses, unknown names, groups in a circle."""
    groups: dict[str, set[str]] = {}
    for name, entry in recipients.items():
        groups[name] = set()
        if not name or re.search("[@<>,;]", name) or name != name.strip() or not name.isprintable():
            reason = f"{quoted(name)} is no name for a recipient: blanks around it and @ < > , ; are not allowed"
            yield RecipientFault(name=name, reason=reason)
        if not entry and not isinstance(entry, str):
            yield RecipientFault(name=name, reason=f"the group {quoted(name)} is empty")
        for position, member in enumerate(members(entry)):
            if member in recipients:
                groups[name].add(member)
            elif fault := check_member(member):
                yield RecipientFault(
                    name=name,
                    position=None if isinstance(entry, str) else position,
                    reason=fault,
                    unknown=None if "@" in member else member,
                )
    yield from _circles(groups)


def check_member(member: str) -> str | None:
    """Return why ``member``, which is no name in ``recipients``, is no address either; or None."""
    if "@" not in member:
        listed = "; several are written as a list" if re.search("[,;]", member) else ""
        return f"{quoted(member)} is neither a name in recipients nor an address{listed}"
    try:
        parse_recipient(member)
    except ValueError as error:
        return str(error)
    return None


def _circles(groups: dict[str, set[str]]) -> Iterator[RecipientFault]:
    order = {name: position for position, name in enumerate(groups)}
    for _ in range(MAX_CYCLES):
        try:
            TopologicalSorter(groups).prepare()
        except CycleError as error:
            inside_out: list[str] = error.args[1]  # each is contained in the next; the last is the first again
            ring = inside_out[:0:-1]
            start = ring.index(min(ring, key=order.__getitem__))
            ring = ring[start:] + ring[:start]
            chain = " → ".join(quoted(one) for one in [*ring[:MAX_CHAIN], ring[0]])
            yield RecipientFault(name=ring[0], reason=f"the group contains itself: {chain}")
            for inner, outer in pairwise(inside_out):
                groups[outer].discard(inner)
        else:
            return


class AddressBook:
    """``recipients`` ready for use, with the patterns of ``allow_recipients`` for all others.

    Raises ValueError where ``check_recipients`` finds a fault.
    """

    def __init__(self, recipients: Mapping[str, str | Sequence[str]], admitted: Iterable[Pattern]) -> None:
        for fault in check_recipients(recipients):
            raise ValueError(f"recipients: {fault.reason}")
        self._members = {name: members(entry) for name, entry in recipients.items()}
        self._admitted = tuple(admitted)
        every = [member for entry in self._members.values() for member in entry if member not in self._members]
        # whoever writes a known address in other letters means the mailbox as it is configured
        self._known = {address.lower(): address for address in (parse_recipient(member)[1] for member in every)}

    def __contains__(self, name: str) -> bool:
        """Tell whether ``name`` stands in ``recipients``."""
        return name in self._members

    def expand(self, tokens: Iterable[str]) -> list[str]:
        """Return the addresses behind names and addresses that are configured; each group is entered once."""
        addresses: list[str] = []
        waiting, entered = list(tokens)[::-1], set[str]()
        while waiting:
            token = waiting.pop()
            if token not in self._members:
                addresses.append(parse_recipient(token)[1])
            elif token not in entered:
                entered.add(token)
                waiting.extend(reversed(self._members[token]))
        return addresses

    def admits(self, address: str) -> str | None:
        """Return ``address`` as mail to it is addressed, if a payload may name it; else None."""
        known = self._known.get(address.lower())
        if known is not None:
            return known
        return address if any(pattern.admits(address) for pattern in self._admitted) else None
