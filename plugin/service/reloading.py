"""A new configuration in place of the one in force: whether it can be, and what it changes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from plugin.build import composer_of, mqtt_settings_of, relays_of, routes_of, routing_of
from plugin.config import Config, ConfigError
from plugin.mqtt import Mqtt
from plugin.service.requests import Refused

_log = logging.getLogger("hardwire.service")

MAX_FAULTS_TOLD: Final = 10


class Reloading:
    """Reads the configuration again when it is asked to. What is refused changes nothing.

    ``successor`` is what shall take over, ``problem`` why what lies on the disk does not; both None at first.
    """

    def __init__(self, config: Config, reread: Callable[[], Config] | None) -> None:
        """``reread`` reads the configuration's file; it raises ConfigError. None: there is no file."""
        self._config = config
        self._reread = reread
        self.successor: Config | None = None
        self.problem: str | None = None

    def reload(self) -> dict[str, Any]:
        """Have the configuration on the disk take over, and return in which sections it differs; Refused."""
        if self._reread is None:
            raise Refused("this bridge was not started from a configuration file")
        try:
            config = self._read(self._reread)
        except Refused as error:
            self.problem = str(error)
            _log.error("event=reload_refused problem=%r", self.problem)
            raise
        sections = changed(self._config, config)
        _log.info("event=reload changed=%s", ",".join(sections) or "nothing")
        self.problem, self.successor = None, config
        return {"changed": sections}

    def _read(self, reread: Callable[[], Config]) -> Config:
        try:
            config = reread()
        except ConfigError as error:
            raise Refused(faults_told(error)) from None
        if reason := hindrance(self._config, config):
            raise Refused(reason)
        try:
            rehearse(config)
        except (OSError, ValueError) as error:
            raise Refused(f"the configuration is refused: {error}") from None
        return config


def hindrance(old: Config, new: Config) -> str | None:
    """Return why ``new`` cannot take over from ``old`` in a running process, or None.

    What waits in one outbox is not carried over into another; a restart leaves it there knowingly.
    """
    if old.outbox.path != new.outbox.path:
        return (
            "outbox.path cannot change while the service runs, for what waits in the outbox would stay behind: "
            "restart the service"
        )
    return None


def rehearse(config: Config) -> None:
    """Make all that can be made of ``config`` beside a running service; raises ValueError or OSError.

    Chip and outbox can be had only once: what is wrong with a chip shows when the service starts with it.
    """
    routing_of(config, composer_of(config), routes_of(config))
    relays_of(config)
    Mqtt(
        mqtt_settings_of(config),
        on_message=lambda _: None,
        on_published=lambda _: None,
        on_session=lambda _: None,
        on_connection=lambda _connected, _reason: None,
    )


def changed(old: Config, new: Config) -> list[str]:
    """Return the sections, the keys of the first level, in which the two differ."""
    return [name for name in type(new).model_fields if getattr(old, name) != getattr(new, name)]


def faults_told(error: ConfigError) -> str:
    """Return the faults of a configuration as one sentence."""
    told = "; ".join(str(one) for one in error.faults[:MAX_FAULTS_TOLD])
    more = len(error.faults) - MAX_FAULTS_TOLD
    return f"the configuration is refused: {told}" + (f"; and {more} more" if more > 0 else "")
