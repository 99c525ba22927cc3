"""How the bridge is, in fewer words: what counts as a change, and one line for who looks at the process. Pure."""

from __future__ import annotations

from typing import Any


def without_ages(health: dict[str, Any]) -> dict[str, Any]:
    """Return ``health`` without what changes by itself all the time."""
    return {**health, "queue": {key: value for key, value in health["queue"].items() if key != "oldest_waiting_s"}}


def in_a_word(health: dict[str, Any]) -> str:
    """Return ``health`` as one line for ``systemctl status``: how much waits, and what is wrong."""
    problems = [
        f"{name}: {part['problem']}" for name, part in health.items() if isinstance(part, dict) and part["problem"]
    ]
    paused = ["paused"] if health["paused"] else []
    return "; ".join([f"{health['queue']['waiting']} waiting", *paused, *problems])
