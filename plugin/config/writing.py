"""Writing a configuration and its secrets, for commands that make one: what ``plugin.config.document`` reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

CONFIGURATION_FILE: Final = "hardwire.yaml"
_WIDTH: Final = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A text that goes to secrets.yaml: ``name`` stands for it in the configuration, as ``!secret name``."""

    name: str
    text: str = field(repr=False)


class _Dumper(yaml.SafeDumper):
    """Writes a ``Kept`` as its tag."""


_Dumper.add_representer(Kept, lambda dumper, one: dumper.represent_scalar("!secret", one.name))


def configuration_text(data: Mapping[str, Any], *, comments: Mapping[str, str]) -> str:
    """Return ``data`` as YAML, a blank line before each key at the top, behind it a comment where one is given.

    The comment of the key ``""`` stands at the head. A ``Kept`` is written as ``!secret NAME``.
    """
    parts = [_comment(comments[""])] if "" in comments else []
    for key, value in data.items():
        dumped = yaml.dump(
            {key: value},
            Dumper=_Dumper,
            sort_keys=False,
            allow_unicode=True,
            width=_WIDTH,
            default_flow_style=False,
        )
        parts.append((_comment(comments[key]) if key in comments else "") + dumped)
    return "\n".join(parts)


def secrets_text(secrets: Mapping[str, str]) -> str:
    """Return the lines of secrets.yaml; there everything is text, so everything is quoted."""
    return yaml.dump(
        dict(secrets), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_style='"', width=2**20
    )


def kept_in(value: Any) -> dict[str, str]:
    """Return name and text of every ``Kept`` in ``value``."""
    if isinstance(value, Kept):
        return {value.name: value.text}
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return {name: text for one in inner for name, text in kept_in(one).items()}


def write_new(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write files that are not there yet, all or none, for their owner alone (0600); make ``folder`` if need be.

    Raises FileExistsError, with the name, where one is there; OSError where one cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    try:
        for name, text in texts.items():
            path = folder / name
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            written.append(path)
            with open(descriptor, "w", encoding="utf-8") as stream:  # noqa: PTH123 - it is a descriptor
                stream.write(text)
    except OSError:
        for path in written:
            with suppress(OSError):
                path.unlink()
        raise
    return written


def replace_files(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write files in place of those that may be there, each whole or not at all, for their owner alone (0600)."""
    written = []
    for name, text in texts.items():
        path, fresh = folder / name, folder / f".{name}.new"
        fresh.unlink(missing_ok=True)
        write_new(folder, {fresh.name: text})
        written.append(fresh.replace(path))
    return written


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" if line else "#\n" for line in text.splitlines())
