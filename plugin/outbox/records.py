"""What goes into the outbox and comes out of it. Times are seconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from plugin.alert import Attempt, EventType, Letter, Message, Outcome, RecipientOutcome, Severity

URGENCY: Final[dict[Severity | None, int]] = {"critical": 0, "warning": 1, "info": 2, None: 2}
LEAST_URGENT: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How much of what is settled is remembered: for ``age_s``, and at most ``alerts``.

    A repeat of an alert is recognised for as long as the alert is remembered.
    """

    age_s: float = 30 * 86_400.0
    alerts: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An alert that is in the outbox already; ``outcome`` numbers its final outcome, None while it is open."""

    alert: int
    name: str
    outcome: int | None
    event_type: EventType | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An outcome to be stored, and published at ``topics`` and wherever the alert asked for a response."""

    alert: int
    outcome: Outcome
    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """An outcome on its way to one topic; ``id`` is the token by which its PUBACK is told."""

    id: int
    topic: str
    payload: bytes
    correlation: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """One recipient of a letter; ``fate`` is None as long as nothing was tried."""

    address: str
    fate: RecipientOutcome | None

    @property
    def due(self) -> bool:
        """Whether the letter still has to go to this recipient."""
        return self.fate is None or self.fate.state == "deferred"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedAlert:
    """An alert of a letter; ``message`` is what the broker handed over, None once the letter is sealed."""

    number: int
    id: str
    name: str
    topic: str
    received_at: float
    message: Message | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A letter that one lane has taken. ``directions`` are the JSON of what routing decided.

    ``sealed`` is None before the first attempt; its recipients are those that are due. ``earlier_attempts`` are
    those of ``attempts`` that belong to rounds before a retry by request. ``urgency`` counts from 0, critical.
    """

    letter: int
    route: str
    directions: str
    alerts: tuple[QueuedAlert, ...]
    recipients: tuple[Recipient, ...]
    sealed: Letter | None
    attempts: int
    received_at: float
    possible_duplicate: bool
    earlier_attempts: int = 0
    urgency: int = LEAST_URGENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What an attempt has come to. ``due_at`` None: the letter is settled, and ``reports`` are final.

    ``keep_content``: the sealed octets stay, so that the letter can be looked at and sent again.
    """

    letter: int
    number: int
    attempt: Attempt
    recipients: tuple[RecipientOutcome, ...]
    due_at: float | None
    possible_duplicate: bool
    keep_content: bool
    at: float
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How much is waiting: letters not settled, since when the oldest waits, outcomes not yet acknowledged."""

    waiting: int
    oldest_received_at: float | None
    unpublished: int


Listing = Literal["waiting", "wire", "failed", "sent"]
"""Letters that are not settled, handed to a relay, settled without being accepted by all, accepted by all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A letter as people see it; ``subject`` is None before it is sealed, ``due_at`` matters while it waits."""

    number: int
    state: Listing
    alert_ids: tuple[str, ...]
    topic: str
    route: str
    subject: str | None
    recipients: tuple[Recipient, ...]
    attempts: int
    due_at: float
    received_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """All that is known of a letter. ``content_bytes`` is None where no octets are kept: not sealed yet, or sent.

    ``attempts`` are those that are kept, each with its transcript. ``outcomes`` are what was told of its alerts,
    each as its JSON; deferred ones are forgotten once the broker has acknowledged them.
    """

    letter: Listed
    message_id: str | None
    sender: str | None
    notes: tuple[str, ...]
    possible_duplicate: bool
    content_bytes: int | None
    attempts: tuple[Attempt, ...]
    outcomes: tuple[bytes, ...]
