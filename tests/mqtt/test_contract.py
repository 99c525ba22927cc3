"""What the MQTT room promises, with every broker of this machine and both versions of MQTT."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from typing import Final

import pytest

from plugin.alert import Message, Properties
from plugin.demo.broker import Version
from tests.brokers import CAPABILITIES, AnyBroker, Kind, launch
from tests.mqtt.support import eventually, peer, running, settings_for, started, unique

PROTOCOLS: Final[tuple[Version, ...]] = ("5", "3.1.1")


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> Version:
    version: Version = request.param
    return version


def test_an_acknowledged_message_does_not_come_again(broker: AnyBroker, protocol: Version) -> None:
    settings = settings_for(broker, protocol)
    with peer(broker, protocol) as sender, running(settings) as subject:
        sender.publish(f"{settings.base}/email/water_leak", b"wet")
        (message,) = subject.wait_messages(1)
        assert (message.topic, message.payload) == (f"{settings.base}/email/water_leak", b"wet")
        assert (message.qos, message.retain, message.dup, message.connection) == (1, False, False, 1)
        assert message.received_at.utcoffset() is not None
        subject.mqtt.acknowledge(message)
        # A later PUBACK of ours proves that the one before it has gone out.
        subject.mqtt.publish(f"{settings.base}/success/water_leak", b"{}", token=1)
        subject.wait_published(1)
        subject.cut()
        sender.publish(f"{settings.base}/email/second", b"2")
        assert [one.payload for one in subject.wait_messages(2)] == [b"wet", b"2"]
        assert subject.order == ["session", "message", "session", "message"]
        assert subject.sessions == [False, True]


def test_unacknowledged_comes_again_and_a_late_acknowledgement_is_not_sent(
    broker: AnyBroker, broker_kind: Kind, protocol: Version
) -> None:
    settings = settings_for(broker, protocol)
    with peer(broker, protocol) as sender, running(settings) as subject:
        sender.publish(f"{settings.base}/email/a", b"a")
        first = subject.wait_messages(1)[0]
        subject.cut()
        second = subject.wait_messages(2)[1]
        assert second.payload == b"a"
        assert (first.connection, second.connection) == (1, 2)
        assert second.dup is CAPABILITIES[broker_kind].marks_redelivery
        # The connection of the first copy is gone; its PUBACK, sent now, would acknowledge the second copy.
        subject.mqtt.acknowledge(first)
        subject.mqtt.publish(f"{settings.base}/success/a", b"{}", token=1)
        subject.wait_published(1)
        subject.cut()
        third = subject.wait_messages(3)[2]
        assert (third.payload, third.connection) == (b"a", 3)
        subject.mqtt.acknowledge(third)


def test_what_is_published_while_away_arrives_at_the_next_start(broker: AnyBroker, protocol: Version) -> None:
    settings = settings_for(broker, protocol)
    with running(settings) as subject:
        assert subject.sessions == [False]
    with peer(broker, protocol) as sender:
        for number in range(30):
            sender.publish(f"{settings.base}/email/away", b"%d" % number)
    with running(settings) as subject:
        received: list[bytes] = []
        while len(received) < 30:
            for message in subject.wait_messages(len(received) + 1)[len(received) :]:
                subject.mqtt.acknowledge(message)
                received.append(message.payload)
        assert received == [b"%d" % number for number in range(30)]
        assert subject.sessions == [True]
        assert subject.order[0] == "session"


def test_online_offline_at_a_clean_stop_and_by_last_will(broker: AnyBroker, protocol: Version) -> None:
    settings = settings_for(broker, protocol)
    state = f"{settings.base}/bridge/state"
    with peer(broker, protocol, state) as observer:
        with running(settings):
            assert eventually(lambda: observer.payloads(state) == [b"online"])
        assert eventually(lambda: observer.payloads(state) == [b"online", b"offline"])
        with running(settings) as subject:
            assert eventually(lambda: len(observer.payloads(state)) == 3)
            subject.cut()
            assert eventually(lambda: observer.payloads(state)[3:] == [b"offline", b"online"])
        assert eventually(lambda: observer.payloads(state)[5:] == [b"offline"])
    with peer(broker, protocol, state) as latecomer:
        assert eventually(lambda: latecomer.payloads(state) == [b"offline"])
        assert latecomer.received[0].retain


def test_a_retained_copy_is_either_not_sent_or_marked(
    broker: AnyBroker, broker_kind: Kind, protocol: Version
) -> None:
    unwanted = protocol == "3.1.1" or not CAPABILITIES[broker_kind].heeds_retain_handling
    settings = settings_for(broker, protocol)
    topic = f"{settings.base}/email/retained"
    with peer(broker, protocol) as sender:
        sender.publish(topic, b"old", retain=True)
        with running(settings) as subject:
            if unwanted:
                assert subject.wait_messages(1)[0].retain
            sender.publish(topic, b"new")
            expected = [(b"old", True), (b"new", False)][not unwanted :]
            assert [(one.payload, one.retain) for one in subject.wait_messages(len(expected))] == expected
            for message in subject.messages:
                subject.mqtt.acknowledge(message)
        sender.publish(topic, b"", retain=True)


def test_outcomes_of_before_the_connection_are_published_in_order(broker: AnyBroker, protocol: Version) -> None:
    settings = settings_for(broker, protocol)
    topic = f"{settings.base}/success/a"
    with peer(broker, protocol, topic) as observer, started(settings) as subject:
        for token in range(100):
            subject.mqtt.publish(topic, b"%d" % token, token=token)
        subject.wait_published(*range(100))
        assert subject.published == list(range(100))
        assert eventually(lambda: len(observer.received) == 100)
        assert observer.payloads(topic) == [b"%d" % token for token in range(100)]
        assert not any(one.retain for one in observer.received)


def test_what_waits_is_published_before_the_stop(broker: AnyBroker, protocol: Version) -> None:
    settings = settings_for(broker, protocol)
    topic, state = f"{settings.base}/success/a", f"{settings.base}/bridge/state"
    with peer(broker, protocol, topic, state) as observer:
        with running(settings) as subject:
            for token in range(50):
                subject.mqtt.publish(topic, b"%d" % token, token=token)
        assert sorted(subject.published) == list(range(50))
        assert eventually(lambda: len(observer.received) == 52)
        assert bytes(observer.received[-1].payload) == b"offline"


def test_a_broker_that_restarts_is_subscribed_to_again(
    broker: AnyBroker, broker_kind: Kind, protocol: Version
) -> None:
    settings = settings_for(broker, protocol)
    with running(settings) as subject:
        broker.stop()
        subject.wait_reason("broker")
        assert not subject.mqtt.connected
        subject.mqtt.publish(f"{settings.base}/success/a", b"{}", token=7)
        broker.start()
        subject.wait_connected()
        subject.wait_published(7)
        assert subject.sessions == [False, CAPABILITIES[broker_kind].keeps_sessions]
        with peer(broker, protocol) as sender:
            sender.publish(f"{settings.base}/email/a", b"after")
        (message,) = subject.wait_messages(1)
        assert message.payload == b"after"
        subject.mqtt.acknowledge(message)


def test_a_wrong_password_is_told_in_words_and_tried_again(broker_kind: Kind, protocol: Version) -> None:
    guarded = launch(broker_kind, users={"house": "right"})
    try:
        settings = settings_for(guarded, protocol, username="house", password="wrong")
        with started(settings) as subject:
            reason = subject.wait_reason("mqtt.password")
            assert ("Not authorized" in reason) is CAPABILITIES[broker_kind].refuses_in_words
            assert "wrong" not in reason.replace("wrong password", "")
            assert subject.thread.is_alive()
            # Another broker, at the same address, that takes the password: it is found without a restart of ours.
            subject.mqtt._session.client.username_pw_set("house", "right")
            subject.wait_connected()
    finally:
        guarded.close()


def test_properties_come_and_go(broker: AnyBroker) -> None:
    settings = settings_for(broker, "5")
    outcome = f"{settings.base}/success/cam"
    with peer(broker, "5", outcome) as sender, running(settings) as subject:
        sender.publish(
            f"{settings.base}/email/cam",
            b"\x89PNG\x00",
            ContentType="image/png",
            ResponseTopic="reply/here",
            CorrelationData=b"\x00\xff",
            UserProperty=[("title", "Door"), ("title", "again"), ("é", "ü")],
        )
        (message,) = subject.wait_messages(1)
        assert message.properties == Properties(
            content_type="image/png",
            response_topic="reply/here",
            correlation_data=b"\x00\xff",
            user_properties=(("title", "Door"), ("title", "again"), ("é", "ü")),
        )
        assert message.payload == b"\x89PNG\x00"
        subject.mqtt.acknowledge(message)
        subject.mqtt.publish(outcome, b"{}", token=1, correlation=b"\x00\xff")
        assert eventually(lambda: len(sender.received) == 1)
        assert getattr(sender.received[0].properties, "CorrelationData", None) == b"\x00\xff"


def test_a_megabyte_comes_through_whole(broker: AnyBroker, protocol: Version) -> None:
    settings = settings_for(broker, protocol)
    payload = bytes(range(256)) * 4096
    with peer(broker, protocol) as sender, running(settings) as subject:
        sender.publish(f"{settings.base}/email/big", payload)
        (message,) = subject.wait_messages(1)
        assert message.payload == payload
        subject.mqtt.acknowledge(message)


def test_many_threads_publish_and_acknowledge_at_once(any_broker: AnyBroker, protocol: Version) -> None:
    settings = settings_for(any_broker, protocol)
    topic, payload = f"{settings.base}/success/a", bytes(range(256)) * 400

    def work(number: int) -> None:
        for count in range(10):
            subject.mqtt.publish(topic, payload, token=10 * number + count)
            subject.mqtt.acknowledge(messages[10 * number + count])

    with peer(any_broker, protocol, topic) as other, running(settings) as subject:
        for number in range(40):
            other.publish(f"{settings.base}/email/n", b"%d" % number)
            if number >= 20:  # mosquitto sends 20 ahead of our acknowledgements to a 3.1.1 client
                subject.mqtt.acknowledge(subject.wait_messages(number - 19)[number - 20])
        messages = list(subject.wait_messages(40))
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10.0)
        subject.wait_published(*range(40))
        assert eventually(lambda: len(other.received) == 40)
        assert all(bytes(one.payload) == payload for one in other.received)
        assert len(subject.connections) == 1
    with running(settings) as subject:
        other_settings = f"{settings.base}/email/last"
        with peer(any_broker, protocol) as sender:
            sender.publish(other_settings, b"last")
        assert subject.wait_messages(1)[0].payload == b"last"
        subject.mqtt.acknowledge(subject.messages[0])


def test_small_packets_are_not_held_back(broker: AnyBroker, protocol: Version) -> None:
    with running(settings_for(broker, protocol)) as subject:
        sock = subject.mqtt._session.client.socket()
        assert isinstance(sock, socket.socket)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_two_programs_with_one_client_id_are_told_so(broker: AnyBroker, protocol: Version) -> None:
    settings = settings_for(broker, protocol)
    with running(settings) as first, started(settings) as second:
        reason = first.wait_reason("another program", repr(settings.client_id))
        assert reason.startswith(("another program", "the broker closes"))
        second.wait_reason("another program", repr(settings.client_id))
    assert (False, None) == first.connections[-1] == second.connections[-1]


def test_bridges_of_one_group_share_the_alerts(broker: AnyBroker) -> None:
    first = settings_for(broker, "5", shared_group="house")
    second = settings_for(broker, "5", shared_group="house", base=first.base)
    with peer(broker, "5") as sender, running(first) as one, running(second) as other:
        for number in range(10):
            sender.publish(f"{first.base}/email/n", b"%d" % number)
        assert eventually(lambda: len(one.messages) + len(other.messages) == 10)
        assert one.messages
        assert other.messages
        for subject in (one, other):
            for message in subject.messages:
                subject.mqtt.acknowledge(message)


def test_a_subscription_of_an_earlier_base_does_not_become_alerts(broker: AnyBroker, protocol: Version) -> None:
    before = settings_for(broker, protocol)
    with running(before):
        pass
    after = settings_for(broker, protocol, client_id=before.client_id)
    with peer(broker, protocol) as sender, running(after) as subject:
        sender.publish(f"{before.base}/email/a", b"old base")
        sender.publish(f"{after.base}/email/a", b"new base")
        (message,) = subject.wait_messages(1)
        assert message.payload == b"new base"
        subject.mqtt.acknowledge(message)


def test_a_callback_that_fails_ends_nothing(
    broker: AnyBroker, protocol: Version, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(message: Message) -> None:
        raise RuntimeError(message.topic)

    settings = settings_for(broker, protocol)
    with peer(broker, protocol) as sender, running(settings, fail) as subject:
        sender.publish(f"{settings.base}/email/a", b"a")
        assert eventually(lambda: "event=callback_failed" in caplog.text)
        subject.mqtt.publish(f"{settings.base}/success/a", b"{}", token=1)
        subject.wait_published(1)
        assert subject.mqtt.connected


def test_stop_is_quick_and_may_come_at_any_time(broker: AnyBroker, protocol: Version) -> None:
    settings = settings_for(broker, protocol)
    with running(settings) as subject:
        before = time.monotonic()
        subject.mqtt.stop(timeout_s=5.0)
        assert time.monotonic() - before < 2.0
        assert not subject.mqtt.connected
    with started(settings) as subject:
        subject.mqtt.stop(timeout_s=5.0)
        assert eventually(lambda: not subject.thread.is_alive())


def test_an_onlooker_takes_what_it_asked_for_and_announces_nothing(broker: AnyBroker, protocol: Version) -> None:
    settings = settings_for(broker, protocol, base="onlooker", onlooker="onlooker/+/#")
    with running(settings) as looking, peer(broker, protocol) as other:
        other.publish("onlooker/success/x", b"seen")
        assert eventually(lambda: [one.payload for one in looking.messages] == [b"seen"])
    with peer(broker, protocol) as other:
        other.subscribe("onlooker/bridge/state")
        other.publish("onlooker/bridge/state", b"mark")
        assert eventually(lambda: [one.payload for one in other.received] == [b"mark"])


def test_what_is_watched_is_heard_while_the_connection_stands_and_not_kept(
    broker: AnyBroker, broker_kind: Kind, protocol: Version
) -> None:
    """A broker may keep QoS 0 for a session all the same (MQTT 5 §4.1 allows it), and that does no harm."""
    topic = unique("watched")
    settings = settings_for(broker, protocol, watched=(topic,))
    with peer(broker, protocol) as other:
        with running(settings) as subject:
            other.publish(topic, b"now")
            subject.wait_messages(1)
        other.publish(topic, b"missed")
        with running(settings) as subject:
            other.publish(topic, b"then")
            assert eventually(lambda: b"then" in [one.payload for one in subject.messages])
            assert (len(subject.messages) == 1) is CAPABILITIES[broker_kind].keeps_sessions


def test_what_an_earlier_configuration_watched_is_heard_no_more(
    broker: AnyBroker, broker_kind: Kind, protocol: Version, caplog: pytest.LogCaptureFixture
) -> None:
    """The embedded broker goes on sending what a resumed session has unsubscribed from: it goes no further."""
    topic = unique("watched")
    settings = settings_for(broker, protocol, watched=(topic,))
    with running(settings):
        pass
    with running(replace(settings, watched=(), unwatched=(topic,))) as subject, peer(broker, protocol) as other:
        other.publish(topic, b"nobody cares")
        other.publish(f"{settings.base}/email/x", b"alert")
        assert [one.payload for one in subject.wait_messages(1)] == [b"alert"]
    assert ("event=message_ignored" not in caplog.text) is CAPABILITIES[broker_kind].keeps_sessions
