"""Round trips and rates of mail clients: Hardwire over the emulated chip, smtplib, aiosmtplib.

    .venv/bin/python benchmarks/smtp.py --quick

Every connection goes through a proxy that adds a delay; docs/performance.md explains what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import smtplib
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import aiosmtplib
from rich.console import Console

from benchmarks.child import ROOT, Child, ChildError
from benchmarks.smtp_clients import CLIENTS, Clients, MailLostError
from benchmarks.smtp_measure import Amounts, Figure, Measurement
from benchmarks.smtp_report import as_json, conditions, markdown, show, write_docs
from benchmarks.smtp_servers import BuiltInServers, Server, read_target
from benchmarks.smtp_sink import MOODS

PAGE: Final = ROOT / "docs" / "performance.md"
DELAYS_MS: Final = (0.0, 20.0, 100.0)
QUICK_DELAYS_MS: Final = (0.0, 20.0)
FULL: Final = {"firsts": 5, "nexts": 10, "burst": 200}
QUICK: Final = {"firsts": 1, "nexts": 3, "burst": 5}
FAULTS: Final = (MailLostError, ChildError, OSError, smtplib.SMTPException, aiosmtplib.SMTPException)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few mails, delays 0 and 20 ms; half a minute")
    parser.add_argument("--runs", type=_positive, default=1, metavar="N", help="do all N times; medians of all")
    parser.add_argument("--delays", type=_delays, metavar="MS,…", help="round-trip times to add, in ms; 0,20,100")
    parser.add_argument("--servers", type=_servers, metavar="NAME,…", help=f"built-in servers: {','.join(MOODS)}")
    parser.add_argument(
        "--target",
        type=_target,
        action="append",
        metavar="NAME=HOST:PORT,to=ADDRESS[,from=ADDRESS][,tls=HOST:PORT][,user=NAME,password=WORD][,ca=FILE]",
        help="a server of yours instead; may be repeated. ADDRESS gets hundreds of mails",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument(
        "--write-docs",
        type=Path,
        nargs="?",
        const=PAGE,
        metavar="PAGE",
        help="put the table into docs/performance.md",
    )
    options = parser.parse_args(given)
    names = [target.name for target in options.target or ()] + list(options.servers or ())
    if len(set(names)) < len(names):
        parser.error("each server needs a name of its own")
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _delays(text: str) -> tuple[float, ...]:
    delays = tuple(float(one) for one in text.split(","))
    if not all(0 <= one <= 10_000 for one in delays):
        raise argparse.ArgumentTypeError("a delay is 0 to 10000 ms")
    return delays


def _servers(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not set(names) <= set(MOODS):
        raise argparse.ArgumentTypeError(f"the built-in servers are {', '.join(MOODS)}")
    return names


def _target(text: str) -> Server:
    try:
        return read_target(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def measure(options: argparse.Namespace, amounts: Amounts) -> tuple[list[Figure], dict[str, int]]:
    """Measure all that ``options`` ask for; return the figures and, by server, how many mails were accepted."""
    delays_ms = options.delays or (QUICK_DELAYS_MS if options.quick else DELAYS_MS)
    with ExitStack() as stack:
        proxy = stack.enter_context(Child("benchmarks.delay_proxy"))
        built_in = None
        servers: list[Server] = list(options.target or ())
        if options.servers or not servers:
            sink = stack.enter_context(Child("benchmarks.smtp_sink"))
            built_in = BuiltInServers(options.servers or tuple(MOODS), sink)
            servers += built_in.servers
        clients = Clients()
        stack.callback(clients.close)

        def check(server: Server, sent: Sequence[bytes], auth: bool, tls: bool) -> None:  # noqa: FBT001 - Check
            if built_in is not None and server.built_in:
                built_in.check_taken(server, sent, auth=auth, tls=tls)

        measurement = Measurement(proxy, clients, check, amounts)
        status = stack.enter_context(Console(stderr=True).status("measuring"))
        figures: list[Figure] = []
        for server in servers:
            for delay_ms in delays_ms:
                for client in CLIENTS:
                    where = f"{server.name}, {delay_ms:g} ms, {client}"
                    status.update(where)
                    try:
                        figures += measurement.figures(server, delay_ms / 1000, client)
                    except FAULTS as error:
                        raise MailLostError(f"{where}: {error}") from error
        return figures, measurement.mails


def main() -> int:
    """Measure and report; 0 done, 1 without figures, or with a page that does not take them."""
    options = arguments()
    amounts = Amounts(**(QUICK if options.quick else FULL), runs=options.runs)
    told = conditions(amounts)
    try:
        figures, mails = measure(options, amounts)
    except FAULTS as error:
        print(f"no figures: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(as_json(figures, told, mails), indent=2))
    else:
        show(figures, told)
    if options.write_docs is not None:
        try:
            write_docs(options.write_docs, markdown(figures, told))
        except (OSError, ValueError) as error:
            print(f"the page is as it was: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
