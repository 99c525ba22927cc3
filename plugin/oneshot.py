"""One alert by hand: ``hardwire send`` and ``hardwire preview`` walk the journey without a broker."""

from __future__ import annotations

import base64
import json
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from plugin import __version__
from plugin.alert import Alert, Malformed, Message
from plugin.build import Tap, bridge_of, composer_of, lane_of, relays_of, routing_of, uplink_of
from plugin.compose import Composer, TemplateFailed
from plugin.config import Config
from plugin.outbox import Outbox
from plugin.payload import decode
from plugin.route import Directions, Rejected, Route, quoted
from plugin.route.recipients import check_member

NAME: Final = "by-hand"

EXAMPLE: Final[dict[str, Any]] = {
    "title": "Water in the cellar",
    "message": "The sensor under the washing machine is wet.\nThe main valve has been closed.",
    "severity": "critical",
    "data": {"sensor": "cellar 1", "moisture": "93 %", "valve": "closed"},
}


class RefusedError(ValueError):
    """What was given cannot become a mail; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """A mail to be sent by hand. Whoever may read the configuration may mail anyone: no route, no allow-list."""

    to: tuple[str, ...]
    message: str
    title: str | None = None
    severity: str | None = None
    template: str = "alert"
    files: tuple[tuple[str, bytes], ...] = ()

    @property
    def routes(self) -> list[Route]:
        """Return the one route that it takes."""
        return [Route(topic="#", to=self.to, template=self.template)]

    @property
    def payload(self) -> bytes:
        """Return it as an alert's payload."""
        files = [{"filename": name, "data": base64.b64encode(data).decode("ascii")} for name, data in self.files]
        texts = {"title": self.title, "message": self.message, "severity": self.severity}
        return json.dumps({**texts, "attachments": files}).encode()


def send_once(
    config: Config, mail: ByHand, *, dialogue: Callable[[str], None] | None = None, tap: Tap | None = None
) -> dict[str, Any]:
    """Make one attempt to send ``mail``; return the outcome.

    ``dialogue`` gets each line of the SMTP dialogue, ``tap`` sees the bus. Raises RefusedError before anything
    is tried, OSError without a bus, OutboxError without room for a queue of one.
    """
    payload = _payload(config, mail, composer_of(config))
    with tempfile.TemporaryDirectory(prefix="hardwire-send-") as folder:
        uplink = uplink_of(config, tap=tap)
        try:
            outbox = Outbox(Path(folder) / "outbox.db")
            try:
                bridge = bridge_of(config, outbox, mail.routes)
                bridge.accept([_message(config, payload)])
                relays = lane_of(relays_of(config), uplink, dialogue)
                try:
                    bridge.carry(relays.deliver)
                finally:
                    relays.close()
                topic = f"{config.topics.base}/bridge/outcome"
                outcome = next(one.payload for one in bridge.outgoing(100) if one.topic == topic)
            finally:
                outbox.close()
        finally:
            uplink.close()
    # The queue ends here, so nobody is going to make the next attempt at the time that it had planned.
    return {**json.loads(outcome), "next_attempt_at": None}


def dry_run_of(config: Config, mail: ByHand) -> dict[str, Any]:
    """Return what would be sent: ``sender``, ``recipients``, ``subject``, ``message_id``, ``mail`` and ``notes``.

    Raises RefusedError.
    """
    composer = composer_of(config)
    alert = _decode(config, _payload(config, mail, composer))
    directions = routing_of(config, composer, mail.routes).direct(alert)
    if isinstance(directions, Rejected):
        raise RefusedError(directions.reason)
    sealed = composer.seal(alert, directions, date=datetime.now(UTC))
    return {
        "sender": sealed.sender,
        "recipients": list(directions.recipients),
        "subject": sealed.subject,
        "message_id": sealed.message_id,
        "mail": sealed.content.decode("ascii"),
        "notes": list(sealed.notes),
    }


def preview_of(config: Config | None, template: str, payload: bytes | None) -> dict[str, Any]:
    """Return ``subject``, ``text``, ``html``, ``mail`` and ``notes`` of a template; raises RefusedError."""
    composer = (
        composer_of(config)
        if config
        else Composer(
            sender="Hardwire <hardwire@example.net>",
            templates_dir=None,
            max_attachment_bytes=10_485_760,
            product_version=__version__,
        )
    )
    _known_template(composer, template)
    alert = _decode(config, json.dumps(EXAMPLE).encode() if payload is None else payload, name="water_leak")
    directions = Directions(
        route="#",
        template=template,
        severity=alert.severity or "info",
        to=("you@example.net",),
        cc=(),
        bcc=(),
        reply_to=None,
    )
    try:
        parts = composer.render(alert, directions)
    except TemplateFailed as error:
        raise RefusedError(str(error)) from error
    mail = composer.seal(alert, directions, date=datetime.now(UTC))
    return {
        "subject": parts.subject,
        "text": parts.text,
        "html": parts.html,
        "mail": mail.content.decode("ascii"),
        "notes": list(parts.notes),
    }


def _payload(config: Config, mail: ByHand, composer: Composer) -> bytes:
    """Return ``mail`` as a payload that the journey can take; RefusedError says what of it is wrong."""
    for token in mail.to:
        if token not in config.recipients and (wrong := check_member(token)):
            raise RefusedError(f"--to: {wrong}")
    _known_template(composer, mail.template)
    payload = mail.payload
    if len(payload) > config.limits.payload_bytes:
        raise RefusedError(
            f"text and files have {len(payload)} octets, the files in base64, and limits.payload_bytes allows "
            f"{config.limits.payload_bytes}"
        )
    return payload


def _known_template(composer: Composer, name: str) -> None:
    if name not in composer.names():
        known = ", ".join(composer.names())
        raise RefusedError(f"there is no template {quoted(name)}; there are: {known}")


def _message(config: Config | None, payload: bytes, name: str = NAME) -> Message:
    base = config.topics.base if config else "alerts"
    return Message(
        topic=f"{base}/email/{name}",
        payload=payload,
        qos=0,
        retain=False,
        dup=False,
        packet_id=0,
        connection=0,
        received_at=datetime.now(UTC),
    )


def _decode(config: Config | None, payload: bytes, name: str = NAME) -> Alert:
    decoded = decode(
        _message(config, payload, name),
        base=config.topics.base if config else "alerts",
        alert_id=uuid.uuid4().hex,
        payload_bytes=config.limits.payload_bytes if config else 10_485_760,
        forbidden_responses=(),
    )
    if isinstance(decoded, Malformed):
        raise RefusedError(decoded.reason)
    return decoded
