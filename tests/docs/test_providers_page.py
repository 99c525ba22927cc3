"""docs/providers.md: its configurations are read, and each reply that it names is answered as it says."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from plugin.alert import RecipientOutcome
from plugin.build import relays_of
from plugin.config import load
from plugin.delivery import cause, classify
from plugin.smtp.client import Client, Delivery, Envelope, Settings
from plugin.smtp.stream import Stream
from tests.smtp.scripted import CONTENT, SECURED, Clock

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
ROW: Final = re.compile(r"^\| `(\w+)` \| `(\d{3}) (.*?)` \| \*\*(Put off|Slower|Failure)", re.MULTILINE)
SLOWED: Final = frozenset({"limited", "busy"})


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a provider's server speaks: its words, and what EHLO tells in clear text and within TLS."""

    greeting: str
    clear: tuple[str, ...]
    secured: tuple[str, ...]
    mechanism: str
    """Which one Hardwire must choose with the page's configuration."""


GOOGLE = ("SIZE 35882577", "8BITMIME", "ENHANCEDSTATUSCODES", "PIPELINING", "CHUNKING", "SMTPUTF8")
GOOGLE_AUTH = "AUTH LOGIN PLAIN XOAUTH2 PLAIN-CLIENTTOKEN OAUTHBEARER XOAUTH"
MICROSOFT = ("SIZE 157286400", "PIPELINING", "DSN", "ENHANCEDSTATUSCODES", "8BITMIME", "BINARYMIME", "CHUNKING")
POSTFIX = ("PIPELINING", "SIZE 10240000", "VRFY", "ETRN", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN")

MANNERS: Final = {
    "smtp.gmail.com:465": Manner(
        greeting="220 smtp.gmail.com ESMTP - gsmtp", clear=(), secured=(*GOOGLE, GOOGLE_AUTH), mechanism="PLAIN"
    ),
    "smtp.gmail.com:587": Manner(
        greeting="220 smtp.gmail.com ESMTP - gsmtp",
        clear=(*GOOGLE, "STARTTLS"),
        secured=(*GOOGLE, GOOGLE_AUTH),
        mechanism="OAUTHBEARER",
    ),
    "smtp.office365.com:587": Manner(
        greeting="220 outlook.office365.com Microsoft ESMTP MAIL Service ready",
        clear=(*MICROSOFT, "STARTTLS"),
        secured=(*MICROSOFT, "AUTH LOGIN XOAUTH2"),
        mechanism="XOAUTH2",
    ),
    "192.168.1.10:25": Manner(greeting="220 relay ESMTP Postfix", clear=POSTFIX, secured=(), mechanism=""),
    "mail.example.net:465": Manner(
        greeting="220 mail.example.net ESMTP Postfix",
        clear=(),
        secured=(*POSTFIX, "AUTH PLAIN LOGIN"),
        mechanism="PLAIN",
    ),
}


@dataclass
class Server:
    """A Stream to a server of that manner; ``refusals`` are its replies by the phase in which they come."""

    manner: Manner
    refusals: dict[str, str] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    tls: bool = False
    secured = SECURED

    def __post_init__(self) -> None:
        self._in, self._out, self._open = b"", b"", True
        self._until = b"\r\n"  # what ends what the client is saying
        self._skip = 0
        self._prompts: list[str] = []

    def start(self) -> Server:
        if self.manner.clear:
            self._greet()
        return self

    def secure(self, stream: Stream, *, timeout_s: float) -> Server:
        assert stream is self
        assert timeout_s > 0
        assert not self._out, "a handshake while a reply is unread"
        self.tls = True
        if not self.manner.clear:
            self._greet()
        return self

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        assert timeout_s > 0
        self._in += data
        while True:
            taken = min(self._skip, len(self._in))
            self._in, self._skip = self._in[taken:], self._skip - taken
            head, end, rest = self._in.partition(self._until)
            if self._skip or not end:
                return
            self._in = rest
            self._answer(head.decode())

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        if not self._out:
            if not self._open:
                return b""
            raise TimeoutError
        part, self._out = self._out[:max_bytes], self._out[max_bytes:]
        return part

    def close(self, *, timeout_s: float = 1.0) -> None:
        self._open = False

    def _greet(self) -> None:
        self._say(self.refusals.get("greeting", self.manner.greeting))
        self._open = "greeting" not in self.refusals

    def _say(self, *lines: str) -> None:
        for number, line in enumerate(lines, start=1):
            text = line if number == len(lines) else f"{line[:3]}-{line[4:]}"
            self._out += f"{text}\r\n".encode()

    def _answer(self, line: str) -> None:
        if self._until != b"\r\n":  # the content is over
            self._until = b"\r\n"
            self._say(self.refusals.get("content", "250 2.0.0 OK"))
            return
        verb = line.split(maxsplit=1)[0].upper()
        self.heard.append(line)
        if verb == "EHLO":
            offers = self.manner.secured if self.tls else self.manner.clear
            self._say("250 at your service", *(f"250 {one}" for one in offers))
        elif verb == "STARTTLS":
            self._say("220 2.0.0 Ready to start TLS")
        elif verb == "AUTH":
            self._say(self.refusals.get("auth", "235 2.7.0 Accepted"))
        elif verb == "BDAT":
            self._skip = int(line.split()[1])
            self._say(self.refusals.get("content", "250 2.0.0 OK"))
        elif verb == "DATA":
            self._until = b"\r\n.\r\n"
            self._say("354 Go ahead")
        elif verb == "QUIT":
            self._say("221 2.0.0 Bye")
            self._open = False
        else:
            self._say(self.refusals.get(verb.lower(), "250 2.1.0 OK"))


def snippets() -> list[tuple[str, str]]:
    """Return each configuration of the page, with the title of its section."""
    return [
        (title, one)
        for title, text in SECTIONS.items()
        for one in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    ]


def settings_of(snippet: str, folder: Path) -> tuple[str, Settings]:
    """Return where the snippet's relay is, and how it is spoken to."""
    (folder / "secrets.yaml").write_text("gmail: abcdefghijklmnop\nmail: s3cret\n")
    path = folder / "hardwire.yaml"
    path.write_text(snippet.replace("[/usr/local/bin/get-token, ", "[echo, "))
    (relay,) = relays_of(load(path))
    return relay.name, relay.settings


def delivered(server: Server, settings: Settings) -> Delivery:
    client = Client(server.start, settings, clock=Clock(), secure=server.secure)
    letter = Envelope(sender=SENDER, recipients=("alice@example.net",), content=CONTENT)
    (delivery,) = client.deliver([letter])
    client.close()
    return delivery


SENDER: Final = "house@example.net"
CASES = [
    pytest.param(title, snippet, *row, id=f"{title} {row[1]} {row[2][:24]}")
    for title, snippet in snippets()
    for row in ROW.findall(SECTIONS[title])
]


def test_the_page_has_all_of_them() -> None:
    assert len(SECTIONS) == 4
    assert len(snippets()) == len(MANNERS)
    table_rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(table_rows) == sum(len(ROW.findall(one)) for one in SECTIONS.values())


@pytest.mark.parametrize(("title", "snippet"), snippets())
def test_a_mail_goes_out_in_the_providers_manner(title: str, snippet: str, tmp_path: Path) -> None:
    name, settings = settings_of(snippet, tmp_path)
    server = Server(MANNERS[name])
    delivery = delivered(server, settings)
    assert delivery.reply is not None
    assert delivery.reply.code == 250
    assert delivery.authenticated is bool(server.manner.mechanism)
    assert server.tls is bool(server.manner.secured)
    verbs = [one.split()[0] for one in server.heard]
    start = ["EHLO", "STARTTLS", "EHLO"] if server.manner.clear and server.manner.secured else ["EHLO"]
    login = ["AUTH"] if server.manner.mechanism else []
    content = ["BDAT"] if "CHUNKING" in server.manner.secured else ["DATA"]
    assert verbs == [*start, *login, "MAIL", "RCPT", *content, "QUIT"]
    if server.manner.mechanism:
        mechanism, given = server.heard[len(start)].split()[1:3]
        assert mechanism == server.manner.mechanism
        assert b"house@" in base64.b64decode(given)


@pytest.mark.parametrize(("title", "snippet", "phase", "code", "text", "what"), CASES)
def test_what_the_provider_says_leads_to_what_the_page_says(
    title: str, snippet: str, phase: str, code: str, text: str, what: str, tmp_path: Path
) -> None:
    name, settings = settings_of(snippet, tmp_path)
    delivery = delivered(Server(MANNERS[name], {phase: f"{code} {text}"}), settings)
    (one,) = delivery.recipients
    assert (one.phase, one.reply and one.reply.code) == (phase, int(code))
    assert one.reply is not None
    fate = RecipientOutcome(
        address=one.address,
        state=classify(one.phase, one.reply),
        phase=one.phase,
        code=one.reply.code,
        enhanced=one.reply.enhanced,
        text=one.reply.text,
    )
    assert fate.state == ("refused" if what == "Failure" else "deferred")
    assert (cause(fate) in SLOWED) is (what == "Slower")


def test_too_many_recipients_follow_in_a_mail_of_their_own() -> None:
    (row,) = (one for one in ROW.findall(SECTIONS["Gmail and Google Workspace"]) if one[1] == "452")
    fate = RecipientOutcome(
        address="a@example.net", state="deferred", phase="rcpt", code=452, enhanced="4.5.3", text=row[2]
    )
    assert cause(fate) == "crowded"
