"""What a mail costs on the SPI bus of a W5100: octets, chip selects, exchanges. Counts, not times.

    .venv/bin/python benchmarks/spi.py

docs/performance.md explains what is counted and how.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.child import ROOT, Child, ChildError
from benchmarks.smtp_clients import MailLostError
from benchmarks.smtp_servers import BuiltInServers
from benchmarks.spi_measure import LANES, MOODS, Figure, figures
from benchmarks.spi_report import as_json, markdown, show, write_docs

PAGE: Final = ROOT / "docs" / "performance.md"
RUNS: Final = 5


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=_lanes, default=LANES, metavar="N,…", help="splits of the memory; 1,2,3")
    parser.add_argument("--runs", type=_positive, default=RUNS, metavar="N", help="mails for a figure; 5")
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


def _lanes(text: str) -> tuple[int, ...]:
    lanes = tuple(dict.fromkeys(int(one) for one in text.split(",")))
    if not set(lanes) <= set(LANES):
        raise argparse.ArgumentTypeError("a chip has 1 to 3 lanes")
    return lanes


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def count(lanes: Sequence[int], runs: int) -> list[Figure]:
    """Return the figures for each number of ``lanes``; raises MailLostError, ChildError, OSError."""
    with Child("benchmarks.smtp_sink") as sink:
        servers = BuiltInServers(MOODS, sink)
        return [one for number in lanes for one in figures(servers, lanes=number, runs=runs)]


def main() -> int:
    """Count and report; 0 done, 1 without figures, or with a page that does not take them."""
    options = arguments()
    try:
        counted = count(options.lanes, options.runs)
    except (MailLostError, ChildError, OSError) as error:
        print(f"no figures: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(as_json(counted), indent=2))
    else:
        show(counted)
    if options.write_docs is not None:
        try:
            write_docs(options.write_docs, markdown(counted))
        except (OSError, ValueError) as error:
            print(f"the page is as it was: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
