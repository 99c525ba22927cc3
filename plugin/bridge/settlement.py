"""What an attempt has come to: the fate of each recipient, the kind of outcome, and its reason. Pure.

====================================================  =========
recipients after the attempt                          outcome
====================================================  =========
all accepted                                          success
none put off, at least one that will never get it     failure
at least one put off                                  deferred
====================================================  =========
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol

from plugin.alert import Attempt, EventType, Letter, Outcome, Phase, RecipientOutcome
from plugin.bridge.arrival import outcome_topics
from plugin.outbox import Claim, Recipient, Report, Settlement

MAX_REASON_GROUPS: Final = 5
MAX_NAMED: Final = 5
MAX_WORDS_CHARS: Final = 300


class NextAttempt(Protocol):
    """What ``plugin.delivery.Schedule`` does."""

    def next_attempt(self, attempts: int, *, received_at: float, now: float) -> float | None:
        """Return when the next attempt is due, or None: it is too late for another."""
        ...


def settle(
    claim: Claim, letter: Letter | None, attempt: Attempt, *, schedule: NextAttempt, base: str, now: float
) -> Settlement:
    """Return what ``attempt`` has come to; ``letter`` is None where none could be sealed."""
    number = claim.attempts + 1
    waits = any(one.state == "deferred" for one in fates(claim.recipients, attempt, again=True))
    # A round by request begins with the shortest wait again.
    due_at = (
        schedule.next_attempt(number - claim.earlier_attempts, received_at=claim.received_at, now=now)
        if waits
        else None
    )
    after = fates(claim.recipients, attempt, again=due_at is not None)
    kind = event_type(after)
    possible_duplicate = claim.possible_duplicate or attempt.possible_duplicate
    why = reason(after, fault=attempt.fault, notes=letter.notes if letter else ())
    outcomes = [
        Outcome(
            id=one.id,
            name=one.name,
            event_type=kind,
            topic=one.topic,
            route=claim.route,
            subject=letter.subject if letter else None,
            message_id=letter.message_id if letter else None,
            reason=why,
            recipients=after,
            relay=attempt.relay,
            greeting=attempt.greeting,
            tls=attempt.tls,
            authenticated=attempt.authenticated,
            attempts=number,
            next_attempt_at=None if due_at is None else utc(due_at),
            possible_duplicate=possible_duplicate,
            received_at=utc(one.received_at),
            settled_at=utc(now) if due_at is None else None,
        )
        for one in claim.alerts
    ]
    return Settlement(
        letter=claim.letter,
        number=number,
        attempt=attempt,
        recipients=after,
        due_at=due_at,
        possible_duplicate=possible_duplicate,
        keep_content=kind != "success",
        at=now,
        reports=tuple(
            Report(alert=one.number, outcome=outcome, topics=outcome_topics(base, kind, one.name))
            for one, outcome in zip(claim.alerts, outcomes, strict=True)
        ),
    )


def dropped(claim: Claim, *, base: str, now: float) -> Settlement:
    """Return what a letter comes to that somebody gave up by request: whoever was to get it still, does not."""
    text = "dropped by request"
    attempt = Attempt(
        relay=None,
        recipients=tuple(
            RecipientOutcome(
                address=one.address, state="dropped", phase=one.fate.phase if one.fate else "route", text=text
            )
            for one in claim.recipients
            if one.due
        ),
        phase="route",
        fault=text,
        started_at=utc(now),
        duration_s=0.0,
        transcript=(f"= {text}",),
    )
    sealed = claim.sealed
    after = fates(claim.recipients, attempt, again=False)
    outcomes = [
        Outcome(
            id=one.id,
            name=one.name,
            event_type="failure",
            topic=one.topic,
            route=claim.route,
            subject=sealed.subject if sealed else None,
            message_id=sealed.message_id if sealed else None,
            reason=reason(after, fault=None, notes=()),
            recipients=after,
            attempts=claim.attempts,
            possible_duplicate=claim.possible_duplicate,
            received_at=utc(one.received_at),
            settled_at=utc(now),
        )
        for one in claim.alerts
    ]
    return Settlement(
        letter=claim.letter,
        number=claim.attempts + 1,
        attempt=attempt,
        recipients=after,
        due_at=None,
        possible_duplicate=claim.possible_duplicate,
        keep_content=True,
        at=now,
        reports=tuple(
            Report(alert=one.number, outcome=outcome, topics=outcome_topics(base, "failure", one.name))
            for one, outcome in zip(claim.alerts, outcomes, strict=True)
        ),
    )


def fates(recipients: Sequence[Recipient], attempt: Attempt, *, again: bool) -> tuple[RecipientOutcome, ...]:
    """Return the fate of every recipient after ``attempt``, in their order.

    What was final stays. Whom the attempt does not mention is put off: silence of the program must not lose a
    letter. ``again`` False: there will be no further attempt, and whoever still waits has expired.
    """
    told = {one.address: one for one in attempt.recipients}
    after: list[RecipientOutcome] = []
    for one in recipients:
        if one.fate is not None and not one.due:
            after.append(one.fate)
            continue
        fate = told.get(one.address) or RecipientOutcome(
            address=one.address, state="deferred", phase=attempt.phase, text=attempt.fault
        )
        if fate.state == "deferred" and not again:
            fate = replace(fate, state="expired")
        after.append(fate)
    return tuple(after)


def event_type(after: Sequence[RecipientOutcome]) -> EventType:
    """Return the kind of outcome that these fates make; see the table above."""
    states = {one.state for one in after}
    if "deferred" in states:
        return "deferred"
    return "success" if states == {"accepted"} else "failure"


def reason(after: Sequence[RecipientOutcome], *, fault: str | None, notes: Sequence[str]) -> str | None:
    """Return one sentence for people: who does not have the mail (yet), and why.

    When all have it: what was left out of it or replaced, or None.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for one in after:
        if one.state != "accepted":
            groups.setdefault((one.state, f"{one.phase}: {_words(one, fault)}"), []).append(one.address)
    if not groups:
        return "; ".join(notes) or None
    parts = [f"{_some(who)} {_STATES[state]} ({why})" for (state, why), who in groups.items()]
    more = len(parts) - MAX_REASON_GROUPS
    return "; ".join(parts[:MAX_REASON_GROUPS]) + (f"; and {more} more" if more > 0 else "")


