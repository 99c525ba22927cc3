"""The service from inside: what its threads owe each other, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from plugin.alert import Message
from plugin.config import load
from plugin.demo.mailserver import MailServer
from plugin.service import Service, ThreadDied
from plugin.service.crew import Room
from plugin.service.supervisor import Supervisor
from tests.brokers import AnyBroker
from tests.journey.house import (
    WAIT_S,
    Automation,
    Process,
    assert_all_arrived,
    configured,
    finals,
    publish_all,
    until,
)


@contextmanager
def running(config: Path) -> Iterator[Service]:
    service = Service(load(config))
    service.start()
    try:
        assert service.wait_subscribed(WAIT_S)
        yield service
    finally:
        service.stop()


def test_an_alert_that_comes_as_the_courier_goes_to_sleep_is_not_slept_over(
    any_broker: AnyBroker,
    automation: Automation,
    mail: MailServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between looking for work and sleeping lies a moment in which a call must not be lost."""
    monkeypatch.setattr("plugin.service.service.IDLE_S", 10 * WAIT_S)
    with running(configured(tmp_path, any_broker, mail.port)) as service:
        look = service._bridge.next_due_in
        looked = threading.Event()

        def slow_look() -> float | None:
            due_in = look()
            if due_in is None and not looked.is_set():
                looked.set()
                publish_all(automation, ["just now"])
                until(lambda: service._bridge.counters()["accepted"] == 1, "acceptance")
                until(lambda: service._bell.rung > roused, "the call")
            return due_in

        roused = service._bell.rung
        monkeypatch.setattr(service._bridge, "next_due_in", slow_look)
        service._bell.ring()
        roused = service._bell.rung
        assert finals(automation, ["just now"])["just now"]["event_type"] == "success"
        assert looked.is_set()


def test_large_payloads_wait_at_the_broker_and_not_in_memory(
    any_broker: AnyBroker,
    automation: Automation,
    mail: MailServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("plugin.service.service.INTAKE_BYTES", 250_000)
    names = [f"alert {n}" for n in range(12)]
    with running(configured(tmp_path, any_broker, mail.port)) as service:
        accept = service._bridge.accept
        batches: list[int] = []

        def slow_accept(messages: Sequence[Message]) -> list[Message]:
            batches.append(sum(len(one.payload) for one in messages))
            if len(batches) == 1:
                time.sleep(0.3)  # the broker sends on meanwhile
            return accept(messages)

        monkeypatch.setattr(service._bridge, "accept", slow_accept)
        publish_all(automation, names, text="x" * 100_000)
        finals(automation, names)
    assert sum(batches) > 1_200_000
    assert max(batches) <= 250_000
    assert_all_arrived(mail.mails, names)


def test_room_is_bounded_and_lets_a_giant_through() -> None:
    room = Room(100)
    assert room.take(60, 0)
    assert not room.take(60, 0)
    room.give_back(60)
    assert room.take(1000, 0)  # more than there is, but nothing else is under way
    assert not room.take(1, 0)
    room.give_back(1000)
    assert room.take(100, 0)
    waiter = threading.Timer(0.05, room.give_back, (100,))
    waiter.start()
    assert room.take(100, WAIT_S)
    waiter.join()


def test_what_could_not_be_stored_is_stored_at_the_end(
    any_broker: AnyBroker,
    automation: Automation,
    mail: MailServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A result that found the disk full must not be forgotten at SIGTERM, or the mail would go out again."""
    from plugin.outbox import OutboxFull, Settlement

    config = configured(tmp_path, any_broker, mail.port)
    refused = threading.Event()
    with running(config) as service:
        settle = service._outbox.settle

        def no_room(settlement: Settlement) -> list[bool]:
            if not service._stopping.is_set():
                refused.set()
                raise OutboxFull("no room", "make some")
            return settle(settlement)

        monkeypatch.setattr(service._outbox, "settle", no_room)
        publish_all(automation, ["one"])
        assert refused.wait(WAIT_S)
    assert finals(automation, ["one"])["one"]["event_type"] == "success"
    with running(config) as service:
        assert service.health()["queue"]["waiting"] == 0
    assert len(mail.mails) == 1


def test_supervision_tells_which_thread_died(
    any_broker: AnyBroker, mail: MailServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(load(configured(tmp_path, any_broker, mail.port)))
    monkeypatch.setattr(service._mqtt, "run", lambda: 1 / 0)
    service.start()
    try:
        with pytest.raises(ThreadDied, match="the thread mqtt died: ZeroDivisionError"):
            service.supervise()
    finally:
        service.stop()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of a supervisor, named in the environment as systemd does it."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(WAIT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        monkeypatch.setenv("WATCHDOG_USEC", "2000000")
        yield listener


def told_until(listener: socket.socket, last: str) -> list[str]:
    """Return the states that were told up to and with ``last``."""
    told: list[str] = []
    while not told or told[-1] != last:
        told.append(listener.recv(4096).decode().partition("\n")[0])
    return [one for one in told if not one.startswith("STATUS=")]


def test_systemd_learns_of_start_life_reload_and_end(
    any_broker: AnyBroker, mail: MailServer, tmp_path: Path, systemd: socket.socket
) -> None:
    with Process(configured(tmp_path, any_broker, mail.port)) as process:
        assert told_until(systemd, "READY=1") == ["READY=1"]
        assert set(told_until(systemd, "WATCHDOG=1")) == {"WATCHDOG=1"}
        os.kill(process.pid, signal.SIGHUP)
        assert told_until(systemd, "READY=1")[-2:] == ["RELOADING=1", "READY=1"]
        process.signal_end()
        assert set(told_until(systemd, "STOPPING=1")) <= {"WATCHDOG=1", "STOPPING=1"}
        assert process.wait() == 0


def test_the_watchdog_is_fed_only_while_all_threads_are_at_work(
    any_broker: AnyBroker,
    mail: MailServer,
    tmp_path: Path,
    systemd: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service(load(configured(tmp_path, any_broker, mail.port)), supervisor=Supervisor())
    service._look_after_progress()
    assert systemd.recv(100) == b"WATCHDOG=1"
    monkeypatch.setattr(service._supervisor, "_petted_at", None)
    service._progress.beat("intake")
    heard = service._progress._clock
    monkeypatch.setattr(service._progress, "_clock", lambda: heard() + 301.0)
    service._look_after_progress()
    service._look_after_progress()
    assert caplog.text.count("event=thread_hangs thread=intake silent_s=301") == 1
    systemd.settimeout(0)
    with pytest.raises(BlockingIOError):
        systemd.recv(100)
    service._progress.beat("intake")
    service._look_after_progress()
    assert systemd.recv(100) == b"WATCHDOG=1"
    service.stop()
