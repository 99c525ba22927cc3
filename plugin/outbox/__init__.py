"""The durable queue: what was accepted, what is to be sent, what became of it, what is to be told.

The only SQL in the house. What it holds survives a crash of the process and of the machine.
"""

from plugin.outbox.beside import Reader, ask, reading
from plugin.outbox.errors import (
    OutboxDamaged,
    OutboxError,
    OutboxForeign,
    OutboxFull,
    OutboxLocked,
    OutboxReadOnly,
    OutboxTooNew,
    OutboxUnavailable,
)
from plugin.outbox.intake import Intake
from plugin.outbox.memo import Errand, Memo
from plugin.outbox.queue import Outbox
from plugin.outbox.records import (
    Claim,
    Depth,
    Keep,
    Known,
    Listed,
    Listing,
    Publication,
    QueuedAlert,
    Recipient,
    Report,
    Settlement,
    Shown,
)

__all__ = [
    "Claim",
    "Depth",
    "Errand",
    "Intake",
    "Keep",
    "Known",
    "Listed",
    "Listing",
    "Memo",
    "Outbox",
    "OutboxDamaged",
    "OutboxError",
    "OutboxForeign",
    "OutboxFull",
    "OutboxLocked",
    "OutboxReadOnly",
    "OutboxTooNew",
    "OutboxUnavailable",
    "Publication",
    "QueuedAlert",
    "Reader",
    "Recipient",
    "Report",
    "Settlement",
    "Shown",
    "ask",
    "reading",
]
