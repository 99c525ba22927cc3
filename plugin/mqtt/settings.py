"""How the connection to the broker is to be made: values, what they must be, and the delays between attempts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final, Literal

MAX_STRING_BYTES: Final = 65_535
"""The longest UTF-8 string or binary value that MQTT can carry (MQTT 5 §1.5.4, §1.5.6)."""

_WEEK_S: Final = 7 * 24 * 3600
_JITTER: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """TLS to the broker. Without ``ca_file`` the system's authorities are trusted; the files are PEM.

    ``verify`` False takes any certificate of any name.
    """

    ca_file: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Return the context for a client, TLS 1.2 or newer; raises ValueError that names what cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"mqtt.tls.ca_file {self.ca_file} cannot be used: {error}") from error
        if self.keyfile and not self.certfile:
            raise ValueError("mqtt.tls.keyfile needs mqtt.tls.certfile")
        if self.certfile:
            try:
                # An encrypted key would make OpenSSL ask at the terminal; an empty password makes it fail instead.
                context.load_cert_chain(self.certfile, self.keyfile, password=lambda: "")
            except (OSError, ssl.SSLError) as error:
                raise ValueError(f"mqtt.tls.certfile {self.certfile} cannot be used: {error}") from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.sslsocket_class = _TidySocket
        return context


class _TidySocket(ssl.SSLSocket):
    """Closes itself when the handshake fails: paho drops such a socket without closing it."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the signature of ssl.SSLSocket
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One broker, one persistent session. Raises ValueError for what no broker could take.

    ``base`` is the topic all of ours are below. ``onlooker`` is the topic filter of a client that only looks on
    and announces no state. ``shared_group`` makes several bridges share the alerts (MQTT 5 §4.8.2).
    ``receive_maximum`` (MQTT 5 §3.1.2.11.3) bounds what the broker sends ahead of our acknowledgements;
    a 3.1.1 broker has its own bound. A Maximum Packet Size (§3.1.2.11.4) is never announced: the broker would
    discard larger alerts without a word, while an alert that is too large must end in a failure outcome. Who must
    bound what one publisher can make this process hold does so at the broker. ``watched`` are topics beside that,
    heard while the connection stands; ``unwatched`` those that an earlier configuration may have watched.
    """

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    protocol: Literal["5", "3.1.1"] = "5"
    client_id: str = "hardwire"
    base: str = "alerts"
    shared_group: str | None = None
    watched: tuple[str, ...] = ()
    unwatched: tuple[str, ...] = ()
    keepalive_s: int = 30
    tls: TlsSettings | None = None
    onlooker: str | None = None
    session_expiry_s: int = _WEEK_S
    receive_maximum: int = 200
    connect_timeout_s: float = 5.0
    answer_timeout_s: float = 10.0
    reconnect_first_s: float = 1.0
    reconnect_longest_s: float = 30.0

    def __post_init__(self) -> None:
        for name in ("host", "client_id", "base"):
            if not getattr(self, name):
                raise ValueError(f"mqtt {name} must not be empty")
        for name, least, most in (
            ("port", 1, 65_535),
            ("keepalive_s", 1, 65_535),
            ("receive_maximum", 1, 65_535),
            ("session_expiry_s", 0, 0xFFFF_FFFF),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"mqtt {name} must be from {least} to {most}, not {getattr(self, name)}")
        if self.base.startswith("$") or not is_topic(self.state_topic) or not is_topic(self.alert_topic):
            raise ValueError(f"{self.base!r} cannot be the base of topics")
        if self.shared_group is not None and (not self.shared_group or set(self.shared_group) & set("/+#\0")):
            raise ValueError(f"mqtt shared_group must be a name without / + #, not {self.shared_group!r}")
        if self.password is not None and self.username is None:
            raise ValueError("mqtt password needs mqtt username")

    @property
    def alert_topic(self) -> str:
        """Return the topic that alerts are below."""
        return f"{self.base}/email"

    @property
    def state_topic(self) -> str:
        """Return the topic of ``online`` and ``offline``."""
        return f"{self.base}/bridge/state"

    @property
    def request_topic(self) -> str:
        """Return the topic that requests to the bridge are below."""
        return f"{self.base}/bridge/request"

    def concerns(self, topic: str) -> bool:
        """Tell whether a message on ``topic`` is something that this configuration has subscribed to."""
        below = f"{topic}/".startswith((f"{self.alert_topic}/", f"{self.request_topic}/"))
        return below or topic in self.watched or self.onlooker is not None

    @property
    def subscription(self) -> str:
        """Return the topic filter of the subscription without which there is nothing to do."""
        if self.onlooker is not None:
            return self.onlooker
        shared = f"$share/{self.shared_group}/" if self.shared_group else ""
        return f"{shared}{self.alert_topic}/#"

    @property
    def requests(self) -> str | None:
        """Return the topic filter of requests; None for who only looks on.

        It is never shared: each bridge of a group is asked for itself.
        """
        return None if self.onlooker is not None else f"{self.request_topic}/+"


def is_topic(text: str) -> bool:
    """Tell whether ``text`` is a topic name that one may publish to (MQTT 5 §4.7.1, §4.7.3)."""
    try:
        return 0 < len(text.encode()) <= MAX_STRING_BYTES and not set(text) & set("+#\0")
    except UnicodeEncodeError:
        return False


def backoff_s(failures: int, settings: Settings, random: float) -> float:
    """Return the delay before the next attempt, after ``failures`` (1 or more) in a row.

    It doubles from ``reconnect_first_s`` up to ``reconnect_longest_s``, less up to a quarter by ``random`` (0 to
    1), so that the clients of a broker that comes back do not all come at once.
    """
    doubled = settings.reconnect_first_s * 2.0 ** min(failures - 1, 30)
    return min(doubled, settings.reconnect_longest_s) * (1 - _JITTER * random)
