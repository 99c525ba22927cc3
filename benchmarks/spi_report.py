"""What a mail costs on the SPI bus, for people and for programs: tables for terminal and documentation, JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.spi_count import LIMITS, OPERATIONS
from benchmarks.spi_measure import MAILS_BYTES, Figure
from plugin.w5100.bus import FRAME_BYTES

BEGIN: Final = "<!-- benchmarks/spi.py writes from here -->"
END: Final = "<!-- to here: benchmarks/spi.py -->"
WIDTH_CHARS: Final = 150
"""Where the output is no terminal, which would have a width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another driver: octets on the bus and their ratio to the floor, for a mail of each of MAILS_BYTES.

    Each of its frames would be a system call. Arduino's and WIZnet's are the best case.
    """

    name: str
    octets: tuple[int, int]
    ratios: tuple[float, float]


PEERS: Final = (
    Peer(name="Arduino Ethernet", octets=(5936, 414_040), ratios=(1.141, 1.008)),
    Peer(name="WIZnet ioLibrary", octets=(6176, 415_476), ratios=(1.187, 1.012)),
    Peer(name="adafruit wiznet5k, as W5100 frames", octets=(6364, 414_868), ratios=(1.223, 1.010)),
)

HEAD: Final = (
    "mail",
    "driver",
    "SPI octets",
    "to the floor",
    "chip selects",
    "exchanges",
    *(f"calls of {limit}" for limit in LIMITS),
    "looks in vain",
)
HEAD_FRAMES: Final = ("what for", *(f"{size // 1024} KiB mail" for size in MAILS_BYTES))


def rows(figures: Sequence[Figure]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table, by size of the mail: ours, then the peers'."""
    for index, mail_bytes in enumerate(MAILS_BYTES):
        mail = f"{mail_bytes // 1024} KiB"
        for one in figures:
            if one.mail_bytes == mail_bytes:
                yield (mail, *_ours(one))
        for peer in PEERS:
            octets = peer.octets[index]
            frames = f"{octets // FRAME_BYTES:,}"
            yield (mail, peer.name, f"{octets:,}", f"{peer.ratios[index]:.3f}", *(frames,) * (2 + len(LIMITS)), "")


def _ours(figure: Figure) -> tuple[str, ...]:
    counted = figure.cost.counted
    lanes = "1 lane" if figure.lanes == 1 else f"{figure.lanes} lanes"
    return (
        f"Hardwire, {figure.server}, {lanes}",
        f"{counted.octets:,}",
        f"{figure.ratio:.4f}",
        f"{counted.frames:,}",
        f"{counted.total.exchanges:,}",
        *(f"{counted.calls[limit]:,}" for limit in LIMITS),
        f"{counted.looks_in_vain}",
    )


def frames_by_operation(figures: Sequence[Figure]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each operation: its exchanges and its frames beside the data, for the first of each mail."""
    firsts = [next(one for one in figures if one.mail_bytes == size).cost.counted for size in MAILS_BYTES]
    for name, words in OPERATIONS.items():
        found = [one.operations.get(name) for one in firsts]
        if any(found):
            yield (words, *(f"{one.exchanges}: {one.other_frames}" if one else "-" for one in found))


def sentence(figures: Sequence[Figure]) -> str:
    """Return what the figures are of, in words."""
    payloads = [next(one for one in figures if one.mail_bytes == size).cost.payload_bytes for size in MAILS_BYTES]
    spread = max(one.octets_most - one.octets_least for one in figures)
    return (
        f"Payload of the first rows: {' and '.join(f'{one:,}' for one in payloads)} octets; "
        f"medians of {figures[0].runs}, which differ by {spread} SPI octets at most"
    )


def show(figures: Sequence[Figure]) -> None:
    """Print both tables."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_CHARS
    table = Table(HEAD[0], HEAD[1])
    for title in HEAD[2:]:
        table.add_column(title, justify="right")
    last = ""
    for row in rows(figures):
        if last and row[0] != last:
            table.add_section()
        last = row[0]
        table.add_row(*row)
    console.print(table)
    beside = Table(*HEAD_FRAMES, title="Exchanges: frames beside the data", title_justify="left")
    for row in frames_by_operation(figures):
        beside.add_row(*row)
    console.print(beside)
    console.print(f"{sentence(figures)}.", soft_wrap=True)


def as_json(figures: Sequence[Figure]) -> dict[str, Any]:
    """Return all that was counted, and the figures of the peers."""
    return {
        "figures": [
            {
                "server": one.server,
                "lanes": one.lanes,
                "mail_bytes": one.mail_bytes,
                "payload_bytes": one.cost.payload_bytes,
                "floor_octets": one.floor_octets,
                "spi_octets": one.cost.counted.octets,
                "ratio": one.ratio,
                "chip_selects": one.cost.counted.frames,
                "data_frames": one.cost.counted.total.data_frames,
                "exchanges": one.cost.counted.total.exchanges,
                "calls": {str(limit): calls for limit, calls in one.cost.counted.calls.items()},
                "looks_in_vain": one.cost.counted.looks_in_vain,
                "operations": {
                    name: {
                        "exchanges": operation.exchanges,
                        "data_frames": operation.data_frames,
                        "other_frames": operation.other_frames,
                    }
                    for name, operation in one.cost.counted.operations.items()
                },
                "runs": one.runs,
                "spi_octets_least": one.octets_least,
                "spi_octets_most": one.octets_most,
            }
            for one in figures
        ],
        "peers": [
            {"driver": peer.name, "mail_bytes": size, "spi_octets": octets, "ratio": ratio}
            for peer in PEERS
            for size, octets, ratio in zip(MAILS_BYTES, peer.octets, peer.ratios, strict=True)
        ],
    }


def markdown(figures: Sequence[Figure]) -> str:
    """Return the tables for the documentation."""
    lines = [f"{sentence(figures)}.", "", f"| {' | '.join(HEAD)} |"]
    lines.append("| --- | --- " + "| ---: " * (len(HEAD) - 2) + "|")
    lines += [f"| {' | '.join(row)} |" for row in rows(figures)]
    lines += ["", "Exchanges: frames beside the data, for the first rows of Hardwire.", ""]
    lines += [f"| {' | '.join(HEAD_FRAMES)} |", "| --- " + "| ---: " * len(MAILS_BYTES) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in frames_by_operation(figures)]
    return "\n".join(lines)


def write_docs(page: Path, text: str) -> None:
    """Put ``text`` between the two marks of ``page``; raises ValueError where they are not there once each."""
    whole = page.read_text()
    if whole.count(BEGIN) != 1 or whole.count(END) != 1 or whole.index(BEGIN) > whole.index(END):
        raise ValueError(f"{page} needs the lines {BEGIN} and {END}, once each, for the tables to stand between")
    before, rest = whole.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")
