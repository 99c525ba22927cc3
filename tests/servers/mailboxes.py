"""Letters as the servers keep them: found by the token that each letter carries, compared octet by octet.

The servers may be in use by others and hold letters of earlier runs, so nothing is ever counted but tokens.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from plugin.smtp import Delivery, Envelope
from tests.servers.letters import TOKEN, token_of

ARRIVAL_S: Final = 15.0
STEP_S: Final = 0.02
HEAD_BYTES: Final = 8192

_FIELD: Final = re.compile(rb"([!-9;-~]+):((?:.*(?:\r\n[ \t])?)*)\r\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How a server keeps letters: ``folder`` is the NAME of where, ``adds`` the fields it may put in front.

    ``recipients`` is the one of them that tells whom a copy is for. ``queue_id`` finds the server's own id of a
    letter in its last reply, ``mark`` is how that id stands in the file or its name; with both, a reply that was
    taken for another letter's is noticed. ``log`` is the NAME of a file that tells in which order ids came up.
    """

    folder: str
    recipients: str
    adds: frozenset[str]
    line_end: bytes = b"\n"
    behind: bytes = b""
    queue_id: str | None = None
    mark: str = "id {}"
    log: str | None = None


SERVERS: Final[Mapping[str, Server]] = {
    "POSTFIX": Server(
        folder="POSTFIX_MAILDIR",
        recipients="x-original-to",
        adds=frozenset({"return-path", "x-original-to", "delivered-to", "received"}),
        queue_id=r"queued as (\w+)",
        log="POSTFIX_LOG",
    ),
    "EXIM": Server(
        folder="EXIM_MAILDIR",
        recipients="envelope-to",
        adds=frozenset({"return-path", "envelope-to", "delivery-date", "received"}),
        queue_id=r"OK id=(\S+)",
        log="EXIM_LOG",
    ),
    "OPENSMTPD": Server(
        folder="OPENSMTPD_MAILDIR",
        recipients="delivered-to",
        adds=frozenset({"return-path", "delivered-to", "received"}),
        queue_id=r"(\w+) Message accepted",
        log="OPENSMTPD_LOG",
    ),
    "AIOSMTPD": Server(
        folder="AIOSMTPD_MAILDIR",
        recipients="x-rcpt-to",
        adds=frozenset({"return-path", "x-rcpt-to"}),
        line_end=b"\r\n",
        queue_id=r"queued as (\d+)",
        mark="_{}.rig",
    ),
    "SINK": Server(
        folder="SINK_DIR",
        recipients="x-rcpt-args",
        adds=frozenset(
            {"x-client-addr", "x-client-proto", "x-helo-args", "x-mail-args", "x-rcpt-args", "received"}
        ),
        behind=b"\r\n",
    ),
}
ADDED_TO_NOTHING: Final = frozenset({"date", "message-id", "from"})
"""What servers put into a letter without any header; a letter that has a header of its own must stay as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One file of a mailbox, its line ends made CRLF."""

    name: str
    octets: bytes
    recipients: tuple[str, ...]


