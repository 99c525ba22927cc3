"""An SMTP server for whole bridges: counts mails by the alert they tell of, and can be as servers sometimes are.

An alert is known by the subject of its mail. Every reply leaves ``delay_s`` after what it answers has arrived,
which stands for one round trip; the connection itself costs none.

Requests (see ``benchmarks.child``):

* ``{"open": {"offers": [keyword]}}`` -> ``{"port"}``: listen on 127.0.0.1, without trouble or delay;
* ``{"be": {"trouble", "delay_s", "mails_a_connection"}}`` -> ``{}``: from now on; what is left out is none;
* ``{"away": bool}`` -> ``{"at"}``: close every connection and refuse new ones, or listen again on the same port;
* ``{"count": true}`` -> ``{"mails", "alerts", "connections", "open_at_most"}``: so far;
* ``{"from": n}`` -> ``{"mails": [[alert, Message-ID, at]]}``: accepted, from number n on, MAILS_TOLD at most;
* ``{"forget": true}`` -> ``{}``: count from 0 again.

``at`` is ``time.monotonic`` of this machine, which all its processes share.
"""

from __future__ import annotations

import asyncio
import re
import selectors
import time
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.child import answer_requests
from benchmarks.smtp_sink import LOOPBACK, Mood, Session

MAILS_TOLD: Final = 5000
MAILS_KEPT: Final = 1_000_000
HEADER_BYTES: Final = 16 * 1024
TROUBLES: Final = (None, "451", "421")
"""None at all; 451 to every RCPT; 421 instead of a greeting to every second connection."""

_SUBJECT: Final = re.compile(rb"^Subject: *([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID: Final = re.compile(rb"^Message-ID: *([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


@dataclass(slots=True, kw_only=True)
class Post:
    """What all connections share: how the server is, and what it has accepted."""

    offers: tuple[str, ...]
    trouble: str | None = None
    delay_s: float = 0.0
    mails_a_connection: int | None = None
    mails: list[tuple[str, str, float]] = field(default_factory=list)
    alerts: set[str] = field(default_factory=set)
    connections: int = 0
    open: set[asyncio.Transport] = field(default_factory=set)
    open_at_most: int = 0

    def be(
        self, *, trouble: str | None = None, delay_s: float = 0.0, mails_a_connection: int | None = None
    ) -> None:
        """Be like this from now on; raises ValueError for a trouble that is unknown."""
        if trouble not in TROUBLES:
            raise ValueError(f"a trouble is one of {TROUBLES}, not {trouble!r}")
        self.trouble, self.delay_s, self.mails_a_connection = trouble, delay_s, mails_a_connection

    def accept(self, content: bytes) -> bool:
        """Count a mail; False where there are too many."""
        if len(self.mails) >= MAILS_KEPT:
            return False
        header = content[:HEADER_BYTES].partition(b"\r\n\r\n")[0]
        alert, message_id = (_first(one, header) for one in (_SUBJECT, _MESSAGE_ID))
        self.mails.append((alert, message_id, time.monotonic()))
        self.alerts.add(alert)
        return True

    def forget(self) -> None:
        """Count from 0 again."""
        self.mails, self.alerts, self.connections, self.open_at_most = [], set(), 0, len(self.open)


def _first(pattern: re.Pattern[bytes], header: bytes) -> str:
    found = pattern.search(header)
    return "" if found is None else found[1].decode("ascii", "replace").strip()


class CountingSession(Session):
    """A session of the strict sink whose replies are late, and that counts for ``post``."""

    def __init__(self, post: Post) -> None:
        super().__init__(Mood(offers=post.offers, username="", password=""), tls=False)
        self._post = post
        self._accepted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or turn away."""
        assert isinstance(transport, asyncio.Transport)
        post = self._post
        post.connections += 1
        post.open.add(transport)
        post.open_at_most = max(post.open_at_most, len(post.open))
        if post.trouble == "421" and post.connections % 2 == 0:
            self._transport = transport
            self._end("421 4.3.2 Too many connections, try again later")
            self._flush()
        else:
            super().connection_made(transport)

    def connection_lost(self, _error: Exception | None) -> None:
        """Take it from the count."""
        self._post.open.discard(self._transport)

    def _flush(self) -> None:
        if not self._post.delay_s:
            super()._flush()
            return
        text, over = "".join(f"{reply}\r\n" for reply in self._replies).encode(), self._over
        self._replies.clear()
        if text or over:
            asyncio.get_running_loop().call_later(self._post.delay_s, self._write, text, over)

    def _write(self, text: bytes, over: bool) -> None:  # noqa: FBT001 - as call_later hands it on
        if not self._transport.is_closing():
            self._transport.write(text)
            if over:
                self._transport.close()

    def _mail(self, argument: str) -> None:
        limit = self._post.mails_a_connection
        if limit is not None and self._accepted >= limit:
            self._end("421 4.7.0 Too many messages in this connection")
        else:
            super()._mail(argument)

    def _rcpt(self, argument: str) -> None:
        if self._post.trouble == "451":
            self._say("451 4.3.0 Not now, try again later")
        else:
            super()._rcpt(argument)

    def _accept(self, content: bytes) -> None:
        self._reset()
        if self._post.accept(content):
            self._accepted += 1
            self._say(f"250 2.0.0 Ok: queued as {len(self._post.mails):08X}")
        else:
            self._say("452 4.3.1 Too many mails that nobody has asked for")


class BridgeSink:
    """One server, which can go away and come back."""

    def __init__(self) -> None:
        self._post: Post | None = None
        self._server: asyncio.Server | None = None
        self._port = 0

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request; the module's docstring tells which."""
        if "open" in request:
            await self._close()
            self._post, self._port = Post(offers=tuple(request["open"]["offers"])), 0
            await self._listen()
            return {"port": self._port}
        post = self._post
        if post is None:
            raise ValueError("the sink has to be opened first")
        if "be" in request:
            post.be(**request["be"])
        elif "away" in request:
            await (self._close() if request["away"] else self._listen())
            return {"at": time.monotonic()}
        elif "count" in request:
            return {
                "mails": len(post.mails),
                "alerts": len(post.alerts),
                "connections": post.connections,
                "open_at_most": post.open_at_most,
            }
        elif "from" in request:
            return {"mails": post.mails[request["from"] : request["from"] + MAILS_TOLD]}
        else:
            post.forget()
        return {}

    async def _listen(self) -> None:
        post = self._post
        assert post is not None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: CountingSession(post), LOOPBACK, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._post is not None:
            for transport in list(self._post.open):
                transport.abort()


def _loop() -> asyncio.AbstractEventLoop:
    # select() takes microseconds where epoll_wait() would round each delay up to the next millisecond.
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(answer_requests(BridgeSink().answer))
