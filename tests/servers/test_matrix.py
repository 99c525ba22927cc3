"""Every mood of every server ends in the right outcome, and what was accepted arrives once, octet by octet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pytest

from plugin.smtp import Delivery, Envelope, Fault, RecipientResult, Reply
from tests.servers.conftest import NewClient
from tests.servers.letters import letter, token_of
from tests.servers.mailboxes import Mailbox
from tests.servers.matrix import ACCEPTED, COVERED, KEEP_NOTHING, ROWS, Row
from tests.servers.rig import Rig


def test_no_port_is_left_out(rig: Rig) -> None:
    assert rig.ports == COVERED


def in_order(letters: Sequence[Envelope], deliveries: Iterable[Delivery]) -> list[Delivery]:
    """Return what became of each letter, in the order of ``letters``; each has exactly one fate."""
    fates = list(deliveries)
    found = [one for sent in letters for one in fates if one.envelope is sent]
    assert len(found) == len(fates) == len(letters), [one.transcript for one in fates]
    return found


def end_of(one: Delivery | RecipientResult) -> str:
    verdict: Reply | Fault | None = one.fault or one.reply
    assert verdict is not None
    return f"{one.phase} {verdict.kind if isinstance(verdict, Fault) else verdict.first}"


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.port} {row.name}" for row in ROWS])
def test_mood(row: Row, new_client: NewClient, mailboxes: Mapping[str, Mailbox]) -> None:
    letters = [letter(to=row.to, body=row.body, sender=row.sender) for _ in range(row.letters)]
    client = new_client(row.port, row.settings, timeouts=row.timeouts, edit=row.edit)
    deliveries = in_order(letters, client.deliver(letters))

    transcript = "\n".join(line for one in deliveries for line in one.transcript)
    end = end_of(deliveries[0]) if end_of(deliveries[0]) == row.grouped else row.end
    assert [end_of(one) for one in deliveries] == [end] * row.letters, transcript
    ends = {address: row.others.get(address, end) for address in row.to}
    for one in deliveries:
        assert {each.address: end_of(each) for each in one.recipients} == ends, transcript
        assert {each.address: each.accepted for each in one.recipients} == {
            address: each == ACCEPTED for address, each in ends.items()
        }
        assert (one.greeting, one.authenticated, one.tls) == (row.greeting, row.authenticated, row.tls), transcript
        assert (one.relay_refused, one.possible_duplicate) == (row.relay_refused, row.possible_duplicate), (
            transcript
        )
    assert row.says in transcript
    assert "s3cret" not in repr(deliveries)

    if row.port in KEEP_NOTHING:
        return
    mailbox = mailboxes[row.port.partition("_")[0]]
    arrive = [to for to, each in ends.items() if each == ACCEPTED and to.endswith("@rig.test")]
    for sent, one in zip(letters, deliveries, strict=True):
        assert mailbox.await_recipients(token_of(sent), arrive) == sorted(arrive), transcript
        mailbox.assert_intact(sent, one)
