"""The command: options in, connections, conclusions, what is shown or printed as JSON, the exit code out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from plugin.build import Tap, settings_of
from plugin.config import Config
from plugin.probe.advice import entry_of, exit_code, hints_of, notes_of, problem_of, yaml_of
from plugin.probe.plan import offers_of, plan_of
from plugin.probe.probing import conclude, probe
from plugin.probe.report import Report
from plugin.probe.showing import Screen
from plugin.probe.target import WrongUse, alone, relay_of
from plugin.probe.way import Way, way_by_chip, way_by_host
from plugin.smtp.settings import Security

PASSWORD_VARIABLE: Final = "HARDWIRE_PROBE_PASSWORD"  # noqa: S105 - the name of it


def run_probe(
    target: str,
    config: Config | None,
    *,
    by_host: bool,
    as_json: bool,
    security: Security | None,
    timeout_s: float,
    username: str | None,
    ask: Callable[[str], str],
    tap: Tap | None = None,
    **options: Any,
) -> int:
    """Probe ``target`` ("HOST:PORT"), show what is found on standard output, return the exit code.

    It goes through the chip of ``config``, None: the emulated one on the host's network, ``by_host``: an ordinary
    socket; ``options`` are keys of ``relays:``. The password is in the environment, or ``ask`` gets it;
    ``tap`` sees the bus. Raises WrongUse, and OSError for a bus that cannot be had.
    """
    password = None
    if username is not None:
        relay_of(target, username=None, password=None, **options)  # what is wrong with it is told before we ask
        password = os.environ.get(PASSWORD_VARIABLE) or ask("Password")
    relay = relay_of(target, username=username, password=password, **options)
    chosen = alone(relay) if config is None else config.model_copy(update={"relays": (relay,)})
    try:
        settings = settings_of(chosen, relay)
    except ValueError as error:  # a login that cannot be sent
        raise WrongUse(str(error)) from None
    screen = Screen(quiet=as_json)
    with _way(chosen, tap, by_host=by_host) as way:
        screen.begin(relay.host, relay.port, way.described)
        visits = probe(
            settings,
            relay.port,
            way,
            security=security,
            timeout_s=timeout_s,
            clock=time.monotonic,
            observe=screen.line,
        )
    conclusion = conclude(visits, guessing=security is None, login=username is not None)
    plan, entry = plan_of(conclusion.seen), entry_of(relay, conclusion)
    report = Report(
        host=relay.host,
        port=relay.port,
        way=way.described,
        helo_name=settings.helo_name,
        authority=settings.ca_file,
        visits=visits,
        conclusion=conclusion,
        offers=offers_of(conclusion.seen),
        plan=plan,
        problem=problem_of(conclusion),
        notes=tuple(notes_of(conclusion, port=relay.port, login=username is not None, now=datetime.now(UTC))),
        entry=entry,
        entry_lines=() if entry is None else tuple(yaml_of(entry, hints=hints_of(conclusion, plan, relay=relay))),
        exit_code=exit_code(conclusion),
    )
    if as_json:
        screen.print_json(report)
    else:
        screen.sum_up(report)
    return report.exit_code


@contextmanager
def _way(config: Config, tap: Tap | None, *, by_host: bool) -> Iterator[Way]:
    if by_host:
        yield way_by_host()
        return
    with way_by_chip(config, tap) as way:
        yield way
