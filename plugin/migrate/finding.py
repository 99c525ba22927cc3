"""The notifiers in a configuration of Home Assistant: packages and includes followed, secrets looked up.

Only what can lead to a notifier is opened. What cannot be read is noted and left out; nothing of it is fatal.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plugin.config import Block, Fault, Kept, Tagged, read_foreign
from plugin.migrate.legacy import Note, Notifier

MAX_FILES: Final = 200
SECRETS_FILE: Final = "secrets.yaml"
PLATFORM: Final = "smtp"
INCLUDES: Final = (
    "!include",
    "!include_dir_list",
    "!include_dir_merge_list",
    "!include_dir_named",
    "!include_dir_merge_named",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """``notifiers`` in their order, ``allowed_dirs`` (homeassistant.allowlist_external_dirs), and ``notes``."""

    notifiers: tuple[Notifier, ...]
    allowed_dirs: tuple[str, ...]
    notes: tuple[Note, ...]


def find(configuration: Path, environ: Mapping[str, str]) -> Found:
    """Return what ``configuration`` (configuration.yaml) and its includes say; never raises for what they say."""
    search = _Search(configuration, environ)
    root = search.file(configuration)
    if not isinstance(root, Block):
        if not search.notes:
            search.note(
                str(configuration), "this is no configuration of Home Assistant: there is no mapping in it"
            )
        return Found(notifiers=(), allowed_dirs=(), notes=tuple(search.notes))
    notifiers = tuple(search.notifiers(root))
    core = search.opened(root.get("homeassistant"))
    allowed = search.plain(core.get("allowlist_external_dirs")) if isinstance(core, Block) else None
    listed = [allowed] if isinstance(allowed, str) else allowed if isinstance(allowed, list) else []
    return Found(
        notifiers=notifiers,
        allowed_dirs=tuple(one for one in listed if isinstance(one, str)),
        notes=tuple(search.notes),
    )


class _Search:
    def __init__(self, configuration: Path, environ: Mapping[str, str]) -> None:
        self.notes: list[Note] = []
        self._root = configuration.parent
        self._environ = environ
        self._files = 0
        self._secrets: dict[Path, Mapping[str, Any]] = {}

    def note(self, place: str, text: str, key: str = "") -> None:
        self.notes.append(Note(place=place, key=key, text=text))

    def notifiers(self, root: Block) -> Iterator[Notifier]:
        """Yield those under ``notify``, ``notify 2`` and the like, then those of the packages."""
        for key, value in root.items():
            if key.partition(" ")[0] == "notify":
                yield from self._under(value)
        core = self.opened(root.get("homeassistant"))
        packages = self.opened(core.get("packages")) if isinstance(core, Block) else None
        listed = list(packages.values()) if isinstance(packages, dict) else packages
        for one in listed if isinstance(listed, list) else ():
            package = self.opened(one)
            for key, value in package.items() if isinstance(package, Block) else ():
                if key.partition(" ")[0] == "notify":
                    yield from self._under(value)

    def _under(self, value: Any) -> Iterator[Notifier]:
        listed = self.opened(value)
        for one in listed if isinstance(listed, list) else [listed]:
            block = self.opened(one)
            if isinstance(block, Block) and self.plain(block.get("platform")) == PLATFORM:
                place = f"{block.file}:{block.line}"
                keys = {key: self._value(inner, place, key) for key, inner in block.items() if key != "platform"}
                yield Notifier(place=place, keys=keys)

    # Values

    def plain(self, value: Any) -> Any:
        """Return ``value`` with secrets in it as text, None for a tag that stands for nothing here."""
        value = self._value(value, "", "")
        if isinstance(value, list):
            return [one.text if isinstance(one, Kept) else one for one in value]
        return value.text if isinstance(value, Kept) else value

    def _value(self, value: Any, place: str, key: str) -> Any:
        if isinstance(value, list):
            return [self._value(one, place, key) for one in value]
        if not isinstance(value, Tagged):
            return value
        if value.tag in INCLUDES:
            return self._value(self.opened(value), place, key)
        name = str(value.value)
        if value.tag == "!secret":
            text = self._secret(name, value.file)
            reason = f"{SECRETS_FILE} has no {name}: write its value into the new {SECRETS_FILE}"
        elif value.tag == "!env_var":
            name, _, default = name.partition(" ")
            text = self._environ.get(name, default or None)
            reason = (
                f"the environment variable {name} is not set here: write its value into the new {SECRETS_FILE}"
            )
        else:
            text, reason = None, f"the tag {value.tag} is not known, and its value is left out"
        if text is None:
            if place:
                self.note(place, reason, key)
            return None
        return Kept(name=name, text=text)

    def _secret(self, name: str, file: Path) -> str | None:
        """Look where Home Assistant does: beside the file, then upwards to the folder of the configuration."""
        folder = file.parent
        while True:
            path = folder / SECRETS_FILE
            if path not in self._secrets:
                found = read_foreign(path)[0] if path.is_file() else None
                self._secrets[path] = found if isinstance(found, dict) else {}
            value = self._secrets[path].get(name)
            if isinstance(value, str | int | float):
                return str(value)
            if folder in (self._root, folder.parent):
                return None
            folder = folder.parent

    # Includes

    def opened(self, value: Any) -> Any:
        """Return ``value``, or what the include at its place stands for; None for what cannot be read."""
        if not isinstance(value, Tagged) or value.tag not in INCLUDES:
            return value
        target = value.file.parent / str(value.value)
        if value.tag == "!include":
            return self.file(target)
        documents = {path.stem: self.file(path) for path in self._files_below(target)}
        read = [one for one in documents.values() if one is not None]
        if value.tag == "!include_dir_list":
            return read
        if value.tag == "!include_dir_merge_list":
            return [inner for one in read if isinstance(one, list) for inner in one]
        if value.tag == "!include_dir_merge_named":
            return {key: inner for one in read if isinstance(one, dict) for key, inner in one.items()}
        return documents  # !include_dir_named

    def file(self, path: Path) -> Any:
        """Return the content of one file, through includes that are all of it."""
        self._files += 1
        if self._files > MAX_FILES:
            if self._files == MAX_FILES + 1:
                self.note(str(path), f"more than {MAX_FILES} files are included: this one and others are left out")
            return None
        data, faults = read_foreign(path)
        self.notes += [_note_of(fault) for fault in faults]
        return self.opened(data)

    def _files_below(self, folder: Path) -> list[Path]:
        found: list[Path] = []
        for place, folders, names in os.walk(folder):
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            wanted = (one for one in sorted(names) if one.endswith(".yaml") and one != SECRETS_FILE)
            found += [Path(place, one) for one in wanted if not one.startswith(".")]
            if len(found) > MAX_FILES:  # the rest is told of where it is read
                break
        return found


def _note_of(fault: Fault) -> Note:
    place = str(fault.file) if fault.line is None else f"{fault.file}:{fault.line}"
    return Note(place=place, text=fault.text)
