"""Again, or give up, and when: the only place that decides it. Pure functions over replies, faults and times."""

from plugin.delivery.cause import Cause, cause, wants_new_connection
from plugin.delivery.schedule import JITTER, Schedule
from plugin.delivery.verdict import classify

__all__ = ["JITTER", "Cause", "Schedule", "cause", "classify", "wants_new_connection"]
