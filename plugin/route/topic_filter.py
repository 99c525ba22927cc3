"""Topic filters of MQTT 5 §4.7, applied to the name of an alert, that is to its topic below ``<base>/email/``.

The rule that wildcards do not match a leading ``$`` (§4.7.2) concerns whole topics and does not apply down here.
"""

from __future__ import annotations

from typing import Final

MAX_FILTER_BYTES: Final = 65_535


def check_filter(text: str) -> str | None:
    """Return what is wrong with the topic filter ``text`` (MQTT 5 §4.7.1, §4.7.3), or None."""
    if not text:
        return "a topic filter must not be empty; # matches every topic"
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        return "a topic filter must not contain NUL or surrogates"
    if len(text.encode()) > MAX_FILTER_BYTES:
        return f"a topic filter has at most {MAX_FILTER_BYTES} octets"
    levels = text.split("/")
    if "#" in levels[:-1] or any("#" in level and level != "#" for level in levels):
        return "# must be the last level, and alone in it: water_leak/#"
    if any("+" in level and level != "+" for level in levels):
        return "+ must be alone in its level: garage/+/door"
    return None


def matches(topic_filter: str, name: str) -> bool:
    """Tell whether the sound ``topic_filter`` matches ``name``.

    ``+`` is exactly one level, also an empty one; ``#`` is any number of levels, also none, so that ``a/#``
    matches ``a``.
    """
    filter_levels, levels = topic_filter.split("/"), name.split("/")
    for position, wanted in enumerate(filter_levels):
        if wanted == "#":
            return True
        if position == len(levels) or wanted not in ("+", levels[position]):
            return False
    return len(filter_levels) == len(levels)


def covers(wide: str, narrow: str) -> bool:
    """Tell whether ``wide`` matches every name that ``narrow`` matches; both are sound filters."""
    if wide == "+/#":  # every name has a first level, be it empty
        return True
    wide_levels, narrow_levels = wide.split("/"), narrow.split("/")
    for position, level in enumerate(wide_levels):
        if level == "#":
            return True
        # Where the narrow one has its # it matches many levels, and none: only another # covers that.
        if position == len(narrow_levels) or narrow_levels[position] == "#":
            return False
        if level not in ("+", narrow_levels[position]):
            return False
    return len(wide_levels) == len(narrow_levels)
