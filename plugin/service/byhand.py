"""Requests by a command: done by the service that has the outbox, or at once where none runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from plugin.build import bridge_of, outbox_of, routes_of
from plugin.config import Config
from plugin.outbox import OutboxLocked, OutboxUnavailable, ask
from plugin.service.desk import response
from plugin.service.powers import Powers
from plugin.service.requests import Refused, request_of

ANSWER_S: Final = 15.0  # the service looks twice a second, and a disk may be slow


def by_hand(config: Config, verb: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Have ``verb``, "retry" or "drop", done with the queue of ``config``; return the answer; OutboxError.

    The answer is that of a request over MQTT. Outcomes are published by the service, if need be when it starts.
    """
    path = config.outbox.path
    if not path.is_file():
        raise OutboxUnavailable(f"there is no outbox {path}", "the service makes it when it starts")
    try:
        outbox = outbox_of(config)
    except OutboxLocked:
        answer: dict[str, Any] = ask(path, {"verb": verb, **content}, timeout_s=ANSWER_S)
        return answer
    with outbox:
        powers = Powers(bridge_of(config, outbox, routes_of(config)), outbox, lambda: None)
        try:
            request = request_of(verb, content)
            return response(None, (powers.retry if verb == "retry" else powers.drop)(request), None)
        except Refused as error:
            return response(None, None, str(error))
