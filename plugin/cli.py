"""The commands. Exit codes: 0 done, 1 failed for good, 2 wrong use, 75 put off, 78 wrong configuration."""

from __future__ import annotations

import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

import click

from plugin import __version__
from plugin.compose import template_names
from plugin.config import Config, ConfigError, load

EXIT_FAILED: Final = 1
EXIT_PUT_OFF: Final = 75  # EX_TEMPFAIL of sysexits.h
EXIT_CONFIG: Final = 78  # EX_CONFIG
MAX_STDIN_CHARS: Final = 10_000_000

_config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("hardwire.yaml"),
    show_default=True,
    help="The configuration file.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hardwire")
def main() -> None:
    """Hardwire: alerts from MQTT leave as mail through a WIZnet W5100.

    Start with: hardwire demo
    """


@main.command()
@_config_option
@click.option("--verbose", "-v", is_flag=True, help="Log every step.")
def run(config_path: Path, verbose: bool) -> None:
    """Run the service until SIGTERM.

    Example: hardwire run --config /etc/hardwire/hardwire.yaml
    """
    from plugin.outbox import OutboxError
    from plugin.service import Service, ThreadDied

    config = _load(config_path)
    _log_to_stderr(logging.DEBUG if verbose else logging.INFO)
    for warning in config.warnings:
        logging.getLogger("hardwire.config").warning("%s", warning)
    try:
        service = Service(config)
    except (OutboxError, OSError) as error:
        _fail(str(error))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.request_stop())
    try:
        service.start()
        service.supervise()
    except (ThreadDied, OutboxError) as error:
        service.stop()
        _fail(str(error))
    service.stop()


@main.command()
@click.option("--stay", is_flag=True, help="Keep it running, and tell how to publish by hand.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Where the mails are saved.",
)
@click.option(
    "--broker", type=click.Choice(["mosquitto", "embedded"]), help="Which broker; mosquitto where it is there."
)
def demo(stay: bool, output: Path, broker: Literal["mosquitto", "embedded"] | None) -> None:
    """Show the main job without hardware, broker or mail server.

    Starts a broker, an emulated W5100, a mail server and the bridge on loopback, publishes four alerts, and shows
    the dialogue, the mails and the outcomes.

    Example: hardwire demo --stay
    """
    try:
        from plugin.demo.show import run_demo
    except ImportError as error:
        _fail(f"the demo needs what the extra brings ({error.name} is missing): pip install 'hardwire[demo]'")
    sys.exit(run_demo(output, stay=stay, kind=broker))


@main.command()
@_config_option
@click.option("--offline", is_flag=True, help="Read the configuration and the templates only; reach for nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(config_path: Path, offline: bool, as_json: bool) -> None:
    """Validate the configuration; reach for the broker, the chip and the relays.

    Example: hardwire check --config hardwire.yaml
    """
    try:
        config = load(config_path, template_names=template_names)
    except ConfigError as error:
        if as_json:
            click.echo(
                json.dumps([{"what": str(one.place), "ok": False, "text": one.text} for one in error.faults])
            )
        else:
            _tell_faults(error)
        sys.exit(EXIT_CONFIG)
    from plugin.inspect import inspect

    findings = list(inspect(config, reach=not offline))
    if as_json:
        click.echo(json.dumps([{"what": one.what, "ok": one.ok, "text": one.text} for one in findings]))
    else:
        for one in findings:
            mark = click.style("ok  ", fg="green") if one.ok else click.style("FAIL", fg="red", bold=True)
            click.echo(f"{mark} {one.what}: {one.text}")
    sys.exit(0 if all(one.ok for one in findings) else EXIT_FAILED)


@main.command()
@_config_option
@click.option(
    "--to", multiple=True, required=True, help="A name from recipients, a group, or an address; repeatable."
)
@click.option("--title", help="The subject.")
@click.option("--message", required=True, help="The text; - reads it from standard input.")
@click.option("--severity", type=click.Choice(["info", "warning", "critical"]))
@click.option("--template", default="alert", show_default=True)
@click.option(
    "--attach",
    "attachments",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file to go along; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Print the mail and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome alone, as JSON.")
def send(config_path: Path, to: tuple[str, ...], message: str, dry_run: bool, as_json: bool, **more: Any) -> None:
    """Send one mail by the configured chip and relays; no broker is needed.

    One attempt is made. Exit code 75 means that it was put off and may be made again.

    Example: hardwire send --to alice --title "Test" --message "It works" --attach camera.jpg
    """
    from plugin.oneshot import ByHand, RefusedError, dry_run_of, send_once

    config = _load(config_path)
    mail = ByHand(
        to=to,
        message=sys.stdin.read(MAX_STDIN_CHARS) if message == "-" else message,
        files=tuple((path.name, path.read_bytes()) for path in more.pop("attachments")),
        **more,
    )
    try:
        if dry_run:
            click.echo(dry_run_of(config, mail), nl=False)
            return
        outcome = send_once(config, mail, dialogue=None if as_json else _tell_line)
    except (RefusedError, OSError) as error:
        _fail(str(error))
    click.echo(json.dumps(outcome, ensure_ascii=False, indent=None if as_json else 2))
    sys.exit({"success": 0, "deferred": EXIT_PUT_OFF}.get(outcome["event_type"], EXIT_FAILED))


@main.command()
@click.argument("template")
@_config_option
@click.option(
    "--payload",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An alert's payload, JSON or text; without it an example is used.",
)
@click.option(
    "--part", type=click.Choice(["all", "subject", "text", "html", "mail"]), default="all", show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="Print the parts as JSON.")
def preview(template: str, config_path: Path, payload: Path | None, part: str, as_json: bool) -> None:
    """Render TEMPLATE with a payload, as the mail would have it.

    Without a configuration file the templates of the product are used.

    Example: hardwire preview alert --payload leak.json --part html > leak.html
    """
    from plugin.oneshot import RefusedError, preview_of

    config = _load(config_path) if config_path.exists() else None
    try:
        parts = preview_of(config, template, payload.read_bytes() if payload else None)
    except RefusedError as error:
        _fail(str(error))
    if as_json:
        click.echo(json.dumps(parts, ensure_ascii=False))
    elif part == "all":
        for name in ("subject", "text", "html"):
            click.echo(click.style(f"--- {name}", bold=True))
            click.echo(parts[name])
    else:
        click.echo(parts[part])
    for note in parts["notes"]:
        click.echo(f"note: {note}", err=True)


def _load(path: Path) -> Config:
    try:
        return load(path, template_names=template_names)
    except ConfigError as error:
        _tell_faults(error)
        sys.exit(EXIT_CONFIG)


def _tell_faults(error: ConfigError) -> None:
    for fault in error.faults:
        click.echo(str(fault), err=True)
    count = len(error.faults)
    click.echo(f"{count} fault{'s' if count > 1 else ''}; nothing was started", err=True)


def _tell_line(line: str) -> None:
    click.echo(f"  {line}", err=True)


def _fail(reason: str) -> NoReturn:
    click.echo(f"hardwire: {reason}", err=True)
    sys.exit(EXIT_FAILED)


def _log_to_stderr(level: int) -> None:
    logging.basicConfig(
        level=logging.WARNING,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        force=True,
    )
    logging.getLogger("hardwire").setLevel(level)
