"""The journey of an alert: accept what the broker hands over, carry what is due, report what became of it."""

from plugin.bridge.clock import Mark, SteadyClock
from plugin.bridge.journey import Bridge, Health

__all__ = ["Bridge", "Health", "Mark", "SteadyClock"]
