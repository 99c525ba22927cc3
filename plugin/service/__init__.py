"""The composition root: the running bridge, its threads and their supervision."""

from plugin.service.byhand import by_hand
from plugin.service.crew import Crew, ThreadDied
from plugin.service.running import Running
from plugin.service.service import Service, Watch

__all__ = ["Crew", "Running", "Service", "ThreadDied", "Watch", "by_hand"]
