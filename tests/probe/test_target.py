"""What is typed behind ``hardwire probe`` becomes a relay, or a sentence that says what to type."""

from __future__ import annotations

import pytest

from plugin.probe.target import WrongUse, alone, parse_target, relay_of


@pytest.mark.parametrize(
    ("typed", "host", "port"),
    [
        ("smtp.example.net:587", "smtp.example.net", 587),
        ("192.168.1.10:25", "192.168.1.10", 25),
        ("bücher.example:465", "xn--bcher-kva.example", 465),
    ],
)
def test_a_host_and_a_port(typed: str, host: str, port: int) -> None:
    relay = relay_of(typed, username=None, password=None, helo_name=None)
    assert (relay.host, relay.port) == (host, port)
    assert relay.auth == "none"
    assert alone(relay).chip.bus == "emulator"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("smtp.example.net", "lacks the port: write smtp.example.net:587"),
        (":25", "lacks the host"),
        ("host:", "is no port"),
        ("host:0", "is no port"),
        ("host:65536", "is no port"),
        ("host:\uff11\uff12", "is no port"),
        ("host:smtp", "is no port"),
        ("::1", "has no IPv6"),
        ("[::1]:25", "has no IPv6"),
        ("[::1]", "has no IPv6"),
        ("2001:db8::1:25", "has no IPv6"),
        ("smtp://host:25", "is more than a host and a port"),
        ("me@host:25", "is more than a host and a port"),
    ],
)
def test_what_is_no_host_and_port(typed: str, words: str) -> None:
    with pytest.raises(WrongUse, match=words):
        parse_target(typed)


@pytest.mark.parametrize(
    ("typed", "options", "words"),
    [
        ("a b:25", {}, "HOST is no host"),
        ("300.1.1.1:25", {}, "HOST is no IPv4 address"),
        ("host:25", {"helo_name": "a b"}, "--helo-name is no name for EHLO"),
        ("host:25", {"server_name": "a..b"}, "--server-name is no host"),
        ("host:25", {"username": "a\nb", "password": "pw-1234"}, "--username must not contain"),
        ("host:25", {"username": "a", "password": "pw-1234\0"}, "the password must not contain NUL"),
    ],
)
def test_what_the_configuration_would_not_take(typed: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(WrongUse, match=words) as raised:
        relay_of(typed, **{"username": None, "password": None, **options})
    assert "pw-1234" not in str(raised.value)
