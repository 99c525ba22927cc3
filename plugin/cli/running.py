"""``run`` and ``demo``: the service, and the show of it."""

from __future__ import annotations

import logging
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from plugin.cli.shared import (
    EXIT_CONFIG,
    EXIT_FAILED,
    config_option,
    fail,
    load_config,
    read_config,
    trace_options,
    traced,
)

if TYPE_CHECKING:
    from plugin.build import Tap
    from plugin.config import Config


@click.command(short_help="Run the service.")
@config_option
@click.option("--verbose", "-v", is_flag=True, help="Log every step.")
@trace_options
def run(config_path: Path, verbose: bool, trace_path: Path | None, trace_data: bool) -> None:
    """Run the service until SIGTERM; SIGHUP has it read its configuration again.

    Example: hardwire run --config /etc/hardwire/hardwire.yaml
    """
    config = load_config(config_path)
    _log_to_stderr(logging.DEBUG if verbose else logging.INFO)
    for warning in config.warnings:
        logging.getLogger("hardwire.config").warning(
            "event=configuration_warning place=%r text=%r", warning.place, warning.text
        )
    with traced(trace_path, data=trace_data) as tap:
        _run(config, config_path, tap)


def _run(config: Config, config_path: Path, tap: Tap | None) -> None:
    from plugin.outbox import OutboxError
    from plugin.service import Running, ThreadDied, Watch

    try:
        running = Running(config, reread=partial(read_config, config_path), watch=Watch(tap=tap))
    except (OutboxError, OSError) as error:
        fail(str(error))
    except ValueError as error:  # what only its use can show: certificates that cannot be loaded
        click.echo(f"{config_path}: {error}", err=True)
        sys.exit(EXIT_CONFIG)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.request_stop())
    signal.signal(signal.SIGHUP, lambda *_: running.request_reload())
    try:
        running.run()
    except (ThreadDied, OutboxError) as error:
        fail(str(error))


@click.command(short_help="Show the main job; nothing else is needed.")
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
        fail(f"the demo needs what the extra brings ({package} is missing): pip install 'hardwire[demo]'")
    try:
        good = run_demo(output, stay=stay, kind=broker)
    except DemoError as error:
        fail(str(error))
    sys.exit(0 if good else EXIT_FAILED)


class OneLine(logging.Formatter):
    """One line an event: a traceback comes as ``trace='…'``, and no line end gets through."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        """Return the traceback as one value."""
        return f"trace={super().formatException(ei)!r}"

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return " ".join(super().format(record).splitlines())


def _log_to_stderr(level: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("hardwire").setLevel(level)
