"""What is offered, and what Hardwire would do with it."""

from __future__ import annotations

import pytest

from plugin.probe.plan import MEANINGS, UNKNOWN, offers_of, plan_of, readable
from plugin.probe.visit import Attempt, Visit
from tests.probe.seen import BAD_STARTTLS, CLEAR, IN_TLS, NO_STARTTLS, SILENT, STARTTLS, good, secured

ALL = ("PIPELINING", "CHUNKING", "SIZE 10485760", "AUTH CRAM-MD5 LOGIN PLAIN XOAUTH2")


@pytest.mark.parametrize(
    ("visit", "pace", "mechanisms", "first", "login", "following", "eager", "largest"),
    [
        (good(STARTTLS, *ALL), "chunking", ("PLAIN", "XOAUTH2"), 8, 0, 1, True, 10485760),
        (good(IN_TLS, *ALL), "chunking", ("PLAIN", "XOAUTH2"), 6, 0, 1, True, 10485760),
        (good(CLEAR, "PIPELINING", "AUTH PLAIN"), "pipelining", ("PLAIN", None), 5, 1, 2, True, None),
        (good(CLEAR, "AUTH LOGIN"), "lockstep", ("LOGIN", None), 7, 3, 4, False, None),
        (good(CLEAR, "PIPELINING", "AUTH CRAM-MD5"), "pipelining", ("CRAM-MD5", None), 5, 2, 2, False, None),
        (good(CLEAR, "CHUNKING", "AUTH GSSAPI", "SIZE 0"), "lockstep", (None, None), 7, None, 4, False, None),
        (good(CLEAR, greeting="HELO"), "lockstep", (None, None), 8, None, 4, False, None),
        (NO_STARTTLS, "lockstep", (None, None), 7, None, 4, False, 1000),
    ],
)
def test_the_plan(
    visit: Visit,
    pace: str,
    mechanisms: tuple[str | None, str | None],
    first: int,
    login: int | None,
    following: int,
    eager: bool,
    largest: int | None,
) -> None:
    plan = plan_of(visit)
    assert plan is not None
    assert plan.pace == pace
    assert (plan.password_mechanism, plan.token_mechanism) == mechanisms
    assert (plan.first_mail_round_trips, plan.login_round_trips, plan.next_mail_round_trips) == (
        first,
        login,
        following,
    )
    assert (plan.eager, plan.largest_bytes) == (eager, largest)


def test_an_older_tls_takes_one_round_trip_more_and_helo_at_once_one_less() -> None:
    old = plan_of(good(IN_TLS, *ALL, secured=secured(version="TLSv1.2")))
    helo = plan_of(good(Attempt(security="none", helo=True), greeting="HELO"))
    assert old is not None
    assert helo is not None
    assert (old.first_mail_round_trips, helo.first_mail_round_trips) == (7, 7)


def test_the_window_bounds_what_is_on_the_way() -> None:
    wide, one = plan_of(good(CLEAR, *ALL)), plan_of(good(CLEAR))
    assert wide is not None
    assert one is not None
    assert (wide.replies_at_once, one.replies_at_once) == (32, 1)


@pytest.mark.parametrize("visit", [SILENT, BAD_STARTTLS])
def test_there_is_no_plan_for_what_was_not_reached(visit: Visit) -> None:
    assert plan_of(visit) is None


def test_offers_are_explained_and_unknown_ones_named() -> None:
    offers = offers_of(good(STARTTLS, "SIZE 1048576", "AUTH PLAIN LOGIN", "X-NEW a b"))
    assert [(one.keyword, one.parameters) for one in offers] == [
        ("STARTTLS", ""),
        ("SIZE", "1048576"),
        ("AUTH", "PLAIN LOGIN"),
        ("X-NEW", "a b"),
    ]
    assert offers[1].meaning.endswith(": 1 MiB")
    assert offers[3].meaning == UNKNOWN
    assert MEANINGS.keys() >= {"PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"}


def test_what_a_server_boasts_of_is_cut() -> None:
    (offer,) = offers_of(good(CLEAR, f"{'X' * 3000} {'y' * 1000}"))
    assert len(offer.keyword) == 40
    assert len(offer.parameters) == 200


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (1, "1 octets"),
        (999, "999 octets"),
        (1024, "1 KiB"),
        (10485760, "10 MiB"),
        (2**31, "2 GiB"),
        (35882577, "35.9 MB"),
        (1500, "1.5 kB"),
        (2 * 10**9 + 1, "2.0 GB"),
    ],
)
def test_sizes_to_read(size_bytes: int, text: str) -> None:
    assert readable(size_bytes) == text
