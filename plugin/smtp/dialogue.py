"""What the halves of a session share: commands that wait to be sent, commands that wait for an answer, events."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from plugin.smtp.auth import Line
from plugin.smtp.events import Event, Handshake
from plugin.smtp.table import State
from plugin.smtp.transaction import Transaction

_NOTHING: Final = Line(octets="", shown="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command, the row of the table that judges its reply, and the letter it belongs to.

    ``content`` follows the line, at once. Where ``line`` is empty, the content is all there is: what follows a
    354.
    """

    state: State
    line: Line = _NOTHING
    transaction: Transaction | None = None
    content: bytes = field(default=b"", repr=False)

    @property
    def letter(self) -> Transaction:
        """The letter, for the rows that have one: MAIL to CONTENT."""
        if self.transaction is None:
            raise RuntimeError(f"{self.state.value} belongs to no letter")
        return self.transaction


class Dialogue:
    """Commands in the order in which they are sent and answered, and what is to be told of them.

    ``window_bytes``: so many octets of replies can arrive without being read.
    """

    def __init__(self, *, window_bytes: int) -> None:
        self.window_bytes = window_bytes
        self.queue: deque[Command] = deque()
        self.outstanding: deque[Command] = deque()
        self.events: deque[Event] = deque()

    @property
    def head(self) -> State:
        """What is waited for, or is going to be sent next."""
        first = next(iter((*self.outstanding, *self.queue)), None)
        return State.IDLE if first is None else first.state

    def say(
        self,
        state: State,
        line: str | Line,
        *,
        transaction: Transaction | None = None,
        content: bytes = b"",
        first: bool = False,
    ) -> None:
        """Queue a command, ``first``: before all others."""
        said = Line(octets=line, shown=line) if isinstance(line, str) else line
        command = Command(state=state, line=said, transaction=transaction, content=content)
        if transaction is not None:
            transaction.open += 1
        if first:
            self.queue.appendleft(command)
        else:
            self.queue.append(command)

    def expect(self, state: State) -> None:
        """Wait for what the other side, or the driver, does without a command of ours."""
        self.outstanding.append(Command(state=state))
        if state is State.HANDSHAKE:
            self.tell(Handshake())

    def tell(self, event: Event) -> None:
        """Have ``event`` told to the driver."""
        self.events.append(event)

    def drop(self, transaction: Transaction) -> None:
        """Take back what has not been sent of ``transaction``."""
        kept = [command for command in self.queue if command.transaction is not transaction]
        transaction.open -= len(self.queue) - len(kept)
        self.queue = deque(kept)
