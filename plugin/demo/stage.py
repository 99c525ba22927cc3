"""What the demo shows: one line an event, on a terminal, into a file, or into a pipe whose reader may leave."""

from __future__ import annotations

import os
import sys
import threading
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.text import Text

PARTS: Final = {"publish": "magenta", "chip": "yellow", "smtp": "cyan", "mail": "green", "outcome": "bold"}


class Terminal(Console):
    """A terminal, a file, or a pipe whose reader may leave: then nothing is shown any more, and nothing fails.

    What rich does by itself, ending the thread that prints, would look like a fault of the bridge.
    """

    left_alone = False

    def on_broken_pipe(self) -> None:
        """Go on without a reader (rich calls this, from whichever thread prints)."""
        self.quiet = self.left_alone = True
        # Python flushes what is left when it ends, and would complain.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class Stage:
    """What is shown: one line an event, whoever it comes from."""

    def __init__(self, console: Terminal) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._states: list[str] = []

    @property
    def left_alone(self) -> bool:
        """Tell whether nobody looks on any more."""
        return self._console.left_alone

    def tell(self, markup: str) -> None:
        """Show text in rich's markup; a narrow terminal breaks it, and a pipe gets it in one line."""
        self._console.print(markup, soft_wrap=True, highlight=False)

    def headline(self, text: str) -> None:
        """Begin a part of the show."""
        self.tell(f"\n[bold]{escape(text)}[/bold]")

    def line(self, who: str, text: str) -> None:
        """Show what ``who`` says or does."""
        with self._lock:
            self._flush_states()
            self._print(who, text)

    def status(self, number: int, old: str, new: str) -> None:
        """Gather the states of a socket, and show them as one line once it rests."""
        with self._lock:
            self._states = [*(self._states or [f"socket {number}  Sn_SR", old]), new]
            if new in ("ESTABLISHED", "CLOSED"):
                self._flush_states()

    def _flush_states(self) -> None:
        if self._states:
            first, *rest = self._states
            self._states = []
            self._print("chip", f"{first} {' → '.join(rest)}")

    def _print(self, who: str, text: str) -> None:
        line = Text(f"   {who:<8} ", style=PARTS.get(who, ""))
        line.append(text, style="default not bold" if who != "outcome" else "")
        self._console.print(line, soft_wrap=True, highlight=False)
