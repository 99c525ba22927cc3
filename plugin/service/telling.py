"""How the bridge is, in fewer words: what counts as a change, and one line for who looks at the process. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from plugin import __version__
from plugin.alert import timestamp
from plugin.config import Config


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


def part_of(problem: str | None, **more: Any) -> dict[str, Any]:
    """Return one part of ``bridge/health``: whether it is well, and what is wrong."""
    return {"ok": problem is None, "problem": problem, **more}


def info_of(
    config: Config,
    *,
    started_at: datetime,
    model: str | None,
    paused: bool,
    counters: Mapping[str, int],
    outcomes: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the content of ``bridge/info``; ``model`` is the chip that was found.

    ``outcomes`` are the totals of the outbox, None while it cannot be read.
    """
    chip = config.chip
    return {
        "version": __version__,
        "started_at": timestamp(started_at),
        "chip": {"model": model, "bus": chip.bus, "lanes": chip.lanes, "mac": chip.mac},
        "relays": [f"{one.host}:{one.port}" for one in config.relays],
        "routes": [one.topic for one in config.routes],
        "paused": paused,
        "counters": dict(counters),
        "outcomes": outcomes,
    }
