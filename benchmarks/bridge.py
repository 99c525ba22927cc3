"""The whole bridge beside mqttwarn: mails/s, latency, memory, intake, and what each loses.

    .venv/bin/python benchmarks/bridge.py --quick

``hardwire run`` on the emulated chip with its outbox on disk, a mosquitto, a mail server whose replies are late.
docs/performance.md explains what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.bridge_measure import Amounts, Measurement
from benchmarks.bridge_report import as_json, conditions, markdown, show, write_docs
from benchmarks.bridge_subjects import OURS, BridgeError, PeerMissingError, installed_peer, peer
from benchmarks.child import ROOT, ChildError
from plugin.demo.broker import mosquitto_binary

PAGE: Final = ROOT / "docs" / "performance.md"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hardwire-benchmarks"
FULL: Final = Amounts(
    delays_s=(0.0, 0.02, 0.1),
    alerts=500,
    singles=200,
    runs=3,
    idle_s=30.0,
    flood=20_000,
    losses=False,
    budget_s=20.0,
)
QUICK: Final = replace(FULL, alerts=20, singles=5, runs=1, idle_s=2.0, flood=500, budget_s=1.5)
FAULTS: Final = (BridgeError, ChildError, AssertionError, OSError, subprocess.SubprocessError)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few alerts; under a minute")
    parser.add_argument("--runs", type=_positive, metavar="N", help=f"bursts for a figure; {FULL.runs}")
    parser.add_argument("--losses", action="store_true", help="also kill it, and take its mail server away")
    parser.add_argument("--alone", action="store_true", help="without mqttwarn")
    parser.add_argument(
        "--cache", type=Path, default=CACHE, metavar="FOLDER", help=f"where mqttwarn is installed to; {CACHE}"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    parser.add_argument(
        "--write-docs",
        type=Path,
        nargs="?",
        const=PAGE,
        metavar="PAGE",
        help="put the tables into docs/performance.md",
    )
    return parser.parse_args(given)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def amounts_of(options: argparse.Namespace) -> Amounts:
    """Return how much ``options`` ask for."""
    amounts = QUICK if options.quick else FULL
    return replace(amounts, runs=options.runs or amounts.runs, losses=options.losses)


def main() -> int:
    """Measure and report; 0 done, bars met or missed; 1 without figures, or a page that does not take them."""
    options = arguments()
    amounts = amounts_of(options)
    told = conditions(amounts, quick=options.quick)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is ended
    if mosquitto_binary() is None:
        print("no figures: there is no mosquitto on this machine", file=sys.stderr)
        return 1
    subjects, peer_missing = list(OURS), ""
    with Console(stderr=True).status("measuring") as status:
        if options.alone:
            peer_missing = "it was not asked for"
        else:
            status.update("installing mqttwarn")
            try:
                subjects.insert(0, peer(installed_peer(options.cache)))
            except PeerMissingError as error:
                peer_missing = str(error)
        try:
            found = Measurement(amounts, status.update).all(subjects, peer_missing)
        except FAULTS as error:
            print(f"no figures: {error}", file=sys.stderr)
            return 1
    if options.json:
        print(json.dumps(as_json(found, told), indent=2))
    else:
        show(found, told)
    if options.write_docs is not None:
        try:
            write_docs(options.write_docs, markdown(found, told))
        except (OSError, ValueError) as error:
            print(f"the page is as it was: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
