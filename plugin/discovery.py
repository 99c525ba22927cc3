"""How Home Assistant is told of this bridge: one device with its entities, by MQTT discovery. Pure data.

The payload goes to ``<prefix>/device/<id>/config``. Keys are Home Assistant's short forms. It is made so that
Home Assistant 2026.2 and every later version takes it: a key at the top that one does not know makes it reject the
whole payload, one within a component is dropped in silence. qos stands in each component, for older versions do
not hand down that at the top.

``"avty": []`` takes an entity out of the device's availability. Home Assistant drops what is sent to an entity
that is unavailable, so notifiers and the test button have it: what they publish waits at the broker for the
bridge. So have those that tell of the past, which stays as it was while the bridge is away.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Container, Mapping
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, Final

DEFAULT_BASE: Final = "alerts"
NOTIFY: Final = "notify"
TEST_EXPIRY_S: Final = 300
"""A test mail that comes later than this is a riddle to who asked for it."""
TITLE: Final = "Message from Home Assistant"
EVENT_TYPES: Final = ("success", "failure", "deferred")
MAX_SUBJECT_CHARS: Final = 200
MAX_REASON_CHARS: Final = 1000

Component = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRoute:
    """A route that names its recipients: its filter, and the name of an alert that takes it."""

    topic_filter: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What there is to tell of a bridge.

    ``base`` and ``prefix`` are topics, ``recipients`` the names of recipients and groups. A notification older
    than ``expiry_s`` is not to be mailed any more. None goes with a broker of MQTT 3.1.1, which cannot be told: a
    Home Assistant that speaks no more than it refuses to send what is to expire.
    """

    base: str
    prefix: str
    version: str
    expiry_s: int | None
    recipients: tuple[str, ...] = ()
    routes: tuple[NamedRoute, ...] = ()

    @property
    def device(self) -> str:
        """Return the identifier of the device, which is part of its topic as well."""
        return f"hardwire_{slug(self.base)}"

    @property
    def topic(self) -> str:
        """Return the topic of the discovery payload."""
        return f"{self.prefix}/device/{self.device}/config"

    @property
    def birth_topic(self) -> str:
        """Return the topic on which Home Assistant says that it is there."""
        return f"{self.prefix}/status"


