"""What is found in Home Assistant's configuration, before it is carried over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What somebody has to know or to do: ``place`` is ``file:line`` or a file, ``key`` the old key or "" ."""

    place: str
    key: str = ""
    text: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.place, self.key, self.text)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifier:
    """One block with ``platform: smtp``. The values of ``keys`` are plain, or ``plugin.config.Kept``."""

    place: str
    keys: Mapping[str, Any]
