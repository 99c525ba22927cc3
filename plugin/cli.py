"""The commands. Exit codes: 0 done, 1 failed for good, 2 wrong use, 75 put off, 78 wrong configuration."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, NoReturn

import click
from click.core import ParameterSource

from plugin import __version__

if TYPE_CHECKING:
    from plugin.config import Config, ConfigError

# What a command needs is imported by it: help is quick, and Ctrl-C meets click's handling of it, not an import.

EXIT_FAILED: Final = 1
EXIT_PUT_OFF: Final = 75  # EX_TEMPFAIL of sysexits.h
EXIT_CONFIG: Final = 78  # EX_CONFIG
MAX_PREVIEW_BYTES: Final = 10_485_760  # where no configuration names limits.payload_bytes

_config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(readable=False, path_type=Path),  # what is wrong with it is a fault of the configuration: 78
    default=Path("hardwire.yaml"),
    show_default=True,
    help="The configuration file.",
)


class _Commands(click.Group):
    """The group of all commands: what the system refuses (a full disk, say) is told in one sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        # Findings, outcomes and the dialogue tell it all; `run` alone writes a log.
        logging.getLogger("hardwire").addHandler(logging.NullHandler())
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # whoever read our output has gone; click ends quietly
            _forget_output()
            place = f"{error.filename}: " if error.filename else ""
            _fail(f"{place}{error.strerror or error}")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hardwire")
def main() -> None:
    """Hardwire: alerts from MQTT leave as mail through a WIZnet W5100.

    Start with: hardwire demo
    """


@main.command(short_help="Run the service.")
@_config_option
@click.option("--verbose", "-v", is_flag=True, help="Log every step.")
def run(config_path: Path, verbose: bool) -> None:
    """Run the service until SIGTERM.

    Example: hardwire run --config /etc/hardwire/hardwire.yaml
    """
    config = _load(config_path)
    from plugin.outbox import OutboxError
    from plugin.service import Service, ThreadDied

    _log_to_stderr(logging.DEBUG if verbose else logging.INFO)
    for warning in config.warnings:
        logging.getLogger("hardwire.config").warning("%s", warning)
    try:
        service = Service(config)
    except (OutboxError, OSError) as error:
        _fail(str(error))
    except ValueError as error:  # what only its use can show: certificates that cannot be loaded
        click.echo(f"{config_path}: {error}", err=True)
        sys.exit(EXIT_CONFIG)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.request_stop())
    try:
        service.start()
        service.supervise()
    except (ThreadDied, OutboxError) as error:
        service.stop()
        _fail(str(error))
    service.stop()


@main.command(short_help="Show the main job; nothing else is needed.")
@click.option("--stay", is_flag=True, help="Keep it running, and tell how to publish by hand.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Where the mails are saved.",
)
@click.option(
    "--broker",
    type=click.Choice(["mosquitto", "embedded"]),
    help="Which broker to start; by default mosquitto where it is installed, else the embedded one.",
)
def demo(stay: bool, output: Path, broker: Literal["mosquitto", "embedded"] | None) -> None:
    """Show the main job without hardware, broker or mail server.

    Starts a broker, an emulated W5100, a mail server and the bridge on loopback, publishes four alerts, and shows
    the dialogue, the mails and the outcomes.

    Example: hardwire demo --stay
    """
    try:
        from plugin.demo.show import DemoError, run_demo
    except ImportError as error:
        package = (error.name or "a package").partition(".")[0]
        _fail(f"the demo needs what the extra brings ({package} is missing): pip install 'hardwire[demo]'")
    try:
        good = run_demo(output, stay=stay, kind=broker)
    except DemoError as error:
        _fail(str(error))
    sys.exit(0 if good else EXIT_FAILED)


