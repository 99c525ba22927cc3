"""``hardwire run`` as a process, under what happens to processes: killed, stopped, cut off, out of room."""

from __future__ import annotations

import re
import resource
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import pytest

from plugin.demo.mailserver import MailServer
from tests.brokers import CAPABILITIES, AnyBroker, Kind, kinds, launch
from tests.journey.house import (
    ALICE,
    BOB,
    LOGIN,
    PASSWORD,
    WAIT_S,
    Automation,
    Process,
    assert_all_arrived,
    base_of,
    configured,
    finals,
    mails_by_title,
    publish_all,
    until,
)


def test_killed_with_200_alerts_under_way(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    config = configured(tmp_path, any_broker, mail.port, chip="{bus: emulator, lanes: 2}")
    names = [f"alert {n}" for n in range(200)]
    kills = 0
    with Process(config) as first:
        first.wait_connected()
        publisher = threading.Thread(target=publish_all, args=(automation, names))
        publisher.start()
        until(lambda: len(mail.mails) >= 5, "the first mails")
        first.kill()
        kills += 1
    with Process(config) as second:
        until(lambda: len(mail.mails) >= 40, "more mails")
        second.kill()
        kills += 1
    publisher.join(WAIT_S)
    assert not publisher.is_alive()
    with Process(config) as last:
        outcomes = finals(automation, names)
        assert {one["event_type"] for one in outcomes.values()} == {"success"}
        assert last.terminate() == 0
    assert_all_arrived(mail.mails, names, twice_at_most=2 * kills)  # two lanes, one letter on each
    for name, message_ids in mails_by_title(mail.mails).items():
        assert {outcomes[name]["message_id"]} == set(message_ids)
        assert len(message_ids) == 1 or outcomes[name]["possible_duplicate"]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_what_is_published_while_the_bridge_is_down_arrives(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path, version: str
) -> None:
    config = configured(tmp_path, any_broker, mail.port, version=version)
    before = [f"before {n}" for n in range(5)]
    meanwhile = [f"meanwhile {n}" for n in range(20)]
    with Process(config) as process:
        process.wait_connected()
        until(lambda: automation.retained.get("bridge/state") == "online", "online")
        publish_all(automation, before)
        finals(automation, before)
        assert process.terminate() == 0
    until(lambda: automation.retained["bridge/state"] == "offline", "offline")
    publish_all(automation, meanwhile)
    with Process(config) as process:
        outcomes = finals(automation, meanwhile)
        assert process.terminate() == 0
    assert {one["event_type"] for one in outcomes.values()} == {"success"}
    assert_all_arrived(mail.mails, before + meanwhile)


def test_the_broker_is_restarted_under_the_bridge(mail: MailServer, tmp_path: Path) -> None:
    """What was accepted before is mailed meanwhile; its outcomes are told when the broker is back."""
    kind: Kind = kinds()[0]
    if not CAPABILITIES[kind].keeps_sessions:
        pytest.skip(f"the {kind} broker keeps no sessions over a restart")
    broker = launch(kind)
    before, after = [f"before {n}" for n in range(10)], [f"after {n}" for n in range(10)]
    mail.close()
    automation = Automation(broker, base_of(tmp_path), persistent=True)
    try:
        with Process(configured(tmp_path, broker, mail.port)) as process:
            process.wait_connected()
            publish_all(automation, before)
            until(lambda: process.said().count("event=accepted") == len(before), "their acceptance")
            broker.stop()
            with MailServer(users=(ALICE,), login=LOGIN, password=PASSWORD, port=mail.port) as back:
                until(lambda: len(mails_by_title(back.mails)) == len(before), "mails without a broker")
                broker.start()
                process.wait_connected(times=2)
                automation.wait_connected()
                publish_all(automation, after)
                outcomes = finals(automation, before + after)
                assert {one["event_type"] for one in outcomes.values()} == {"success"}
                assert process.terminate() == 0
                assert_all_arrived(back.mails, before + after)
            until(lambda: automation.retained.get("bridge/state") == "offline", "offline")
    finally:
        automation.close()
        broker.close()


class SlowServer:
    """A mail server that takes its time after the final dot: until ``answer`` is set."""

    def __init__(self) -> None:
        self.asked, self.answer = threading.Event(), threading.Event()
        self.mails = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(WAIT_S)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                self._speak(stream)

    def _speak(self, stream: Any) -> None:
        def say(line: bytes) -> None:
            stream.write(line + b"\r\n")
            stream.flush()

        say(b"220 slow")
        for line in stream:
            verb = line[:4].upper()
            if verb == b"DATA":
                say(b"354 go on")
                while stream.readline() not in (b".\r\n", b""):
                    pass
                self.asked.set()
                self.answer.wait(WAIT_S)
                self.mails += 1
            say(b"221 bye" if verb == b"QUIT" else b"250 ok")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(WAIT_S)


def test_sigterm_settles_what_is_on_the_wire(
    any_broker: AnyBroker, automation: Automation, tmp_path: Path
) -> None:
    with SlowServer() as server:
        config = configured(tmp_path, any_broker, server.port)
        with Process(config) as process:
            process.wait_connected()
            publish_all(automation, ["on the wire"])
            assert server.asked.wait(WAIT_S)
            publish_all(automation, ["still waiting"])
            until(lambda: process.said().count("event=accepted") == 2, "acceptance of the second")
            process.signal_end()
            time.sleep(0.2)  # the answer should come after the signal; if not, nothing is wrong either
            assert process.running
            server.answer.set()
            assert process.wait() == 0
        (outcome,) = finals(automation, ["on the wire"]).values()
        assert (outcome["event_type"], outcome["attempts"]) == ("success", 1)
        until(lambda: automation.retained["bridge/state"] == "offline", "offline")
        with Process(config) as process:
            (outcome,) = finals(automation, ["still waiting"]).values()
            assert outcome["event_type"] == "success"
            assert process.terminate() == 0
        assert server.mails == 2


def test_a_second_process_on_the_same_outbox(any_broker: AnyBroker, mail: MailServer, tmp_path: Path) -> None:
    config = configured(tmp_path, any_broker, mail.port)
    with Process(config) as first:
        first.wait_connected()
        with Process(config) as second:
            assert second.wait() == 1
            said = second.said()
        assert f"outbox.db is in use by another process (process id {first.pid})" in said
        assert "Traceback" not in said
        assert first.terminate() == 0


@pytest.mark.parametrize("method", ["accept", "carry"])
def test_a_thread_that_dies_ends_the_process_with_a_reason(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path, method: str
) -> None:
    config = configured(tmp_path, any_broker, mail.port)
    prelude = f"import plugin.bridge\nplugin.bridge.Bridge.{method} = lambda *_, **__: 1 / 0"
    # Before the first alert of all a session is needed, or nobody would keep it.
    with Process(config) as process:
        process.wait_connected()
        assert process.terminate() == 0
    with Process(config, prelude=prelude) as process:
        publish_all(automation, ["poison"])
        assert process.wait() == 1
        thread = "intake" if method == "accept" else "courier-0"
        assert f"hardwire: the thread {thread} died: ZeroDivisionError" in process.said()
    with Process(config) as process:  # and nothing is lost
        assert finals(automation, ["poison"])["poison"]["event_type"] == "success"
        assert process.terminate() == 0
    assert_all_arrived(mail.mails, ["poison"])


@pytest.mark.parametrize("lanes", [2, 3])
def test_several_lanes_send_each_alert_once_and_log_no_secret(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path, lanes: int
) -> None:
    relay = f'[{{host: 127.0.0.1, port: {mail.port}, security: none, username: {LOGIN}, password: "{PASSWORD}"}}]'
    chip = f"{{bus: emulator, lanes: {lanes}}}"
    names = [f"alert {n}" for n in range(60)]
    with Process(configured(tmp_path, any_broker, mail.port, relays=relay, chip=chip), verbose=True) as process:
        process.wait_connected()
        publish_all(automation, names, text="what nobody may read in a log")
        outcomes = finals(automation, names)
        assert process.terminate() == 0
        said = process.said()
    assert {(one["event_type"], one["authenticated"]) for one in outcomes.values()} == {("success", True)}
    assert_all_arrived(mail.mails, names)
    assert len(set(re.findall(r"socket (\d): connected", said))) == lanes
    encoded = "AGhvdXNlAHMzY3JldCBwYXNz"  # AUTH PLAIN: NUL, login, NUL, password, in base64
    for secret in (PASSWORD, encoded, "what nobody may read"):
        assert secret not in said


def test_a_relay_that_is_away_for_a_while(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path
) -> None:
    mail.close()
    names = [f"alert {n}" for n in range(20)]
    config = configured(tmp_path, any_broker, mail.port, chip="{bus: emulator, lanes: 2}")
    with Process(config) as process:
        process.wait_connected()
        publish_all(automation, names)
        put_off: Counter[str] = Counter()
        while len(put_off) < len(names) or max(put_off.values()) < 3:
            topic, outcome = automation.next()
            assert outcome["event_type"] == "deferred"
            put_off[outcome["id"]] += topic == "bridge/outcome"
        with MailServer(users=(ALICE, BOB), login=LOGIN, password=PASSWORD, port=mail.port) as back:
            outcomes = finals(automation, names)
            assert process.terminate() == 0
            assert_all_arrived(back.mails, names)
    assert {one["event_type"] for one in outcomes.values()} == {"success"}
    assert not any(one["possible_duplicate"] for one in outcomes.values())


@pytest.mark.parametrize("ending", ["room is made", "killed, and room is made"])
def test_a_full_disk_loses_nothing(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path, ending: str
) -> None:
    """The disk is full for this process: its files may not grow beyond a limit, which is then lifted."""
    config = configured(tmp_path, any_broker, mail.port)
    limited = (
        "import resource\n"
        "limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limit))"
    )
    names = [f"alert {n}" for n in range(12)]
    with Process(config, prelude=limited) as process:
        process.wait_connected()
        publish_all(automation, names, text="x" * 100_000)
        until(lambda: "event=outbox_problem" in process.said() or not process.running, "a full disk")
        assert process.running, process.said()
        if ending == "room is made":
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        else:
            process.kill()
        able = process if ending == "room is made" else Process(config)
        with able:
            outcomes = finals(automation, names)
            assert able.terminate() == 0
    assert {one["event_type"] for one in outcomes.values()} == {"success"}
    # A kill may meet a letter on the wire, or one that was sent and whose result found no room.
    assert_all_arrived(mail.mails, names, twice_at_most=1)
