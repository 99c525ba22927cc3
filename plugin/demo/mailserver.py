"""A mail server for the demo: aiosmtpd on a free loopback port, one mailbox, AUTH, and a mood without EHLO."""

from __future__ import annotations

import hmac
import socket
import threading
from collections.abc import Sequence
from typing import Any, Final, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

LOOPBACK: Final = "127.0.0.1"
DOMAIN: Final = "demo.test"
MAX_MAIL_BYTES: Final = 32 * 1024 * 1024
MAX_KEPT_BYTES: Final = 256 * 1024 * 1024  # of all mails together: beyond it they are put off
START_TRIES: Final = 5


class _Mailbox:
    """aiosmtpd's hooks: who may receive, who may log in, and what has come."""

    def __init__(self, users: Sequence[str], login: str, password: str) -> None:
        self._users = frozenset(users)
        self._login = login.encode()
        self._password = password.encode()
        self.speaks_ehlo = True
        self.mails: list[bytes] = []
        self.lock = threading.Lock()

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        if not self.speaks_ehlo:
            return ["502 5.5.1 EHLO? This server is from 1985; say HELO"]
        session.host_name = hostname
        return responses

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if session.extended_smtp and not self.speaks_ehlo:
            return "421 4.3.2 This server makes way for an older one"  # RFC 5321 §3.8: at any time
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address not in self._users:
            return f"550 5.1.1 <{address}>: Recipient address rejected: User unknown"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        content = envelope.original_content or b""
        with self.lock:
            if sum(map(len, self.mails)) + len(content) > MAX_KEPT_BYTES:
                return "452 4.3.1 Insufficient system storage"  # RFC 5321 §4.2.3: to be tried again later
            self.mails.append(content)
            return f"250 2.0.0 Ok: queued as DEMO{len(self.mails)}"

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any
    ) -> AuthResult:
        good = (
            isinstance(data, LoginPassword)
            and hmac.compare_digest(data.login, self._login)
            and hmac.compare_digest(data.password, self._password)
        )
        return AuthResult(success=good, handled=False)


class MailServer:
    """A running mail server; a context manager. ``host`` and ``port`` say where; ``close`` ends it."""

    host: Final = LOOPBACK

    def __init__(self, *, users: Sequence[str], login: str, password: str, port: int | None = None) -> None:
        self._mailbox = _Mailbox(users, login, password)
        for left in range(START_TRIES - 1, -1, -1):
            # The controller looks for its server at the port that it was given, so it cannot be given 0. A free
            # one may be somebody else's a moment later; then there is another.
            with socket.create_server((LOOPBACK, port or 0)) as free:
                self.port = int(free.getsockname()[1])
            self._controller = Controller(
                self._mailbox,
                hostname=LOOPBACK,
                port=self.port,
                server_hostname=f"mail.{DOMAIN}",
                ident="demo mail server",
                auth_require_tls=False,
                authenticator=self._mailbox.authenticate,
                data_size_limit=MAX_MAIL_BYTES,
            )
            try:
                self._controller.start()
                break
            except OSError:
                if port or not left:
                    raise
        self._closed = False

    @property
    def mails(self) -> tuple[bytes, ...]:
        """Return the content of every mail that was accepted, in order."""
        with self._mailbox.lock:
            return tuple(self._mailbox.mails)

    def forget_ehlo(self) -> None:
        """From now on refuse EHLO, as a server does that knows neither it nor AUTH (RFC 5321 §3.2).

        Who has said it already is sent away with the next mail.
        """
        self._mailbox.speaks_ehlo = False

    def recall_ehlo(self) -> None:
        """Speak EHLO again."""
        self._mailbox.speaks_ehlo = True

    def close(self) -> None:
        """End the server; may be repeated."""
        if not self._closed:
            self._closed = True
            self._controller.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
