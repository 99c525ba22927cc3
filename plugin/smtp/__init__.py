"""Mail: the SMTP client side (RFC 5321) over any Stream. Knows nothing of alerts or chips."""

from plugin.smtp.client import Client
from plugin.smtp.delivered import Delivery
from plugin.smtp.envelope import Envelope
from plugin.smtp.errors import Fault, FaultKind, Phase
from plugin.smtp.reply import Reply
from plugin.smtp.settings import Settings, Timeouts
from plugin.smtp.stream import SocketStream, Stream
from plugin.smtp.tls import Secured, Tls, TlsError, TlsStream
from plugin.smtp.transaction import RecipientResult

__all__ = [
    "Client",
    "Delivery",
    "Envelope",
    "Fault",
    "FaultKind",
    "Phase",
    "RecipientResult",
    "Reply",
    "Secured",
    "Settings",
    "SocketStream",
    "Stream",
    "Timeouts",
    "Tls",
    "TlsError",
    "TlsStream",
]
