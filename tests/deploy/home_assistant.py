"""Reads Home Assistant's YAML and renders its templates, as far as the package in ha_config needs it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "ha_config" / "packages"


class Tagged(str):
    """The argument of a tag of Home Assistant's own, as in ``!include scripts.yaml``; ``tag`` is its name."""

    __slots__ = ("tag",)
    tag: str


class _Loader(yaml.SafeLoader):
    """Knows Home Assistant's tags, and refuses a key that is given twice, as Home Assistant warns of it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"given twice: {twice}{node.start_mark}"
        return super().construct_mapping(node, deep)


def _tagged(loader: yaml.Loader, suffix: str, node: yaml.Node) -> Tagged:
    assert isinstance(node, yaml.ScalarNode)
    value = Tagged(loader.construct_scalar(node))
    value.tag = f"!{suffix}"
    return value


_Loader.add_multi_constructor("!", _tagged)


def load(path: Path) -> Any:
    """Return the content of a YAML file of Home Assistant's."""
    return yaml.load(path.read_text("utf-8"), _Loader)


def templates(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield each template in ``value`` with its place."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from templates(one, f"{where}.{key}")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from templates(one, f"{where}[{index}]")
    elif isinstance(value, str) and ("{{" in value or "{%" in value):
        yield where, value


class _Like(dict[str, Any]):
    """Home Assistant's states answer to dots and to brackets."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def sensor(name: str, state: str, device_class: str | None) -> Any:
    """Return a stand-in for a state object."""
    attributes = {} if device_class is None else {"device_class": device_class}
    return _Like(
        name=name, state=state, attributes=attributes, last_changed=datetime(2026, 11, 23, 10, tzinfo=UTC)
    )


def _regex_replace(value: object, find: str = "", replace: str = "") -> str:
    return re.sub(find, replace, str(value))


def environment() -> ImmutableSandboxedEnvironment:
    """Return the sandbox with what the package uses of Home Assistant's own; a mistyped name is an error."""
    sandbox = ImmutableSandboxedEnvironment(undefined=StrictUndefined, extensions=["jinja2.ext.loopcontrols"])
    sandbox.filters["to_json"] = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    sandbox.filters["regex_replace"] = _regex_replace
    sandbox.globals["now"] = lambda: datetime(2026, 11, 23, 10, 0, 0, 123456, tzinfo=UTC)
    return sandbox


def render(template: str, **variables: Any) -> str:
    """Return what Home Assistant makes of ``template``: it strips the result."""
    return environment().from_string(template).render(variables).strip()


def lenient(template: str, **variables: Any) -> str:
    """Return ``template`` rendered as Home Assistant does it by default: what is not there is empty."""
    sandbox = environment()
    sandbox.undefined = Undefined
    return sandbox.from_string(template).render(variables).strip()
