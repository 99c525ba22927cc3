"""``check`` and ``probe``: is everything there, and what does a mail server offer."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from plugin.cli.shared import (
    EXIT_CONFIG,
    EXIT_FAILED,
    as_text,
    config_option,
    load_config,
    read_config,
    tell_faults,
    tell_finding,
    trace_options,
    traced,
)


@click.command(short_help="Is all there, and does it answer?")
@config_option
@click.option("--offline", is_flag=True, help="Look at the files of this machine only; reach for nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@trace_options
def check(config_path: Path, offline: bool, as_json: bool, trace_path: Path | None, trace_data: bool) -> None:
    """Validate the configuration; reach for the broker, the chip and the relays.

    No mail is sent and no alert is taken. A service that has an SPI device open must be stopped first.

    Example: hardwire check --config hardwire.yaml
    """
    from plugin.config import ConfigError

    try:
        config = read_config(config_path)
    except ConfigError as error:
        if as_json:
            click.echo(as_text([{"what": one.place, "ok": False, "text": one.text} for one in error.faults]))
        else:
            tell_faults(error)
        sys.exit(EXIT_CONFIG)
    from plugin.inspect import inspect

    findings = []
    with traced(trace_path, data=trace_data) as tap:
        for one in inspect(config, reach=not offline, tap=tap):
            findings.append(one)
            if not as_json:  # at once, for the next one may take its time
                tell_finding(one.what, one.text, ok=one.ok)
    if as_json:
        click.echo(as_text([{"what": one.what, "ok": one.ok, "text": one.text} for one in findings]))
    sys.exit(0 if all(one.ok for one in findings) else EXIT_FAILED)


@click.command(short_help="Speak SMTP to a server by hand.")
@click.argument("target", metavar="HOST:PORT")
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="Go through the chip of this one.")
@click.option("--host", "by_host", is_flag=True, help="Go through an ordinary socket of this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is found as one JSON object.")
@click.option("--security", type=click.Choice(["tls", "starttls", "none"]), help="By default it is found out.")
@click.option("--ca-file", type=click.Path(exists=True, dir_okay=False), help="Authorities to trust, in PEM.")
@click.option("--no-verify", "verify", flag_value=False, default=True, help="Do not check the certificate.")
@click.option("--server-name", help="Whom the certificate must be for, if not HOST.")
@click.option("--helo-name", help="What we call ourselves.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.1, 600), default=30.0, help="Seconds in all (30).")
@click.option("--username", help="Log in; the password is in HARDWIRE_PROBE_PASSWORD, or asked for.")
@trace_options
def probe(
    target: str, config_path: Path | None, trace_path: Path | None, trace_data: bool, **options: Any
) -> None:
    """Speak to a mail server up to where a letter could follow; tell what it offers and how long each step took.

    It goes through the W5100: the emulated one if no configuration names another. No letter is sent.

    Example: hardwire probe smtp.example.net:587
    """
    config = load_config(config_path) if config_path else None
    from plugin.probe import WrongUse, run_probe

    with traced(trace_path, data=trace_data) as tap:
        try:
            code = run_probe(
                target, config, ask=partial(click.prompt, hide_input=True, err=True), tap=tap, **options
            )
        except WrongUse as error:
            raise click.UsageError(str(error)) from error
    sys.exit(code)
