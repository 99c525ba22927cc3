"""Many letters over one connection, bad ones among them: each harms only itself."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from plugin.smtp import Envelope
from tests.servers.conftest import NewClient
from tests.servers.letters import ALERTS, LARGE, NOBODY, OPS, TOO_LARGE, letter, nothing, token_of
from tests.servers.mailboxes import Mailbox, await_order
from tests.servers.matrix import ACCEPTED, BURSTS
from tests.servers.rig import Rig
from tests.servers.test_matrix import end_of, in_order

LETTERS = 40


def burst() -> list[tuple[Envelope, str, list[str]]]:
    """Return letters, how each has to end, and who has to have it."""
    good = [ALERTS]
    both = letter(to=(NOBODY, ALERTS, OPS))
    odd: list[tuple[Envelope, str, list[str]]] = [
        (letter(to=(NOBODY,)), "rcpt 5", []),
        (letter(body=LARGE), ACCEPTED, good),
        (letter(to=(NOBODY,)), "rcpt 5", []),
        (letter(body=TOO_LARGE), "mail size", []),
        (both, ACCEPTED, [ALERTS, OPS]),
        (letter(to=(NOBODY,)), "rcpt 5", []),
        (nothing(), ACCEPTED, good),
        (letter(body=b""), ACCEPTED, good),
        (letter(body=b"."), ACCEPTED, good),
        (letter(body=b".\r\n"), ACCEPTED, good),
        (letter(sender=""), ACCEPTED, good),
        (letter(body=TOO_LARGE), "mail size", []),
        (letter(to=(NOBODY, "no.body@rig.test")), "rcpt 5", []),
    ]
    ordinary = [(letter(), ACCEPTED, good) for _ in range(LETTERS - len(odd))]
    ordinary[5:5] = odd[:6]  # one behind the other
    for place, one in zip(range(15, LETTERS, 3), odd[6:], strict=False):
        ordinary.insert(place, one)  # each between good ones
    return ordinary


@pytest.mark.parametrize("port", BURSTS)
def test_each_letter_of_a_burst(
    port: str, rig: Rig, new_client: NewClient, mailboxes: Mapping[str, Mailbox]
) -> None:
    mailbox = mailboxes[port.partition("_")[0]]
    log = rig.path(mailbox.server.log) if mailbox.server.log else None
    logged = log.stat().st_size if log else 0
    sent = burst()
    assert len(sent) == LETTERS

    letters = [one for one, _, _ in sent]
    deliveries = in_order(letters, new_client(port, {}, timeouts={}).deliver(letters))

    transcript = "\n".join(line for one in deliveries for line in one.transcript)
    assert [end_of(one) for one in deliveries] == [end for _, end, _ in sent], transcript
    assert transcript.count("= connected") == 1, transcript
    assert [one.possible_duplicate for one in deliveries] == [False] * LETTERS
    for (one, _, arrive), delivery in zip(sent, deliveries, strict=True):
        assert [each.address for each in delivery.recipients if each.accepted] == arrive, transcript
        assert mailbox.await_recipients(token_of(one), arrive) == arrive, transcript
        if arrive:
            mailbox.assert_intact(one, delivery)
    ids = [
        mailbox.queue_id(delivery) or ""
        for (_, _, arrive), delivery in zip(sent, deliveries, strict=True)
        if arrive
    ]
    assert ids == (await_order(log, logged, ids) if log else sorted(ids, key=int))


@pytest.mark.parametrize("port", BURSTS)
def test_a_large_letter_that_nobody_is_to_have(
    port: str, new_client: NewClient, mailboxes: Mapping[str, Mailbox]
) -> None:
    """It may be refused amid its content, and even cost the connection, but none of the letters around it."""
    mailbox = mailboxes[port.partition("_")[0]]
    letters = [letter(), letter(to=(NOBODY,), body=LARGE), letter(), letter()]
    deliveries = in_order(letters, new_client(port, {}, timeouts={}).deliver(letters))
    transcript = "\n".join(line for one in deliveries for line in one.transcript)
    assert [end_of(one) for one in deliveries] == [ACCEPTED, "rcpt 5", ACCEPTED, ACCEPTED], transcript
    for sent, one in zip(letters, deliveries, strict=True):
        arrive = [ALERTS] if end_of(one) == ACCEPTED else []
        assert mailbox.await_recipients(token_of(sent), arrive) == arrive, transcript
        if arrive:
            mailbox.assert_intact(sent, one)
