"""The datagrams that systemd gets, and who hangs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plugin.service.progress import Progress
from plugin.service.supervisor import Supervisor


@contextmanager
def systemd(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(5.0)
        yield listener


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_is_told(tmp_path: Path, kind: str) -> None:
    name = str(tmp_path / "notify") if kind == "path" else f"@hardwire-test-{os.getpid()}"
    with systemd(name.replace("@", "\0")) as listener:
        supervisor = Supervisor({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "60000000"})
        supervisor.ready()
        assert listener.recv(1000) == b"READY=1"
        supervisor.status("3 waiting\nREADY=0")  # a relay's words must not become a line of their own
        assert listener.recv(1000) == b"STATUS=3 waiting READY=0"
        supervisor.reloading()
        state, clock = listener.recv(1000).decode().splitlines()
        assert state == "RELOADING=1"
        assert int(clock.removeprefix("MONOTONIC_USEC=")) > 0
        supervisor.alive()
        supervisor.alive()  # too early to be worth a second one
        supervisor.stopping()
        assert listener.recv(1000) == b"WATCHDOG=1"
        assert listener.recv(1000) == b"STOPPING=1"


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),  # meant for another process
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_as_the_environment_says(environment: dict[str, str], watchdog_s: float | None) -> None:
    assert Supervisor({"NOTIFY_SOCKET": "/nowhere", **environment}).watchdog_s == watchdog_s


def test_without_a_supervisor_nothing_is_told() -> None:
    for environment in ({}, {"NOTIFY_SOCKET": "vsock:2:1", "WATCHDOG_USEC": "1"}):
        supervisor = Supervisor(environment)
        assert supervisor.watchdog_s is None
        supervisor.ready()
        supervisor.alive()


def test_a_supervisor_that_is_gone_is_no_reason_to_stop(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    supervisor.ready()
    supervisor.status("still here")
    assert caplog.text.count("event=supervisor_not_told") == 1


def test_who_is_not_heard_of_within_its_time_hangs() -> None:
    now = 0.0
    progress = Progress({"intake": 10.0, "courier": 100.0}, clock=lambda: now)
    progress.beat("intake")
    progress.beat("courier-0")
    progress.beat("courier-1")
    now = 50.0
    assert progress.silent() == {"intake": 50.0}
    progress.beat("intake")
    assert progress.silent() == {}
    now = 150.0
    progress.gone("courier-1")
    assert progress.silent() == {"intake": 100.0, "courier-0": 150.0}
