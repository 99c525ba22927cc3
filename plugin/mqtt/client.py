"""The connection to the broker: one thread that owns paho, and queues through which all others reach it.

paho writes from whichever thread publishes when its loop runs on a thread of ours, and two writers tear packets
apart. So nothing but ``run`` ever calls paho: ``publish``, ``acknowledge`` and ``stop`` leave a note and wake it.
That also makes it certain that a PUBACK goes out on the connection that its PUBLISH came in on.
"""

from __future__ import annotations

import logging
import random
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVarTuple

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.client import MQTTErrorCode as ErrorCode
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode

from plugin.alert import Message
from plugin.mqtt import faults, packets
from plugin.mqtt.outgoing import MAX_PACKET_BYTES, Outgoing, Publication
from plugin.mqtt.settings import Settings, backoff_s

Arguments = TypeVarTuple("Arguments")

_log: Final = logging.getLogger("hardwire.mqtt")

WINDOW: Final = 20
"""PUBLISH packets on the way at a time; fewer where the broker's Receive Maximum says so."""

_TICK_S: Final = 1.0  # how often paho looks at its keep-alive
_HOLD_S: Final = 5.0  # before a publication is repeated that the broker refused for the time being
_STEADY_S: Final = 60.0  # a connection that stood so long makes failures of before forgotten
_SHORT_S: Final = 10.0  # a connection that stood no longer was cut off
_SHORT_LIVES: Final = 3  # so many of them in a row are no accident
_GOODBYE_S: Final = 1.0  # for DISCONNECT to go out


