"""Hardwire: alerts from MQTT leave as mail through a WIZnet W5100."""

__version__ = "0.1.0"
