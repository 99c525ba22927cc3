"""What all commands have in common: the group, its options, its exit codes, how it tells what went wrong."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from plugin import __version__

if TYPE_CHECKING:
    from plugin.build import Tap
    from plugin.config import Config, ConfigError

# What a command needs is imported by it: help is quick, and Ctrl-C meets click's handling of it, not an import.

EXIT_FAILED: Final = 1
EXIT_PUT_OFF: Final = 75  # EX_TEMPFAIL of sysexits.h
EXIT_CONFIG: Final = 78  # EX_CONFIG

F = TypeVar("F", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(readable=False, path_type=Path),  # what is wrong with it is a fault of the configuration: 78
    default=Path("hardwire.yaml"),
    show_default=True,
    help="The configuration file.",
)


def trace_options(command: F) -> F:
    """Add the options of a command that uses the chip; ``traced`` makes of them what is put before the bus."""
    content = click.option(
        "--trace-data",
        is_flag=True,
        help="Trace the content of the chip's memory too. It holds whole mails, and passwords where TLS does not "
        "hide them; without this it is traced as counts.",
    )
    file = click.option(
        "--trace",
        "trace_path",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write what goes over SPI to FILE, and as signals (PulseView, GTKWave) to FILE.vcd, 64 MiB each at "
        "most.",
    )
    return file(content(command))


@contextmanager
def traced(path: Path | None, *, data: bool) -> Iterator[Tap | None]:
    """Give what ``--trace`` and ``--trace-data`` put before the bus, None without them."""
    if path is None:
        if data:
            raise click.UsageError("--trace-data needs --trace FILE")
        yield None
        return
    from plugin.workbench.tracing import tracing

    with tracing(path, data=data) as tap:
        yield tap


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
            fail(f"{place}{error.strerror or error}")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hardwire")
def main() -> None:
    """Hardwire: alerts from MQTT leave as mail through a WIZnet W5100.

    Start with: hardwire demo
    """


def read_config(path: Path) -> Config:
    """Return the configuration; raises ConfigError."""
    from plugin.compose import template_names
    from plugin.config import load

    return load(path, template_names=template_names)


def load_config(path: Path) -> Config:
    """Return the configuration; its faults are told, and end the process."""
    from plugin.config import ConfigError

    try:
        return read_config(path)
    except ConfigError as error:
        tell_faults(error)
        sys.exit(EXIT_CONFIG)


def as_text(value: Any) -> str:
    """Return ``value`` as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


def tell_faults(error: ConfigError) -> None:
    """Write the faults of a configuration to standard error."""
    click.echo(str(error), err=True)
    count = len(error.faults)
    click.echo(f"{count} fault{'s' if count > 1 else ''} in the configuration", err=True)


def tell_finding(what: str, text: str, *, ok: bool) -> None:
    """Write one finding to standard output."""
    mark = click.style("ok  ", fg="green") if ok else click.style("FAIL", fg="red", bold=True)
    click.echo(f"{mark} {what}: {text}")


def tell_notes(notes: Iterable[str]) -> None:
    """Write notes to standard error."""
    for note in notes:
        click.echo(f"note: {note}", err=True)


def fail(reason: str) -> NoReturn:
    """End the process with the code for a failure; ``reason`` is the last line of standard error."""
    click.echo(f"hardwire: {reason}", err=True)
    sys.exit(EXIT_FAILED)


def _forget_output() -> None:
    """Drop what standard output did not take: Python would try again when it ends, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
