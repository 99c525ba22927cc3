"""The import plan of docs/architecture.md: one way, no circle. Read from the source; nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "plugin"
MODULES = sorted(path for path in PLUGIN.rglob("*.py"))
MODULE_NAMES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES
}
MAX_LINES = 400

# Each room and the rooms it may know. A room may always use its own modules.
PLAN: dict[str, set[str]] = {
    "smtp": set(),
    "w5100": set(),
    "alert": set(),
    "payload": {"alert"},
    "discovery": set(),
    "route": {"alert"},
    "mqtt": {"alert"},
    "delivery": {"alert", "smtp"},
    "token": set(),
    "relay": {"alert", "delivery", "smtp"},
    "uplink": {"w5100"},
    "compose": {"alert", "route"},
    "config": {"alert", "route"},
    "outbox": {"alert", "route"},
    "bridge": {"alert", "payload", "route", "delivery", "compose", "outbox"},
    "build": {
        "route",
        "payload",
        "mqtt",
        "delivery",
        "relay",
        "token",
        "uplink",
        "compose",
        "config",
        "outbox",
        "bridge",
        "discovery",
        "smtp",
        "w5100",
    },
    "service": {"alert", "discovery", "mqtt", "config", "outbox", "bridge", "build"},
    "oneshot": {"alert", "payload", "route", "compose", "config", "outbox", "build"},
    "inspect": {"config", "compose", "mqtt", "build", "service"},
    "demo": {"alert", "config", "mqtt", "service"},
    "probe": {"smtp", "uplink", "config", "build", "service"},
    "workbench": {"w5100", "config", "build"},
    "migrate": {"config"},
    "app": {"config"},
    "cli": {
        *{
            "alert",
            "compose",
            "config",
            "outbox",
            "build",
            "service",
            "oneshot",
            "inspect",
            "probe",
            "workbench",
            "migrate",
            "app",
            "demo",
        },
    },
    "__main__": {"cli"},
    "__init__": set(),
}

# A library that only one room may know, so that it can be replaced there.
PRIVATE: dict[str, set[str]] = {
    "paho": {"mqtt"},
    "sqlite3": {"outbox"},
    "jinja2": {"compose"},
    "dns": {"w5100"},
    "spidev": {"w5100"},
    "gpiod": {"w5100"},
    "yaml": {"config"},
    "idna": {"route", "config"},
    "click": {"cli"},
    "rich": {"cli", "demo", "probe"},
    "iotcore": {"demo"},
    "aiosmtpd": {"demo"},
    "ssl": {"smtp", "mqtt"},
}
STARTS_THREADS = {"Thread", "Timer", "ThreadPoolExecutor", "start_new_thread", "Process", "ProcessPoolExecutor"}


def room(path: Path) -> str:
    return path.relative_to(PLUGIN).parts[0].removesuffix(".py")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(path: Path) -> Iterator[str]:
    """Yield every module that ``path`` imports, wherever in the file, in full."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the plan"
            assert node.module is not None
            # `from plugin.mqtt import faults` knows the module faults, not what plugin/mqtt/__init__.py gathers.
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULE_NAMES else node.module for name in full)


def rooms_known(path: Path) -> set[str]:
    names = [name.split(".") for name in imported(path)]
    return {parts[1] for parts in names if parts[0] == "plugin" and len(parts) > 1} & set(PLAN) - {"__init__"}


def test_the_plan_has_no_circle() -> None:
    done: set[str] = set()
    while len(done) < len(PLAN):
        ready = {name for name, known in PLAN.items() if name not in done and known <= done}
        assert ready, f"a circle among {sorted(set(PLAN) - done)}"
        done |= ready


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PLUGIN)))
def test_imports_keep_to_the_plan(path: Path) -> None:
    assert room(path) in PLAN, f"{path.name}: a new room needs its place in the plan and in docs/architecture.md"
    too_many = rooms_known(path) - PLAN[room(path)] - {room(path)}
    assert not too_many, f"{room(path)} must not know {sorted(too_many)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PLUGIN)))
def test_libraries_stay_in_their_room(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported(path)}
    for library, rooms in PRIVATE.items():
        assert library not in roots or room(path) in rooms, f"{library} belongs to {sorted(rooms)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PLUGIN)))
def test_threads_start_in_service_alone(path: Path) -> None:
    names = {node.attr for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(tree(path)) if isinstance(node, ast.Name)}
    assert room(path) == "service" or not names & STARTS_THREADS


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PLUGIN)))
def test_no_module_has_two_purposes(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_no_circle_among_modules() -> None:
    knows = {name: set(imported(path)) & set(MODULE_NAMES) - {name} for name, path in MODULE_NAMES.items()}
    while knows:
        free = {name for name, known in knows.items() if not known & set(knows)}
        assert free, f"modules import each other in a circle: {sorted(knows)}"
        knows = {name: known for name, known in knows.items() if name not in free}


def test_the_plan_is_drawn_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name, known in PLAN.items():
        if name != "__init__":
            row = next((line for line in text.splitlines() if line.startswith(f"| `{name}` |")), None)
            assert row is not None, f"docs/architecture.md has no row for {name}"
            told = {one.strip("` ") for one in row.split("|")[2].split(",")} - {"", "-"}
            assert told == known, f"docs/architecture.md tells another plan for {name}"
