"""Configurations for the tests of this room, and the faults in them as (line, key, text)."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from plugin.config import Config, ConfigError, load

SOUND = {
    "relays": "relays: [{host: 127.0.0.1, security: none}]",
    "sender": "sender: house@example.net",
    "routes": 'routes: [{topic: "#"}]',
}

Found = tuple[int | None, str, str]


def write(folder: Path, text: str) -> Path:
    file = folder / "hardwire.yaml"
    file.write_text(dedent(text), encoding="utf-8")
    return file


def complete(text: str) -> str:
    """Return ``text`` with what every configuration needs behind it."""
    text = dedent(text)
    given = {line.partition(":")[0] for line in text.splitlines()}
    return "\n".join([text, *(line for key, line in SOUND.items() if key not in given)])


def loaded(folder: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    return load(write(folder, complete(text)), environ=environ or {})


def faults(folder: Path, text: str, environ: dict[str, str] | None = None) -> list[Found]:
    """Return all faults of ``text`` and what every configuration needs."""
    return faults_of(write(folder, complete(text)), environ)


def faults_of(file: Path, environ: dict[str, str] | None = None) -> list[Found]:
    try:
        load(file, environ=environ or {})
    except ConfigError as error:
        return [(fault.line, fault.key, fault.text) for fault in error.faults]
    return []
