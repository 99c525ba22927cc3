"""The letters of one delivery: those that wait, those that are on the way, and which of them begin anew."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from plugin.smtp.envelope import Envelope
from plugin.smtp.transaction import Settled, Transaction

MAX_TRANSCRIPT_LINES: Final = 1000
MAX_TRANSCRIPT_CHARS: Final = 512
MAX_TRIES: Final = 2
"""So often a letter is begun within one delivery where each time may bring a copy, or annoy the relay."""


class Transcript(list[str]):
    """Lines of a dialogue, within bounds."""

    def note(self, line: str) -> None:
        """Add ``line`` if there is room for it."""
        if len(self) < MAX_TRANSCRIPT_LINES:
            self.append(line)
        elif len(self) == MAX_TRANSCRIPT_LINES:
            self.append("= what follows is left out")


@dataclass(slots=True, kw_only=True, eq=False)
class DrawnLetter:
    """A letter that was drawn and has no verdict yet."""

    envelope: Envelope
    begun: float
    tries: int = 0
    possible_duplicate: bool = False
    setback: Settled | None = None
    transcript: Transcript = field(default_factory=Transcript)


class Batch:
    """The letters of one delivery: those that wait to be begun, or begun anew, and those on the way."""

    def __init__(self, envelopes: Iterable[Envelope], clock: Callable[[], float]) -> None:
        self.waiting: deque[DrawnLetter] = deque()
        self.under_way: dict[Transaction, DrawnLetter] = {}
        self._source = iter(envelopes)
        self._clock = clock

    def take(self) -> DrawnLetter | None:
        """Return the next letter to begin, or None."""
        if self.waiting:
            return self.waiting.popleft()
        envelope = next(self._source, None)
        return None if envelope is None else DrawnLetter(envelope=envelope, begun=self._clock())

    def peek(self) -> DrawnLetter | None:
        """Return the next letter to begin without taking it."""
        letter = self.take()
        if letter is not None:
            self.waiting.appendleft(letter)
        return letter

    def put_back(self, letter: DrawnLetter) -> None:
        """Have ``letter`` wait, behind those that were put back before it and before all others."""
        position = sum(one.tries > 0 for one in self.waiting)
        self.waiting.insert(position, letter)


def begins_anew(settled: Settled, letter: DrawnLetter, *, served: bool) -> str | None:
    """Return why ``settled`` says nothing of the letter, so that another connection may carry it at once; or None.

    A relay that has had enough letters on one connection, or has waited too long, says 421 or just hangs up.
    ``served``: letters before this one have had their verdict on the connection.
    """
    dismissed = settled.reply is not None and settled.reply.code == 421
    lost = settled.fault is not None and settled.fault.kind == "lost"
    if not dismissed and not lost:
        # It was turned away: what the relay has against us is told behind it.
        return "the relay did not get to this letter" if settled.untaken else None
    # A letter behind one that has its verdict may have another connection, and one that met the end of a
    # connection may begin the next; but a relay that wants nobody now is not asked once for each letter.
    again = (served or lost) if settled.untaken else (served and settled.phase == "mail")
    if letter.tries < MAX_TRIES:
        again = again or settled.untaken
    elif letter.possible_duplicate:
        again = False
    return "the connection had come to its end between two letters" if again else None


def was_not_the_pace(setback: Settled | None, settled: Settled) -> bool:
    """Return whether lock-step has brought a letter no other answer than it had in a pipeline."""
    if setback is None or setback.phase != settled.phase:
        return False
    if setback.reply is not None and settled.reply is not None:
        return setback.reply.code == settled.reply.code
    if setback.fault is not None and settled.fault is not None:
        return setback.fault.kind == settled.fault.kind
    return False
