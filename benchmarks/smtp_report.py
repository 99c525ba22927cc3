"""Figures for people and for programs: a table for the terminal, one for the documentation, JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.smtp_clients import BASELINE, CLIENTS
from benchmarks.smtp_measure import BURST, CASES, Amounts, Figure, times_as_fast

BEGIN: Final = "<!-- benchmarks/smtp.py writes from here -->"
END: Final = "<!-- to here -->"
TIMES: Final = "\N{MULTIPLICATION SIGN}"
WIDTH_CHARS: Final = 150
"""Where the output is no terminal, which would have a width."""


def conditions(amounts: Amounts) -> dict[str, Any]:
    """Return what was measured with and on. The machine's name is nobody's business."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "hardwire": version("hardwire"),
        "aiosmtplib": version("aiosmtplib"),
        "first_mails": amounts.firsts,
        "next_mails": amounts.nexts,
        "burst_mails": amounts.burst,
        "runs": amounts.runs,
    }


def sentence(told: Mapping[str, Any]) -> str:
    """Return the conditions in words."""
    return (
        f"{told['python']}, {told['system']}, {told['cores']} cores, aiosmtplib {told['aiosmtplib']}; "
        f"first mails: {told['first_mails']}, next mails: {told['next_mails']}, "
        f"mails in a burst: {told['burst_mails']}, runs: {told['runs']}; medians"
    )


def cell(figure: Figure, figures: Sequence[Figure]) -> str:
    """Return a figure as it stands in a table; what the others are compared with has no ratio."""
    ratio = "" if figure.client == BASELINE else f" {TIMES}{times_as_fast(figure, figures):.1f}"
    if figure.case == BURST:
        return f"{1 / figure.seconds:.1f}/s{ratio}"
    milliseconds = figure.seconds * 1000
    time = f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
    trips = "" if figure.round_trips is None else f" {figure.round_trips:.1f} RTT"
    return f"{time}{trips} ({figure.flights}){ratio}"


def rows(figures: Sequence[Figure]) -> Iterator[tuple[str, ...]]:
    """Yield RTT, case and a cell for each client, for the figures of one server; "-" is what is not measured."""
    for rtt_s in dict.fromkeys(one.rtt_s for one in figures):
        for case, title in CASES.items():
            found = {one.client: one for one in figures if (one.rtt_s, one.case) == (rtt_s, case)}
            if found:
                cells = (cell(found[client], figures) if client in found else "-" for client in CLIENTS)
                yield (f"{rtt_s * 1000:g} ms", title, *cells)


def by_server(figures: Sequence[Figure]) -> dict[str, list[Figure]]:
    """Return the figures by server, in their order."""
    servers = dict.fromkeys(one.server for one in figures)
    return {server: [one for one in figures if one.server == server] for server in servers}


def show(figures: Sequence[Figure], told: Mapping[str, Any]) -> None:
    """Print one table for each server."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_CHARS
    for server, of_server in by_server(figures).items():
        table = Table("RTT", "", *CLIENTS, title=f"Server: {server}", title_justify="left")
        last = ""
        for row in rows(of_server):
            if last and row[0] != last:
                table.add_section()
            last = row[0]
            table.add_row(*row)
        console.print(table)
    console.print(
        f"(n): round trips counted, {TIMES}n: times as fast as {BASELINE}. {sentence(told)}.", soft_wrap=True
    )


def as_json(figures: Sequence[Figure], told: Mapping[str, Any], mails: Mapping[str, int]) -> dict[str, Any]:
    """Return all that was found. ``mails`` are, by server, the mails that were sent, all of them accepted."""
    return {
        "conditions": dict(told),
        "mails": dict(mails),
        "figures": [
            {
                "server": one.server,
                "rtt_s": one.rtt_s,
                "client": one.client,
                "case": one.case,
                "seconds": one.seconds,
                "mails_per_s": 1 / one.seconds,
                "round_trips": one.round_trips,
                "flights": one.flights,
                "times_as_fast": times_as_fast(one, figures),
                "samples": one.samples,
            }
            for one in figures
        ],
    }


def markdown(figures: Sequence[Figure], told: Mapping[str, Any]) -> str:
    """Return the tables for the documentation."""
    parts = [f"{sentence(told)}."]
    for server, of_server in by_server(figures).items():
        lines = [f"| {server} | | {' | '.join(CLIENTS)} |", "| --- " * (2 + len(CLIENTS)) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in rows(of_server)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def write_docs(page: Path, text: str) -> None:
    """Put ``text`` between the two marks of ``page``; raises ValueError where they are not there once each."""
    whole = page.read_text()
    if whole.count(BEGIN) != 1 or whole.count(END) != 1 or whole.index(BEGIN) > whole.index(END):
        raise ValueError(f"{page} needs the lines {BEGIN} and {END}, once each, for the table to stand between")
    before, rest = whole.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")
