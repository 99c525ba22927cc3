"""``hardwire check``: is everything there that the configuration names. Sends no mail, takes no alert."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from plugin.build import composer_of, mqtt_settings_of, relays_of, uplink_of
from plugin.config import Config
from plugin.mqtt import Mqtt
from plugin.service import Crew

BROKER_WAIT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; ``text`` is one sentence, with the remedy where it is not ``ok``."""

    what: str
    ok: bool
    text: str


def inspect(config: Config, *, reach: bool) -> Iterator[Finding]:
    """Yield what is found, one by one; with ``reach`` also broker, chip and relays are spoken to."""
    yield Finding(what="configuration", ok=True, text=f"{len(config.routes)} routes, {len(config.relays)} relays")
    for warning in config.warnings:
        yield Finding(what="configuration", ok=True, text=f"note: {warning}")
    yield from _templates(config)
    yield _outbox(config)
    if reach:
        yield _broker(config)
        yield from _chip_and_relays(config)


def _templates(config: Config) -> Iterator[Finding]:
    composer = composer_of(config)
    faults = composer.check()
    for file, text in faults:
        yield Finding(what=f"template {file}", ok=False, text=text)
    if not faults:
        yield Finding(what="templates", ok=True, text=", ".join(composer.names()))


def _outbox(config: Config) -> Finding:
    path = config.outbox.path
    place = path if path.exists() else path.parent
    if os.access(place, os.W_OK):
        return Finding(what="outbox", ok=True, text=f"{path} can be written")
    remedy = "give it to the user that runs Hardwire" if place.exists() else "make this folder"
    return Finding(what="outbox", ok=False, text=f"{place} cannot be written: {remedy}")


def _broker(config: Config) -> Finding:
    """Connect as another client, so that a running bridge keeps its session."""
    settings = mqtt_settings_of(config)
    where = f"broker {settings.host}:{settings.port}"
    told = threading.Event()
    problem: list[str | None] = []

    def connection(connected: bool, reason: str | None) -> None:  # noqa: FBT001 - mqtt's callback
        problem.append(None if connected else reason)
        told.set()

    try:
        client = Mqtt(
            replace(
                settings,
                client_id=f"{settings.client_id}-check",
                session_expiry_s=0,
                onlooker=settings.state_topic,
            ),
            on_message=lambda _message: None,
            on_published=lambda _token: None,
            on_session=lambda _present: None,
            on_connection=connection,
        )
    except ValueError as error:
        return Finding(what=where, ok=False, text=str(error))
    crew = Crew()
    crew.start("check", client.run)
    told.wait(BROKER_WAIT_S)
    client.stop(timeout_s=1.0)
    if not problem:
        return Finding(what=where, ok=False, text=f"no answer within {BROKER_WAIT_S:.0f} s")
    if problem[0] is not None:
        return Finding(what=where, ok=False, text=problem[0])
    return Finding(what=where, ok=True, text=f"connected, MQTT {settings.protocol}")


def _chip_and_relays(config: Config) -> Iterator[Finding]:
    try:
        uplink = uplink_of(config)
        uplink.bring_up()
    except OSError as error:
        yield Finding(what="chip", ok=False, text=str(error))
        return
    yield Finding(what="chip", ok=True, text=f"a W5100 answers on {config.chip.bus}")
    try:
        for relay, problem, how in relays_of(config, uplink).greet():
            yield Finding(what=f"relay {relay}", ok=problem is None, text=problem or how)
    finally:
        uplink.close()
