"""Looking into plain data as YAML gives it: what is not as it should be counts as not there."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from plugin.config.values import parse_ipv4

Data = Mapping[str, Any]

PLACEHOLDER: Final = "unsound@localhost"
"""Takes the place of what is known to be wrong already, so that positions in a list stay what they are."""
_BOOL: Final = TypeAdapter(bool)


def section_of(data: Data, key: str) -> Data:
    """Return the section ``key``; an empty one if there is none."""
    found = data.get(key)
    return found if isinstance(found, dict) else {}


def sections_in(data: Data, key: str) -> list[tuple[int, Data]]:
    """Return the sections in the list ``key``, each with its position."""
    found = data.get(key)
    listed = found if isinstance(found, list) else []
    return [(position, one) for position, one in enumerate(listed) if isinstance(one, dict)]


def has(data: Data, key: str) -> bool:
    """Tell whether ``key`` has a value."""
    return data.get(key) is not None


def is_truth(data: Data, key: str, truth: bool) -> bool:  # noqa: FBT001 - reads as: key is true
    """Tell whether ``key`` says ``truth``, in any of the words that YAML and pydantic know for it."""
    try:
        return _BOOL.validate_python(data.get(key)) is truth
    except ValidationError:
        return False


def names_in(entry: Any) -> list[str]:
    """Return a list of names, which may be written as one name."""
    listed = [entry] if isinstance(entry, str) else entry if isinstance(entry, list) else []
    return [one if isinstance(one, str) else PLACEHOLDER for one in listed]


def address_of(value: Any) -> IPv4Address | None:
    """Return the address, or None for what is no address of a station."""
    try:
        return parse_ipv4(value)
    except ValueError:
        return None


def is_there(path: Path) -> bool:
    """Tell whether there is something at ``path``."""
    try:
        return path.exists()
    except OSError:
        return False
