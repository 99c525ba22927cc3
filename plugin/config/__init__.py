"""The configuration: one YAML file becomes frozen models, or an error that names every fault with its place."""

from plugin.config.faults import ConfigError, Fault
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

__all__ = [
    "Attachments",
    "Chip",
    "Config",
    "ConfigError",
    "Fault",
    "HomeAssistant",
    "Keep",
    "Limits",
    "Mqtt",
    "MqttTls",
    "Network",
    "Outbox",
    "Relay",
    "Retry",
    "RouteSettings",
    "Topics",
    "load",
    "schema_keys",
]
