"""A YAML file as plain data with the line of every key, its tags resolved, and all that is wrong with it.

YAML is PyYAML's 1.1, with the traps of a configuration file taken out: keys are always text (``on``, ``no`` and
``12`` too), no value is ever a time or a number in base 60 (a MAC of digits stays text), a key may not be given
twice, and there are no tags but ``!secret``, ``!env`` and ``!file``. Size, depth and aliases are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from yaml.nodes import Node, ScalarNode, SequenceNode

from plugin.config.faults import Fault, KeyPath, did_you_mean, dotted
from plugin.route import quoted

MAX_FILE_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_NODES: Final = 100_000
MIN_SECRET_CHARS: Final = 5
SECRETS_FILE: Final = "secrets.yaml"
SECRET_KEYS: Final[tuple[KeyPath, ...]] = (("password",), ("token_command",))
"""Keys whose text is never shown; a command may have a password among its words."""

YAML_TAG = "tag:yaml.org,2002:"


class Unsound:
    """Stands for a value that is there but cannot be used; its fault has been noted."""

    def __repr__(self) -> str:
        return "UNSOUND"


UNSOUND: Final = Unsound()


@dataclass(slots=True)
class Document:
    """``data`` (None for an empty file), ``lines`` of keys and items, ``faults``, and texts never to be shown."""

    file: Path
    data: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)

    def line(self, path: KeyPath) -> int:
        """Return the line of ``path``, or of what encloses it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def fault(self, path: KeyPath, text: str) -> Fault:
        """Return a fault at ``path``, with no hidden text in it."""
        for secret in self.hidden - {""}:
            text = text.replace(quoted(secret), "the value")
            if len(secret) >= MIN_SECRET_CHARS:  # a shorter one stands in half of all words
                text = text.replace(secret, "…")
        return Fault(file=self.file, line=self.line(path), key=dotted(path), text=text)


class _Loader(yaml.SafeLoader):
    """Only composes nodes, and not without end."""

    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} levels deep", problem_mark=mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag in (f"{YAML_TAG}bool", f"{YAML_TAG}null", f"{YAML_TAG}merge")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{YAML_TAG}int", re.compile(r"[-+]?(?:0|[1-9][0-9_]{0,17})$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    f"{YAML_TAG}float", re.compile(r"[-+]?[0-9]{1,17}\.[0-9]{1,17}$"), list("-+0123456789")
)

SCALARS: Final[Mapping[str, Callable[[str], Any]]] = {
    f"{YAML_TAG}str": str,
    f"{YAML_TAG}null": lambda _text: None,
    f"{YAML_TAG}bool": lambda text: {"yes": True, "true": True, "on": True}.get(text.lower(), False),
    f"{YAML_TAG}int": lambda text: int(text.replace("_", "")),
    f"{YAML_TAG}float": float,
}


def read(file: Path, environ: Mapping[str, str]) -> Document:
    """Return the configuration ``file``; never raises for what is wrong in it or beside it."""
    document = Document(file=file)
    root = compose_root(document)
    if root is not None:
        _Builder(document, _Tags(file.parent, environ, document.faults)).build_root(root)
    return document


def _read_text(file: Path) -> str:
    """Return the text of ``file``; ValueError with a sentence when it cannot be read or is too large."""
    try:
        if not file.is_file():
            raise ValueError("there is no such file" if not file.exists() else "this is no regular file")
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"has more than {MAX_FILE_BYTES} octets")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"is not UTF-8: see line {line}") from error


def compose_root(document: Document) -> Node | None:
    """Return the root of the document in its file; None, and its faults noted, where there is none."""
    try:
        text = _read_text(document.file)
    except ValueError as error:
        document.faults.append(Fault(file=document.file, line=None, key="", text=str(error)))
        return None
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        root: Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ": ".join(part for part in (error.context, error.problem) if part)
        remedy = "; indent with blanks, never with tabs" if "\\t" in problem else ""
        _note_syntax(document, 1 if mark is None else mark.line + 1, problem + remedy)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        _note_syntax(document, line, f"the character U+{error.character:04X} is not allowed")
    except (ValueError, OverflowError):  # PyYAML lets them through from an escape such as "\UFFFFFFFF"
        _note_syntax(document, 1 if loader is None else loader.line + 1, "a number in an escape is too large")
    else:
        return root
    return None


def _shown(node: Node) -> str:
    return quoted(node.tag.replace(YAML_TAG, "!!", 1))


def _note_syntax(document: Document, line: int, problem: str) -> None:
    document.faults.append(Fault(file=document.file, line=line, key="", text=f"this is no YAML: {problem}"))


class _Tags:
    """The meaning of ``!secret``, ``!env`` and ``!file``: each gives a text, or ValueError with the remedy."""

    def __init__(self, folder: Path, environ: Mapping[str, str], faults: list[Fault]) -> None:
        self._folder = folder
        self._environ = environ
        self._faults = faults
        self._secrets: dict[str, Any] | None = None
        self.known: Final[Mapping[str, Callable[[str], str]]] = {
            "!secret": self._secret,
            "!env": self._env,
            "!file": self._file,
        }

    def _secret(self, name: str) -> str:
        file = self._folder / SECRETS_FILE
        if self._secrets is None:
            if not file.exists():
                raise ValueError(f"there is no {SECRETS_FILE} beside this file; write one with a line `{name}: …`")
            document = Document(file=file)
            root = compose_root(document)
            if root is not None:
                _Builder(document, None).build_root(root)
            self._faults += document.faults
            self._secrets = document.data if isinstance(document.data, dict) else {}
        if name not in self._secrets:
            near = did_you_mean(name, self._secrets)
            raise ValueError(f"{SECRETS_FILE} beside this file has no {name}{near}; add a line `{name}: …` to it")
        value = self._secrets[name]
        if not isinstance(value, str):
            raise ValueError(f"{name} in {SECRETS_FILE} is no text")  # noqa: TRY004 - it becomes a fault
        return value

    def _env(self, name: str) -> str:
        if name not in self._environ:
            raise ValueError(f"the environment variable {name} is not set")
        return self._environ[name]

    def _file(self, name: str) -> str:
        file = self._folder / name
        try:
            text = _read_text(file)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        return text.removesuffix("\n").removesuffix("\r")