@main.command(short_help="Is all there, and does it answer?")
@_config_option
@click.option("--offline", is_flag=True, help="Look at the files of this machine only; reach for nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(config_path: Path, offline: bool, as_json: bool) -> None:
    """Validate the configuration; reach for the broker, the chip and the relays.

    No mail is sent and no alert is taken; a running service is not disturbed.

    Example: hardwire check --config hardwire.yaml
    """
    from plugin.config import ConfigError

    try:
        config = _read(config_path)
    except ConfigError as error:
        if as_json:
            click.echo(_json([{"what": one.place, "ok": False, "text": one.text} for one in error.faults]))
        else:
            _tell_faults(error)
        sys.exit(EXIT_CONFIG)
    from plugin.inspect import inspect

    findings = []
    for one in inspect(config, reach=not offline):
        findings.append(one)
        if not as_json:  # at once, for the next one may take its time
            mark = click.style("ok  ", fg="green") if one.ok else click.style("FAIL", fg="red", bold=True)
            click.echo(f"{mark} {one.what}: {one.text}")
    if as_json:
        click.echo(_json([{"what": one.what, "ok": one.ok, "text": one.text} for one in findings]))
    sys.exit(0 if all(one.ok for one in findings) else EXIT_FAILED)


@main.command(short_help="Speak SMTP to a server by hand.")
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
def probe(target: str, config_path: Path | None, **options: Any) -> None:
    """Speak to a mail server up to where a letter could follow; tell what it offers and how long each step took.

    It goes through the W5100: the emulated one if no configuration names another. No letter is sent.

    Example: hardwire probe smtp.example.net:587
    """
    config = _load(config_path) if config_path else None
    from plugin.probe import WrongUse, run_probe

    try:
        code = run_probe(target, config, ask=partial(click.prompt, hide_input=True, err=True), **options)
    except WrongUse as error:
        raise click.UsageError(str(error)) from error
    sys.exit(code)


@main.command(short_help="Send one mail; no broker is needed.")
@_config_option
@click.option(
    "--to",
    multiple=True,
    required=True,
    help="A name from recipients, a group, or an address; repeatable, or several with commas.",
)
@click.option("--title", help="The subject.")
@click.option("--message", required=True, help="The text; - reads it from standard input.")
@click.option("--severity", type=click.Choice(["info", "warning", "critical"]))
@click.option("--template", default="alert", show_default=True, help="A template, by name.")
@click.option(
    "--attach",
    "attachments",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file to go along; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Print the mail and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome alone, as JSON.")
def send(  # noqa: PLR0917 - click calls it by keywords
    config_path: Path,
    to: tuple[str, ...],
    message: str,
    attachments: tuple[Path, ...],
    dry_run: bool,
    as_json: bool,
    **more: Any,
) -> None:
    """Send one mail by the configured chip and relays; no broker is needed.

    One attempt is made. Exit code 75 means that it was put off and may be made again.

    Example: hardwire send --to alice --title "Test" --message "It works" --attach camera.jpg
    """
    config = _load(config_path)
    from plugin.oneshot import ByHand, RefusedError, dry_run_of, send_once
    from plugin.outbox import OutboxError

    limit_bytes = config.limits.payload_bytes
    try:
        mail = ByHand(
            to=tuple(name.strip() for one in to for name in one.split(",")),
            message=_stdin(limit_bytes).decode("utf-8-sig", "replace") if message == "-" else message,
            files=tuple((path.name, _content(path, limit_bytes)) for path in attachments),
            **more,
        )
        if dry_run:
            draft = dry_run_of(config, mail)
            _tell_notes(draft["notes"])
            # As octets: the mail's line ends are CRLF on every system.
            click.echo(_json(draft) if as_json else draft["mail"].encode(), nl=as_json)
            return
        outcome = send_once(config, mail, dialogue=None if as_json else _tell_line)
    except (RefusedError, OutboxError, OSError) as error:
        _fail(str(error))
    click.echo(_json(outcome) if as_json else json.dumps(outcome, ensure_ascii=False, indent=2))
    sys.exit({"success": 0, "deferred": EXIT_PUT_OFF}.get(outcome["event_type"], EXIT_FAILED))


@main.command(short_help="Render a template.")
@click.argument("template")
@_config_option
@click.option(
    "--payload",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="An alert's payload, JSON or text; - reads standard input; without it an example is used.",
)
@click.option(
    "--part",
    type=click.Choice(["all", "subject", "text", "html", "mail"]),
    default="all",
    show_default=True,
    help="What to print.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the parts as JSON.")
@click.pass_context
def preview(  # noqa: PLR0917 - click calls it by keywords
    ctx: click.Context, template: str, config_path: Path, payload: Path | None, part: str, as_json: bool
) -> None:
    """Render TEMPLATE with a payload, as the mail would have it.

    Without a configuration file the templates of the product are used.

    Example: hardwire preview alert --payload leak.json --part html > leak.html
    """
    config = _load(config_path) if config_path.exists() else None
    if config is None and ctx.get_parameter_source("config_path") is not ParameterSource.DEFAULT:
        _tell_notes([f"there is no {config_path}: the product's templates are used"])
    from plugin.oneshot import RefusedError, preview_of

    limit_bytes = config.limits.payload_bytes if config else MAX_PREVIEW_BYTES
    content: bytes | None = None
    try:
        if payload is not None:
            content = _stdin(limit_bytes) if payload == Path("-") else _content(payload, limit_bytes)
        parts = preview_of(config, template, content)
    except RefusedError as error:
        _fail(str(error))
    if as_json:
        click.echo(_json(parts))
    elif part == "all":
        for name in ("subject", "text", "html"):
            click.echo(click.style(f"--- {name}", bold=True))
            click.echo(parts[name])
    elif part == "mail":
        click.echo(parts["mail"].encode(), nl=False)
    else:
        click.echo(parts[part])
    _tell_notes(parts["notes"])


def _read(path: Path) -> Config:
    from plugin.compose import template_names
    from plugin.config import load

    return load(path, template_names=template_names)


def _load(path: Path) -> Config:
    from plugin.config import ConfigError

    try:
        return _read(path)
    except ConfigError as error:
        _tell_faults(error)
        sys.exit(EXIT_CONFIG)


def _content(path: Path, limit_bytes: int) -> bytes:
    """Return what ``path`` holds, be it a pipe; RefusedError if that is more than ``limit_bytes``."""
    try:
        with path.open("rb") as source:
            return _bounded(source, str(path), limit_bytes)
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from error


def _stdin(limit_bytes: int) -> bytes:
    if sys.stdin is None:
        raise click.UsageError("there is no standard input")
    return _bounded(sys.stdin.buffer, "standard input", limit_bytes)


def _bounded(source: BinaryIO, name: str, limit_bytes: int) -> bytes:
    from plugin.oneshot import RefusedError

    content = source.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise RefusedError(f"{name} is larger than limits.payload_bytes ({limit_bytes} octets) allows")
    return content


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _tell_faults(error: ConfigError) -> None:
    click.echo(str(error), err=True)
    count = len(error.faults)
    click.echo(f"{count} fault{'s' if count > 1 else ''} in the configuration", err=True)


def _tell_line(line: str) -> None:
    # The mail does not depend on whether somebody still reads its dialogue: this runs amid the delivery, which
    # would take the error for one of the network.
    with suppress(OSError):
        click.echo(f"  {line}", err=True)


def _tell_notes(notes: Iterable[str]) -> None:
    for note in notes:
        click.echo(f"note: {note}", err=True)


def _forget_output() -> None:
    """Drop what standard output did not take: Python would try again when it ends, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


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
