"""Reads Home Assistant's YAML and renders its templates, as far as ha_config needs it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "ha_config" / "packages"
NOW = datetime(2026, 11, 23, 10, 0, 0, 123456, tzinfo=UTC)
# What ha_config uses of Home Assistant's functions that need a whole house; here they are only known.
_OF_A_HOUSE = ("area_id", "area_entities", "as_local", "as_datetime", "as_timestamp", "is_number")


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


def sensor(name: str, state: str, device_class: str | None, **attributes: Any) -> Any:
    """Return a stand-in for a state object, unchanged since 10:00, which is the time ``now`` tells as well."""
    given = attributes if device_class is None else {"device_class": device_class, **attributes}
    changed = given.pop("last_changed", datetime(2026, 11, 23, 10, tzinfo=UTC))
    entity_id = f"binary_sensor.{name.lower().replace(' ', '_')}"
    return _Like(entity_id=entity_id, name=name, state=state, attributes=given, last_changed=changed)


class States:
    """Home Assistant's function ``states``, which is also an object: entity id to state object."""

    def __init__(self, **states: Any) -> None:
        self._states = {name.replace("__", "."): one for name, one in states.items()}

    def __call__(self, entity_id: str) -> str:
        return str(self._states[entity_id].state) if entity_id in self._states else "unknown"

    def __getitem__(self, entity_id: str) -> Any:
        return self._states[entity_id]

    def __getattr__(self, domain: str) -> Any:
        if domain.startswith("_"):
            raise AttributeError(domain)
        found = {name: one for name, one in self._states.items() if name.startswith(f"{domain}.")}
        return _Domain({name.partition(".")[2]: one for name, one in found.items()})


class _Domain(_Like):
    """The states of a domain: by name, and in a row."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())


def _float(value: object, default: float = 0.0) -> float:
    try:
        return float(str(value))
    except ValueError:
        return default


def _regex_replace(value: object, find: str = "", replace: str = "") -> str:
    return re.sub(find, replace, str(value))


def environment() -> ImmutableSandboxedEnvironment:
    """Return the sandbox with what the package uses of Home Assistant's own; a mistyped name is an error."""
    sandbox = ImmutableSandboxedEnvironment(undefined=StrictUndefined, extensions=["jinja2.ext.loopcontrols"])
    sandbox.filters["to_json"] = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    sandbox.filters["regex_replace"] = _regex_replace
    sandbox.filters["float"] = _float
    sandbox.filters["sha256"] = lambda value: hashlib.sha256(value.encode()).hexdigest()
    sandbox.tests["match"] = lambda value, pattern: re.match(pattern, value) is not None
    sandbox.globals["now"] = lambda: NOW
    sandbox.globals["timedelta"] = timedelta
    sandbox.globals["iif"] = lambda value, yes, no: yes if value else no
    for name in (*_OF_A_HOUSE, "states", "is_state", "has_value", "state_attr"):
        sandbox.globals[name] = None
        sandbox.filters[name] = lambda value: value
    return sandbox


def within(states: States) -> Mapping[str, Any]:
    """Return what templates see of ``states``, to be given to ``render``."""

    def has_value(entity_id: str) -> bool:
        return states(entity_id) not in ("unknown", "unavailable")

    return {
        "states": states,
        "has_value": has_value,
        "is_state": lambda entity_id, state: states(entity_id) == state,
        "state_attr": lambda entity_id, name: states[entity_id].attributes.get(name),
    }


def render(template: str, **variables: Any) -> str:
    """Return what Home Assistant makes of ``template``: it strips the result."""
    return environment().from_string(template).render(variables).strip()


def lenient(template: str, **variables: Any) -> str:
    """Return ``template`` rendered as Home Assistant does it by default: what is not there is empty."""
    sandbox = environment()
    sandbox.undefined = Undefined
    return sandbox.from_string(template).render(variables).strip()
