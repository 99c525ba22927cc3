"""What goes wrong between us and the broker, in one sentence for people, with the remedy where there is one.

The numbers are MQTT 5 reason codes (§2.4); paho translates the return codes of 3.1.1 into them. A sentence does
not change from attempt to attempt, so that a fault which lasts is told once.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final, Literal

from plugin.mqtt.settings import Settings

Stage = Literal["CONNECT", "SUBSCRIBE", "established"]
"""What the broker had not answered when the connection ended, if anything."""

SESSION_TAKEN_OVER: Final = 0x8E
KEEP_ALIVE_TIMEOUT: Final = 0x8D
UNSPECIFIED_ERROR: Final = 0x80
PROTOCOL_ERRORS: Final = frozenset({0x81, 0x82})

TRANSIENT: Final = frozenset({0x80, 0x83, 0x97})
"""Reason codes of a PUBACK that may differ next time: unspecified, implementation specific, quota exceeded."""

_REMEDIES: Final = {
    0x84: "set mqtt.protocol to the version it speaks",
    0x85: "it does not take the client id of mqtt.client_id",
    0x86: "check mqtt.username and mqtt.password",
    0x87: "check mqtt.username, mqtt.password and the broker's access control",
    0x8C: "it wants an authentication method other than user name and password",
    0x9A: "it keeps no retained messages, which bridge/state needs",
    0x9B: "it lacks QoS 1, without which alerts would be lost",
}
_MAX_REASON_CHARS: Final = 200


def not_reached(settings: Settings, error: Exception) -> str:
    """Say why no connection came about; ``error`` is what connecting raised."""
    where = f"{settings.host}:{settings.port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of the broker {where} is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS with the broker {where} failed: {error.reason or error} (is this its TLS port?)"
    if isinstance(error, TimeoutError):
        return f"the broker {where} did not answer within {settings.connect_timeout_s:g} s"
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens on {where}: is the broker running?"
    if isinstance(error, socket.gaierror):
        return f"the name of the broker, {settings.host}, cannot be resolved: {error.strerror}"
    return f"the broker {where} cannot be reached: {getattr(error, 'strerror', None) or error}"


def refused(code: int, name: str, told: str | None = None) -> str:
    """Say that the broker answered CONNECT with reason ``code``; ``told`` is its own Reason String."""
    return f"the broker refused the connection: {name}{_hint(code)}{_quoted(told)}"


def subscription_refused(topic_filter: str, name: str, told: str | None = None) -> str:
    """Say that the broker answered SUBSCRIBE with a failure."""
    return (
        f"the broker refused the subscription to {topic_filter}: {name} (does its access control allow it?)"
        f"{_quoted(told)}"
    )


def no_answer(stage: Stage, settings: Settings) -> str:
    """Say that the broker took the connection and then kept silent."""
    return f"the broker did not answer {stage} within {settings.answer_timeout_s:g} s"


def told_to_leave(code: int, name: str, settings: Settings, told: str | None = None) -> str:
    """Say that the broker sent DISCONNECT (MQTT 5 alone has it) with reason ``code``."""
    if code == SESSION_TAKEN_OVER:
        return taken_over(settings)
    return f"the broker ended the connection: {name}{_hint(code)}{_quoted(told)}"


def taken_over(settings: Settings) -> str:
    """Say that another program has our client id, and that both throw each other out for ever."""
    return (
        f"another program connected with the same client id, {settings.client_id!r}: give each its own client_id"
    )


def lost(code: int, stage: Stage, settings: Settings) -> str:
    """Say that the connection ended without a DISCONNECT; ``code`` is what paho makes of it."""
    if code == KEEP_ALIVE_TIMEOUT:
        return "the broker has not been heard of for too long: it or the network between is gone"
    if code in PROTOCOL_ERRORS:
        return incomprehensible(settings)
    if stage == "CONNECT":
        return (
            "the broker closed the connection instead of answering CONNECT: does it speak MQTT "
            f"{settings.protocol}{' without TLS' if settings.tls is None else ''}, and does it know mqtt.username "
            "and mqtt.password?"
        )
    return "the broker closed the connection"


def incomprehensible(settings: Settings) -> str:
    """Say that what the broker sent breaks the protocol."""
    return f"the broker sent what is not MQTT {settings.protocol}: set mqtt.protocol to the version it speaks"


def cut_off_repeatedly(settings: Settings, times: int) -> str:
    """Say that the broker ended ``times`` connections in a row soon after they were made, without a reason."""
    return (
        f"the broker closes the connection each time soon after it is made ({times} times or more): is another "
        f"program connected with the same client id, {settings.client_id!r}?"
    )


def _hint(code: int) -> str:
    return f" ({_REMEDIES[code]})" if code in _REMEDIES else ""


def _quoted(told: str | None) -> str:
    """Return a foreign text so that it fits a log line: printable, on one line, bounded."""
    return f": {told[:_MAX_REASON_CHARS]!r}" if told else ""
