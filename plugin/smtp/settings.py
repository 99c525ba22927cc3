"""How a relay is to be spoken to: names, login, patience."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final, Literal, Protocol

from plugin.smtp.auth import Credentials
from plugin.smtp.dsn import Notify, check_notify
from plugin.smtp.envelope import check_helo_name
from plugin.smtp.errors import Phase

MAX_TIMEOUT_S: Final = 86400.0

Greeting = Literal["auto", "helo"]
Security = Literal["none", "starttls", "tls"]
Auth = Literal["required", "preferred", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds to wait for a whole reply, by phase (RFC 5321 §4.5.3.2; what it does not name has 5 minutes).

    ``block_s`` bounds the sending of a command or of one block of content, ``quit_s`` the whole farewell, and
    ``letter_s`` everything one letter may take, so that a relay that is slow in every phase is bounded too.
    Opening the connection is not in here: whoever gives ``connect`` bounds that.
    """

    greeting_s: float = 300.0
    hello_s: float = 300.0
    tls_s: float = 60.0
    auth_s: float = 300.0
    mail_s: float = 300.0
    rcpt_s: float = 300.0
    data_s: float = 120.0
    content_s: float = 600.0
    block_s: float = 180.0
    quit_s: float = 1.0
    letter_s: float = 1800.0

    def __post_init__(self) -> None:
        for one in fields(self):
            if not 0 < getattr(self, one.name) <= MAX_TIMEOUT_S:
                raise ValueError(f"{one.name} must be more than 0 and at most {MAX_TIMEOUT_S:g} seconds")

    def reply_s(self, phase: Phase) -> float:
        """Return how long the reply that ends ``phase`` is waited for."""
        return {
            "connect": self.greeting_s,
            "greeting": self.greeting_s,
            "hello": self.hello_s,
            "tls": self.tls_s,
            "auth": self.auth_s,
            "mail": self.mail_s,
            "rcpt": self.rcpt_s,
            "data": self.data_s,
            "content": self.content_s,
        }[phase]


class Token(Protocol):
    """Where the access token for AUTH comes from, anew for each connection."""

    def get(self) -> str:
        """Return the token; OSError, with a sentence for people, without one."""
        ...

    def forget(self) -> None:
        """Take note that the relay has refused the token: the next one must be a new one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One relay. ``host`` names it in the transcript and in its certificate; ``helo_name`` names us in EHLO.

    Without a ``helo_name`` it is the address of our end of each connection (``plugin.smtp.stream.literal_of``).

    ``security`` "tls" begins with TLS (RFC 8314), "starttls" goes over to it after EHLO (RFC 3207), and neither
    ever goes on in clear text; ``ca_file``, ``verify`` and ``server_name`` (None: ``host``) are those of ``Tls``.

    ``greeting`` "auto" says EHLO, and HELO where that is refused; "helo" says HELO at once. ``auth`` "required"
    sends nothing unauthenticated, "preferred" authenticates where it can, "none" never does. The login is
    ``username`` with ``password`` or ``token``; ``mechanisms`` are the only ones to be tried, in this order,
    ours where there are none. ``eager`` sends AUTH PLAIN and a letter in one write, so that content may leave
    before the 235. ``dsn`` is what the relay is asked to notify the sender of (RFC 3461), nothing where it is
    empty.

    ``idle_s`` is how long a connection is kept for the next letter. Raises ValueError for a name or a login that
    cannot be sent, for a login that is wanted and not given, for HELO with STARTTLS.
    """

    host: str
    helo_name: str | None = None
    security: Security = "none"
    ca_file: str | None = None
    verify: bool = True
    server_name: str | None = None
    greeting: Greeting = "auto"
    auth: Auth = "none"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: Token | None = field(default=None, repr=False)
    mechanisms: tuple[str, ...] = ()
    eager: bool = False
    dsn: tuple[Notify, ...] = ()
    idle_s: float = 60.0
    timeouts: Timeouts = field(default_factory=Timeouts)

    def __post_init__(self) -> None:
        if self.helo_name is not None:
            check_helo_name(self.helo_name)
        check_notify(self.dsn)
        if self.security == "starttls" and self.greeting == "helo":
            raise ValueError("security starttls needs EHLO (RFC 3207 §4), greeting 'helo' never says it")
        if self.auth != "none" and (self.username is None or (self.password is None) == (self.token is None)):
            raise ValueError(f"auth {self.auth!r} needs a username, and a password or a token")
        self.login(token=None)

    def login(self, *, token: str | None) -> Credentials | None:
        """Return the login, with ``token`` where that is what proves it; None without one, or without AUTH.

        Raises ValueError for a token that cannot be sent.
        """
        if self.auth == "none" or self.username is None or (self.password is None and token is None):
            return None
        return Credentials(
            username=self.username,
            password=self.password,
            token=token,
            mechanisms=self.mechanisms,
            host=self.host if token is not None else None,
        )