class _Builder:
    """Turns nodes into data. Without ``tags`` (in secrets.yaml) every scalar is the text as it is written."""

    def __init__(self, document: Document, tags: _Tags | None) -> None:
        self._document = document
        self._tags = tags
        self._nodes = 0
        self._open: set[int] = set()

    def build_root(self, root: Node) -> None:
        self._document.lines[()] = root.start_mark.line + 1
        try:
            data = self._build(root, ())
        except _TooLargeError as error:
            self._note((), root, str(error))
            return
        if data is None or isinstance(data, dict):
            self._document.data = data
        elif data is not UNSOUND:
            self._note((), root, "this file must be a mapping: lines of the form `key: value`")

    def _note(self, path: KeyPath, node: Node, text: str) -> Unsound:
        """Note a fault at the very line of ``node``."""
        fault = self._document.fault(path, text)
        line = node.start_mark.line + 1
        self._document.faults.append(Fault(file=fault.file, line=line, key=fault.key, text=fault.text))
        return UNSOUND

    def _build(self, node: Node, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _TooLargeError(f"more than {MAX_NODES} values, aliases written out: this is too large")
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            return self._note(path, node, "an alias must not stand inside its own anchor")
        if len(self._open) > MAX_DEPTH:
            raise _TooLargeError(f"nested more than {MAX_DEPTH} levels deep, aliases written out")
        if node.tag not in (f"{YAML_TAG}map", f"{YAML_TAG}seq"):
            return self._note(path, node, f"the tag {_shown(node)} cannot stand before a list or a mapping")
        self._open.add(id(node))
        try:
            return self._sequence(node, path) if isinstance(node, SequenceNode) else self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _sequence(self, node: SequenceNode, path: KeyPath) -> list[Any]:
        for position, item in enumerate(node.value):
            self._document.lines.setdefault((*path, position), item.start_mark.line + 1)
        return [self._build(item, (*path, position)) for position, item in enumerate(node.value)]

    def _mapping(self, node: Node, path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        given: dict[str, int] = {}
        merged: list[tuple[Node, Node]] = []
        for key_node, value_node in node.value:
            if key_node.tag == f"{YAML_TAG}merge":
                merged.append((key_node, value_node))
            elif not isinstance(key_node, ScalarNode) or not key_node.tag.startswith(YAML_TAG):
                self._note(path, key_node, "a key must be plain text")
            elif key_node.value in given:
                text = f"is given twice; the first stands in line {given[key_node.value]}"
                self._note((*path, key_node.value), key_node, text)
            else:
                given[key_node.value] = key_node.start_mark.line + 1
                self._document.lines[(*path, key_node.value)] = given[key_node.value]
                data[key_node.value] = self._build(value_node, (*path, key_node.value))
        for key_node, value_node in merged:
            data = self._merged(key_node, value_node, path) | data
        return data

    def _merged(self, key_node: Node, value_node: Node, path: KeyPath) -> dict[str, Any]:
        """Return what ``<<: *anchor`` adds; the lines of keys that are given themselves stay."""
        sources = value_node.value if isinstance(value_node, SequenceNode) else [value_node]
        data: dict[str, Any] = {}
        own, self._document.lines = self._document.lines, {}
        for source in sources:
            found = self._build(source, path)
            if isinstance(found, dict):
                data = found | data
            elif found is not UNSOUND:
                self._note(path, key_node, "<< takes an alias of a mapping, or a list of such aliases")
        added, self._document.lines = self._document.lines, own
        for added_path, line in added.items():
            own.setdefault(added_path, line)
        return data

    def _scalar(self, node: ScalarNode, path: KeyPath) -> Any:
        try:
            value = self._value(node)
        except ValueError as error:
            return self._note(path, node, str(error))
        if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
            return self._note(path, node, "a surrogate (\\ud800 to \\udfff) is no character")
        is_secret = path[-1:] in SECRET_KEYS
        if is_secret or node.tag not in SCALARS:
            self._document.hidden |= {str(value), node.value} if is_secret else {str(value)}
        return value

    def _value(self, node: ScalarNode) -> Any:
        """Return what a scalar stands for; ValueError with the remedy if it stands for nothing."""
        if self._tags is not None and node.tag in self._tags.known:
            if not node.value:
                raise ValueError(f"{node.tag}: the name is missing")
            return self._tags.known[node.tag](node.value)
        if node.tag not in SCALARS:
            known = (
                f"{SECRETS_FILE} takes none" if self._tags is None else f"there are {', '.join(self._tags.known)}"
            )
            raise ValueError(f"the tag {_shown(node)} is not known: {known}")
        if self._tags is None and node.tag != f"{YAML_TAG}null":
            return node.value
        try:
            return SCALARS[node.tag](node.value)
        except ValueError:
            raise ValueError("the value does not fit its tag") from None


class _TooLargeError(Exception):
    """The aliases of a document unfold to more than it may have."""
