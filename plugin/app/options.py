"""From the options of the app to a configuration. Pure, but for reading the file that has them.

The options are those of deploy/home-assistant-app/config.yaml, checked by the Supervisor against its schema. What
they are together is checked by the loader, on the file that is made of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from plugin.config.plain import Data, has, section_of, sections_in
from plugin.config.writing import Kept

MAX_OPTIONS_BYTES: Final = 1 << 20
DATABASE: Final = "hardwire.db"
COMMENTS: Final[Mapping[str, str]] = {
    "": "Made of the app's options at each start; what is changed here is gone at the next one.",
}


class OptionsError(Exception):
    """The options cannot be used; the text says what to change."""


def read_options(file: Path) -> Data:
    """Return the options in ``file`` (options.json); OptionsError where it cannot be read or is no JSON object."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_OPTIONS_BYTES + 1)
    except OSError as error:
        raise OptionsError(f"{file}: cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_OPTIONS_BYTES:
        raise OptionsError(f"{file}: has more than {MAX_OPTIONS_BYTES} octets")
    try:
        options = json.loads(content)
    except (ValueError, RecursionError):
        options = None
    # not raised within "except": the error of json has the text, and with it passwords
    if not isinstance(options, dict):
        raise OptionsError(f"{file}: is no JSON object")
    return options


def wants_service(options: Data) -> bool:
    """Tell whether the Supervisor has to be asked for the broker: none is named."""
    return not section_of(options, "broker").get("host")


def configuration(options: Data, service: Data | None) -> dict[str, Any]:
    """Return the configuration, ``Kept`` for passwords; ``service`` is what the Supervisor says of the broker.

    Alerts that name nobody go to all ``recipients``. Raises OptionsError where there are none.
    """
    names = [str(one.get("name")) for _, one in sections_in(options, "recipients")]
    if not names:
        raise OptionsError("recipients: there are none; add who is to get mail, with a name and an address")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise OptionsError(f"recipients: {', '.join(twice)} is there twice; give each a name of its own")
    made = {
        "mqtt": _mqtt(section_of(options, "broker") if service is None else service),
        "topics": _given(options, base="topic"),
        "chip": _chip(section_of(options, "chip")),
        "relays": [_relay(section_of(options, "relay"))],
        "sender": options.get("sender"),
        "recipients": {str(one.get("name")): one.get("address") for _, one in sections_in(options, "recipients")},
        "allow_recipients": options.get("allow_recipients") or [],
        "routes": [{"topic": "#", "to": names}],
        "outbox": {"path": DATABASE},
        "attachments": _given(options, allowed_dirs="attachment_folders"),
        "home_assistant": _given(options, discovery="discovery"),
    }
    return {key: value for key, value in made.items() if value not in (None, {}, [])}


def _given(section: Data, **keys: str) -> dict[str, Any]:
    """Return what is given of ``section`` under new names (new=old); an empty text counts as not given."""
    return {new: section[old] for new, old in keys.items() if has(section, old) and section[old] not in ("", [])}


def _with_password(made: dict[str, Any], section: Data, name: str) -> dict[str, Any]:
    if section.get("password"):
        made["password"] = Kept(name=name, text=str(section["password"]))
    return made


def _mqtt(broker: Data) -> dict[str, Any]:
    """Return the section ``mqtt``. A service's ``protocol`` is what it takes at least; brokers of today take 5."""
    made = _given(broker, host="host", port="port", username="username")
    if broker.get("tls") or broker.get("ssl"):
        made["tls"] = True
    return _with_password(made, broker, "mqtt")


def _relay(relay: Data) -> dict[str, Any]:
    made = _given(relay, host="host", port="port", security="security", username="username")
    return _with_password(made, relay, "smtp")


def _chip(chip: Data) -> dict[str, Any]:
    """Return the section ``chip``: the emulator on the app's own network, or a board with addresses of its own."""
    if chip.get("bus", "emulator") != "spidev":
        return {"bus": "emulator", "network": "host"}
    made = {"bus": "spidev", **_given(chip, device="device", mac="mac")}
    for key in ("interrupt", "reset"):
        if has(chip, f"{key}_line"):
            made[key] = {"chip": chip.get("gpio") or "/dev/gpiochip0", "line": chip[f"{key}_line"]}
    addresses = _given(chip, address="address", gateway="gateway")
    if chip.get("dns"):
        addresses["dns"] = [chip["dns"]]
    made["network"] = addresses or "dhcp"
    return made
