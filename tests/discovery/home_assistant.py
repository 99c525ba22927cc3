"""What Home Assistant takes in a device's discovery payload, by its long names.

Read in the schemas of its component mqtt, in 2026.2.3 (the oldest that is to work) and 2026.11.0. An unknown key
at the top, in the device or in the origin makes it reject the whole payload; one in a component is dropped in
silence, so a component may have keys that only later versions know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SHORT: Final[Mapping[str, str]] = {
    "avty": "availability",
    "cmd_t": "command_topic",
    "cmd_tpl": "command_template",
    "cmps": "components",
    "def_ent_id": "default_entity_id",
    "dev": "device",
    "dev_cla": "device_class",
    "ent_cat": "entity_category",
    "evt_typ": "event_types",
    "ic": "icon",
    "json_attr_t": "json_attributes_topic",
    "json_attr_tpl": "json_attributes_template",
    "msg_exp_int": "message_expiry_interval",
    "o": "origin",
    "ops": "options",
    "p": "platform",
    "pl_off": "payload_off",
    "pl_on": "payload_on",
    "pl_prs": "payload_press",
    "stat_cla": "state_class",
    "stat_off": "state_off",
    "stat_on": "state_on",
    "stat_t": "state_topic",
    "t": "topic",
    "uniq_id": "unique_id",
    "unit_of_meas": "unit_of_measurement",
    "val_tpl": "value_template",
}
SHORT_IN_DEVICE: Final[Mapping[str, str]] = {
    "cns": "connections",
    "cu": "configuration_url",
    "hw": "hw_version",
    "ids": "identifiers",
    "mdl": "model",
    "mdl_id": "model_id",
    "mf": "manufacturer",
    "sa": "suggested_area",
    "sn": "serial_number",
    "sw": "sw_version",
}
SHORT_IN_ORIGIN: Final[Mapping[str, str]] = {"sw": "sw_version", "url": "support_url"}

AVAILABILITY: Final = frozenset(
    {
        "availability",
        "availability_mode",
        "availability_template",
        "availability_topic",
        "payload_available",
        "payload_not_available",
    }
)
TOP: Final = AVAILABILITY | {
    "command_topic",
    "components",
    "device",
    "encoding",
    "origin",
    "qos",
    "state_topic",
}
DEVICE: Final = frozenset({*SHORT_IN_DEVICE.values(), "name", "via_device"})
ORIGIN: Final = frozenset({"name", "sw_version", "support_url"})
ANY: Final = AVAILABILITY | {
    "default_entity_id",
    "enabled_by_default",
    "encoding",
    "entity_category",
    "entity_picture",
    "icon",
    "json_attributes_template",
    "json_attributes_topic",
    "name",
    "platform",
    "qos",
    "unique_id",
}
LATER: Final[Mapping[str, str]] = {"message_expiry_interval": "2026.6", "visible_by_default": "2026.7"}
"""Keys of every component that 2026.2 does not know yet, with the version that does."""

PLATFORMS: Final[Mapping[str, frozenset[str]]] = {
    "binary_sensor": ANY
    | {
        "device_class",
        "expire_after",
        "force_update",
        "off_delay",
        "payload_off",
        "payload_on",
        "state_topic",
        "value_template",
    },
    "button": ANY | {"command_template", "command_topic", "device_class", "payload_press", "retain"},
    "event": ANY | {"device_class", "event_types", "state_topic", "value_template"},
    "notify": ANY | {"command_template", "command_topic", "retain"},
    "sensor": ANY
    | {
        "device_class",
        "expire_after",
        "force_update",
        "last_reset_value_template",
        "options",
        "state_class",
        "state_topic",
        "suggested_display_precision",
        "unit_of_measurement",
        "value_template",
    },
    "switch": ANY
    | {
        "command_template",
        "command_topic",
        "device_class",
        "optimistic",
        "payload_off",
        "payload_on",
        "retain",
        "state_off",
        "state_on",
        "state_topic",
        "value_template",
    },
}
REQUIRED: Final[Mapping[str, frozenset[str]]] = {
    "binary_sensor": frozenset({"platform", "unique_id", "state_topic"}),
    "button": frozenset({"platform", "unique_id", "command_topic"}),
    "event": frozenset({"platform", "unique_id", "state_topic", "event_types"}),
    "notify": frozenset({"platform", "unique_id", "command_topic"}),
    "sensor": frozenset({"platform", "unique_id", "state_topic"}),
    "switch": frozenset({"platform", "unique_id", "command_topic"}),
}
CATEGORIES: Final[Mapping[str, frozenset[str]]] = {
    "binary_sensor": frozenset({"diagnostic"}),
    "button": frozenset({"config", "diagnostic"}),
    "sensor": frozenset({"diagnostic"}),
    "switch": frozenset({"config", "diagnostic"}),
}


def long(value: Mapping[str, Any], names: Mapping[str, str] = SHORT) -> dict[str, Any]:
    """Return ``value`` with its keys written out."""
    return {names.get(key, key): one for key, one in value.items()}
