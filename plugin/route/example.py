"""The way back from a route to an alert that takes it: what Home Assistant is told to publish to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from plugin.route.topic_filter import matches

ANY_LEVEL: Final = "notify"
"""What stands where a filter leaves a level open, and below which notifiers of recipients publish."""


def name_for(filters: Sequence[str], position: int) -> str | None:
    """Return the name of an alert for which ``filters[position]`` is the first that matches; None: I know none.

    ``water_leak/#`` gives ``water_leak``, ``garage/+/door`` gives ``garage/notify/door``, ``#`` gives ``notify``.
    """
    levels = [ANY_LEVEL if level == "+" else level for level in filters[position].split("/") if level != "#"]
    name = "/".join(levels) or ANY_LEVEL
    first = next((at for at, one in enumerate(filters) if matches(one, name)), None)
    return name if first == position and name.isprintable() else None
