"""One service after the other: a reload ends one in order and begins the next, in the same process."""

from __future__ import annotations

import logging
from collections.abc import Callable

from plugin.config import Config
from plugin.outbox import OutboxError
from plugin.service.service import Service, Watch
from plugin.service.supervisor import Supervisor

_log = logging.getLogger("hardwire.service")


class Running:
    """The service for as long as it is wanted, whatever its configuration becomes meanwhile."""

    def __init__(
        self,
        config: Config,
        *,
        reread: Callable[[], Config],
        watch: Watch | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        """Build the first service; raises OutboxError, OSError, or ValueError for what only its use can show.

        ``reread`` reads the configuration again; it raises ConfigError.
        """
        self._reread = reread
        self._watch = watch
        self._supervisor = supervisor or Supervisor()
        self._asked_to_stop = False
        self._config = config
        self._service = self._build(config)

    def _build(self, config: Config) -> Service:
        return Service(config, watch=self._watch, reread=self._reread, supervisor=self._supervisor)

    def request_stop(self) -> None:
        """Ask ``run`` to return; for a signal handler."""
        self._asked_to_stop = True
        self._service.request_stop()

    def request_reload(self) -> None:
        """Ask for the configuration to be read again; for a signal handler."""
        self._service.request_reload()

    def run(self) -> None:
        """Run until ``request_stop``; raises ThreadDied or OutboxError after the service has stopped."""
        while True:
            try:
                self._service.start()
                self._supervisor.ready()
                if self._asked_to_stop:  # the signal met the service before
                    self._service.request_stop()
                self._service.supervise()
            finally:
                successor = self._service.reloading.successor
                if successor is None or self._asked_to_stop:
                    self._supervisor.stopping()
                else:
                    self._supervisor.reloading()
                self._service.stop()
            if successor is None or self._asked_to_stop:
                return
            before, self._service = self._service, self._succeed(successor)
            if before.asked_to_reload:  # the signal met a service that was ending
                self._service.request_reload()

    def _succeed(self, config: Config) -> Service:
        """Return the service of the new configuration; if that cannot be, another one of the old."""
        try:
            service = self._build(config)
        except (OutboxError, OSError, ValueError) as error:
            _log.error("event=reload_failed problem=%r", str(error))
            service = self._build(self._config)
            service.reloading.problem = f"the configuration cannot be used, the one before is in force: {error}"
            return service
        self._config = config
        for warning in config.warnings:
            _log.warning("event=configuration_warning place=%r text=%r", warning.place, warning.text)
        return service
