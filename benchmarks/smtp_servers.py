"""The servers that are measured: the built-in sink in its moods, or one that the command line names."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.child import ROOT, Child
from benchmarks.smtp_clients import LOOPBACK, MailLostError

CERTIFICATES: Final = ROOT / "tests" / "smtp" / "certificates"
USERNAME: Final = "house"
SENDER: Final = "house@example.net"
RECIPIENT: Final = "alice@example.net"
_KEYS: Final = frozenset({"tls", "user", "password", "ca", "from", "to"})

Address = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server: where it is in clear text and (None: not) in TLS, its login, and whom the mails are from and to.

    ``username`` None: measured without AUTH only. ``built_in``: a mood of the sink, which tells what it took.
    """

    name: str
    clear: Address
    tls: Address | None = None
    ca_file: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sender: str = SENDER
    recipient: str = RECIPIENT
    built_in: bool = False


def read_target(text: str) -> Server:
    """Read NAME=HOST:PORT,to=ADDRESS[,from=ADDRESS][,tls=HOST:PORT][,user=NAME,password=WORD][,ca=FILE].

    Raises ValueError, whose text does not repeat what may be a password.
    """
    first, *rest = text.split(",")
    name, _, where = first.partition("=")
    pairs = {part.partition("=")[0]: part.partition("=")[2] for part in rest}
    if not name or not where:
        raise ValueError("a target begins with NAME=HOST:PORT")
    if unknown := set(pairs) - _KEYS:
        known = ", ".join(sorted(_KEYS))
        raise ValueError(f"target {name} has {len(unknown)} keys that are none of {known}")
    if "to" not in pairs:
        raise ValueError(f"target {name} needs to=ADDRESS: who gets every mail of the benchmark")
    if ("user" in pairs) != ("password" in pairs):
        raise ValueError(f"target {name} needs user= and password=, or neither")
    return Server(
        name=name,
        clear=_address(where),
        tls=_address(pairs["tls"]) if "tls" in pairs else None,
        ca_file=pairs.get("ca"),
        username=pairs.get("user"),
        password=pairs.get("password"),
        sender=pairs.get("from", pairs["to"]),
        recipient=pairs["to"],
    )


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 0x10000:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host, int(port)


class BuiltInServers:
    """The moods of ``sink``, a running ``benchmarks.smtp_sink``, each as a server."""

    def __init__(self, names: Sequence[str], sink: Child) -> None:
        self._sink = sink
        password = secrets.token_urlsafe(12)
        certificate = str(CERTIFICATES / "server.pem")
        ports: Mapping[str, Mapping[str, int]] = sink.ask(
            start={"certificate": certificate, "username": USERNAME, "password": password}
        )
        self.servers = [
            Server(
                name=name,
                clear=(LOOPBACK, ports[name]["clear"]),
                tls=(LOOPBACK, ports[name]["tls"]),
                ca_file=str(CERTIFICATES / "authority.pem"),
                username=USERNAME,
                password=password,
                built_in=True,
            )
            for name in names
        ]

    def check_taken(self, server: Server, sent: Sequence[bytes], *, auth: bool, tls: bool) -> None:
        """Raise MailLostError unless the server has taken each mail of ``sent`` once, as it was to be sent."""
        taken = self._sink.ask(take=server.name)
        digests = Counter(hashlib.sha256(content).hexdigest() for content in sent)
        if Counter(taken["digests"]) != digests:
            raise MailLostError(
                f"{server.name}: {len(sent)} mails were sent, {len(taken['digests'])} were taken, "
                "and they are not the same"
            )
        for what, wanted in (("authenticated", auth), ("tls", tls)):
            if taken[what] != len(sent) * wanted:
                raise MailLostError(f"{server.name}: {taken[what]} of {len(sent)} mails came {what}")
