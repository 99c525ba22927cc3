"""What is found about whole bridges, its statistics, and the bars it is held to. Pure: nothing here measures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

PEER: Final = "mqttwarn"
PIPELINING: Final = "Hardwire, PIPELINING"
CHUNKING: Final = "Hardwire, CHUNKING"
OURS: Final = (PIPELINING, CHUNKING)

TIMES_AS_FAST: Final = {PIPELINING: 17.0, CHUNKING: 60.0}
"""The least ratio to the peer's mails/s where replies take time; where they take none it is 1."""
SINGLE_FACTOR: Final = 1.3
SINGLE_S: Final = 0.008
MEMORY_BYTES: Final = 60_000_000
INTAKE_PER_S: Final = 2000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Alerts published at once. ``seconds`` from the first publish to the last mail that was accepted."""

    subject: str
    delay_s: float
    alerts: int
    seconds: float
    cpu_s: float
    connections: int

    @property
    def per_s(self) -> float:
        return self.alerts / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Singles:
    """Alerts one after another, each ``seconds`` from publish to accepted; ``connections`` made meanwhile."""

    subject: str
    delay_s: float
    seconds: tuple[float, ...]
    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Resident octets of all processes of a subject: after its first mail, and the most up to its last."""

    subject: str
    first_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """The processor's time that ``seconds`` without an alert took."""

    subject: str
    seconds: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """Alerts published at full speed; ``accepted_s`` from the first publish until all are on the bridge's disk."""

    subject: str
    alerts: int
    published_s: float
    accepted_s: float
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """How many of ``alerts`` alerts have a mail in spite of a trouble, and how many mails there are in all."""

    subject: str
    trouble: str
    alerts: int
    arrived: int
    mails: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All of it. ``peer_missing`` says why the peer has no rows; empty where it has."""

    bursts: tuple[Burst, ...] = ()
    singles: tuple[Singles, ...] = ()
    memories: tuple[Memory, ...] = ()
    idles: tuple[Idle, ...] = ()
    floods: tuple[Flood, ...] = ()
    losses: tuple[Loss, ...] = ()
    peer_missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The bursts of a subject at one delay, in medians."""

    subject: str
    delay_s: float
    alerts: int
    runs: int
    per_s: float
    slowest_per_s: float
    fastest_per_s: float
    cpu_s: float
    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What is wanted, what was found; ``met`` None: that was not measured."""

    what: str
    wanted: str
    found: str
    met: bool | None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the least of ``values`` that ``share`` of them do not exceed; raises ValueError without values."""
    if not values:
        raise ValueError("a percentile needs values")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def bounded(wanted: int, *, each_s: float, budget_s: float) -> int:
    """Return how many of ``wanted`` things that take ``each_s`` fit into ``budget_s``, one at least."""
    return max(1, min(wanted, int(budget_s / each_s)))


def paces(bursts: Sequence[Burst]) -> list[Pace]:
    """Return the medians by delay and subject, in the order of both."""
    delays = sorted({one.delay_s for one in bursts})
    subjects = dict.fromkeys(one.subject for one in bursts)
    grouped = (
        [one for one in bursts if (one.delay_s, one.subject) == (delay_s, subject)]
        for delay_s in delays
        for subject in subjects
    )
    return [_pace(group) for group in grouped if group]


def _pace(group: Sequence[Burst]) -> Pace:
    rates = [one.per_s for one in group]
    return Pace(
        subject=group[0].subject,
        delay_s=group[0].delay_s,
        alerts=group[0].alerts,
        runs=len(group),
        per_s=statistics.median(rates),
        slowest_per_s=min(rates),
        fastest_per_s=max(rates),
        cpu_s=statistics.median(one.cpu_s / one.alerts for one in group),
        connections=statistics.median_high(one.connections for one in group),
    )


def times_as_fast(pace: Pace, all_paces: Sequence[Pace]) -> float | None:
    """Return the ratio to the peer's mails/s at the same delay; None where the peer was not measured."""
    for other in all_paces:
        if (other.subject, other.delay_s) == (PEER, pace.delay_s):
            return pace.per_s / other.per_s
    return None


def peak_bytes(memories: Sequence[Memory], subject: str) -> int | None:
    """Return the most memory that ``subject`` has had; None where that was not measured."""
    return max((one.peak_bytes for one in memories if one.subject == subject), default=None)


def bars(found: Found) -> list[Bar]:
    """Return every bar, in the order of the tables."""
    return [
        *_speed(found),
        *_latency(found),
        *(_memory(found, subject) for subject in OURS),
        *(_intake(one) for one in found.floods if one.subject in OURS),
        *(_loss(one) for one in found.losses if one.subject in OURS),
    ]


def _speed(found: Found) -> Iterator[Bar]:
    measured = paces(found.bursts)
    for pace in measured:
        if pace.subject not in OURS:
            continue
        least = TIMES_AS_FAST[pace.subject] if pace.delay_s else 1.0
        ratio = times_as_fast(pace, measured)
        yield Bar(
            what=f"{pace.subject}: mails/s at {pace.delay_s * 1000:g} ms, to {PEER}",
            wanted=f"at least {least:g}",
            found="-" if ratio is None else f"{ratio:.2f}",
            met=None if ratio is None else ratio >= least,
        )


def _latency(found: Found) -> Iterator[Bar]:
    for one in found.singles:
        if one.subject in OURS:
            most_s = SINGLE_FACTOR * one.delay_s + SINGLE_S
            median_s = percentile(one.seconds, 0.5)
            yield Bar(
                what=f"{one.subject}: p50 of a single alert at {one.delay_s * 1000:g} ms",
                wanted=f"at most {most_s * 1000:.0f} ms",
                found=f"{median_s * 1000:.1f} ms",
                met=median_s <= most_s,
            )


def _memory(found: Found, subject: str) -> Bar:
    peak = peak_bytes(found.memories, subject)
    return Bar(
        what=f"{subject}: resident memory",
        wanted=f"at most {MEMORY_BYTES / 1e6:.0f} MB",
        found="-" if peak is None else f"{peak / 1e6:.1f} MB",
        met=None if peak is None else peak <= MEMORY_BYTES,
    )


def _intake(flood: Flood) -> Bar:
    per_s = flood.alerts / flood.accepted_s
    return Bar(
        what=f"{flood.subject}: intake of {flood.alerts} alerts at once",
        wanted=f"at least {INTAKE_PER_S:.0f}/s",
        found=f"{per_s:.0f}/s",
        met=per_s >= INTAKE_PER_S,
    )


def _loss(loss: Loss) -> Bar:
    return Bar(
        what=f"{loss.subject}: {loss.trouble}",
        wanted=f"{loss.alerts} of {loss.alerts}",
        found=f"{loss.arrived} of {loss.alerts}",
        met=loss.arrived == loss.alerts,
    )
