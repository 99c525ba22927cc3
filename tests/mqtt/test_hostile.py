"""Brokers that keep silent, refuse, lie, or take less than we would like to send."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.mqtt.scripted import DISCONNECT, Gone, Wire, babble, scripted, settings_for, silent, welcome
from tests.mqtt.support import eventually, running, started


def silent_after_connack(wire: Wire) -> None:
    wire.take()
    wire.send(0x20, b"\x00\x00\x00")
    silent(wire)


def hang_up(wire: Wire) -> None:
    wire.take()


def connack(code: int, properties: bytes = b"") -> Callable[[Wire], None]:
    def script(wire: Wire) -> None:
        wire.take()
        wire.send(0x20, bytes((0, code, len(properties))) + properties)

    return script


def only_3_1_1(wire: Wire) -> None:
    wire.take()
    wire.send(0x20, b"\x00\x01")


def told_to_go(code: int) -> Callable[[Wire], None]:
    def script(wire: Wire) -> None:
        wire.accept()
        wire.send(DISCONNECT, bytes((code, 0)))

    return script


def refuse_subscription(wire: Wire) -> None:
    wire.accept(suback=b"\x87")
    # A polite goodbye follows, so that the broker drops the Last Will.
    wire.expect(DISCONNECT)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (silent, "the broker did not answer CONNECT within 0.2 s"),
        (silent_after_connack, "the broker did not answer SUBSCRIBE within 0.2 s"),
        (hang_up, "closed the connection instead of answering CONNECT: does it speak MQTT 5 without TLS"),
        (
            connack(0x86),
            "refused the connection: Bad user name or password (check mqtt.username and mqtt.password)",
        ),
        (connack(0x87, b"\x1f\x00\x05no\nno"), r"Not authorized (check mqtt.username, mqtt.password and the"),
        (connack(0x87, b"\x1f\x00\x05no\nno"), r"access control): 'no\nno'"),
        (connack(0x77), "what is not MQTT 5: set mqtt.protocol to the version it speaks"),
        (only_3_1_1, "Unsupported protocol version (set mqtt.protocol to the version it speaks)"),
        (babble, "what is not MQTT 5"),
        (told_to_go(0x8E), "another program connected with the same client id, 'hardwire'"),
        (told_to_go(0x8B), "the broker ended the connection: Server shutting down"),
        (refuse_subscription, "refused the subscription to alerts/email/#: Not authorized"),
    ],
)
def test_trouble_is_told_in_words_and_tried_again(script: Callable[[Wire], None], words: str) -> None:
    with scripted(script, script, welcome) as broker, started(settings_for(broker)) as subject:
        assert subject.wait_reason(words)
        # A connection that is ended right after its SUBACK stands for a moment too, so the third is waited for.
        assert eventually(lambda: broker.connections == 3 and subject.mqtt.connected)
        assert [reason for connected, reason in subject.connections if not connected and reason]


@pytest.mark.parametrize(
    ("suback", "events"),
    [
        (
            b"\x01\x87\x00",
            ["event=requests_not_heard reason='the broker refused the subscription to alerts/bridge"],
        ),
        (b"\x01\x01\x87", ["event=watched_not_heard reason='the broker refused the subscription to other/status"]),
        (b"\x01\x01\x00", []),
    ],
)
def test_alerts_are_not_given_up_for_what_else_is_refused(
    caplog: pytest.LogCaptureFixture, suback: bytes, events: list[str]
) -> None:
    def script(wire: Wire) -> None:
        wire.accept(suback=suback)
        wire.serve()

    with scripted(script) as broker, started(settings_for(broker, watched=("other/status",))) as subject:
        subject.wait_connected()
    said = [one.getMessage() for one in caplog.records if "not_heard" in one.getMessage()]
    assert len(said) == len(events)
    assert all(one.startswith(event) for one, event in zip(said, events, strict=True)), said


def test_the_same_trouble_is_told_once() -> None:
    with scripted(connack(0x86)) as broker, started(settings_for(broker)) as subject:
        assert eventually(lambda: broker.connections >= 5)
        assert len(subject.connections) == 1


def test_a_3_1_1_broker_that_closes_at_once_each_time_has_our_namesake() -> None:
    def cut(wire: Wire) -> None:
        wire.take()
        wire.send(0x20, b"\x00\x00")
        subscribe = wire.take()[1]
        wire.send(0x90, subscribe[:2] + b"\x01")
        wire.take()

    with scripted(cut) as broker, started(settings_for(broker, protocol="3.1.1")) as subject:
        assert subject.wait_reason("3 times or more", "client id, 'hardwire'")
        assert subject.connections[1] == (False, "the broker closed the connection")


def test_a_packet_that_claims_to_be_huge_does_not_hang_us() -> None:
    def huge(wire: Wire) -> None:
        wire.accept()
        wire.sock.sendall(b"\x32\xff\xff\xff\x7f\x00\x05")
        wire.sock.shutdown(socket.SHUT_WR)

    with scripted(huge, welcome) as broker, started(settings_for(broker)) as subject:
        assert eventually(lambda: broker.connections == 2)
        subject.wait_connected()


def test_what_paho_cannot_stomach_ends_the_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    with scripted(welcome) as broker, started(settings_for(broker)) as subject:
        subject.wait_connected()
        original = subject.mqtt._session.client.loop_read

        def choke(max_packets: int = 1) -> Any:
            subject.mqtt._session.client.loop_read = original  # type: ignore[method-assign]
            raise RuntimeError("dictionary changed size during iteration")

        subject.mqtt._session.client.loop_read = choke  # type: ignore[method-assign]
        subject.mqtt.publish("a", b"a", token=1)
        assert eventually(lambda: broker.connections == 2)
        subject.wait_published(1)
        assert "event=broker_fault" in caplog.text


def burst(wire: Wire) -> list[tuple[int, bytes]]:
    """Return packet identifier and payload of all that is published before the client waits for a PUBACK."""
    first = wire.publication()
    found = [(first[0], first[2])]
    wire.sock.settimeout(0.03)
    while True:
        try:
            if not wire.sock.recv(1, socket.MSG_PEEK):
                raise Gone
        except TimeoutError:
            wire.sock.settimeout(10.0)
            return found
        packet_id, _topic, payload = wire.publication()
        found.append((packet_id, payload))


def window_of(size: int, bursts: list[list[bytes]]) -> Callable[[Wire], None]:
    def script(wire: Wire) -> None:
        wire.accept(b"\x21" + size.to_bytes(2, "big"))
        while True:
            found = burst(wire)
            bursts.append([payload for _, payload in found])
            for packet_id, _ in found:
                wire.puback(packet_id)

    return script


def test_no_more_is_on_the_way_than_the_broker_takes() -> None:
    bursts: list[list[bytes]] = []
    with scripted(window_of(3, bursts)) as broker, started(settings_for(broker)) as subject:
        for token in range(10):
            subject.mqtt.publish("a", b"%d" % token, token=token)
        subject.wait_published(*range(10))
        assert subject.published == list(range(10))
    assert max(map(len, bursts)) == 3


def test_a_broker_that_comes_back_with_a_smaller_window_is_not_flooded() -> None:
    before: list[bytes] = []
    bursts: list[list[bytes]] = []

    def take_and_break(wire: Wire) -> None:
        wire.accept()
        before.extend(wire.publication()[2] for _ in range(20))

    with scripted(take_and_break, window_of(2, bursts)) as broker, started(settings_for(broker)) as subject:
        for token in range(30):
            subject.mqtt.publish("a", b"%d" % token, token=token)
        subject.wait_published(*range(30))
    assert before == [b"online", *(b"%d" % token for token in range(19))]
    assert max(map(len, bursts)) == 2
    after = [one for group in bursts for one in group if not one.endswith(b"line")]
    assert after == [b"%d" % token for token in range(30)]


def test_refused_publications() -> None:
    codes = {"later": [0x97, 0x00], "never": [0x87], "nobody": [0x10]}
    seen: list[str] = []

    def picky(wire: Wire) -> None:
        wire.accept()
        while True:
            packet_id, topic, _ = wire.publication()
            seen.append(topic)
            left = codes.get(topic, [0])
            wire.puback(packet_id, left.pop(0) if left else 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plugin.mqtt.outgoing.HOLD_S", 0.1)
        with scripted(picky) as broker, started(settings_for(broker)) as subject:
            for token, topic in enumerate(("later", "never", "nobody")):
                subject.mqtt.publish(topic, b"", token=token)
            subject.wait_published(0, 1, 2)
            assert sorted(subject.published) == [0, 1, 2]
            assert seen.count("later") == 2
            assert seen.count("never") == 1


@pytest.mark.parametrize(
    ("topic", "payload", "correlation"),
    [
        ("a/#", b"", None),
        ("", b"", None),
        ("a\0b", b"", None),
        ("x" * 65_536, b"", None),
        ("\udc00", b"", None),
        ("too/large", b"x" * 2000, None),
        ("a", b"", b"x" * 65_536),
    ],
)
def test_what_can_never_be_published_does_not_come_again(
    topic: str, payload: bytes, correlation: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    def small(wire: Wire) -> None:
        wire.accept(b"\x27\x00\x00\x03\xe8")
        wire.serve()

    with scripted(small) as broker, running(settings_for(broker)) as subject:
        subject.mqtt.publish(topic, payload, token=1, correlation=correlation)
        subject.mqtt.publish("fine", b"", token=2)
        subject.wait_published(1, 2)
        assert broker.connections == 1
        assert "event=publication_dropped" in caplog.text


def test_a_broker_that_has_died_without_a_word_is_left() -> None:
    def dead(wire: Wire) -> None:
        wire.accept()
        wire.puback(wire.publication()[0])
        silent(wire)

    with scripted(dead, welcome) as broker, started(settings_for(broker, keepalive_s=1)) as subject:
        subject.wait_reason("has not been heard of")
        assert eventually(lambda: broker.connections == 2 and subject.mqtt.connected)


def test_connect_says_what_the_session_needs() -> None:
    seen: list[bytes] = []

    def look(wire: Wire) -> None:
        seen.append(wire.accept())
        wire.serve()

    with scripted(look) as broker:
        with running(settings_for(broker, username="u", password="p", receive_maximum=77)):
            pass
        (connect,) = seen
        flags, keepalive, rest = connect[7], connect[8:10], connect[10:]
        assert flags == 0b1110_1100  # user name, password, will retained at QoS 1, will; clean start 0
        assert keepalive == b"\x00\x1e"
        properties = rest[1 : 1 + rest[0]]
        assert b"\x11" + (7 * 24 * 3600).to_bytes(4, "big") in properties
        assert b"\x21\x00\x4d" in properties
        assert b"\x00\x13alerts/bridge/state\x00\x07offline" in connect


def test_what_comes_before_connack_is_no_alert() -> None:
    def hasty(wire: Wire) -> None:
        wire.take()
        wire.send(0x32, b"\x00\x0ealerts/email/a\x00\x01\x00early")
        wire.send(0x20, b"\x00\x00\x00")
        subscribe = wire.take()[1]
        wire.send(0x90, subscribe[:2] + b"\x00\x01")
        wire.send(0x32, b"\x00\x0ealerts/email/a\x00\x01\x00late")
        wire.serve()

    with scripted(hasty) as broker, running(settings_for(broker)) as subject:
        assert [one.payload for one in subject.wait_messages(1)] == [b"late"]


def test_a_topic_that_is_not_utf_8_is_acknowledged_and_ignored() -> None:
    acknowledged: list[bytes] = []

    def broken(wire: Wire) -> None:
        wire.accept()
        packet_id, _topic, state = wire.publication()
        assert state == b"online"
        wire.puback(packet_id)
        wire.send(0x32, b"\x00\x0ealerts/email/\xff\x00\x09\x00x")
        acknowledged.append(wire.expect(0x40))
        wire.serve()

    with scripted(broken) as broker, running(settings_for(broker)) as subject:
        assert eventually(lambda: acknowledged == [b"\x00\x09"])
        assert not subject.messages


def test_foreign_properties_are_bounded() -> None:
    pair = b"\x26\x00\x01k" + (20_000).to_bytes(2, "big") + b"v" * 20_000
    properties = pair * 120

    def verbose(wire: Wire) -> None:
        wire.accept()
        length = bytes((len(properties) & 0x7F | 0x80, len(properties) >> 7 & 0x7F | 0x80, len(properties) >> 14))
        if len(properties) >> 14 > 0x7F:
            length = length[:2] + bytes((len(properties) >> 14 & 0x7F | 0x80, len(properties) >> 21))
        wire.send(0x32, b"\x00\x0ealerts/email/a\x00\x09" + length + properties + b"x")
        wire.serve()

    with scripted(verbose) as broker, running(settings_for(broker)) as subject:
        (message,) = subject.wait_messages(1)
        assert len(message.properties.user_properties) == 100
        assert message.properties.user_properties[0] == ("k", "v" * 8192)
