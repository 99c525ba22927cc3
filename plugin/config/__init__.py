"""The configuration: one YAML file becomes frozen models, or an error that names every fault with its place."""

from plugin.config.faults import ConfigError, Fault
from plugin.config.foreign import Block, Tagged, read_foreign
from plugin.config.loading import load
from plugin.config.model import (
    Attachments,
    Chip,
    Config,
    HomeAssistant,
    Keep,
    Limits,
    Mqtt,
    MqttTls,
    Network,
    Outbox,
    Relay,
    Retry,
    RouteSettings,
    Topics,
    schema_keys,
)
from plugin.config.writing import (
    CONFIGURATION_FILE,
    Kept,
    configuration_text,
    kept_in,
    replace_files,
    secrets_text,
    write_new,
)

__all__ = [
    "CONFIGURATION_FILE",
    "Attachments",
    "Block",
    "Chip",
    "Config",
    "ConfigError",
    "Fault",
    "HomeAssistant",
    "Keep",
    "Kept",
    "Limits",
    "Mqtt",
    "MqttTls",
    "Network",
    "Outbox",
    "Relay",
    "Retry",
    "RouteSettings",
    "Tagged",
    "Topics",
    "configuration_text",
    "kept_in",
    "load",
    "read_foreign",
    "replace_files",
    "schema_keys",
    "secrets_text",
    "write_new",
]