def failed_attempt(
    due: Sequence[str], fault: str, *, phase: Phase, started_at: datetime, possible_duplicate: bool
) -> Attempt:
    """Return the attempt that something outside SMTP has ended: everybody due is put off."""
    return Attempt(
        relay=None,
        recipients=tuple(
            RecipientOutcome(address=address, state="deferred", phase=phase, text=fault) for address in due
        ),
        phase=phase,
        fault=fault,
        possible_duplicate=possible_duplicate,
        started_at=started_at,
        duration_s=0.0,
        transcript=(f"= {fault}",),
    )


_BEFORE_MAIL: Final[frozenset[Phase]] = frozenset({"greeting", "hello", "tls", "auth"})
_STATES: Final = {
    "refused": "refused",
    "expired": "given up, too old",
    "deferred": "put off",
    "denied": "not allowed",
    "dropped": "dropped by request",
}


def _words(one: RecipientOutcome, fault: str | None) -> str:
    text = one.text or ("" if one.code is not None else fault or "no reason given")
    parts = [] if one.code is None else [str(one.code)]
    if one.enhanced is not None and not text.startswith(one.enhanced):
        parts.append(one.enhanced)
    if one.code is not None and fault is not None and one.phase in _BEFORE_MAIL:
        # The relay's words alone may not tell why they end it: "command not recognized" where AUTH is required.
        text = f"{text}; {fault}" if text else fault
    return " ".join([*parts, text]).strip()[:MAX_WORDS_CHARS]


def utc(at: float) -> datetime:
    """Return seconds since the epoch as an aware time."""
    return datetime.fromtimestamp(at, UTC)


def _some(addresses: Sequence[str]) -> str:
    more = len(addresses) - MAX_NAMED
    return ", ".join(addresses[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
