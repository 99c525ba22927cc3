"""``hardwire check``: is everything there that the configuration names. Sends no mail, takes no alert."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from plugin.build import Tap, composer_of, lane_of, mqtt_settings_of, relays_of, uplink_of
from plugin.config import Config
from plugin.mqtt import Mqtt
from plugin.service import Crew

SQLITE_MAGIC: Final = b"SQLite format 3\0"  # how every database file begins (sqlite.org/fileformat2.html)

_REMEDIES: Final[Mapping[str, str]] = {
    "connect": "is it running, are relays[].host and port right, and does the chip's network reach it?",
    "greeting": "is this the port of a mail server that speaks without TLS?",
    "hello": "the server may want another relays[].helo_name, or relays[].greeting: helo",
    "tls": "check relays[].security and port",
    "auth": "check relays[].username, password and auth",
}
"""What to look at when a relay refuses us, by the phase in which it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; ``text`` is one sentence, with the remedy where it is not ``ok``."""

    what: str
    ok: bool
    text: str


def inspect(config: Config, *, reach: bool, tap: Tap | None = None) -> Iterator[Finding]:
    """Yield what is found, one by one; with ``reach`` also broker, chip and relays are spoken to.

    The broker is given what ``mqtt`` allows it, each relay what ``smtp`` does; nothing is waited for longer.
    ``tap`` sees the bus.
    """
    counts = f"{_count(len(config.routes), 'route')}, {_count(len(config.relays), 'relay')}"
    yield Finding(what="configuration", ok=True, text=counts)
    for warning in config.warnings:
        yield Finding(what="configuration", ok=True, text=f"note: {warning}")
    yield from _templates(config)
    yield _outbox(config.outbox.path)
    if reach:
        yield _broker(config)
        yield from _chip_and_relays(config, tap)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _templates(config: Config) -> Iterator[Finding]:
    composer = composer_of(config)
    faults = composer.check()
    for file, text in faults:
        yield Finding(what=f"template {file}", ok=False, text=text)
    if not faults:
        yield Finding(what="templates", ok=True, text=", ".join(composer.names()))


def _outbox(path: Path) -> Finding:
    """Look without touching: a service may be at work with it."""
    if problem := _outbox_problem(path):
        return Finding(what="outbox", ok=False, text=problem)
    return Finding(what="outbox", ok=True, text=f"{path} can be written")


def _outbox_problem(path: Path) -> str | None:
    folder = path.parent
    exists = path.exists()
    checks = (  # each needs the one before
        (folder.is_dir, f"{folder} is no folder: make it, or give another outbox.path"),
        # SQLite keeps files beside the database, so the folder has to be writable as well.
        (
            lambda: os.access(folder, os.W_OK | os.X_OK),
            f"{folder} cannot be written: give it to the user that runs Hardwire",
        ),
        (lambda: path.is_file() or not exists, f"{path} is no file: give another outbox.path"),
        (
            lambda: os.access(path, os.R_OK | os.W_OK) or not exists,
            f"{path} cannot be read and written: give it to the user that runs Hardwire",
        ),
        (
            lambda: not exists or _begins(path) in (b"", SQLITE_MAGIC),
            f"{path} is no outbox: move it away, or give another outbox.path",
        ),
    )
    return next((problem for good, problem in checks if not good()), None)


def _begins(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(SQLITE_MAGIC))


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
                watched=(),
                unwatched=(),
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
    # A name may have several addresses, each with its time-out; after two of them the answer is known well enough.
    wait_s = 2 * settings.connect_timeout_s + settings.answer_timeout_s
    told.wait(wait_s)
    client.stop(timeout_s=1.0)
    if not problem:
        return Finding(what=where, ok=False, text=f"no answer within {wait_s:.0f} s: is mqtt.host right?")
    if problem[0] is not None:
        return Finding(what=where, ok=False, text=problem[0])
    return Finding(what=where, ok=True, text=f"connected, MQTT {settings.protocol}")


def _chip_and_relays(config: Config, tap: Tap | None) -> Iterator[Finding]:
    try:
        uplink = uplink_of(config, tap=tap)
    except OSError as error:
        yield Finding(what="chip", ok=False, text=str(error))
        return
    what = "chip"
    try:
        uplink.bring_up()
        yield Finding(what=what, ok=True, text=f"a W5100 answers on {config.chip.bus}")
        what = "relays"
        for relay, problem, how in lane_of(relays_of(config), uplink).greet():
            yield Finding(what=f"relay {relay}", ok=problem is None, text=_remedied(problem) if problem else how)
    except Exception as error:  # noqa: BLE001 - a foreign bus raises whatever it likes
        yield Finding(what=what, ok=False, text=str(error) or type(error).__name__)
    finally:
        uplink.close()


def _remedied(problem: str) -> str:
    remedy = _REMEDIES.get(problem.partition(":")[0])
    return f"{problem} ({remedy})" if remedy else problem
