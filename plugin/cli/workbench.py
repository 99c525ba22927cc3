"""``chip …``: the W5100 looked at by hand."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

import click

from plugin.cli.shared import (
    EXIT_FAILED,
    as_text,
    config_option,
    load_config,
    tell_finding,
    tell_notes,
    trace_options,
    traced,
)

if TYPE_CHECKING:
    from plugin.build import Tap
    from plugin.config import Config
    from plugin.workbench.reach import Hands

EMULATED: Final = (
    "chip.bus is emulator: this is a chip of its own, fresh from its reset; that of a running service is another"
)


@click.group(short_help="Look at the chip: registers, wiring, ping.")
def chip() -> None:
    """Look at the chip by hand: its registers, its wiring, its network.

    Example: hardwire chip status --config hardwire.yaml
    """


@chip.command(short_help="All registers in words; changes nothing.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print all as one JSON object.")
@trace_options
def status(config_path: Path, as_json: bool, trace_path: Path | None, trace_data: bool) -> None:
    """Read all registers, say what they mean, and what is odd about them.

    Nothing is written. A service that has the SPI device open must be stopped first.

    Example: hardwire chip status --config hardwire.yaml
    """
    config = load_config(config_path)
    from plugin.workbench.oddities import oddities
    from plugin.workbench.reach import bus_by_hand, wanted_of
    from plugin.workbench.snapshot import take, wire_to

    _tell_emulated(config)
    with traced(trace_path, data=trace_data) as tap, bus_by_hand(config, tap) as bus:
        snapshot = take(*wire_to(bus))
    odd = list(oddities(snapshot, wanted_of(config)))
    rows = snapshot.as_json()
    if as_json:
        click.echo(as_text({"bus": config.chip.bus, "model": snapshot.model.name, "odd": odd, "registers": rows}))
        return
    click.echo(click.style(f"{snapshot.model.title} on {config.chip.bus}", bold=True))
    for line in _registers(rows):
        click.echo(line)
    for text in odd:
        click.echo(f"{click.style('odd ', fg='yellow')} {text}")
    if not odd:
        click.echo(f"{click.style('ok  ', fg='green')} nothing is odd")


@chip.command(short_help="Test wiring, clock and memory.")
@config_option
@click.option("--reset", is_flag=True, help="Reset the chip and test all; its connections are lost.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@trace_options
def test(config_path: Path, reset: bool, as_json: bool, trace_path: Path | None, trace_data: bool) -> None:
    """Test the wires, the clock and, with --reset, the memory; tell the remedy for what is found.

    Without --reset no connection is lost. A service that has the SPI device open must be stopped first.

    Example: hardwire chip test --config hardwire.yaml --reset
    """
    config = load_config(config_path)
    from plugin.workbench.reach import bus_by_hand
    from plugin.workbench.testing import examine

    _tell_emulated(config)
    findings = []
    with traced(trace_path, data=trace_data) as tap, bus_by_hand(config, tap) as bus:
        for one in examine(bus, reset=reset, clock=time.monotonic, sleep=time.sleep):
            findings.append(one)
            if not as_json:
                tell_finding(one.what, one.text, ok=one.ok)
    if as_json:
        click.echo(as_text([{"what": one.what, "ok": one.ok, "text": one.text} for one in findings]))
    sys.exit(0 if all(one.ok for one in findings) else EXIT_FAILED)


def address(value: str) -> IPv4Address:
    """Take an argument for an IPv4 address."""
    try:
        return IPv4Address(value)
    except AddressValueError:
        raise click.BadParameter(f"{value!r} is no IPv4 address") from None


@chip.command(short_help="Ping the gateway, or ADDRESS.")
@click.argument("target", metavar="[ADDRESS]", required=False, type=address)
@config_option
@click.option("--count", type=click.IntRange(1, 100), default=4, show_default=True, help="How many requests.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1, 60),
    default=3.0,  # the chip gives up on ARP after 1.8 s: silence can be told from no host at all
    show_default=True,
    help="Seconds for each answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what came as one JSON object.")
@trace_options
def ping(
    target: IPv4Address | None,
    config_path: Path,
    as_json: bool,
    trace_path: Path | None,
    trace_data: bool,
    **bounds: Any,
) -> None:
    """Ping the gateway, or ADDRESS, by the chip itself.

    The chip is reset and configured first. A service that has the SPI device open must be stopped before.

    Example: hardwire chip ping 192.168.1.1 --config hardwire.yaml
    """
    config = load_config(config_path)
    from plugin.workbench.pinging import NoTarget, ping_by

    found = []
    with traced(trace_path, data=trace_data) as tap:
        try:
            for one in ping_by(config, target, _hands(tap), **bounds):
                found.append(one)
                if not as_json:
                    tell_finding(f"{one.address} {one.number}", one.text, ok=one.duration_s is not None)
        except NoTarget as error:
            raise click.UsageError(str(error)) from error
    times_s = [one.duration_s for one in found if one.duration_s is not None]
    if as_json:
        pings = [{"number": one.number, "duration_s": one.duration_s, "text": one.text} for one in found]
        click.echo(as_text({"address": str(found[0].address), "answered": len(times_s), "pings": pings}))
    elif times_s:
        least, mean, most = (f"{one * 1000:.2f}" for one in (min(times_s), fmean(times_s), max(times_s)))
        click.echo(f"{len(times_s)} of {len(found)} answered; least {least}, mean {mean}, most {most} ms")
    sys.exit(0 if times_s else EXIT_FAILED)


@chip.command(short_help="Look a name up.")
@click.argument("name")
@config_option
@click.option(
    "--server", "given", multiple=True, type=address, help="A DNS server; repeatable; else chip.network.dns."
)
@click.option("--json", "as_json", is_flag=True, help="Print what came as one JSON object.")
@trace_options
def resolve(  # noqa: PLR0917 - click calls it by keywords
    name: str,
    config_path: Path,
    given: tuple[IPv4Address, ...],
    as_json: bool,
    trace_path: Path | None,
    trace_data: bool,
) -> None:
    """Look NAME up by the chip itself.

    The chip is reset and configured first. A service that has the SPI device open must be stopped before.

    Example: hardwire chip resolve smtp.example.net --config hardwire.yaml
    """
    config = load_config(config_path)
    from plugin.workbench.network import NoServer
    from plugin.workbench.network import resolve as resolve_by

    with traced(trace_path, data=trace_data) as tap:
        try:
            answer = resolve_by(config, name, given, _hands(tap))
        except NoServer as error:
            raise click.UsageError(str(error)) from error
    addresses = [str(one) for one in answer.addresses]
    if as_json:
        click.echo(
            as_text(
                {
                    "name": name,
                    "addresses": addresses,
                    "servers": [str(one) for one in answer.servers],
                    "duration_s": answer.duration_s,
                    "problem": answer.problem,
                }
            )
        )
    else:
        found = f"{', '.join(addresses)}, after {answer.duration_s * 1000:.0f} ms"
        tell_finding(name, answer.problem or found, ok=answer.problem is None)
    sys.exit(0 if answer.problem is None else EXIT_FAILED)


@chip.command(short_help="Obtain an address by DHCP.")
@config_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1, 300),
    default=60.0,
    show_default=True,
    help="Seconds in all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the lease as one JSON object.")
@trace_options
def dhcp(config_path: Path, timeout_s: float, as_json: bool, trace_path: Path | None, trace_data: bool) -> None:
    """Obtain an address by DHCP, show what the server gives, and leave it at that.

    The chip is reset first. A service that has the SPI device open must be stopped before. The lease is not given
    back; it runs out.

    Example: hardwire chip dhcp --config hardwire.yaml
    """
    config = load_config(config_path)
    from plugin.workbench import network

    with traced(trace_path, data=trace_data) as tap:
        lease = network.lease_by_hand(config, _hands(tap), timeout_s=timeout_s)
    problem = lease if isinstance(lease, str) else None
    shown = network.as_json(None if isinstance(lease, str) else lease)
    if as_json:
        click.echo(as_text({**shown, "problem": problem}))
    elif problem is not None:
        tell_finding("DHCP", problem, ok=False)
    else:
        for what, value in shown.items():
            click.echo(f"{what:<10} {', '.join(value) if isinstance(value, list) else value}")
    sys.exit(0 if problem is None else EXIT_FAILED)


def _tell_emulated(config: Config) -> None:
    if config.chip.bus == "emulator":
        tell_notes([EMULATED])


def _hands(tap: Tap | None) -> Hands:
    from plugin.workbench.reach import Hands

    return Hands(clock=time.monotonic, sleep=time.sleep, tap=tap)


def _registers(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each register; of a socket that was never opened one line alone."""
    values = {one["name"]: one["value"] for one in rows}
    for one in rows:
        socket, _, name = one["name"].partition("_")
        if not name or (values[f"{socket}_MR"], values[f"{socket}_SR"]) != ("00", "00"):
            value = bytes.fromhex(one["value"]).hex(" ")
            yield f"  {one['name']:<10} {one['address']}  {value:<18} {one['text']}".rstrip()
        elif name == "MR":
            yield f"  {socket:<10} CLOSED, and not opened since the reset"
