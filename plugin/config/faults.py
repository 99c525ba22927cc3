"""What is wrong with a configuration, with its place: Fault, ConfigError, and the sentences for people."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

KeyPath = tuple[str | int, ...]

MAX_FAULTS: Final = 100
MAX_WORD_CHARS: Final = 60
MAX_KNOWN: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: ``file``, ``line`` from 1 (None where the file could not be read), dotted ``key``, a sentence."""

    file: Path
    line: int | None
    key: str
    text: str

    @property
    def place(self) -> str:
        """Where it is: ``file:line: key``, as editors and terminals follow it."""
        place = f"{self.file}:{self.line}" if self.line is not None else str(self.file)
        return f"{place}: {self.key}" if self.key else place

    def __str__(self) -> str:
        """Return ``file:line: key: sentence``."""
        return f"{self.place}: {self.text}"


class ConfigError(Exception):
    """The configuration cannot be used; ``faults`` has all that is wrong, in the order of the files."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda one: (str(one.file), one.line or 0)))
        shown = [str(fault) for fault in self.faults[:MAX_FAULTS]]
        if len(self.faults) > MAX_FAULTS:
            shown.append(f"and {len(self.faults) - MAX_FAULTS} more")
        super().__init__("\n".join(shown))


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault, or a warning, before its line is looked up: the path of the key, and a sentence."""

    path: KeyPath
    text: str
    warning: bool = False


def dotted(path: KeyPath) -> str:
    """Return ``relays[0].port`` for ("relays", 0, "port")."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return " (did you mean x?)" for the nearest of ``known``, or nothing."""
    if len(word) > MAX_WORD_CHARS or len(known) > MAX_KNOWN:  # difflib is slow, and a file may have many faults
        return ""
    near = get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
