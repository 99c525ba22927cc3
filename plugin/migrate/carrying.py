"""From notifiers to a configuration: what has a place there, what has none, and how the actions change. Pure."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from plugin.config import Kept
from plugin.migrate.legacy import Note, Notifier

# As they were in Home Assistant's integration smtp.
DEFAULT_SERVER: Final = "localhost"
DEFAULT_PORT: Final = 587
DEFAULT_ENCRYPTION: Final = "starttls"
DEFAULT_NAME: Final = "notify"
ENCRYPTIONS: Final = ("tls", "starttls", "none")
BASE: Final = "alerts"

# What has no place in the new configuration, and why it is not missed.
LEFT_OUT: Final[Mapping[str, str]] = {
    "timeout": "not carried over: replies have the times of RFC 5321 §4.5.3.2, the connection has "
    "relays[].connect_timeout (30 s), and no automation waits for either",
    "debug": "not carried over: `hardwire outbox show` has the SMTP dialogue of every letter, "
    "`hardwire run --verbose` logs more",
}
COMMENTS: Final[Mapping[str, str]] = {
    "": "From Home Assistant's `notify: platform: smtp`. docs/configuration.md explains every key.",
    "mqtt": "The broker is not in Home Assistant's YAML: see its integration MQTT.\n"
    "With a login: username: NAME and password: !secret mqtt, and a line `mqtt: …` in secrets.yaml.",
    "chip": "A W5100 in software, on this machine's network; docs/configuration.md has the one on a board.",
    "recipients": "Each notifier is a group here. An alert may name these groups and addresses in `to`.",
    "allow_recipients": 'Other addresses that an alert may name, such as "*@example.net".',
    "routes": f"The first that matches; filters are below {BASE}/email/.",
    "attachments": "homeassistant.allowlist_external_dirs, as Hardwire sees these folders.",
}
"""What `hardwire.yaml` says above its sections."""
_KEYS: Final = frozenset(
    {
        *("name", "sender", "sender_name", "recipient", "server", "port", "encryption", "verify_ssl"),
        *("username", "password"),
    }
)
_EXAMPLE: Final = {"title": "Water leak", "message": "The kitchen floor is wet."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An automation's action as YAML: as it was with ``notifier``, and as it is now."""

    notifier: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """``configuration`` with ``Kept`` in the place of secrets, what to know of it, and the actions."""

    configuration: Mapping[str, Any]
    notes: tuple[Note, ...]
    actions: tuple[Action, ...]


def carry(notifiers: Iterable[Notifier], *, allowed_dirs: Iterable[str] = ()) -> Migration:
    """Return what takes the place of ``notifiers``, at least one; never raises, the loader checks what it gives.

    The first notifier's relay and sender are the configuration's. Each notifier is a group of recipients and a
    route; the last route gives all other alerts to the first one's recipients.
    """
    listed = list(notifiers)
    carrying = _Carrying()
    names = [carrying.add(one) for one in listed]
    configuration: dict[str, Any] = {
        "mqtt": {"host": "127.0.0.1", "port": 1883},
        "chip": {"bus": "emulator", "network": "host"},
        "relays": carrying.relays,
    }
    if carrying.sender is not None:
        configuration["sender"] = carrying.sender
    configuration |= {
        "recipients": carrying.recipients,
        "allow_recipients": [],
        "routes": [
            *({"topic": f"{name}/#", "to": [name]} for name in names if name in carrying.recipients),
            *([{"topic": "#", "to": [next(iter(carrying.recipients))]}] if carrying.recipients else []),
        ],
        "outbox": {"path": "hardwire.db"},
    }
    if dirs := list(allowed_dirs):
        configuration["attachments"] = {"allowed_dirs": dirs}
    return Migration(
        configuration=configuration,
        notes=tuple(carrying.notes),
        actions=tuple(action(name) for name in names),
    )


def action(name: str) -> Action:
    """Return the action that calls the notifier ``name``, and the one that takes its place."""
    shown = "".join(f"  {key}: {text}\n" for key, text in _EXAMPLE.items())
    alert = json.dumps(_EXAMPLE)
    return Action(
        notifier=name,
        before=f"action: notify.{name}\ndata:\n{shown}",
        after=f"action: mqtt.publish\ndata:\n  topic: {BASE}/email/{name}\n  qos: 1\n"
        f"  payload: >-\n    {{{{ {alert} | to_json }}}}\n",
    )


