"""`hardwire app-config`: what the app for Home Assistant needs before it runs the service."""

from plugin.app.options import OptionsError, configuration, read_options, wants_service
from plugin.app.supervisor import SupervisorError, mqtt_service

__all__ = [
    "OptionsError",
    "SupervisorError",
    "configuration",
    "mqtt_service",
    "read_options",
    "wants_service",
]
