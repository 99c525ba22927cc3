"""Where requests are carried out, one after the other: those that came by MQTT, and errands left in the outbox."""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from plugin.alert import Message
from plugin.bridge import Bridge
from plugin.bridge.arrival import where
from plugin.outbox import Errand, Memo, OutboxError
from plugin.service.requests import Refused, Request, read_content, request_of, transaction_of

_log = logging.getLogger("hardwire.service")

WAITING: Final = 20  # requests between the network thread and the desk; more are refused
PER_MINUTE: Final = 60  # requests by MQTT
LOOK_EVERY_S: Final = 0.5  # for errands, and whether it is time to end
TESTS_REMEMBERED: Final = 20
TESTS_KEY: Final = "tests"
TEST_NAME: Final = "test"
TEST_TEXT: Final = (
    "This is a test mail, as it was asked for. It has come all the way that an alert goes: through the bridge, "
    "the chip and the mail server, to you."
)


class Desk:
    """Carries out requests. ``bring`` is for the network thread, ``work`` is the thread ``desk``.

    A request is acknowledged when it is done. If the broker gives it again (DUP, MQTT 5 §3.3.1.1), because it has
    not seen the PUBACK, it is done again, which changes nothing where it was done before; a test mail alone would
    be a second one, so it keeps the identity that was noted for it.
    """

    def __init__(
        self,
        *,
        base: str,
        bridge: Bridge,
        memo: Memo,
        powers: dict[str, Callable[[Request], dict[str, Any]]],
        publish: Callable[[str, bytes], None],
        acknowledge: Callable[[Message], None],
        accepted: Callable[[], None],
        beat: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``powers`` do what is not the desk's own business, by verb; they may raise Refused and OutboxError."""
        self._base = base
        self._bridge = bridge
        self._memo = memo
        self._powers = powers
        self._publish = publish
        self._acknowledge = acknowledge
        self._accepted = accepted
        self._beat = beat
        self._clock = clock
        self._waiting: queue.Queue[Message] = queue.Queue(WAITING)
        self._begun_at: deque[float] = deque(maxlen=PER_MINUTE)

    @property
    def topic(self) -> str:
        """Return the topic that requests are below."""
        return f"{self._base}/bridge/request"

    def bring(self, message: Message) -> None:
        """Put a request before the desk; never waits."""
        if message.retain:  # a copy from before: nobody asks now
            _log.warning("event=retained_ignored topic=%.200r", message.topic)
            self._acknowledge(message)
            return
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._respond(message, None, error=f"{WAITING} requests wait already: ask again later")

    def work(self, stopping: threading.Event) -> None:
        """Carry out what comes until ``stopping``; what waits then is given again by the broker."""
        while not stopping.is_set():
            self._beat("desk")
            try:
                self._answer(self._waiting.get(timeout=LOOK_EVERY_S))
            except queue.Empty:
                self._run_errands()

    def _answer(self, message: Message) -> None:
        transaction = None
        try:
            content = read_content(message.payload)
            transaction = transaction_of(content)
            self._keep_pace()
            data = self._carry_out(request_of(self._verb(message), content), message)
        except Exception as error:  # noqa: BLE001 - a fault of ours: this request is answered, the next one comes
            self._respond(message, transaction, error=_words(error))
        else:
            self._respond(message, transaction, data=data)

    def _respond(
        self, message: Message, transaction: Any, *, data: dict[str, Any] | None = None, error: str | None = None
    ) -> None:
        verb = self._verb(message)
        _log.info("event=request verb=%.60r transaction=%r error=%r", verb, transaction, error)
        topic = f"{self._base}/bridge/response/{verb}"
        self._publish(
            topic, json.dumps(response(transaction, data, error), ensure_ascii=False).encode("utf-8", "replace")
        )
        self._acknowledge(message)

    def _verb(self, message: Message) -> str:
        return message.topic.removeprefix(self.topic).removeprefix("/")

    def _keep_pace(self) -> None:
        now = self._clock()
        if len(self._begun_at) == PER_MINUTE and now - self._begun_at[0] < 60.0:
            raise Refused(f"more than {PER_MINUTE} requests a minute: ask again later")
        self._begun_at.append(now)

    def _run_errands(self) -> None:
        try:
            for errand in self._memo.errands():
                self._memo.answer(errand, self._run(errand))
        except OutboxError as error:
            _log.warning("event=errands_not_read problem=%r", str(error))

    def _run(self, errand: Errand) -> dict[str, Any]:
        content = errand.content if isinstance(errand.content, dict) else {}
        verb = str(content.pop("verb", ""))
        try:
            answer = response(None, self._carry_out(request_of(verb, content), None), None)
        except Exception as error:  # noqa: BLE001 - as above
            answer = response(None, None, _words(error))
        _log.info("event=errand verb=%.60r error=%r", verb, answer["error"])
        return answer

    def _carry_out(self, request: Request, message: Message | None) -> dict[str, Any]:
        if request.verb == "test":
            return self._test(request, message)
        return self._powers[request.verb](request)

    # --- a test mail ----------------------------------------------------------------------------------------

    def _test(self, request: Request, message: Message | None) -> dict[str, Any]:
        """Have a test mail go the way of every alert; its outcome is told like any other."""
        alert = {"id": self._test_id(message), "title": "Test mail", "message": TEST_TEXT}
        topic = f"{self._base}/email/{TEST_NAME}"
        self._bridge.accept(
            [
                Message(
                    topic=topic,
                    payload=json.dumps(alert if request.to is None else {**alert, "to": request.to}).encode(),
                    qos=0,  # it has no packet identifier of its own
                    retain=False,
                    dup=False,
                    packet_id=0,
                    connection=0,
                    received_at=datetime.now(UTC),
                )
            ]
        )
        self._accepted()
        return {"id": alert["id"], "topic": topic}

    def _test_id(self, message: Message | None) -> str:
        """Return the identity of the alert: the one that was noted, if the broker gives the request again."""
        new = f"test-{uuid.uuid4().hex}"
        if message is None or message.qos == 0:
            return new
        mark = [message.packet_id, hashlib.sha256(message.topic.encode() + b"\0" + message.payload).hexdigest()]
        noted: list[list[Any]] = self._memo.get(TESTS_KEY) or []
        if message.dup:
            for known in reversed(noted):
                if known[:2] == mark:
                    return str(known[2])
        self._memo.put(TESTS_KEY, [*noted, [*mark, new]][-TESTS_REMEMBERED:])
        return new


def _words(error: Exception) -> str:
    """Return what is told of ``error``; of a fault of ours its place alone, for its text may hold anything."""
    if isinstance(error, Refused | OutboxError):
        return str(error)
    _log.error("event=request_failed problem=%r", where(error))
    return f"the bridge failed on this request ({where(error)})"


def response(transaction: Any, data: dict[str, Any] | None, error: str | None) -> dict[str, Any]:
    """Return an answer as it is published; it is an error where there is an ``error``."""
    return {
        "status": "ok" if error is None else "error",
        "transaction": transaction,
        "data": data,
        "error": error,
    }