@dataclass
class Mailbox:
    """Everything that one server has delivered."""

    server: Server
    folder: Path
    _read: set[tuple[str, int]] = field(default_factory=set)
    _paths: dict[str, set[str]] = field(default_factory=dict)
    _awaited: dict[str, list[str]] = field(default_factory=dict)

    def await_recipients(self, token: str, expected: Sequence[str]) -> list[str]:
        """Return for whom there are copies of a letter, as soon as they are the ``expected`` ones.

        After ARRIVAL_S return whom there are. They are sorted; somebody who has two copies is named twice.
        """
        self._awaited[token] = sorted(expected)
        deadline = time.monotonic() + ARRIVAL_S
        while True:
            self._scan()
            found = self._recipients(token)
            if found == self._awaited[token] or time.monotonic() >= deadline:
                return found
            time.sleep(STEP_S)

    def changed(self) -> dict[str, list[str]]:
        """Return the letters that have other copies now than they were awaited to have: late or doubled ones."""
        self._scan()
        return {
            token: found
            for token, expected in self._awaited.items()
            if (found := self._recipients(token)) != expected
        }

    def copies(self, token: str) -> list[Copy]:
        """Return the copies of a letter that were there when one was last waited for."""
        return [self._copy(Path(path)) for path in sorted(self._paths.get(token, ()))]

    def assert_intact(self, letter: Envelope, delivery: Delivery) -> None:
        """Every copy is the letter octet by octet, behind nothing but what its server puts in front."""
        for copy in self.copies(token_of(letter)):
            head = copy.octets.removesuffix(expected_octets(letter))
            if letter.content:
                assert head != copy.octets, f"{copy.name} is not what was sent"
            else:
                assert not copy.octets.partition(b"\r\n\r\n")[2].strip(), f"{copy.name} has a body"
            names = {name for name, _ in _fields(head)}
            added = self.server.adds if letter.content else self.server.adds | ADDED_TO_NOTHING
            assert names <= added, f"{copy.name}: {names - added}"
            # Not every server writes a null reverse-path down.
            assert letter.sender.encode() in head, f"{copy.name} has come from somebody else"
            if (queue_id := self.queue_id(delivery)) is not None:
                mark = self.server.mark.format(queue_id)
                assert mark in copy.name + head.decode("ascii"), f"{copy.name}: {delivery.reply} is another's"

    def queue_id(self, delivery: Delivery) -> str | None:
        """Return the server's own id of an accepted letter, None where it tells none."""
        if self.server.queue_id is None or delivery.reply is None:
            return None
        found = re.search(self.server.queue_id, delivery.reply.text)
        assert found is not None, f"no id in {delivery.reply}"
        return found[1]

    def _copy(self, path: Path) -> Copy:
        octets = path.read_bytes()
        if self.server.line_end == b"\n":
            assert b"\r" not in octets, f"{path} has a CR"
            octets = octets.replace(b"\n", b"\r\n")
        octets = octets.removesuffix(self.server.behind)
        named = [value for name, value in _fields(octets) if name == self.server.recipients]
        recipients = [one.strip(" <>") for value in named for one in value.split(",")]
        return Copy(name=path.name, octets=octets, recipients=tuple(recipients))

    def _recipients(self, token: str) -> list[str]:
        return sorted(address for copy in self.copies(token) for address in copy.recipients)

    def _scan(self) -> None:
        """Walk over the letters; a file is read once, unless it has grown since."""
        folders = [str(self.folder)]
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir():
                        if entry.name != "tmp":  # letters that are still being written
                            folders.append(entry.path)
                    elif (one := (entry.path, entry.stat().st_size)) not in self._read:
                        with Path(entry.path).open("rb") as file:
                            head = file.read(HEAD_BYTES).decode("latin-1")
                        for token in set(TOKEN.findall(head)):
                            self._paths.setdefault(token, set()).add(entry.path)
                        self._read.add(one)


def expected_octets(letter: Envelope) -> bytes:
    """Return the content as it has to arrive: its last line ended."""
    return letter.content if letter.content.endswith(b"\r\n") or not letter.content else letter.content + b"\r\n"


def _fields(octets: bytes) -> Iterator[tuple[str, str]]:
    """Yield the header fields from the beginning on: name in lower case, value."""
    start = 0
    while found := _FIELD.match(octets, start):
        yield found[1].decode("ascii").lower(), found[2].decode("ascii").strip()
        start = found.end()


def await_order(log: Path, offset: int, ids: Sequence[str]) -> list[str]:
    """Return ``ids`` in the order in which the log names them behind ``offset``, as soon as it names all.

    After ARRIVAL_S those that it does not name are left out.
    """
    deadline = time.monotonic() + ARRIVAL_S
    while True:
        text = log.read_bytes()[offset:].decode("utf-8", "replace")
        places = {one: text.find(one) for one in ids}
        if -1 not in places.values() or time.monotonic() >= deadline:
            return sorted((one for one in ids if places[one] >= 0), key=places.__getitem__)
        time.sleep(STEP_S)
