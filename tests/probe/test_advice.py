"""Exit codes, sentences, and the entry for hardwire.yaml."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from plugin.config import Relay, load
from plugin.probe.advice import entry_of, exit_code, hints_of, notes_of, problem_of, yaml_of
from plugin.probe.plan import plan_of
from plugin.probe.probing import conclude
from plugin.probe.target import relay_of
from plugin.probe.visit import Visit
from tests.probe.seen import (
    BAD_STARTTLS,
    BAD_TLS,
    CLEAR,
    IN_TLS,
    NO_EHLO,
    NO_STARTTLS,
    NOW,
    SILENT,
    STARTTLS,
    failed,
    good,
    look,
    refused,
    secured,
)


@pytest.mark.parametrize(
    ("visits", "code", "words"),
    [
        ([good(STARTTLS)], 0, None),
        ([failed(STARTTLS, "connect", "refused")], 75, "check the port"),
        ([failed(STARTTLS, "connect", "timeout")], 75, "a firewall may be in the way"),
        ([failed(STARTTLS, "connect", "unreachable")], 75, "check the host's name"),
        ([SILENT, failed(IN_TLS, "tls", "timeout")], 75, "take --security tls"),
        ([failed(STARTTLS, "greeting", "protocol")], 1, "is no mail server"),
        ([failed(STARTTLS, "greeting", "lost")], 75, "hangs up at once"),
        ([refused(STARTTLS, "greeting", 554)], 1, "turns us away"),
        ([refused(STARTTLS, "greeting", 421)], 75, "try again later"),
        ([refused(CLEAR, "hello", 550)], 1, "--helo-name"),
        ([failed(STARTTLS, "tls", "lost")], 75, "is --security right?"),
        ([refused(STARTTLS, "tls", 454)], 75, "try again later"),
        ([refused(STARTTLS, "tls", 502)], 1, "does not carry it out"),
        ([BAD_STARTTLS, good(look(STARTTLS))], 1, "it is so"),
        ([BAD_TLS, failed(look(IN_TLS), "tls", "tls", last_step="TLS")], 1, "without a check of the certificate"),
        ([refused(STARTTLS, "auth", 535)], 1, "app password"),
        ([refused(STARTTLS, "auth", 454)], 75, "try again later"),
        ([failed(STARTTLS, "auth", "auth")], 1, "it is so"),
    ],
)
def test_what_is_wrong(visits: list[Visit], code: int, words: str | None) -> None:
    conclusion = conclude(visits, guessing=True, login=False)
    problem = problem_of(conclusion)
    assert exit_code(conclusion) == code
    if words is None:
        assert problem is None
    else:
        assert problem is not None
        assert problem.startswith(f"{conclusion.phase}: ")
        assert words in problem


def notes(visit: Visit, *, port: int = 587, login: bool = True) -> str:
    conclusion = conclude([visit], guessing=True, login=False)
    return "\n".join(notes_of(conclusion, port=port, login=login, now=NOW))


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (timedelta(days=22), ""),
        (timedelta(days=20), "expires in 20 days, on 2026-12-15"),
        (timedelta(days=1, hours=1), "expires in 1 day,"),
        (timedelta(hours=3), "expires in less than a day"),
        (timedelta(days=-1), ""),
    ],
)
def test_a_certificate_that_ends_soon(left: timedelta, words: str) -> None:
    """One that has ended is a problem, not a note."""
    told = notes(good(STARTTLS, secured=secured(expires_at=NOW + left)))
    assert words in told
    assert bool(told) == bool(words)


@pytest.mark.parametrize(
    ("visit", "more", "words"),
    [
        (good(STARTTLS), {}, ""),
        (NO_STARTTLS, {}, "TLS is not offered; everything is sent in clear text"),
        (good(CLEAR, "STARTTLS"), {}, "STARTTLS is offered and not used"),
        (good(CLEAR, greeting="HELO"), {}, "greeting: helo saves the question"),
        (good(IN_TLS), {"port": 2465}, "port 2465 speaks TLS from the start"),
        (good(IN_TLS), {"port": 465}, ""),
        (good(STARTTLS, secured=secured(checked=False)), {}, "the certificate is NOT CHECKED"),
        (good(STARTTLS, "AUTH PLAIN"), {"login": False}, "try it with --username"),
        (good(STARTTLS, "AUTH PLAIN"), {"login": False, "port": 25}, ""),
        (BAD_STARTTLS, {}, ""),
    ],
)
def test_what_is_good_to_know(visit: Visit, more: dict[str, Any], words: str) -> None:
    told = notes(visit, **more)
    assert words in told
    assert bool(told) == bool(words)


def relay(**options: Any) -> Relay:
    return relay_of("mail.test:587", **{"username": None, "password": None, **options})


@pytest.mark.parametrize(
    ("visits", "options", "more"),
    [
        ([good(STARTTLS)], {}, {"security": "starttls"}),
        ([SILENT, good(IN_TLS)], {"verify": False}, {"security": "tls", "verify": False}),
        ([NO_STARTTLS], {"server_name": "other.test"}, {"security": "none"}),
        (
            [NO_EHLO, good(CLEAR, greeting="HELO")],
            {"username": "u", "password": "hidden", "helo_name": "me.test"},
            {"security": "none", "helo_name": "me.test", "greeting": "helo"},
        ),
        (
            [good(STARTTLS, "AUTH PLAIN")],
            {"username": "u", "password": "hidden", "server_name": "other.test"},
            {
                "security": "starttls",
                "server_name": "other.test",
                "username": "u",
                "password": "!secret smtp",
                "auth": "required",
            },
        ),
    ],
)
def test_the_entry(visits: list[Visit], options: dict[str, Any], more: dict[str, Any]) -> None:
    conclusion = conclude(visits, guessing=True, login=False)
    assert entry_of(relay(**options), conclusion) == {"host": "mail.test", "port": 587, **more}


@pytest.mark.parametrize("visits", [[SILENT], [BAD_STARTTLS], [refused(STARTTLS, "greeting", 554)]])
def test_no_entry_for_what_was_not_reached(visits: list[Visit]) -> None:
    assert entry_of(relay(), conclude(visits, guessing=True, login=False)) is None


def test_what_is_left_to_fill_in() -> None:
    conclusion = conclude([BAD_STARTTLS, good(look(STARTTLS), "AUTH PLAIN")], guessing=True, login=False)
    hints = hints_of(
        conclusion, plan_of(conclusion.seen), relay=relay_of("a.test:25", username=None, password=None)
    )
    assert list(hints) == ["ca_file", "server_name", "username", "password"]


@pytest.mark.parametrize(
    "username", ["house@example.net", "007", "no", "a: b #c", 'ü"\\', "-", "!secret smtp", "NULL"]
)
def test_the_lines_are_a_configuration(tmp_path: Path, username: str) -> None:
    """They are read back as what they were made of, with the hints as comments."""
    conclusion = conclude([good(STARTTLS, "AUTH PLAIN")], guessing=True, login=False)
    entry = entry_of(relay(username=username, password="hidden"), conclusion)
    assert entry is not None
    lines = yaml_of(entry, hints={"ca_file": "FILE"})
    path = tmp_path / "hardwire.yaml"
    path.write_text(
        "\n".join([*lines, "sender: house@example.net", "recipients: {alice: a@example.net}"])
        + '\nroutes: [{topic: "#", to: [alice]}]\n'
    )
    (tmp_path / "secrets.yaml").write_text("smtp: from-secrets\n")
    (found,) = load(path, template_names=lambda _folder: ["alert"]).relays
    assert (found.host, found.port, found.security, found.auth) == ("mail.test", 587, "starttls", "required")
    assert found.username == username
    assert found.password is not None
    assert found.password.get_secret_value() == "from-secrets"
