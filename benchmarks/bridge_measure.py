"""How one figure of a whole bridge comes about: each in a house that is new, with nothing else running in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.bridge_figures import Burst, Flood, Found, Idle, Loss, Memory, Singles, bounded
from benchmarks.bridge_house import House, wait_for
from benchmarks.bridge_subjects import BridgeError, Running, Subject

SLACK_S: Final = 60.0
MAIL_S: Final = 0.05
"""What a mail takes beside its replies, at the very most."""
PAUSE_S: Final = 0.05
LOG_STEP_S: Final = 0.02
SETTLE_S: Final = 2.0
KILLED: Final = "kill -9 after a fifth, started again"
AWAY: Final = "mail server away for {:g} s after a fifth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """How much is done. ``budget_s`` bounds one burst and one row of singles of a slow subject; it does fewer.

    ``silence_s``: so long without a mail, and nothing more is expected after a trouble.
    """

    delays_s: tuple[float, ...]
    alerts: int
    singles: int
    runs: int
    idle_s: float
    flood: int
    losses: bool
    budget_s: float
    away_s: float = 20.0
    silence_s: float = 25.0


class Measurement:
    """Measures subjects, and keeps what it has found."""

    def __init__(self, amounts: Amounts, tell: Callable[[str], None]) -> None:
        """``tell`` hears what is measured now."""
        self._amounts = amounts
        self._tell = tell
        self._bursts: list[Burst] = []
        self._singles: list[Singles] = []
        self._memories: list[Memory] = []
        self._idles: list[Idle] = []
        self._floods: list[Flood] = []
        self._losses: list[Loss] = []

    def all(self, subjects: Sequence[Subject], peer_missing: str = "") -> Found:
        """Measure everything about ``subjects``, turn and turn about; raises BridgeError, ChildError, OSError."""
        for run in range(self._amounts.runs):
            for delay_s in self._amounts.delays_s:
                for subject in subjects:
                    self._tell(f"{subject.name}, replies after {delay_s * 1000:g} ms, run {run + 1}")
                    self._visit(subject, delay_s, first=run == 0)
        for subject in subjects:
            if self._amounts.flood and subject.accepted is not None:
                self._tell(f"{subject.name}, a flood")
                self._flood(subject, subject.accepted)
            if self._amounts.losses:
                for trouble in (self._killed, self._away):
                    self._tell(f"{subject.name}, what is lost")
                    trouble(subject)
        return Found(
            bursts=tuple(self._bursts),
            singles=tuple(self._singles),
            memories=tuple(self._memories),
            idles=tuple(self._idles),
            floods=tuple(self._floods),
            losses=tuple(self._losses),
            peer_missing=peer_missing,
        )

    def _visit(self, subject: Subject, delay_s: float, *, first: bool) -> None:
        with House(subject) as house, house.start() as running:
            house.warm_up(running)
            first_bytes = running.memory_bytes()
            house.delay(delay_s)
            self._bursts.append(self._burst(house, running, subject, delay_s))
            if first:
                self._singles.append(self._one_by_one(house, running, subject, delay_s))
            peak_bytes = running.peak_bytes()
            self._memories.append(Memory(subject=subject.name, first_bytes=first_bytes, peak_bytes=peak_bytes))
            if first and delay_s == self._amounts.delays_s[0]:
                self._idles.append(self._idle(running, subject))
            running.end()

    def _burst(self, house: House, running: Running, subject: Subject, delay_s: float) -> Burst:
        amounts = self._amounts
        count = amounts.alerts
        if subject.slow and delay_s:
            count = bounded(count, each_s=subject.round_trips * delay_s, budget_s=amounts.budget_s)
        connections, cpu_s = house.connections(), running.cpu_s()
        names = house.names(count)
        begun = house.publisher.publish(names)
        ended = house.wait_mails(names, running, patience_s(subject, count, delay_s))
        time.sleep(PAUSE_S + 2 * delay_s)  # what follows the last mail is work for it, too
        return Burst(
            subject=subject.name,
            delay_s=delay_s,
            alerts=count,
            seconds=ended - begun,
            cpu_s=running.cpu_s() - cpu_s,
            connections=house.connections() - connections,
        )

    def _one_by_one(self, house: House, running: Running, subject: Subject, delay_s: float) -> Singles:
        pause_s = PAUSE_S + 2 * delay_s  # the replies to the mail and to a QUIT: then the bridge is idle
        count = bounded(
            self._amounts.singles,
            each_s=subject.round_trips * delay_s + pause_s,
            budget_s=self._amounts.budget_s,
        )
        connections = house.connections()
        seconds = []
        for _ in range(count):
            time.sleep(pause_s)
            name = house.names(1)
            begun = house.publisher.publish(name)
            seconds.append(house.wait_mails(name, running, patience_s(subject, 1, delay_s)) - begun)
        return Singles(
            subject=subject.name,
            delay_s=delay_s,
            seconds=tuple(seconds),
            connections=house.connections() - connections,
        )

    def _idle(self, running: Running, subject: Subject) -> Idle:
        time.sleep(SETTLE_S)
        cpu_s, begun = running.cpu_s(), time.monotonic()
        time.sleep(self._amounts.idle_s)
        running.check()
        return Idle(subject=subject.name, seconds=time.monotonic() - begun, cpu_s=running.cpu_s() - cpu_s)

    def _flood(self, subject: Subject, accepted: bytes) -> None:
        count = self._amounts.flood
        with House(subject) as house, house.start() as running:
            house.warm_up(running)
            log = Tally(running.log, accepted)
            begun = house.publisher.publish(house.names(count))
            house.publisher.wait_acknowledged(patience_s(subject, count, 0.0))
            published_s = time.monotonic() - begun

            def done() -> bool:
                running.check()
                return log.count() >= count

            wait_for(
                done, lambda: f"{log.count()} of {count} accepted", patience_s(subject, count, 0.0), LOG_STEP_S
            )
            self._floods.append(
                Flood(
                    subject=subject.name,
                    alerts=count,
                    published_s=published_s,
                    accepted_s=time.monotonic() - begun,
                    peak_bytes=running.peak_bytes(),
                )
            )
            running.kill()  # the mails of a flood are not what is measured

    def _killed(self, subject: Subject) -> None:
        with House(subject) as house:
            with house.start() as running:
                house.warm_up(running)
                names = house.names(self._amounts.alerts)
                house.publisher.publish(names)
                self._wait_share(house, names, running)
                running.kill()
            house.publisher.wait_acknowledged(SLACK_S)
            with house.start() as running:
                self._wait_silence(house, names, running)
                running.end()
            self._lost(house, subject, KILLED, names)

    def _away(self, subject: Subject) -> None:
        with House(subject) as house, house.start() as running:
            house.warm_up(running)
            names = house.names(self._amounts.alerts)
            house.publisher.publish(names)
            self._wait_share(house, names, running)
            house.away(True)
            time.sleep(self._amounts.away_s)
            house.away(False)
            self._wait_silence(house, names, running)
            running.end()
            self._lost(house, subject, AWAY.format(self._amounts.away_s), names)

    def _wait_share(self, house: House, names: Sequence[str], running: Running) -> None:
        share = len(names) // 5
        wait_for(lambda: house.arrived(names) >= share, lambda: f"{share} mails: {running.said()}", SLACK_S)

    def _wait_silence(self, house: House, names: Sequence[str], running: Running) -> None:
        """Wait until all is there, or nothing has come for ``silence_s``."""
        deadline = time.monotonic() + SLACK_S + self._amounts.silence_s + len(names) * MAIL_S
        mails, quiet_since = house.mails, time.monotonic()
        while house.arrived(names) < len(names):
            running.check()
            now = time.monotonic()
            if house.mails > mails:
                mails, quiet_since = house.mails, now
            if now > quiet_since + self._amounts.silence_s:
                return
            if now > deadline:
                raise BridgeError(f"mails still come after {SLACK_S:.0f} s and more: {running.said()}")
            time.sleep(LOG_STEP_S)

    def _lost(self, house: House, subject: Subject, trouble: str, names: Sequence[str]) -> None:
        self._losses.append(
            Loss(
                subject=subject.name,
                trouble=trouble,
                alerts=len(names),
                arrived=house.arrived(names),
                mails=sum(house.mails_of[name] for name in names),
            )
        )


class Tally:
    """Counts what stands in a log, each octet of it read once."""

    def __init__(self, log: Path, what: bytes) -> None:
        """Count from the present end of ``log`` on."""
        self._log = log
        self._what = what
        self._at = log.stat().st_size
        self._count = 0

    def count(self) -> int:
        """Return how often it stands there so far; the last line counts when it is whole."""
        with self._log.open("rb") as file:
            file.seek(self._at)
            lines = file.read().rpartition(b"\n")
        self._at += len(lines[0]) + len(lines[1])
        self._count += lines[0].count(self._what)
        return self._count


def patience_s(subject: Subject, alerts: int, delay_s: float) -> float:
    """Return how long to wait for the mails of ``alerts`` alerts, several times what they need."""
    return SLACK_S + alerts * (MAIL_S + 2 * subject.round_trips * delay_s)
