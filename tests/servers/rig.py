"""Where the real mail servers of the tests are: a file with lines NAME=VALUE, named by HARDWIRE_MAIL_SERVERS.

A name with a number is a port on loopback, any other a file or a folder: ``*_MAILDIR`` and ``*_DIR`` keep letters,
``*_LOG`` is a log, RIG_CA the authority of the servers' certificates. Without the variable the tests are left out;
HARDWIRE_REQUIRE=mail-servers makes that a failure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VARIABLE: Final = "HARDWIRE_MAIL_SERVERS"
REQUIREMENT: Final = "mail-servers"
HINDRANCE: Final = (
    f"no mail servers to test with: set {VARIABLE} to a file with a line NAME=PORT for each, "
    "as CONTRIBUTING.md tells"
)

_LINE: Final = re.compile(r"([A-Z][A-Z0-9_]*)=(\S+)")
_COMMENT: Final = re.compile(r"(^|\s)#.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """The servers of one file."""

    values: Mapping[str, str]

    @property
    def ports(self) -> frozenset[str]:
        """The names of all ports."""
        return frozenset(name for name, value in self.values.items() if value.isdecimal())

    def port(self, name: str) -> int:
        return int(self.values[name])

    def path(self, name: str) -> Path:
        return Path(self.values[name])


def read(text: str) -> Rig:
    """Read lines NAME=VALUE; raises ValueError for what is none, and for a name that has two values."""
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        bare = _COMMENT.sub("", line).strip()
        if not bare:
            continue
        found = _LINE.fullmatch(bare)
        if found is None:
            raise ValueError(f"{VARIABLE}, line {number}: write NAME=VALUE instead of {bare!r}")
        if values.setdefault(found[1], found[2]) != found[2]:
            raise ValueError(f"{VARIABLE}, line {number}: {found[1]} has two values, leave one of them out")
    return Rig(values=values)


def find(environment: Mapping[str, str]) -> Rig | None:
    """Return the servers that the environment names, None where it names none.

    A file that is named and cannot be read is no reason to leave tests out: OSError or ValueError.
    """
    named = environment.get(VARIABLE)
    return read(Path(named).read_text(encoding="utf-8")) if named else None


def required(environment: Mapping[str, str]) -> bool:
    """Whether HARDWIRE_REQUIRE, a comma list, names the mail servers."""
    return REQUIREMENT in (one.strip() for one in environment.get("HARDWIRE_REQUIRE", "").split(","))
