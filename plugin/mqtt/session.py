"""Our side of MQTT over paho: what is done with each packet of the broker, and what is due to be sent.

All of it runs on the thread of ``Mqtt.run``, with two exceptions that ``Session`` names.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVarTuple

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode

from plugin.alert import Message
from plugin.mqtt import faults, packets
from plugin.mqtt.outgoing import MAX_PACKET_BYTES, WINDOW, Outgoing, Publication
from plugin.mqtt.settings import Settings

_Arguments = TypeVarTuple("_Arguments")

_log: Final = logging.getLogger("hardwire.mqtt")

GOODBYE_S: Final = 1.0
"""How long DISCONNECT may take to go out."""


class Session:
    """Stands over many connections, as the session at the broker does. The callbacks are those of ``Mqtt``.

    Any thread may add to ``outgoing`` and ``acknowledged`` and set ``farewell_by``, which asks to take leave by
    that time (``time.monotonic``); all else belongs to one thread.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_message: Callable[[Message], None],
        on_published: Callable[[int], None],
        on_session: Callable[[bool], None],
        on_connection: Callable[[bool, str | None], None],
    ) -> None:
        """Prepare paho's client; raises ValueError for TLS files that cannot be used."""
        self.outgoing: Final = Outgoing()
        self.acknowledged: Final[deque[Message]] = deque()
        self.farewell_by: float | None = None
        self.connected = False
        # Of the present connection, or the last:
        self.stage: faults.Stage = "CONNECT"
        self.fault: str | None = None
        self.cut_off = False
        self.taken_over = False
        self.leave_by: float | None = None
        self.established_at: float | None = None

        # Kept from connection to connection: what makes believe that another program has our client id.
        self.suspicion: str | None = None

        self._settings: Final = settings
        self._tell_message: Final = on_message
        self._tell_published: Final = on_published
        self._tell_session: Final = on_session
        self._tell_connection: Final = on_connection
        self._told: tuple[bool, str | None] | None = None
        self._connection = 0
        self._subscribe_id: int | None = None
        self._max_packet_bytes = MAX_PACKET_BYTES
        self._farewell_said = False

        if settings.tls is not None and not settings.tls.verify:
            _log.warning("event=tls_not_verified broker=%s reason='anybody may pose as the broker'", settings.host)
        self.client: Final = packets.new_client(settings)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message
        self.client.on_publish = self._on_publish
        self.client.on_disconnect = self._on_disconnect

    def begin(self) -> None:
        """Forget what concerned the connection before."""
        self.stage, self.fault, self.cut_off, self.taken_over = "CONNECT", None, False, False
        self.leave_by = self.established_at = self._subscribe_id = None

    def lived_s(self) -> float:
        """Return how long ago the connection was established, 0 if it was not."""
        return 0.0 if self.established_at is None else time.monotonic() - self.established_at

    def report(self, *, connected: bool, reason: str | None) -> None:
        """Log and hand on how things are, if that is news."""
        self.connected = connected
        if self._told == (connected, reason):
            return
        stood = self._told is not None and self._told[0]
        self._told = (connected, reason)
        where = f"{self._settings.host}:{self._settings.port}"
        if connected and stood:
            _log.info("event=namesake_gone broker=%s client_id=%r", where, self._settings.client_id)
        elif connected:
            _log.info("event=broker_connected broker=%s protocol=%s", where, self._settings.protocol)
        elif reason is not None:
            _log.warning("event=broker_problem broker=%s problem=%r", where, reason)
        _hand_on(self._tell_connection, connected, reason)

    # --- what is due ----------------------------------------------------------------------------------------

    def work(self) -> None:
        """Acknowledge, publish, take leave: do with paho all that is to be done now."""
        while self.acknowledged:
            message = self.acknowledged.popleft()
            if message.connection == self._connection and self.established_at is not None:
                self.client.ack(message.packet_id, message.qos)
        if self.leave_by is not None:
            return
        farewell_by = self.farewell_by  # another thread may set it at any moment
        if self.stage == "established":
            if farewell_by is not None and not self._farewell_said:
                self._farewell_said = True
                self._announce("offline")
            self._send()
        if farewell_by is not None:
            if not (self._farewell_said and self.outgoing):
                self._leave()
            elif time.monotonic() >= farewell_by:
                # Without a DISCONNECT, so that the broker says "offline" for us: that is the Last Will.
                self.leave_by = farewell_by
        elif self.fault is not None:
            self._leave()

    def _leave(self) -> None:
        """Send DISCONNECT, upon which the broker forgets the Last Will."""
        self.leave_by = time.monotonic() + GOODBYE_S
        self.client.disconnect()

    def _send(self) -> None:
        """Hand paho as many publications as the broker takes at a time."""
        while self.client.socket() is not None:
            one = self.outgoing.take(time.monotonic())
            if one is None:
                return
            if hindrance := one.hindrance(self._max_packet_bytes):
                _log.error("event=publication_dropped topic=%.200r reason=%r", one.topic, hindrance)
                self._published(one)
                continue
            properties = packets.publish_properties(one, self._settings)
            info = self.client.publish(one.topic, one.payload, qos=1, retain=one.retain, properties=properties)
            if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                # Its packet identifier is still taken by one on the way; the next may be free.
                self.outgoing.put_first([one])
                return
            self.outgoing.sent(info.mid, one)

    def _announce(self, state: str, *, first: bool = False) -> None:
        """Publish ``state``, before all else or behind it; who only looks on has none."""
        one = Publication(topic=self._settings.state_topic, payload=state.encode(), retain=True)
        if self._settings.onlooker is not None:
            return
        if first:
            self.outgoing.put_first([one])
        else:
            self.outgoing.add(one)

    def _published(self, one: Publication) -> None:
        if one.token is not None:
            _hand_on(self._tell_published, one.token)

    # --- what paho calls: nothing may be raised into it -----------------------------------------------------

    def _on_connect(
        self, client: Client, _userdata: Any, flags: ConnectFlags, reason: ReasonCode, told: PahoProperties | None
    ) -> None:
        if reason.is_failure:
            self.fault = faults.refused(reason.value, reason.getName(), packets.reason_string(told))
            return
        self._connection += 1
        self.established_at = time.monotonic()
        self.stage = "SUBSCRIBE"
        self._max_packet_bytes = getattr(told, "MaximumPacketSize", MAX_PACKET_BYTES)
        if self.outgoing.narrow(getattr(told, "ReceiveMaximum", WINDOW)):
            # paho would send all of it again at once, whatever the broker takes, and be thrown out for it.
            client.drop_out_messages()
        _hand_on(self._tell_session, flags.session_present)
        self._subscribe_id = packets.subscribe(client, self._settings)

    def _on_subscribe(
        self,
        _client: Client,
        _userdata: Any,
        packet_id: int,
        reasons: list[ReasonCode],
        told: PahoProperties | None,
    ) -> None:
        if self.stage != "SUBSCRIBE" or packet_id != self._subscribe_id or not reasons:
            return
        granted, *more = reasons
        if granted.is_failure:
            self.fault = faults.subscription_refused(
                self._settings.subscription, granted.getName(), packets.reason_string(told)
            )
            return
        if granted.value == 0:
            _log.warning("event=qos_0_granted reason='the broker grants QoS 0 alone: alerts can be lost'")
        for (topic_filter, _), answer in zip(packets.subscriptions(self._settings)[1:], more, strict=False):
            if answer.is_failure:  # alerts are what this is for: they are not given up for it
                words = (answer.getName(), packets.reason_string(told))
                event = "requests_not_heard" if topic_filter == self._settings.requests else "watched_not_heard"
                _log.warning("event=%s reason=%r", event, faults.subscription_refused(topic_filter, *words))
        self.stage = "established"
        self._announce("online", first=True)
        self.report(connected=True, reason=self.suspicion)

    def _on_message(self, client: Client, _userdata: Any, received: MQTTMessage) -> None:
        if self.established_at is None:  # nothing may come before CONNACK (MQTT 5 §3.2)
            return
        try:
            message = packets.message_of(received, self._connection)
        except UnicodeDecodeError:
            _log.warning("event=message_ignored reason='its topic is not UTF-8'")
            client.ack(received.mid, received.qos)
            return
        if not self._settings.concerns(message.topic):
            reason = "the session at the broker still has a subscription of an earlier configuration"
            _log.warning("event=message_ignored topic=%.200r reason=%r", message.topic, reason)
            client.ack(received.mid, received.qos)
            return
        _hand_on(self._tell_message, message)

    def _on_publish(
        self, _client: Client, _userdata: Any, packet_id: int, reason: ReasonCode, told: PahoProperties | None
    ) -> None:
        one = self.outgoing.answered(packet_id)
        if one is None:
            return
        if reason.is_failure:
            words = (one.topic, reason.getName(), packets.reason_string(told))
            if reason.value in faults.TRANSIENT:
                _log.warning("event=publication_put_off topic=%.200r reason=%r told=%.200r", *words)
                self.outgoing.put_off(one, time.monotonic())
                return
            _log.error("event=publication_refused topic=%.200r reason=%r told=%.200r", *words)
        self._published(one)

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        told: PahoProperties | None,
    ) -> None:
        if self.fault is not None or self.leave_by is not None:
            return
        if flags.is_disconnect_packet_from_server:
            words = packets.reason_string(told)
            self.fault = faults.told_to_leave(reason.value, reason.getName(), self._settings, words)
            self.taken_over = reason.value == faults.SESSION_TAKEN_OVER
            return
        self.fault = faults.lost(reason.value, self.stage, self._settings)
        self.cut_off = self.established_at is not None and reason.value == faults.UNSPECIFIED_ERROR


def _hand_on(callback: Callable[[*_Arguments], None], *arguments: *_Arguments) -> None:
    """Call back; what is raised must not reach paho, where it would end the thread."""
    try:
        callback(*arguments)
    except Exception:  # noqa: BLE001 - it may be any
        _log.exception("event=callback_failed")
