"""What was found about whole bridges, for people and for programs: tables for terminal and documentation, JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.bridge_figures import PEER, Found, Memory, bars, paces, percentile, times_as_fast
from benchmarks.bridge_measure import Amounts
from benchmarks.bridge_subjects import LANES, PEER_VERSION

BEGIN: Final = "<!-- benchmarks/bridge.py writes from here -->"
END: Final = "<!-- to here: benchmarks/bridge.py -->"
TIMES: Final = "\N{MULTIPLICATION SIGN}"
WIDTH_CHARS: Final = 150
"""Where the output is no terminal, which would have a width."""
WORDS: Final = {True: "met", False: "missed", None: "not measured"}
NO_FIGURE: Final = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One table; the first ``words`` columns are text, the others figures."""

    title: str
    head: tuple[str, ...]
    words: int
    rows: tuple[tuple[str, ...], ...]


def conditions(amounts: Amounts, *, quick: bool) -> dict[str, Any]:
    """Return what was measured with and on. The machine's name is nobody's business."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "hardwire": version("hardwire"),
        PEER: PEER_VERSION,
        "lanes": LANES,
        "runs": amounts.runs,
        "quick": quick,
    }


def sentences(found: Found, told: dict[str, Any]) -> str:
    """Return the conditions in words, and why rows are missing."""
    missing = f" There are no rows of {PEER}: {found.peer_missing}." if found.peer_missing else ""
    quick = " A quick run: so few alerts are no match for the bars." if told["quick"] else ""
    return (
        f"{told['python']}, {told['system']}, {told['cores']} cores, load {told['load']:.1f} at the start; "
        f"Hardwire {told['hardwire']} with {told['lanes']} lanes, {PEER} {told[PEER]} with 1 worker; "
        f"bursts: medians of {told['runs']}.{quick}{missing}"
    )


def sheets(found: Found) -> list[Sheet]:
    """Return the tables that have rows."""
    every = [
        Sheet(
            title="Bursts and single alerts",
            head=(
                "replies after",
                "bridge",
                "mails/s",
                "slowest to fastest",
                f"to {PEER}",
                "CPU ms a mail",
                "connections",
                "alerts",
                "single p50 ms",
                "p99 ms",
                "singles",
            ),
            words=2,
            rows=tuple(_speed(found)),
        ),
        Sheet(
            title="Memory and idling",
            head=("bridge", "MB after the first mail", "MB at most", "idle, % of a core", "idle for s"),
            words=1,
            rows=tuple(_upkeep(found)),
        ),
        Sheet(
            title="Flood",
            head=("bridge", "alerts", "published/s", "accepted/s", "MB at most"),
            words=1,
            rows=tuple(_flood(found)),
        ),
        Sheet(
            title="What arrives in spite of it",
            head=("bridge", "trouble", "alerts", "arrived", "lost", "mails too many"),
            words=2,
            rows=tuple(_losses(found)),
        ),
        Sheet(
            title="Bars",
            head=("what", "bar", "found", ""),
            words=4,
            rows=tuple((one.what, one.wanted, one.found, WORDS[one.met]) for one in bars(found)),
        ),
    ]
    return [one for one in every if one.rows]


def _speed(found: Found) -> Iterator[tuple[str, ...]]:
    measured = paces(found.bursts)
    singles = {(one.subject, one.delay_s): one for one in found.singles}
    for pace in measured:
        ratio = None if pace.subject == PEER else times_as_fast(pace, measured)
        single = singles.get((pace.subject, pace.delay_s))
        shown = (NO_FIGURE,) * 3
        if single is not None:
            median_s, late_s = (percentile(single.seconds, share) for share in (0.5, 0.99))
            shown = (f"{median_s * 1000:.1f}", f"{late_s * 1000:.1f}", str(len(single.seconds)))
        yield (
            f"{pace.delay_s * 1000:g} ms",
            pace.subject,
            f"{pace.per_s:.1f}",
            f"{pace.slowest_per_s:.1f} to {pace.fastest_per_s:.1f}",
            NO_FIGURE if ratio is None else f"{TIMES}{ratio:.2f}",
            f"{pace.cpu_s * 1000:.2f}",
            str(pace.connections),
            str(pace.alerts),
            *shown,
        )


def _upkeep(found: Found) -> Iterator[tuple[str, ...]]:
    idles = {one.subject: one for one in found.idles}
    by_subject: dict[str, list[Memory]] = {}
    for memory in found.memories:
        by_subject.setdefault(memory.subject, []).append(memory)
    for subject, memories in by_subject.items():
        idle = idles.get(subject)
        shown = (NO_FIGURE,) * 2
        if idle is not None:
            shown = (f"{idle.cpu_s / idle.seconds * 100:.2f}", f"{idle.seconds:.0f}")
        first, most = max(one.first_bytes for one in memories), max(one.peak_bytes for one in memories)
        yield (subject, f"{first / 1e6:.1f}", f"{most / 1e6:.1f}", *shown)


def _flood(found: Found) -> Iterator[tuple[str, ...]]:
    for one in found.floods:
        published, accepted = one.alerts / one.published_s, one.alerts / one.accepted_s
        megabytes = f"{one.peak_bytes / 1e6:.1f}"
        yield (one.subject, f"{one.alerts}", f"{published:.0f}", f"{accepted:.0f}", megabytes)


def _losses(found: Found) -> Iterator[tuple[str, ...]]:
    for one in found.losses:
        lost, again = one.alerts - one.arrived, one.mails - one.arrived
        yield (one.subject, one.trouble, f"{one.alerts}", f"{one.arrived}", f"{lost}", f"{again}")


def show(found: Found, told: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_CHARS
    for sheet in sheets(found):
        table = Table(title=sheet.title, title_justify="left")
        for place, title in enumerate(sheet.head):
            words = place < sheet.words
            table.add_column(title, justify="left" if words else "right", no_wrap=words)
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)
    console.print(sentences(found, told), soft_wrap=True)


def markdown(found: Found, told: dict[str, Any]) -> str:
    """Return the tables for the documentation."""
    parts = [sentences(found, told)]
    for sheet in sheets(found):
        figures = len(sheet.head) - sheet.words
        lines = [f"| {' | '.join(sheet.head)} |", "| --- " * sheet.words + "| ---: " * figures + "|"]
        lines += [f"| {' | '.join(row)} |" for row in sheet.rows]
        parts += [f"{sheet.title}:", "\n".join(lines)]
    return "\n\n".join(parts)


def as_json(found: Found, told: dict[str, Any]) -> dict[str, Any]:
    """Return all that was found, every run and every single alert of it, and the bars."""
    return {"conditions": told, **asdict(found), "bars": [asdict(one) for one in bars(found)]}


def write_docs(page: Path, text: str) -> None:
    """Put ``text`` between the two marks of ``page``; raises ValueError where they are not there once each."""
    whole = page.read_text()
    if whole.count(BEGIN) != 1 or whole.count(END) != 1 or whole.index(BEGIN) > whole.index(END):
        raise ValueError(f"{page} needs the lines {BEGIN} and {END}, once each, for the tables to stand between")
    before, rest = whole.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")
