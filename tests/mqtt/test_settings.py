"""The decisions that need no broker: settings, delays, what waits to be published."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any, Final

import pytest

from plugin.mqtt import Settings, TlsSettings
from plugin.mqtt.faults import not_reached
from plugin.mqtt.outgoing import MAX_UNTRACKED, WINDOW, Outgoing, Publication
from plugin.mqtt.settings import backoff_s, is_topic

PEM: Final = str(Path(__file__).with_name("loopback.pem"))


def test_a_password_is_not_shown() -> None:
    settings = Settings(host="h", username="u", password="s3cret")
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings)


def test_topics_follow_the_base() -> None:
    assert Settings(host="h").subscription == "alerts/email/#"
    settings = Settings(host="h", base="home/alerts", shared_group="g")
    assert settings.subscription == "$share/g/home/alerts/email/#"
    assert settings.state_topic == "home/alerts/bridge/state"


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": ""},
        {"port": 0},
        {"port": 65_536},
        {"client_id": ""},
        {"base": ""},
        {"base": "a/#"},
        {"base": "+"},
        {"base": "$SYS"},
        {"base": "a\0"},
        {"base": "x" * 65_530},
        {"shared_group": ""},
        {"shared_group": "a/b"},
        {"shared_group": "a+"},
        {"keepalive_s": 0},
        {"receive_maximum": 0},
        {"session_expiry_s": -1},
        {"password": "p"},
    ],
)
def test_what_no_broker_could_take_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"mqtt|base"):
        Settings(**({"host": "h"} | wrong))


@pytest.mark.parametrize(
    ("topic", "good"),
    [("a", True), ("/", True), ("a b/ü", True), ("", False), ("a/+", False), ("#", False), ("\0", False)],
)
def test_is_topic(topic: str, good: bool) -> None:
    assert is_topic(topic) is good
    assert is_topic("é" * 32_767)
    assert not is_topic("é" * 32_768)


def test_delays_double_up_to_the_longest_with_jitter_below() -> None:
    settings = Settings(host="h")
    assert [backoff_s(number, settings, 0.0) for number in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert [backoff_s(number, settings, 1.0) for number in (1, 6)] == [0.75, 22.5]
    assert backoff_s(1_000_000, settings, 0.0) == 30


@pytest.mark.parametrize(
    "tls",
    [
        TlsSettings(ca_file="/nowhere/ca.pem"),
        TlsSettings(certfile="/nowhere/client.pem"),
        TlsSettings(keyfile=PEM),
        TlsSettings(ca_file=__file__),
    ],
)
def test_tls_files_that_cannot_be_used_are_named(tls: TlsSettings) -> None:
    with pytest.raises(ValueError, match=r"mqtt\.tls\.(ca_file|certfile|keyfile)"):
        tls.context()


def test_tls_verifies_unless_told_otherwise() -> None:
    context = TlsSettings(ca_file=PEM, certfile=PEM, keyfile=PEM).context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert TlsSettings(verify=False).context().verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "refused"), "nobody listens on broker.example:1883"),
        (TimeoutError("timed out"), "did not answer within 5 s"),
        (socket.gaierror(-2, "Name or service not known"), "broker.example, cannot be resolved: Name or service"),
        (OSError(113, "No route to host"), "cannot be reached: No route to host"),
        (UnicodeError("label too long"), "cannot be reached: label too long"),
    ],
)
def test_why_there_is_no_connection(error: Exception, words: str) -> None:
    assert words in not_reached(Settings(host="broker.example"), error)


def one(topic: str = "a", payload: bytes = b"", *, token: int | None = None, retain: bool = False) -> Publication:
    return Publication(topic=topic, payload=payload, token=token, retain=retain)


def taken(outgoing: Outgoing, now: float = 0.0) -> list[Publication]:
    found = []
    while (publication := outgoing.take(now)) is not None:
        found.append(publication)
    return found


def test_of_retained_publications_that_wait_the_newest_counts() -> None:
    outgoing = Outgoing()
    health, info = one("health", b"1", retain=True), one("info", b"1", retain=True)
    newer = one("health", b"2", retain=True)
    event, outcome = one("health", b"event"), one("health", b"outcome", token=1, retain=True)
    for publication in (health, event, info, outcome, newer):
        outgoing.add(publication)
    assert taken(outgoing) == [event, info, outcome, newer]


def test_what_nobody_counts_is_bounded_and_what_has_a_token_never_goes() -> None:
    outgoing = Outgoing()
    tracked = [one(payload=b"%d" % number, token=number) for number in range(300)]
    untracked = [one(payload=b"%d" % number) for number in range(300)]
    for pair in zip(tracked, untracked, strict=True):
        for publication in pair:
            outgoing.add(publication)
    found = taken(outgoing)
    assert [publication for publication in found if publication.token is not None] == tracked
    assert [publication for publication in found if publication.token is None] == untracked[-MAX_UNTRACKED:]


def test_the_window_and_what_is_put_off() -> None:
    outgoing = Outgoing()
    assert not outgoing
    for number in range(WINDOW + 5):
        outgoing.add(one(token=number))
    for packet_id in range(WINDOW):
        publication = outgoing.take(0.0)
        assert publication is not None
        outgoing.sent(packet_id, publication)
    assert outgoing.take(0.0) is None
    assert not outgoing.narrow(WINDOW)
    refused = outgoing.answered(3)
    assert refused is not None
    assert refused.token == 3
    assert outgoing.answered(3) is None
    outgoing.put_off(refused, 100.0)
    assert outgoing.take(104.9) is None
    assert outgoing.narrow(2)
    assert [publication.token for publication in taken(outgoing, 105.0)] == [0, 1, 2, *range(4, WINDOW + 5), 3]
    assert not outgoing


def test_a_state_that_was_put_off_does_not_overtake_the_newer_one() -> None:
    outgoing = Outgoing()
    online, offline, other = (
        one("state", b"1", retain=True),
        one("state", b"2", retain=True),
        one("x", retain=True),
    )
    outgoing.add(offline)
    outgoing.put_off(online, 0.0)
    outgoing.put_off(other, 0.0)
    assert taken(outgoing, 10.0) == [offline, other]
