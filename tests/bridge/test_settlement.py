from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from plugin.alert import Attempt, RecipientOutcome, RecipientState
from plugin.bridge.settlement import event_type, fates, reason
from plugin.outbox import Recipient
from tests.bridge.house import START

STATES: tuple[RecipientState, ...] = ("accepted", "refused", "expired", "deferred", "denied", "dropped")


def outcome(
    address: str, state: RecipientState, text: str | None = "words", code: int | None = 450
) -> RecipientOutcome:
    return RecipientOutcome(address=address, state=state, phase="rcpt", code=code, text=text)


def attempt(recipients: Sequence[RecipientOutcome], fault: str | None = None) -> Attempt:
    return Attempt(
        relay="r", recipients=tuple(recipients), phase="content", fault=fault, started_at=START, duration_s=0
    )


@pytest.mark.parametrize("states", list(itertools.product(STATES, repeat=2)), ids="-".join)
def test_the_kind_of_outcome(states: tuple[RecipientState, RecipientState]) -> None:
    kind = event_type([outcome(str(n), state) for n, state in enumerate(states)])
    if "deferred" in states:
        assert kind == "deferred"
    elif states == ("accepted", "accepted"):
        assert kind == "success"
    else:
        assert kind == "failure"


@pytest.mark.parametrize("before", [None, *STATES])
@pytest.mark.parametrize("told", STATES)
@pytest.mark.parametrize("again", [True, False])
def test_what_was_final_stays_and_who_waits_is_decided(
    before: RecipientState | None, told: RecipientState, again: bool
) -> None:
    known = Recipient(address="a", fate=None if before is None else outcome("a", before, "before"))
    (after,) = fates([known], attempt([outcome("a", told, "told")]), again=again)
    if before not in (None, "deferred"):
        assert (after.state, after.text) == (before, "before")
    elif told == "deferred" and not again:
        assert (after.state, after.text) == ("expired", "told")
    else:
        assert (after.state, after.text) == (told, "told")


def test_whom_the_attempt_does_not_mention_is_put_off_with_its_fault() -> None:
    recipients = [Recipient(address=address, fate=None) for address in "ab"]
    told = attempt([outcome("b", "accepted"), outcome("stranger", "refused")], fault="the connection was lost")
    first, second = fates(recipients, told, again=True)
    assert (first.address, first.state, first.phase) == ("a", "deferred", "content")
    assert first.text == "the connection was lost"
    assert second.state == "accepted"


@pytest.mark.parametrize(
    ("after", "fault", "expected"),
    [
        ([outcome("a", "accepted")], None, None),
        ([outcome("a", "refused"), outcome("b", "accepted")], None, "a refused (rcpt: 450 words)"),
        ([outcome("a", "refused"), outcome("b", "refused")], None, "a, b refused (rcpt: 450 words)"),
        (
            [outcome("a", "refused"), outcome("b", "expired", None, None)],
            "unreachable",
            "a refused (rcpt: 450 words); b given up, too old (rcpt: unreachable)",
        ),
        ([outcome("a", "dropped", None, None)], None, "a dropped by request (rcpt: no reason given)"),
        ([outcome("a", "deferred", "", 421)], "lost", "a put off (rcpt: 421)"),
    ],
)
def test_reasons(after: list[RecipientOutcome], fault: str | None, expected: str | None) -> None:
    assert reason(after, fault=fault, notes=()) == expected


def test_an_enhanced_status_code_is_told_once() -> None:
    one = RecipientOutcome(address="a", state="refused", phase="rcpt", code=550, enhanced="5.1.1", text="5.1.1 No")
    other = RecipientOutcome(address="a", state="refused", phase="rcpt", code=550, enhanced="5.1.1", text="No")
    assert {reason([fate], fault=None, notes=()) for fate in (one, other)} == {"a refused (rcpt: 550 5.1.1 No)"}


def test_a_reason_is_bounded() -> None:
    same = [outcome(f"user{n}@example.net", "refused", "x" * 5000) for n in range(100)]
    told = reason(same, fault=None, notes=())
    assert told is not None
    assert "user4@example.net and 95 more refused" in told
    assert len(told) < 600
    different = [outcome(f"user{n}", "refused", f"{n:03}" * 5000) for n in range(100)]
    told = reason(different, fault=None, notes=())
    assert told is not None
    assert told.endswith("; and 95 more")
    assert len(told) < 2000


def test_why_a_reply_ends_it_is_told_beside_the_reply() -> None:
    fate = RecipientOutcome(address="a", state="deferred", phase="hello", code=500, text="what is EHLO")
    told = reason([fate], fault="HELO has no AUTH, and AUTH is required", notes=())
    assert told == "a put off (hello: 500 what is EHLO; HELO has no AUTH, and AUTH is required)"