def slug(text: str) -> str:
    """Return ``text`` in the characters of an entity id; of one that has none of these, eight of its hash."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or hashlib.sha256(text.encode()).hexdigest()[:8]


def payload_of(description: Description) -> dict[str, Any]:
    """Return what announces the bridge: the device, and under ``cmps`` every entity by its component id."""
    return {
        "dev": {
            "ids": [description.device],
            "name": "Hardwire" if description.base == DEFAULT_BASE else f"Hardwire {description.base}",
            "mf": "Hardwire",
            "mdl": "MQTT to mail through a W5100",
            "sw": description.version,
        },
        "o": {"name": "Hardwire", "sw": description.version},
        "avty": [{"t": f"{description.base}/bridge/state"}],
        "cmps": _components(description),
    }


def gone(component: Mapping[str, Any]) -> Component:
    """Return what is announced in place of ``component`` to have Home Assistant remove it."""
    return {"p": component["p"]}


def _components(description: Description) -> dict[str, Component]:
    made = {
        **_past(description),
        **_present(description),
        **_controls(description),
        **_notifiers(description),
    }
    domain_prefix = "hardwire" if description.base == DEFAULT_BASE else description.device
    for key, component in made.items():
        component["uniq_id"] = f"{description.device}_{key}"
        component["def_ent_id"] = f"{component['p']}.{domain_prefix}_{key.removeprefix('notify_')}"
        component["qos"] = 1
    return made


# --- sensors ------------------------------------------------------------------------------------------------


def _past(description: Description) -> dict[str, Component]:
    """Return what tells of mails that were settled: on while the bridge is away, and after any restart."""
    told, state = f"{description.base}/bridge/outcome", f"{description.base}/bridge/info"
    return {
        "outcome": {
            "p": "event",
            "name": "Outcome",
            "ic": "mdi:email-check-outline",
            "stat_t": told,
            "evt_typ": list(EVENT_TYPES),
            "val_tpl": _template(
                "{'event_type': value_json.event_type, 'id': value_json.id, 'topic': value_json.topic,"
                " 'route': value_json.route, 'relay': value_json.relay, 'attempts': value_json.attempts,"
                f" 'subject': (value_json.subject or '')[:{MAX_SUBJECT_CHARS}],"
                f" 'reason': (value_json.reason or '')[:{MAX_REASON_CHARS}],"
                " 'next_attempt_at': value_json.next_attempt_at, 'duration_s': value_json.duration_s} | tojson"
            ),
            "avty": [],
        },
        "last_outcome": {
            "p": "sensor",
            "name": "Last outcome",
            "ic": "mdi:email-outline",
            "stat_t": state,
            "val_tpl": _template("(value_json.get('outcomes') or {}).get('last')"),
            "dev_cla": "enum",
            "ops": list(EVENT_TYPES),
            "avty": [],
        },
        "last_sent": {
            "p": "sensor",
            "name": "Last sent",
            "stat_t": state,
            "val_tpl": _template(_total("success", "at")),
            "dev_cla": "timestamp",
            "avty": [],
        },
        "sent": {
            "p": "sensor",
            "name": "Sent",
            "ic": "mdi:send-outline",
            "stat_t": state,
            "val_tpl": _template(_total("success", "count")),
            "stat_cla": "total_increasing",
            "unit_of_meas": "mails",
            "avty": [],
        },
        "failed": {
            "p": "sensor",
            "name": "Failed",
            "ic": "mdi:email-alert-outline",
            "stat_t": state,
            "val_tpl": _template(_total("failure", "count")),
            "stat_cla": "total_increasing",
            "unit_of_meas": "mails",
            "avty": [],
        },
        "delivery_time": {
            "p": "sensor",
            "name": "Delivery time",
            "stat_t": state,
            "val_tpl": _template(_total("success", "duration_s")),
            "dev_cla": "duration",
            "unit_of_meas": "s",
            "stat_cla": "measurement",
            "ent_cat": "diagnostic",
            "avty": [],
        },
    }


def _present(description: Description) -> dict[str, Component]:
    """Return what tells how the bridge is; unavailable while nobody knows, but for ``connected``."""
    health = f"{description.base}/bridge/health"
    return {
        "waiting": {
            "p": "sensor",
            "name": "Waiting",
            "ic": "mdi:email-multiple-outline",
            "stat_t": health,
            "val_tpl": _template("value_json.queue.waiting"),
            "stat_cla": "measurement",
            "unit_of_meas": "mails",
        },
        "oldest_waiting": {
            "p": "sensor",
            "name": "Oldest waiting",
            "stat_t": health,
            # Nothing waits: that is 0. Nobody can tell: that is null, and unknown.
            "val_tpl": _template(
                "value_json.queue.oldest_waiting_s if value_json.queue.waiting else value_json.queue.waiting"
            ),
            "dev_cla": "duration",
            "unit_of_meas": "s",
            "stat_cla": "measurement",
        },
        "connected": {
            "p": "binary_sensor",
            "name": "Connected",
            "stat_t": f"{description.base}/bridge/state",
            "pl_on": "online",
            "pl_off": "offline",
            "dev_cla": "connectivity",
            "ent_cat": "diagnostic",
            "avty": [],
        },
        "mail_server_problem": _problem("Mail server problem", health, "relay"),
        "chip_problem": _problem("Chip problem", health, "chip"),
    }


def _problem(name: str, health: str, part: str) -> Component:
    return {
        "p": "binary_sensor",
        "name": name,
        "stat_t": health,
        "val_tpl": _template(f"'OFF' if value_json.{part}.ok else 'ON'"),
        "dev_cla": "problem",
        "ent_cat": "diagnostic",
        "json_attr_t": health,
        "json_attr_tpl": _template(f"{{'problem': value_json.{part}.problem}} | tojson"),
    }


def _total(event_type: str, what: str) -> str:
    return f"(value_json.get('outcomes') or {{}}).get('{event_type}', {{}}).get('{what}')"


# --- what can be asked --------------------------------------------------------------------------------------


def _controls(description: Description) -> dict[str, Component]:
    request = f"{description.base}/bridge/request"
    return {
        "send_test_mail": {
            "p": "button",
            "name": "Send test mail",
            "ic": "mdi:email-fast-outline",
            "cmd_t": f"{request}/test",
            "pl_prs": "{}",
            "ent_cat": "diagnostic",
            **_expiring(None if description.expiry_s is None else TEST_EXPIRY_S),
            "avty": [],
        },
        "retry_failed": {
            "p": "button",
            "name": "Retry failed",
            "ic": "mdi:email-sync-outline",
            "cmd_t": f"{request}/retry",
            "pl_prs": "{}",
            "ent_cat": "config",
        },
        "pause": {
            "p": "switch",
            "name": "Pause",
            "ic": "mdi:pause-circle-outline",
            "cmd_t": f"{request}/pause",
            "pl_on": '{"paused": true}',
            "pl_off": '{"paused": false}',
            "stat_t": f"{description.base}/bridge/health",
            "val_tpl": _template("'ON' if value_json.paused else 'OFF'"),
            "stat_on": "ON",
            "stat_off": "OFF",
            "ent_cat": "config",
        },
    }


def _notifiers(description: Description) -> dict[str, Component]:
    """Return a notify entity for each recipient and group, and for each route that names whom it goes to."""
    made: dict[str, Component] = {}
    for name in description.recipients:
        key = _free(f"notify_{slug(name)}", made)
        topic = f"{description.base}/email/{NOTIFY}/{key.removeprefix('notify_')}"
        made[key] = _notifier(description, name, topic, to=name, titled=True)
    for route in description.routes:
        key = _free(f"notify_route_{_route_slug(route.topic_filter)}", made)
        topic = f"{description.base}/email/{route.name}"
        titled = route.name == NOTIFY
        made[key] = _notifier(description, f"Route {route.topic_filter}", topic, to=None, titled=titled)
    return made


def _notifier(description: Description, name: str, topic: str, *, to: str | None, titled: bool) -> Component:
    """Return a notify entity, which has a message and nothing else; ``titled``: its topic would be no subject."""
    title = f", 'title': {_literal(TITLE)}" if titled else ""
    recipient = "" if to is None else f", 'to': [{_literal(to)}]"
    return {
        "p": "notify",
        "name": name,
        "ic": "mdi:email-outline" if to is not None else "mdi:email-arrow-right-outline",
        "cmd_t": topic,
        "cmd_tpl": _template(f"{{'message': value{title}{recipient}}} | tojson"),
        **_expiring(description.expiry_s),
        "avty": [],
    }


def _expiring(after_s: int | None) -> Component:
    return {} if after_s is None else {"msg_exp_int": after_s}


def _route_slug(topic_filter: str) -> str:
    words = {"#": "all", "+": "any"}
    return slug("_".join(words.get(level, level) for level in topic_filter.removesuffix("/#").split("/")))


def _free(key: str, taken: Container[str]) -> str:
    """Return ``key``, or what comes of it when it is taken: key_2, key_3 …."""
    numbered = chain((key,), (f"{key}_{number}" for number in count(2)))
    return next(one for one in numbered if one not in taken)


# --- writing ------------------------------------------------------------------------------------------------


def _template(expression: str) -> str:
    return f"{{{{ {expression} }}}}"


def _literal(text: str) -> str:
    """Return ``text`` as a string within a template: in escapes that end neither the string nor the template."""
    escaped = text.encode("unicode_escape").decode("ascii")
    return "'" + re.sub(r"['\"{}%#]", lambda found: f"\\x{ord(found[0]):02x}", escaped) + "'"