class Mqtt:
    """A persistent session with one broker, for the life of the process.

    The callbacks run on the thread of ``run``, must not block for long, and may call ``publish``, ``acknowledge``
    and ``stop``. What they raise is logged and goes no further.

    - ``on_message(message)``: an alert; the broker gives it again on a later connection unless it is acknowledged.
    - ``on_published(token)``: the broker has answered the publication (PUBACK), or will never take it (logged).
    - ``on_session(present)``: a connection was made, told before any message of it. False: the broker had no
      session for us, so the packet identifiers of before mean nothing.
    - ``on_connection(connected, reason)``: True once the subscription stands; False with one sentence on what is
      wrong, None after ``stop``. Told when it changes, not at each attempt.
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
        """Prepare; nothing is connected before ``run``. Raises ValueError for TLS files that cannot be used."""
        self._settings: Final = settings
        self._tell_message: Final = on_message
        self._tell_published: Final = on_published
        self._tell_session: Final = on_session
        self._tell_connection: Final = on_connection
        self._client: Final = packets.new_client(settings)
        self._client.on_socket_open = self._on_socket_open
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_disconnect = self._on_disconnect

        # Between threads.
        self._outgoing: Final = Outgoing()
        self._acknowledged: Final[deque[Message]] = deque()
        self._stopping: Final = threading.Event()
        self._stopped: Final = threading.Event()
        self._stop_by = 0.0
        self._waker: socket.socket | None = None
        self._thread: int | None = None
        self._connected = False

        # Known to the thread of run alone.
        self._in_flight: Final[dict[int, Publication]] = {}
        self._connection = 0
        self._stage: faults.Stage = "CONNECT"
        self._established_at: float | None = None
        self._subscribe_id: int | None = None
        self._fault: str | None = None
        self._cut_off = False
        self._short_lives = 0
        self._window = WINDOW
        self._max_packet_bytes = MAX_PACKET_BYTES
        self._hold_until = 0.0
        self._farewell = False
        self._leave_by: float | None = None
        self._told: tuple[bool, str | None] | None = None

    @property
    def connected(self) -> bool:
        """Tell whether the subscription stands."""
        return self._connected

    # --- what any thread may call -------------------------------------------------------------------------------

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        token: int | None = None,
        retain: bool = False,
        correlation: bytes | None = None,
    ) -> None:
        """Publish at QoS 1, now or when the broker is there; ``token`` comes back through ``on_published``.

        What waits is held in memory: the caller keeps at most 100 tokens on the way, the rest is bounded here.
        What no broker could take (a topic with wildcards, say) is logged and told as published, or it would come
        for ever. ``correlation`` is the Correlation Data of MQTT 5; 3.1.1 has no place for it.
        """
        self._outgoing.add(
            Publication(topic=topic, payload=payload, token=token, retain=retain, correlation=correlation)
        )
        self._wake()

    def acknowledge(self, message: Message) -> None:
        """Send the PUBACK for ``message``, if the connection that it came in on still stands.

        If not, nothing is sent: the broker gives the message again, and on another connection its packet identifier
        may belong to another one.
        """
        self._acknowledged.append(message)
        self._wake()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Publish what waits, then ``offline``; wait for the PUBACKs; disconnect. The session persists.

        Returns when ``run`` is about to, or after ``timeout_s``; at once on the thread of ``run``. While the broker
        is away there is nothing to wait for but the attempt under way (``connect_timeout_s`` an address).
        """
        self._stop_by = time.monotonic() + timeout_s - min(_GOODBYE_S, timeout_s / 2)
        self._stopping.set()
        self._wake()
        if self._thread not in {None, threading.get_ident()}:
            self._stopped.wait(timeout_s)

    def _wake(self) -> None:
        if self._waker is not None:
            with suppress(OSError):  # full: it is awake as it is; closed: run has returned
                self._waker.send(b"\0")

    # --- the thread -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Connect, serve, and connect again on the caller's thread until ``stop``; once in the life of an object.

        A broker that is away or refuses us is told through ``on_connection`` and tried again after 1, 2, 4 …
        seconds, at most ``reconnect_longest_s``.
        """
        if self._thread is not None:
            raise RuntimeError("Mqtt.run may be called once")
        self._thread = threading.get_ident()
        ear, self._waker = socket.socketpair()
        ear.setblocking(False)
        self._waker.setblocking(False)
        failures = 0
        try:
            while not self._stopping.is_set():
                lived_s = self._connect_and_serve(ear)
                failures = 1 if lived_s >= _STEADY_S else failures + 1
                self._conclude(lived_s)
                self._pause(ear, backoff_s(failures, self._settings, random.random()))  # noqa: S311 - no secret
        finally:
            self._report(connected=False, reason=None)
            ear.close()
            self._waker.close()
            self._stopped.set()

    def _connect_and_serve(self, ear: socket.socket) -> float:
        """Make one connection, serve it to its end, and return for how many seconds after CONNACK it stood."""
        self._stage, self._established_at, self._subscribe_id = "CONNECT", None, None
        self._fault, self._cut_off, self._leave_by = None, False, None
        try:
            self._client.reconnect()
        except (OSError, ValueError) as error:
            self._fault = faults.not_reached(self._settings, error)
            return 0.0
        try:
            sock = self._client.socket()
            if isinstance(sock, socket.socket):
                self._serve(sock, ear)
        except Exception:  # whatever a broker sends must not end the thread, and with it the process
            _log.exception("event=broker_fault")
            self._fault = faults.incomprehensible(self._settings)
        finally:
            self._connected = False
            if (left := self._client.socket()) is not None:
                left.close()
        return 0.0 if self._established_at is None else time.monotonic() - self._established_at

    def _serve(self, sock: socket.socket, ear: socket.socket) -> None:
        client = self._client
        answer_by = time.monotonic() + self._settings.answer_timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(ear, selectors.EVENT_READ)
            selector.register(sock, selectors.EVENT_READ)
            while True:
                self._work()
                now = time.monotonic()
                if client.socket() is None or (self._leave_by is not None and now >= self._leave_by):
                    return
                if self._stage != "established" and now >= answer_by:
                    self._fault = self._fault or faults.no_answer(self._stage, self._settings)
                    return
                writing = selectors.EVENT_WRITE if client.want_write() else 0
                selector.modify(sock, selectors.EVENT_READ | writing)
                # TLS may hold decrypted bytes that the kernel knows nothing of.
                pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
                ready = {key.fileobj: mask for key, mask in selector.select(0.0 if pending else self._nap(now))}
                if ear in ready:
                    _drain(ear)
                if pending or ready.get(sock, 0) & selectors.EVENT_READ:
                    client.loop_read()
                if ready.get(sock, 0) & selectors.EVENT_WRITE:
                    client.loop_write()
                client.loop_misc()

    def _nap(self, now: float) -> float:
        """Return for how long nothing is to be done unless something comes in."""
        deadlines = [now + _TICK_S]
        if self._leave_by is not None:
            deadlines.append(self._leave_by)
        elif self._stopping.is_set():
            deadlines.append(self._stop_by)
        return max(0.0, min(deadlines) - now)

    def _pause(self, ear: socket.socket, delay_s: float) -> None:
        """Wait for ``delay_s`` or ``stop``."""
        until = time.monotonic() + delay_s
        with selectors.DefaultSelector() as selector:
            selector.register(ear, selectors.EVENT_READ)
            while not self._stopping.is_set() and (left := until - time.monotonic()) > 0:
                if selector.select(left):
                    _drain(ear)

    def _conclude(self, lived_s: float) -> None:
        """Tell why the connection ended; one that is cut off again and again has a namesake somewhere."""
        if self._stopping.is_set():
            return
        self._short_lives = self._short_lives + 1 if self._cut_off and lived_s < _SHORT_S else 0
        if self._short_lives >= _SHORT_LIVES:
            self._fault = faults.cut_off_repeatedly(self._settings, _SHORT_LIVES)
        self._report(connected=False, reason=self._fault or faults.lost(0, self._stage, self._settings))

    # --- what others have left to be done -------------------------------------------------------------------------

    def _work(self) -> None:
        """Acknowledge, publish, take leave: all that is to be done with paho now."""
        while self._acknowledged:
            message = self._acknowledged.popleft()
            if message.connection == self._connection and self._established_at is not None:
                self._client.ack(message.packet_id, message.qos)
        if self._leave_by is not None:
            return
        if self._stage == "established":
            if self._stopping.is_set() and not self._farewell:
                self._farewell = True
                self._outgoing.add(self._state("offline"))
            self._send()
        if self._stopping.is_set():
            owing = self._farewell and (self._outgoing or self._in_flight)
            if not owing or time.monotonic() >= self._stop_by:
                self._leave()
        elif self._fault is not None:
            self._leave()

    def _leave(self) -> None:
        """Send DISCONNECT, upon which the broker forgets the Last Will."""
        self._leave_by = time.monotonic() + _GOODBYE_S
        self._client.disconnect()

    def _send(self) -> None:
        """Hand paho as many publications as the broker takes at a time."""
        if time.monotonic() < self._hold_until:
            return
        while len(self._in_flight) < self._window and self._client.socket() is not None:
            one = self._outgoing.take()
            if one is None:
                return
            if hindrance := one.hindrance(self._max_packet_bytes):
                _log.error("event=publication_dropped topic=%.200r reason=%r", one.topic, hindrance)
                self._published(one)
                continue
            info = self._client.publish(
                one.topic,
                one.payload,
                qos=1,
                retain=one.retain,
                properties=packets.publish_properties(one, self._settings),
            )
            if (
                info.rc == ErrorCode.MQTT_ERR_QUEUE_SIZE
            ):  # the packet identifier is still taken; the next may be free
                self._outgoing.put_first([one])
                return
            self._in_flight[info.mid] = one

    def _state(self, state: str) -> Publication:
        return Publication(topic=self._settings.state_topic, payload=state.encode(), retain=True)

    def _published(self, one: Publication) -> None:
        if one.token is not None:
            _hand_on(self._tell_published, one.token)

    def _report(self, *, connected: bool, reason: str | None) -> None:
        self._connected = connected
        if self._told == (connected, reason):
            return
        self._told = (connected, reason)
        where = f"{self._settings.host}:{self._settings.port}"
        if connected:
            _log.info("event=broker_connected broker=%s protocol=%s", where, self._settings.protocol)
        elif reason is not None:
            _log.warning("event=broker_problem broker=%s problem=%r", where, reason)
        _hand_on(self._tell_connection, connected, reason)

    # --- what paho calls, on the same thread: nothing may be raised into it ---------------------------------------

    def _on_socket_open(self, _client: Client, _userdata: Any, sock: Any) -> None:
        # Acknowledgements and outcomes are small; with Nagle's algorithm they would wait 40 ms for each other.
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_connect(
        self, client: Client, _userdata: Any, flags: ConnectFlags, reason: ReasonCode, told: PahoProperties | None
    ) -> None:
        if reason.is_failure:
            self._fault = faults.refused(reason.value, reason.getName(), packets.reason_string(told))
            return
        self._connection += 1
        self._established_at = time.monotonic()
        self._stage = "SUBSCRIBE"
        self._window = min(WINDOW, getattr(told, "ReceiveMaximum", WINDOW))
        self._max_packet_bytes = getattr(told, "MaximumPacketSize", MAX_PACKET_BYTES)
        if len(self._in_flight) > self._window:  # paho would send all again at once, and be thrown out for it
            client.drop_out_messages()
            self._outgoing.put_first(self._in_flight.values())
            self._in_flight.clear()
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
        if self._stage != "SUBSCRIBE" or packet_id != self._subscribe_id or not reasons:
            return
        granted = reasons[0]
        if granted.is_failure:
            self._fault = faults.subscription_refused(
                self._settings.subscription, granted.getName(), packets.reason_string(told)
            )
            return
        if granted.value == 0:
            _log.warning("event=qos_0_granted reason='the broker grants QoS 0 alone: alerts can be lost'")
        self._stage = "established"
        self._outgoing.put_first([self._state("online")])
        self._report(connected=True, reason=None)

    def _on_message(self, client: Client, _userdata: Any, received: MQTTMessage) -> None:
        if self._established_at is None:  # before CONNACK nothing may come (MQTT 5 §3.2)
            return
        try:
            message = packets.message_of(received, self._connection)
        except ValueError:
            _log.warning("event=message_ignored reason='its topic is not UTF-8'")
            client.ack(received.mid, received.qos)
            return
        if not f"{message.topic}/".startswith(f"{self._settings.alert_topic}/"):
            _log.warning(
                "event=message_ignored topic=%.200r reason='a subscription of an earlier configuration is still in "
                "the session at the broker'",
                message.topic,
            )
            client.ack(received.mid, received.qos)
            return
        _hand_on(self._tell_message, message)

    def _on_publish(
        self, _client: Client, _userdata: Any, packet_id: int, reason: ReasonCode, told: PahoProperties | None
    ) -> None:
        one = self._in_flight.pop(packet_id, None)
        if one is None:
            return
        if reason.is_failure:
            words = (one.topic, reason.getName(), packets.reason_string(told))
            if reason.value in faults.TRANSIENT:
                _log.warning("event=publication_put_off topic=%.200r reason=%r told=%.200r", *words)
                self._hold_until = time.monotonic() + _HOLD_S
                self._outgoing.put_first([one])
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
        if self._fault is not None or self._leave_by is not None:
            return
        if flags.is_disconnect_packet_from_server:
            self._fault = faults.told_to_leave(
                reason.value, reason.getName(), self._settings, packets.reason_string(told)
            )
            return
        self._fault = faults.lost(reason.value, self._stage, self._settings)
        self._cut_off = self._established_at is not None and reason.value == faults.UNSPECIFIED_ERROR


def _hand_on(callback: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
    """Call back; an exception would otherwise end the thread from within paho."""
    try:
        callback(*arguments)
    except Exception:
        _log.exception("event=callback_failed")


def _drain(ear: socket.socket) -> None:
    with suppress(BlockingIOError):
        while len(ear.recv(4096)) == 4096:
            pass