def slug(text: str) -> str:
    """Return ``text`` as Home Assistant makes the name of an action of it: a-z, 0-9 and single underscores."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_") or DEFAULT_NAME


def _text(value: Any) -> str | None:
    """Return a scalar as text; None for what is none."""
    if isinstance(value, Kept):
        return value.text
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


class _Carrying:
    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.relays: list[dict[str, Any]] = []
        self.recipients: dict[str, list[str]] = {}
        self.sender: str | None = None
        self._names: set[str] = set()
        self._secrets: dict[str, str] = {}

    def add(self, one: Notifier) -> str:
        """Take over one notifier; return the name of its action."""
        name = self._name(one)
        for key in one.keys:
            if key in LEFT_OUT:
                self._note(one, key, LEFT_OUT[key])
            elif key not in _KEYS:
                self._note(one, key, "not known, and not carried over")
        addresses = list(self._addresses(one))
        if addresses:
            self.recipients[name] = addresses
        else:
            self._note(one, "recipient", "there is no address to carry over: its route is left out")
        sender, relay = self._sender(one), self._relay(one, name)
        if not self.relays:
            self.sender = sender
            self.relays.append(relay)
            return name
        if sender != self.sender:
            text = f"not carried over: there is one sender, and it is that of the first notifier, {self.sender}"
            self._note(one, "sender", text)
        if relay not in self.relays:
            text = (
                "not carried over: relays are tried in order for all mails alike, and this one is not the first "
                "notifier's. If it may send for that sender too, add it under relays, to fall back to"
            )
            self._note(one, "server", text)
        return name

    def _note(self, one: Notifier, key: str, text: str) -> None:
        self.notes.append(Note(place=one.place, key=key, text=text))

    def _name(self, one: Notifier) -> str:
        wanted = name = slug(_text(one.keys.get("name")) or DEFAULT_NAME)
        count = 1
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        if name != wanted:
            self._note(one, "name", f"there is a {wanted} before this one, so its topic ends in {name}")
        self._names.add(name)
        return name

    def _addresses(self, one: Notifier) -> Iterator[str]:
        listed = one.keys.get("recipient")
        for value in listed if isinstance(listed, list) else [listed]:
            if text := _text(value):
                yield text

    def _sender(self, one: Notifier) -> str | None:
        address, name = _text(one.keys.get("sender")), _text(one.keys.get("sender_name"))
        if address is None or not name:
            return address
        escaped = re.sub(r'(["\\])', r"\\\1", name)
        return f'"{escaped}" <{address}>'

    def _relay(self, one: Notifier, name: str) -> dict[str, Any]:
        keys = one.keys
        port = keys.get("port", DEFAULT_PORT)
        relay: dict[str, Any] = {
            "host": self._kept(keys.get("server", DEFAULT_SERVER)),
            "port": port.text if isinstance(port, Kept) else port,
            "security": self._security(one),
        }
        if keys.get("verify_ssl") is False and relay["security"] != "none":
            relay["verify"] = False
            self._note(one, "verify_ssl", "carried over as verify: false; better name the authority by ca_file")
        username, password = keys.get("username"), keys.get("password")
        if username is None or (password is None and "password" not in keys):
            if username is not None or password is not None:
                missing = "password" if password is None else "username"
                key = "username" if password is None else "password"
                self._note(one, key, f"not carried over: without a {missing} there was no login either")
            return relay
        relay["username"] = self._kept(username)
        relay["password"] = self._password(password, name)
        if relay["security"] == "none":
            self._note(one, "encryption", "none: the password crosses the network in clear text, as it did before")
        return relay

    def _security(self, one: Notifier) -> str:
        given = _text(one.keys.get("encryption"))
        if given is None or given in ENCRYPTIONS:
            return given or DEFAULT_ENCRYPTION
        self._note(
            one, "encryption", f"{given} is none of {', '.join(ENCRYPTIONS)}: {DEFAULT_ENCRYPTION} is written"
        )
        return DEFAULT_ENCRYPTION

    def _password(self, value: Any, name: str) -> Kept:
        """Return a secret in any case: of one that could not be read the name is there, and the value missing."""
        if isinstance(value, Kept):
            return self._unique(value)
        text = _text(value)
        return self._unique(Kept(name=f"smtp_{name}", text="" if text is None else text))

    def _kept(self, value: Any) -> Any:
        return self._unique(value) if isinstance(value, Kept) else value

    def _unique(self, kept: Kept) -> Kept:
        """Return ``kept`` under a name that stands for no other text: includes may have secrets of their own."""
        name, count = kept.name, 1
        while self._secrets.setdefault(name, kept.text) != kept.text:
            count += 1
            name = f"{kept.name}_{count}"
        return Kept(name=name, text=kept.text)
