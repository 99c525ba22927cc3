"""Which connection follows which, and what they tell together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plugin.probe.probing import conclude, first_attempt, next_attempt, reason_for
from plugin.probe.visit import Attempt, Visit
from plugin.smtp.settings import Security
from tests.probe.seen import (
    BAD_STARTTLS,
    BAD_TLS,
    CLEAR,
    IN_TLS,
    NO_EHLO,
    NO_STARTTLS,
    SILENT,
    STARTTLS,
    failed,
    good,
    look,
    refused,
)

UNCHECKED = replace(STARTTLS, verify=False)
HELO = Attempt(security="none", login=False, helo=True)
IN_CLEAR = Attempt(security="none", login=False)
UNANSWERED = Visit(attempt=IN_CLEAR, steps=(), phase="hello", unanswered=True)


@pytest.mark.parametrize(
    ("port", "security", "first"),
    [
        (465, None, "tls"),
        (25, None, "starttls"),
        (587, None, "starttls"),
        (465, "none", "none"),
        (25, "tls", "tls"),
    ],
)
def test_the_first_attempt(port: int, security: Security | None, first: Security) -> None:
    assert first_attempt(port, security, verify=True) == Attempt(security=first)


@pytest.mark.parametrize(
    ("visit", "guessing", "following"),
    [
        (good(STARTTLS), True, None),
        (NO_STARTTLS, True, None),
        (SILENT, True, IN_TLS),
        (SILENT, False, None),
        (failed(IN_TLS, "greeting", "timeout"), True, None),
        (failed(STARTTLS, "greeting", "protocol"), True, None),
        (failed(STARTTLS, "greeting", "lost"), True, None),
        (NO_EHLO, True, IN_CLEAR),
        (NO_EHLO, False, None),
        (failed(STARTTLS, "hello", "lost"), True, IN_CLEAR),
        (failed(STARTTLS, "hello", "timeout"), True, None),
        (refused(STARTTLS, "hello", 450), True, None),
        (UNANSWERED, True, HELO),
        (UNANSWERED, False, HELO),
        (BAD_STARTTLS, True, look(STARTTLS)),
        (BAD_STARTTLS, False, look(STARTTLS)),
        (BAD_TLS, True, look(IN_TLS)),
        (replace(BAD_TLS, attempt=look(IN_TLS)), True, None),
        (replace(BAD_STARTTLS, attempt=UNCHECKED), True, None),
        (failed(STARTTLS, "tls", "timeout", last_step="TLS"), True, None),
        (refused(STARTTLS, "auth", 535), True, None),
    ],
)
def test_the_next_attempt(visit: Visit, guessing: bool, following: Attempt | None) -> None:
    found = next_attempt(visit, guessing=guessing)
    assert found == following
    if found is not None:
        assert reason_for(visit, found)


def test_attempts_come_to_an_end() -> None:
    """Whatever each connection comes to, there are never more than five."""
    ends = [SILENT, NO_STARTTLS, BAD_STARTTLS, BAD_TLS, NO_EHLO, UNANSWERED, failed(STARTTLS, "hello", "lost")]

    def longest(attempt: Attempt, depth: int) -> int:
        assert depth <= 5
        following = [next_attempt(replace(one, attempt=attempt), guessing=True) for one in ends]
        return max((longest(one, depth + 1) for one in following if one is not None), default=depth)

    for port in (25, 465):
        assert longest(first_attempt(port, None, verify=True), 1) <= 5


@pytest.mark.parametrize(
    ("visits", "phase", "security", "seen"),
    [
        ([good(STARTTLS)], None, "starttls", 0),
        ([NO_STARTTLS], None, "none", 0),
        ([SILENT, good(IN_TLS)], None, "tls", 1),
        ([SILENT, failed(IN_TLS, "tls", "timeout", last_step="TLS")], "greeting", "starttls", 0),
        ([SILENT, failed(IN_TLS, "connect", "refused")], "greeting", "starttls", 0),
        ([SILENT, BAD_TLS, good(look(IN_TLS))], "tls", "tls", 2),
        ([SILENT, BAD_TLS, replace(BAD_TLS, attempt=look(IN_TLS))], "tls", "tls", 2),
        ([BAD_STARTTLS, good(look(STARTTLS))], "tls", "starttls", 1),
        ([NO_EHLO, good(CLEAR, greeting="HELO")], None, "none", 1),
        ([good(UNCHECKED)], None, "starttls", 0),
    ],
)
def test_the_conclusion(visits: list[Visit], phase: str | None, security: str, seen: int) -> None:
    found = conclude(visits, guessing=True, login=False)
    assert (found.phase, found.security) == (phase, security)
    assert found.seen is visits[seen]
    assert found.secured == visits[seen].secured
    assert (found.fault is None) == (phase is None)


def test_without_starttls_there_is_no_way_where_it_is_demanded() -> None:
    assert conclude([NO_STARTTLS], guessing=False, login=False).phase == "tls"


@pytest.mark.parametrize(
    ("visits", "words"),
    [
        ([NO_STARTTLS], "only --security none allows clear text"),
        ([NO_EHLO, good(IN_CLEAR, greeting="HELO")], "HELO has no AUTH"),
    ],
)
def test_a_login_that_could_not_be_tried_is_a_problem(visits: list[Visit], words: str) -> None:
    found = conclude(visits, guessing=True, login=True)
    assert (found.phase, found.fault and found.fault.kind) == ("auth", "auth")
    assert words in str(found.fault)
    assert conclude([good(STARTTLS, authenticated=True)], guessing=True, login=True).phase is None
