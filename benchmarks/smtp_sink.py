"""An SMTP server that takes every mail, keeps none, and is strict about what may be sent before it has answered.

Three moods, which differ in what EHLO offers: ``chunking`` PIPELINING and CHUNKING, ``pipelining`` PIPELINING
alone, ``lockstep`` neither. What was not offered gets ``554 5.5.0`` and the connection closed, as at Postfix and
Exim: anything that arrives before the reply to the command before it; with PIPELINING, anything behind a command
that has to be the last of its group (RFC 2920 §3.1), above all content behind DATA before the 354.

Requests (see ``benchmarks.child``):

* ``{"start": {"certificate", "username", "password"}}`` -> ``{mood: {"clear": port, "tls": port}}``;
* ``{"take": mood}`` -> ``{"digests", "authenticated", "tls"}``: what it has accepted since it was last asked, the
  SHA-256 of each content, and how many came with AUTH and in TLS.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
import select
import ssl
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from benchmarks.child import answer_requests

LOOPBACK: Final = "127.0.0.1"
MOODS: Final = {"chunking": ("PIPELINING", "CHUNKING"), "pipelining": ("PIPELINING",), "lockstep": ()}
COMMAND_BYTES: Final = 12288  # RFC 4954 §4: a line in an AUTH exchange
CONTENT_BYTES: Final = 1024 * 1024
RECIPIENTS: Final = 100
KEPT: Final = 100_000

OUT_OF_STEP: Final = "554 5.5.0 SMTP synchronization error"
_LAST: Final = frozenset({"EHLO", "HELO", "DATA", "NOOP", "QUIT"})  # RFC 2920 §3.1
_PATH: Final = re.compile(r"(?:FROM|TO):<[!-;=?-~]*>((?: [!-~]+)*)", re.IGNORECASE)
_PARAMETERS: Final = ("SIZE=", "BODY=7BIT", "BODY=8BITMIME")
_CHUNK: Final = re.compile(r"([0-9]{1,7})( LAST)?", re.IGNORECASE)


@dataclass(slots=True, kw_only=True)
class Taken:
    """What a server has accepted since it was last asked."""

    digests: list[str] = field(default_factory=list)
    authenticated: int = 0
    tls: int = 0


@dataclass(slots=True, kw_only=True)
class Mood:
    """One server: what it offers, whom it lets in, and what it has accepted."""

    offers: tuple[str, ...]
    username: str
    password: str = field(repr=False)
    taken: Taken = field(default_factory=Taken)


class Session(asyncio.Protocol):
    """The server's side of one connection."""

    def __init__(self, mood: Mood, *, tls: bool) -> None:
        self._mood = mood
        self._tls = tls
        self._buffer = bytearray()
        self._replies: list[str] = []
        self._over = False
        self._extended = False
        self._greeted = False
        self._authenticated = False
        self._answers: list[str] | None = None
        self._login = False
        self._commands: dict[str, Callable[[str], None]] = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data_command,
            "BDAT": self._bdat,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }
        self._reset()

    def _reset(self) -> None:
        self._sender = False
        self._recipients = 0
        self._content: bytearray | None = None
        self._reading_data = False
        self._chunk: tuple[int, bool] | None = None

    # --- asyncio's side -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._say("220 sink.test ESMTP")
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take all that is whole, then answer it in one write."""
        self._buffer += data
        while not self._over and self._step():
            pass
        self._flush()

    def _flush(self) -> None:
        if self._replies:
            self._transport.write("".join(f"{reply}\r\n" for reply in self._replies).encode())
            self._replies.clear()
        if self._over:
            self._transport.close()

    def _say(self, *replies: str) -> None:
        self._replies += replies

    def _end(self, reply: str) -> None:
        self._say(reply)
        self._over = True

    # --- what arrives ---------------------------------------------------------------------------------------

    def _step(self) -> bool:
        """Take one command, one content or one chunk; False where it is not whole yet."""
        if self._reading_data:
            return self._data()
        if self._chunk is not None:
            return self._take_chunk(*self._chunk)
        end = self._buffer.find(b"\r\n")
        if end < 0 or end > COMMAND_BYTES:
            if len(self._buffer) > COMMAND_BYTES:
                self._end("500 5.5.2 Line too long")
            return False
        line = self._buffer[:end].decode("ascii", "replace")
        del self._buffer[: end + 2]
        if self._answers is not None:
            self._answer(line)
            return True
        verb, _, argument = line.partition(" ")
        verb = verb.upper()
        if verb != "BDAT" and self._came_early(alone=verb in _LAST):
            self._end(OUT_OF_STEP)
            return False
        command = self._commands.get(verb)
        if command is None:
            self._say("500 5.5.2 Command not recognized")
        else:
            command(argument)
        return True

    def _came_early(self, *, alone: bool) -> bool:
        """Whether something has arrived that had to wait for the reply that is given now.

        ``alone``: nothing may be behind this one even where PIPELINING was offered. What the kernel has and
        asyncio has not read yet counts, too; a hang-up looks the same, and nobody is there to see the difference.
        """
        if self._offers("PIPELINING") and not alone:
            return False
        descriptor = self._transport.get_extra_info("socket").fileno()
        return bool(self._buffer) or descriptor < 0 or bool(select.select([descriptor], [], [], 0)[0])

    def _offers(self, keyword: str) -> bool:
        return self._extended and keyword in self._mood.offers

    # --- commands -------------------------------------------------------------------------------------------

    def _ehlo(self, _argument: str) -> None:
        self._reset()
        self._greeted = self._extended = True
        lines = ("sink.test", *self._mood.offers, f"SIZE {CONTENT_BYTES}", "8BITMIME", "ENHANCEDSTATUSCODES")
        self._say(*(f"250-{line}" for line in lines), "250 AUTH PLAIN LOGIN")

    def _helo(self, _argument: str) -> None:
        self._reset()
        self._greeted, self._extended = True, False
        self._say("250 sink.test")

    def _mail(self, argument: str) -> None:
        path = _PATH.fullmatch(argument)
        if not self._greeted or self._sender:
            self._say("503 5.5.1 Bad sequence of commands")
        elif path is None:
            self._say("501 5.1.7 Bad reverse-path")
        elif not all(one.upper().startswith(_PARAMETERS) for one in path[1].split()):
            self._say("555 5.5.4 Unsupported option")
        else:
            self._sender = True
            self._say("250 2.1.0 Ok")

    def _rcpt(self, argument: str) -> None:
        path = _PATH.fullmatch(argument)
        if not self._sender:
            self._say("503 5.5.1 Need MAIL command")
        elif path is None or path[1]:
            self._say("501 5.1.3 Bad forward-path")
        elif self._recipients >= RECIPIENTS:
            self._say("452 4.5.3 Too many recipients")
        else:
            self._recipients += 1
            self._say("250 2.1.5 Ok")

    def _data_command(self, _argument: str) -> None:
        if not self._recipients or self._content is not None:
            self._say("503 5.5.1 Need RCPT, and no BDAT before DATA")
        else:
            self._reading_data = True
            self._say("354 End data with <CR><LF>.<CR><LF>")

    def _data(self) -> bool:
        if self._buffer.startswith(b".\r\n"):
            end, behind = 0, 3
        else:
            end = self._buffer.find(b"\r\n.\r\n") + 2
            behind = end + 3
        if end == 1:
            if len(self._buffer) > CONTENT_BYTES:
                self._end("552 5.3.4 Message too big")
            return False
        content = bytes(self._buffer[:end])
        del self._buffer[:behind]
        if self._came_early(alone=False):
            self._end(OUT_OF_STEP)
            return False
        unstuffed = content[1:] if content.startswith(b".") else content  # RFC 5321 §4.5.2
        self._accept(unstuffed.replace(b"\r\n.", b"\r\n"))
        return True

    def _bdat(self, argument: str) -> None:
        chunk = _CHUNK.fullmatch(argument)
        if not self._offers("CHUNKING"):
            self._end("503 5.5.1 BDAT, but CHUNKING was not offered")
        elif chunk is None or int(chunk[1]) > CONTENT_BYTES:
            self._end("501 5.5.4 Bad chunk size")
        else:
            self._chunk = (int(chunk[1]), chunk[2] is not None)

    def _take_chunk(self, size: int, last: bool) -> bool:  # noqa: FBT001 - as it was parsed
        if len(self._buffer) < size:
            return False
        content = self._content if self._content is not None else bytearray()
        content += self._buffer[:size]
        del self._buffer[:size]
        self._chunk = None
        if not self._recipients:
            self._say("503 5.5.1 Need RCPT command")
        elif len(content) > CONTENT_BYTES:
            self._end("552 5.3.4 Message too big")
        elif last:
            self._accept(bytes(content))
        else:
            self._content = content
            self._say(f"250 2.0.0 Ok: {size} octets")
        return True

    def _accept(self, content: bytes) -> None:
        taken = self._mood.taken
        self._reset()
        if len(taken.digests) >= KEPT:
            self._say("452 4.3.1 Too many mails that nobody has asked for")
            return
        taken.digests.append(hashlib.sha256(content).hexdigest())
        taken.authenticated += self._authenticated
        taken.tls += self._tls
        self._say(f"250 2.0.0 Ok: queued as {len(taken.digests):08X}")

    def _rset(self, _argument: str) -> None:
        self._reset()
        self._say("250 2.0.0 Ok")

    def _noop(self, _argument: str) -> None:
        self._say("250 2.0.0 Ok")

    def _quit(self, _argument: str) -> None:
        self._end("221 2.0.0 Bye")

    # --- AUTH (RFC 4954) ------------------------------------------------------------------------------------

    def _auth(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        if not self._extended or self._authenticated or self._sender:
            self._say("503 5.5.1 Bad sequence of commands")
        elif mechanism.upper() not in {"PLAIN", "LOGIN"}:
            self._say("504 5.5.4 Mechanism not offered")
        else:
            self._login = mechanism.upper() == "LOGIN"
            self._answers = []
            if initial:
                self._answer(initial)
            else:
                self._prompt()

    def _prompt(self) -> None:
        assert self._answers is not None
        # The next line is an answer to this, so it cannot be here.
        if self._came_early(alone=True):
            self._end(OUT_OF_STEP)
            return
        prompt = ("Username:", "Password:")[len(self._answers)] if self._login else ""
        self._say(f"334 {base64.b64encode(prompt.encode()).decode()}")

    def _answer(self, line: str) -> None:
        assert self._answers is not None
        try:
            self._answers.append(base64.b64decode(line, validate=True).decode())
        except (binascii.Error, UnicodeDecodeError):
            self._answers = None
            self._say("501 5.5.2 Not base64")
            return
        if self._login and len(self._answers) < 2:
            self._prompt()
            return
        username, password = self._mood.username, self._mood.password
        wanted = [username, password] if self._login else [f"\0{username}\0{password}"]
        self._authenticated = self._answers == wanted
        self._answers = None
        self._say("235 2.7.0 Ok" if self._authenticated else "535 5.7.8 Authentication failed")


class Sink:
    """The servers of all moods, each in clear text and in TLS 1.3."""

    def __init__(self) -> None:
        self._moods: dict[str, Mood] = {}
        self._servers: list[asyncio.Server] = []

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request; the module's docstring tells which."""
        if "start" in request:
            return await self._start(**request["start"])
        mood = self._moods[request["take"]]
        taken, mood.taken = mood.taken, Taken()
        return asdict(taken)

    async def _start(self, *, certificate: str, username: str, password: str) -> dict[str, dict[str, int]]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(certificate)
        ports = {}
        for name, offers in MOODS.items():
            mood = self._moods[name] = Mood(offers=offers, username=username, password=password)
            ports[name] = {"clear": await self._listen(mood, None), "tls": await self._listen(mood, context)}
        return ports

    async def _listen(self, mood: Mood, context: ssl.SSLContext | None) -> int:
        server = await asyncio.get_running_loop().create_server(
            lambda: Session(mood, tls=context is not None), LOOPBACK, 0, ssl=context
        )
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port


if __name__ == "__main__":
    asyncio.run(answer_requests(Sink().answer))
