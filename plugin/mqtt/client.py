"""The thread that owns paho, and how all others reach it.

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
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from paho.mqtt.client import Client

from plugin.alert import Message
from plugin.mqtt import faults
from plugin.mqtt.outgoing import Publication
from plugin.mqtt.session import GOODBYE_S, Session
from plugin.mqtt.settings import Settings, backoff_s

_log: Final = logging.getLogger("hardwire.mqtt")

_TICK_S: Final = 1.0  # how often paho looks at its keep-alive
_STEADY_S: Final = 60.0  # a connection that stood so long makes the failures before it forgotten
_SHORT_S: Final = 10.0  # a connection that stood no longer was cut off
_SHORT_LIVES: Final = 3  # so many of them in a row are no accident
# Who has our client id waits before it comes back, as we do; until then we are left in peace.
_NAMESAKE_PAUSES: Final = 2.0


class Mqtt:
    """A persistent session with one broker, for the life of the process.

    The callbacks run on the thread of ``run``, must not block for long, and may call ``publish``, ``acknowledge``
    and ``stop``. What they raise is logged and goes no further.

    - ``on_message(message)``: an alert; the broker gives it again on a later connection unless it is acknowledged.
      ``message.connection`` counts the connections (CONNACKs) of this object.
    - ``on_published(token)``: the broker has answered the publication (PUBACK), or will never take it (logged).
    - ``on_session(present)``: a connection was made, told before any message of it. False: the broker had no
      session for us, so the packet identifiers of before mean nothing.
    - ``on_connection(connected, reason)``: True once the subscription stands; False with one sentence on what is
      wrong, None after ``stop``. Told when it changes, not at each attempt. True with a sentence: it stands, but
      another program has our client id, and throws us out again and again.
    - ``on_tick()``: the thread of ``run`` is at work; called at least every few seconds, but for the time that
      connecting takes.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_message: Callable[[Message], None],
        on_published: Callable[[int], None],
        on_session: Callable[[bool], None],
        on_connection: Callable[[bool, str | None], None],
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; nothing is connected before ``run``. Raises ValueError for TLS files that cannot be used."""
        self._settings: Final = settings
        self._tick: Final = on_tick
        self._session: Final = Session(
            settings,
            on_message=on_message,
            on_published=on_published,
            on_session=on_session,
            on_connection=on_connection,
        )
        self._session.client.on_socket_open = _without_delay
        self._stopping: Final = threading.Event()
        self._stopped: Final = threading.Event()
        self._waker: socket.socket | None = None
        self._thread: int | None = None
        self._short_lives = 0

    @property
    def connected(self) -> bool:
        """Tell whether the subscription stands."""
        return self._session.connected

    # --- what any thread may call ---------------------------------------------------------------------------

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
        self._session.outgoing.add(
            Publication(topic=topic, payload=payload, token=token, retain=retain, correlation=correlation)
        )
        self._wake()

    def acknowledge(self, message: Message) -> None:
        """Send the PUBACK for ``message``, if the connection that it came in on still stands.

        If not, nothing is sent: the broker gives the message again, and on another connection its packet
        identifier may belong to another one.
        """
        self._session.acknowledged.append(message)
        self._wake()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Publish what waits, then ``offline``; wait for the PUBACKs; disconnect. The session persists.

        Returns when ``run`` is about to, or after ``timeout_s``; at once on the thread of ``run``. While the
        broker is away only the attempt under way is waited for (``connect_timeout_s`` an address).
        """
        self._session.farewell_by = time.monotonic() + timeout_s - min(GOODBYE_S, timeout_s / 2)
        self._stopping.set()
        self._wake()
        if self._thread not in {None, threading.get_ident()}:
            self._stopped.wait(timeout_s)

    def _wake(self) -> None:
        waker = self._waker
        if waker is not None:
            with suppress(OSError):  # full: it is awake as it is; closed: run has returned
                waker.send(b"\0")

    # --- the thread -----------------------------------------------------------------------------------------

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
            self._session.report(connected=False, reason=None)
            ear.close()
            self._waker.close()
            self._stopped.set()

    def _connect_and_serve(self, ear: socket.socket) -> float:
        """Make one connection, serve it to its end, and return for how many seconds after CONNACK it stood."""
        session, client = self._session, self._session.client
        session.begin()
        try:
            client.reconnect()
        except (OSError, ValueError) as error:
            session.fault = faults.not_reached(self._settings, error)
            return 0.0
        try:
            sock = client.socket()
            if isinstance(sock, socket.socket):
                self._serve(sock, ear)
        except Exception:  # noqa: BLE001 - see below
            # Whatever a broker sends must not end the thread, and with it the process.
            _log.exception("event=broker_fault")
            session.fault = faults.incomprehensible(self._settings)
        finally:
            session.connected = False
            if (left := client.socket()) is not None:
                left.close()
        return session.lived_s()

    def _serve(self, sock: socket.socket, ear: socket.socket) -> None:
        session, client = self._session, self._session.client
        answer_by = time.monotonic() + self._settings.answer_timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(ear, selectors.EVENT_READ)
            selector.register(sock, selectors.EVENT_READ)
            while True:
                self._tick()
                session.work()
                self._acquit()
                now = time.monotonic()
                if client.socket() is None or (session.leave_by is not None and now >= session.leave_by):
                    return
                if session.stage != "established" and now >= answer_by:
                    session.fault = session.fault or faults.no_answer(session.stage, self._settings)
                    return
                writing = selectors.EVENT_WRITE if client.want_write() else 0
                selector.modify(sock, selectors.EVENT_READ | writing)
                # TLS may hold decrypted bytes that the kernel knows nothing of.
                pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
                ready = {
                    key.fileobj: mask
                    for key, mask in selector.select(0.0 if pending else self._nap(now, answer_by))
                }
                if ear in ready:
                    _drain(ear)
                if pending or ready.get(sock, 0) & selectors.EVENT_READ:
                    client.loop_read()
                if ready.get(sock, 0) & selectors.EVENT_WRITE:
                    client.loop_write()
                client.loop_misc()

    def _nap(self, now: float, answer_by: float) -> float:
        """Return for how long nothing is to be done unless something comes in."""
        session = self._session
        deadlines = (now + _TICK_S, answer_by, session.leave_by, session.farewell_by, session.outgoing.hold_until)
        nearest = min(one for one in deadlines if one is not None and one > now)
        return nearest - now

    def _pause(self, ear: socket.socket, delay_s: float) -> None:
        """Wait for ``delay_s`` or ``stop``."""
        until = time.monotonic() + delay_s
        with selectors.DefaultSelector() as selector:
            selector.register(ear, selectors.EVENT_READ)
            while not self._stopping.is_set() and (left := until - time.monotonic()) > 0:
                self._tick()
                if selector.select(min(left, _TICK_S)):
                    _drain(ear)

    def _conclude(self, lived_s: float) -> None:
        """Tell why the connection ended; one that is cut off again and again has a namesake somewhere."""
        if self._stopping.is_set():
            return
        session = self._session
        short_s = max(_SHORT_S, _NAMESAKE_PAUSES * self._settings.reconnect_longest_s)
        self._short_lives = self._short_lives + 1 if session.cut_off and lived_s < short_s else 0
        if self._short_lives >= _SHORT_LIVES:
            session.fault = faults.cut_off_repeatedly(self._settings, _SHORT_LIVES)
        if session.taken_over or self._short_lives >= _SHORT_LIVES:
            session.suspicion = session.fault
        session.report(connected=False, reason=session.fault or faults.lost(0, session.stage, self._settings))

    def _acquit(self) -> None:
        """Forget the suspicion of a namesake once a connection has stood for long."""
        session = self._session
        if session.suspicion is not None and session.connected and session.lived_s() >= self._steady_s():
            session.suspicion = None
            session.report(connected=True, reason=None)

    def _steady_s(self) -> float:
        return max(_STEADY_S, _NAMESAKE_PAUSES * self._settings.reconnect_longest_s)


def _without_delay(_client: Client, _userdata: Any, sock: Any) -> None:
    """Set TCP_NODELAY: what we send is small, and Nagle's algorithm would hold it back for 40 ms."""
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _drain(ear: socket.socket) -> None:
    with suppress(BlockingIOError):
        ear.recv(65_536)
