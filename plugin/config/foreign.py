"""YAML of other programs, as plain data: tags stay beside their values, whatever they are, and none is fatal.

Bounds and scalars are those of ``plugin.config.document``. Where that one names a fault, this one reads on: of a
key that is given twice the last one counts, as in Home Assistant; a key that is no text is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from plugin.config.document import MAX_DEPTH, MAX_NODES, SCALARS, YAML_TAG, Document, compose_root
from plugin.config.faults import Fault


class Block(dict[str, Any]):
    """A mapping, with the ``file`` and the ``line`` (from 1) at which it begins."""

    __slots__ = ("file", "line")

    def __init__(self, file: Path, line: int) -> None:
        super().__init__()
        self.file = file
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """A value behind a tag that is not YAML's own: ``tag`` such as ``!include``, and where it stands."""

    tag: str
    value: Any
    file: Path
    line: int


def read_foreign(file: Path) -> tuple[Any, tuple[Fault, ...]]:
    """Return what is in ``file``: Blocks, lists, scalars and Tagged; None and why where it cannot be read."""
    document = Document(file=file)
    root = compose_root(document)
    if root is None:
        return None, tuple(document.faults)
    try:
        return _Reader(file).value(root), ()
    except ValueError as error:
        return None, (Fault(file=file, line=None, key="", text=str(error)),)


class _Reader:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._nodes = 0
        self._open: list[int] = []

    def value(self, node: Node) -> Any:
        """Return what ``node`` stands for; ValueError for aliases that unfold without end."""
        self._nodes += 1
        if self._nodes > MAX_NODES or len(self._open) > MAX_DEPTH or id(node) in self._open:
            raise ValueError("this is too large or too deep, aliases written out")
        self._open.append(id(node))
        try:
            plain = self._plain(node)
        finally:
            self._open.pop()
        if node.tag.startswith(YAML_TAG):
            return plain
        return Tagged(tag=node.tag, value=plain, file=self._file, line=node.start_mark.line + 1)

    def _plain(self, node: Node) -> Any:
        if isinstance(node, MappingNode):
            return self._mapping(node)
        if isinstance(node, SequenceNode):
            return [self.value(one) for one in node.value]
        try:
            return SCALARS.get(node.tag, str)(node.value)
        except ValueError:  # an explicit tag such as !!int before what is none
            return node.value

    def _mapping(self, node: MappingNode) -> Block:
        block = Block(self._file, node.start_mark.line + 1)
        merged: list[Any] = []
        for key, value in node.value:
            if key.tag == f"{YAML_TAG}merge":
                found = self.value(value)
                merged += found if isinstance(found, list) else [found]
            elif isinstance(key, ScalarNode):
                block[key.value] = self.value(value)
        for one in merged:
            if isinstance(one, dict):
                for key, value in one.items():
                    block.setdefault(key, value)
        return block
