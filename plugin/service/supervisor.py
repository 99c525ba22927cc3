"""What the supervisor outside (systemd) is told: that we are ready, that we stop, that we are alive.

The protocol of sd_notify(3): one datagram of ``KEY=value`` lines to the socket that NOTIFY_SOCKET names. It is
short enough to be written here; the libraries for it are a wrapper around libsystemd, or have had no release for
years.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

_log = logging.getLogger("hardwire.service")

SEND_S: Final = 1.0  # a supervisor that does not read must not hold up who is supervised
MAX_STATUS_CHARS: Final = 200


class Supervisor:
    """systemd, or nobody: then nothing is told, and every call does nothing."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Take address and watchdog from NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID of ``environment``."""
        environment = os.environ if environment is None else environment
        path = environment.get("NOTIFY_SOCKET", "")
        # "@" stands for the NUL that begins an abstract name; vsock and others are no matter here.
        self._address = "\0" + path[1:] if path.startswith("@") else path if path.startswith("/") else None
        self.watchdog_s = _watchdog_s(environment) if self._address else None
        self._petted_at: float | None = None
        self._troubled = False

    def ready(self) -> None:
        """Say that the start, or a reload, is done."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Say that the configuration is read again; ``ready`` ends it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """Say how things are, for ``systemctl status``."""
        line = "".join(one if one.isprintable() else " " for one in text[:MAX_STATUS_CHARS])
        self._tell(f"STATUS={line}")

    def alive(self) -> None:
        """Say that all is at work; sent four times within the time of its watchdog."""
        now = time.monotonic()
        if self.watchdog_s is None or (
            self._petted_at is not None and now - self._petted_at < self.watchdog_s / 4
        ):
            return
        self._petted_at = now
        self._tell("WATCHDOG=1")

    def _tell(self, lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(SEND_S)
                channel.connect(self._address)
                channel.send(lines.encode())
        except OSError as error:
            if not self._troubled:
                _log.warning("event=supervisor_not_told problem=%r", str(error))
            self._troubled = True
        else:
            self._troubled = False


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Return the watchdog's time, None where there is none, or where it is meant for another process."""
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", ""))
        meant_for = int(environment.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 and meant_for == os.getpid() else None
