"""``send`` and ``preview``: one mail by hand, or how it would look."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
from click.core import ParameterSource

from plugin.cli.shared import (
    EXIT_FAILED,
    EXIT_PUT_OFF,
    as_text,
    config_option,
    fail,
    load_config,
    tell_notes,
    trace_options,
    traced,
)

MAX_PREVIEW_BYTES: Final = 10_485_760  # where no configuration names limits.payload_bytes


@click.command(short_help="Send one mail; no broker is needed.")
@config_option
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
@trace_options
def send(  # noqa: PLR0917 - click calls it by keywords
    config_path: Path,
    to: tuple[str, ...],
    message: str,
    attachments: tuple[Path, ...],
    dry_run: bool,
    as_json: bool,
    trace_path: Path | None,
    trace_data: bool,
    **more: Any,
) -> None:
    """Send one mail by the configured chip and relays; no broker is needed.

    One attempt is made. Exit code 75 means that it was put off and may be made again.

    Example: hardwire send --to alice --title "Test" --message "It works" --attach camera.jpg
    """
    config = load_config(config_path)
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
            tell_notes(draft["notes"])
            # As octets: the mail's line ends are CRLF on every system.
            click.echo(as_text(draft) if as_json else draft["mail"].encode(), nl=as_json)
            return
        with traced(trace_path, data=trace_data) as tap:
            outcome = send_once(config, mail, dialogue=None if as_json else _tell_line, tap=tap)
    except (RefusedError, OutboxError, OSError) as error:
        fail(str(error))
    click.echo(as_text(outcome) if as_json else json.dumps(outcome, ensure_ascii=False, indent=2))
    sys.exit({"success": 0, "deferred": EXIT_PUT_OFF}.get(outcome["event_type"], EXIT_FAILED))


@click.command(short_help="Render a template.")
@click.argument("template")
@config_option
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
    config = load_config(config_path) if config_path.exists() else None
    if config is None and ctx.get_parameter_source("config_path") is not ParameterSource.DEFAULT:
        tell_notes([f"there is no {config_path}: the product's templates are used"])
    from plugin.oneshot import RefusedError, preview_of

    limit_bytes = config.limits.payload_bytes if config else MAX_PREVIEW_BYTES
    content: bytes | None = None
    try:
        if payload is not None:
            content = _stdin(limit_bytes) if payload == Path("-") else _content(payload, limit_bytes)
        parts = preview_of(config, template, content)
    except RefusedError as error:
        fail(str(error))
    if as_json:
        click.echo(as_text(parts))
    elif part == "all":
        for name in ("subject", "text", "html"):
            click.echo(click.style(f"--- {name}", bold=True))
            click.echo(parts[name])
    elif part == "mail":
        click.echo(parts["mail"].encode(), nl=False)
    else:
        click.echo(parts[part])
    tell_notes(parts["notes"])


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


def _tell_line(line: str) -> None:
    # The mail does not depend on whether somebody still reads its dialogue: this runs amid the delivery, which
    # would take the error for one of the network.
    try:
        click.echo(f"  {line}", err=True)
    except OSError:
        # What is buffered would be written once more at the end, and Python would exit with 120 for it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
