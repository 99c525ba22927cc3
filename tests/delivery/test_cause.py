"""Why a recipient was put off, told from replies that servers give."""

from __future__ import annotations

import pytest

from plugin.alert import Phase, RecipientOutcome, RecipientState
from plugin.delivery import Cause, cause, wants_new_connection


def fate(phase: Phase, reply: str | None, *, state: RecipientState = "deferred") -> RecipientOutcome:
    """``reply`` is "CODE [ENHANCED] text"; None for a fault of the connection."""
    if reply is None:
        return RecipientOutcome(address="a@b.test", state=state, phase=phase, text="the connection was lost")
    code, _, text = reply.partition(" ")
    first, _, rest = text.partition(" ")
    enhanced = first if first.count(".") == 2 else None
    return RecipientOutcome(
        address="a@b.test",
        state=state,
        phase=phase,
        code=int(code),
        enhanced=enhanced,
        text=rest if enhanced else text,
    )


@pytest.mark.parametrize(
    ("phase", "reply", "expected"),
    [
        ("connect", None, "unreachable"),
        ("tls", None, "unreachable"),
        ("greeting", "554 5.7.1 no mail from you", "unwanted"),
        ("auth", "535 5.7.8 wrong password", "unwanted"),
        ("auth", "454 4.7.0 Temporary authentication failure", "limited"),
        ("auth", None, "unwanted"),
        ("greeting", "421 4.7.0 too many connections from your host", "limited"),
        ("greeting", "421 4.3.2 Service shutting down", "busy"),
        ("greeting", "421 mail.test Error: too many connections", "limited"),
        ("mail", "450 4.7.1 Error: too much mail from 192.0.2.1", "limited"),
        ("mail", "421 4.7.28 Our system has detected an unusual rate of mail", "limited"),
        ("mail", "432 4.3.2 STOREDRV; sender thread limit exceeded", "limited"),
        ("mail", "452 4.3.1 Insufficient system storage", "busy"),
        ("rcpt", "450 4.2.0 <a@b.test>: Recipient address rejected: Greylisted", "greylisted"),
        ("rcpt", "451 4.7.1 Please try again later", "greylisted"),
        ("rcpt", "450 4.3.2 Service currently unavailable", "greylisted"),
        ("content", "451 gray-listed, come back in 5 minutes", "greylisted"),
        ("rcpt", "452 4.5.3 Too many recipients", "crowded"),
        ("rcpt", "452 4.2.2 Over quota, try again later", "other"),
        ("rcpt", "450 4.2.1 mailbox is busy with too many messages", "other"),
        ("rcpt", "451 4.3.0 look-up error", "other"),
        ("content", "421 4.4.2 timeout exceeded", "other"),
        ("content", "451 4.3.0 queue file write error", "busy"),
        ("content", None, "other"),
    ],
)
def test_what_servers_say(phase: Phase, reply: str | None, expected: Cause) -> None:
    assert cause(fate(phase, reply)) == expected


@pytest.mark.parametrize("state", ["accepted", "refused", "expired", "dropped"])
def test_who_was_not_put_off_has_no_cause(state: RecipientState) -> None:
    assert cause(fate("rcpt", "450 4.7.1 greylisted", state=state)) == "other"


def test_postscreen_answers_otherwise_only_on_another_connection() -> None:
    assert wants_new_connection(fate("rcpt", "450 4.3.2 Service currently unavailable"))
    assert not wants_new_connection(fate("rcpt", "450 4.2.0 Greylisted"))
    assert not wants_new_connection(fate("rcpt", "450 4.3.2 Service currently unavailable", state="expired"))
