"""The app's options become a configuration that the loader takes; what cannot is told in the options' words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plugin.app import OptionsError, configuration, read_options, wants_service
from plugin.app.options import MAX_OPTIONS_BYTES
from plugin.config import Config, load
from plugin.config.writing import configuration_text, kept_in, replace_files, secrets_text

OPTIONS: dict[str, Any] = {
    "relay": {"host": "smtp.example.net", "security": "starttls", "username": "house", "password": "pa55word"},
    "sender": "House <house@example.net>",
    "recipients": [
        {"name": "alice", "address": "alice@example.net"},
        {"name": "bob", "address": "bob@example.net"},
    ],
    "allow_recipients": [],
    "attachment_folders": [],
    "broker": {},
    "chip": {"bus": "emulator"},
}
SERVICE = {
    "host": "core-mosquitto", "port": 1883, "ssl": False, "protocol": "3.1.1",
    "username": "addons", "password": "br0ker",
}  # fmt: skip


def loaded(folder: Path, options: dict[str, Any], service: dict[str, Any] | None = None) -> Config:
    made = configuration(OPTIONS | options, service)
    text = configuration_text(made, comments={})
    assert "pa55word" not in text
    files = {"secrets.yaml": secrets_text(kept_in(made)), "hardwire.yaml": text}
    return load(replace_files(folder, files)[1], environ={})


def test_few_options_are_enough(tmp_path: Path) -> None:
    config = loaded(tmp_path, {}, SERVICE)
    assert config.warnings == ()
    assert (config.mqtt.host, config.mqtt.port, config.mqtt.username) == ("core-mosquitto", 1883, "addons")
    assert (config.mqtt.protocol, config.mqtt.tls) == ("5", None)
    (relay,) = config.relays
    assert (relay.host, relay.port, relay.security, relay.auth) == (
        "smtp.example.net",
        587,
        "starttls",
        "required",
    )
    assert [one.get_secret_value() for one in (relay.password, config.mqtt.password) if one] == [
        "pa55word",
        "br0ker",
    ]
    assert config.sender == "House <house@example.net>"
    assert config.recipients == {"alice": ("alice@example.net",), "bob": ("bob@example.net",)}
    assert [(one.topic, one.to) for one in config.routes] == [("#", ("alice", "bob"))]
    assert config.outbox.path == tmp_path / "hardwire.db"
    assert (config.chip.bus, config.chip.network) == ("emulator", None)
    assert config.topics.base == "alerts"


@pytest.mark.parametrize(
    ("options", "section", "expected"),
    [
        ({"relay": {"host": "h.test", "security": "none"}}, "relays", {"port": 25, "auth": "none"}),
        ({"relay": {"host": "h.test", "security": "tls"}}, "relays", {"port": 465}),
        ({"relay": {"host": "h.test", "security": "none", "port": 2525}}, "relays", {"port": 2525}),
        ({"broker": {"host": "b.test"}}, "mqtt", {"host": "b.test", "port": 1883, "username": None}),
        ({"broker": {"host": "b.test", "tls": True}}, "mqtt", {"port": 8883}),
        ({"broker": {"host": "b.test", "username": "u", "password": "p"}}, "mqtt", {"username": "u"}),
        ({"topic": "house"}, "topics", {"base": "house"}),
        ({}, "home_assistant", {"discovery": True}),
        ({"discovery": False}, "home_assistant", {"discovery": False}),
        ({"topic": ""}, "topics", {"base": "alerts"}),
        ({"attachment_folders": ["/media"]}, "attachments", {"allowed_dirs": (Path("/media"),)}),
        ({"chip": {"bus": "emulator", "device": "/dev/spidev0.0"}}, "chip", {"bus": "emulator"}),
        ({"chip": {"bus": "spidev", "device": "/dev/spidev0.1"}}, "chip", {"device": "/dev/spidev0.1"}),
        ({"chip": {"bus": "spidev", "device": ""}}, "chip", {"device": "/dev/spidev0.0"}),
        ({"chip": {"bus": "spidev", "mac": "02:00:00:00:00:01"}}, "chip", {"mac": "02:00:00:00:00:01"}),
    ],
)  # fmt: skip
def test_what_becomes_of_an_option(
    tmp_path: Path, options: dict[str, Any], section: str, expected: dict[str, Any]
) -> None:
    found = getattr(loaded(tmp_path, options, None if "broker" in options else SERVICE), section)
    found = found[0] if isinstance(found, tuple) else found
    assert {key: getattr(found, key) for key in expected} == expected


def test_a_board_with_addresses_and_lines_of_its_own(tmp_path: Path) -> None:
    chip = {
        "bus": "spidev", "interrupt_line": 25, "reset_line": 0, "gpio": "/dev/gpiochip4",
        "address": "192.168.1.50/24", "gateway": "192.168.1.1", "dns": "192.168.1.1",
    }  # fmt: skip
    made = loaded(tmp_path, {"chip": chip}, SERVICE).chip
    assert made.interrupt is not None
    assert made.reset is not None
    assert (made.interrupt.chip, made.interrupt.line, made.reset.line) == (Path("/dev/gpiochip4"), 25, 0)
    assert made.network is not None
    assert (str(made.network.address), str(made.network.gateway)) == ("192.168.1.50/24", "192.168.1.1")
    dhcp = loaded(tmp_path, {"chip": {"bus": "spidev"}}, SERVICE).chip.network
    assert dhcp is not None
    assert dhcp.dhcp is True


@pytest.mark.parametrize(
    ("recipients", "says"),
    [([], "there are none"), ([OPTIONS["recipients"][0]] * 2, "alice is there twice"), (None, "there are none")],
)
def test_recipients_that_cannot_be(recipients: Any, says: str) -> None:
    with pytest.raises(OptionsError, match=f"^recipients: .*{says}"):
        configuration(OPTIONS | {"recipients": recipients}, SERVICE)


@pytest.mark.parametrize(
    ("broker", "asked"), [({}, True), ({"host": ""}, True), (None, True), ({"host": "b"}, False)]
)
def test_when_the_supervisor_is_asked(broker: Any, asked: bool) -> None:
    assert wants_service(OPTIONS | {"broker": broker}) is asked


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[]", "is no JSON object"),
        (b'{"relay": {"password": "pa55word"', "is no JSON object"),
        (b"[" * 100_000, "is no JSON object"),
        (b" " * (MAX_OPTIONS_BYTES + 1), "has more than"),
    ],
)
def test_options_that_cannot_be_read(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "options.json").write_bytes(content)
    with pytest.raises(OptionsError, match=says) as caught:
        read_options(tmp_path / "options.json")
    assert caught.value.__context__ is None
    with pytest.raises(OptionsError, match="cannot be read"):
        read_options(tmp_path / "none.json")
    (tmp_path / "options.json").write_text(json.dumps(OPTIONS))
    assert read_options(tmp_path / "options.json") == OPTIONS
