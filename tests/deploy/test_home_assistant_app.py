"""The app's folder: its schema against the table of the Supervisor's types, its options against the code."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugin import __version__
from plugin.app import configuration
from tests.app.test_options import OPTIONS, SERVICE

ROOT = Path(__file__).parents[2]
APP = ROOT / "deploy" / "home-assistant-app"
CONFIG: dict[str, Any] = yaml.safe_load((APP / "config.yaml").read_text())
SCHEMA, DEFAULTS = CONFIG["schema"], CONFIG["options"]
RUN = (APP / "run.sh").read_text()


def between(value: Any, limits: str) -> bool:
    low, _, high = (limits or ",").partition(",")
    return isinstance(value, int) and int(low or value) <= value <= int(high or value)


# developers.home-assistant.io/docs/apps/configuration: the types of a schema, each with what it takes.
TYPES: Mapping[str, Callable[[Any, str], bool]] = {
    r"str|password": lambda value, _: isinstance(value, str),
    r"bool": lambda value, _: isinstance(value, bool),
    r"int(?:\((\d*,\d*)\))?": between,
    r"port": lambda value, _: between(value, "1,65535"),
    r"email": lambda value, _: re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", value) is not None,
    r"match\((.*)\)": lambda value, pattern: re.match(pattern, value) is not None,
    r"list\((.+)\)": lambda value, choices: value in choices.split("|"),
}
# The keys of config.yaml that this app uses, with what the same page says they may be.
KEYS: Mapping[str, Callable[[Any], bool]] = {
    "name": lambda one: isinstance(one, str),
    "version": lambda one: one == __version__,
    "slug": lambda one: re.fullmatch(r"[-_.A-Za-z0-9]+", one) is not None,
    "description": lambda one: isinstance(one, str),
    "arch": lambda one: set(one) <= {"aarch64", "amd64"},
    "startup": lambda one: one in ("initialize", "system", "services", "application", "once"),
    "init": lambda one: isinstance(one, bool),
    "timeout": lambda one: isinstance(one, int),
    "backup": lambda one: one in ("hot", "cold"),
    "services": lambda one: all(re.fullmatch(r"(mqtt|mysql):(provide|want|need)", each) for each in one),
    "devices": lambda one: all(re.fullmatch(r"/dev/(spidev\d\.\d|gpiochip\d)", each) for each in one),
    "map": lambda one: all(set(each) == {"type", "read_only", "path"} for each in one),
    "options": lambda one: isinstance(one, dict),
    "schema": lambda one: isinstance(one, dict),
}
MAPS = {"app_config", "homeassistant_config", "all_app_configs", "ssl", "apps", "backup", "share", "media", "data"}


def fits(kind: str, value: Any) -> bool:
    for pattern, check in TYPES.items():
        if found := re.fullmatch(pattern, kind.removesuffix("?")):
            return check(value, (found.groups() or ("",))[0] or "")
    raise AssertionError(f"{kind} is no type of the Supervisor's")


def wrong(schema: Any, value: Any, where: str = "") -> Iterator[str]:
    """Yield where ``value`` is not what the Supervisor would take for ``schema``."""
    if isinstance(schema, dict):
        for key in value.keys() - schema.keys():
            yield f"{where}.{key} is not in the schema"
        for key, inner in schema.items():
            kind = inner[0] if isinstance(inner, list) else inner
            if key in value:
                yield from wrong(inner, value[key], f"{where}.{key}")
            elif not (isinstance(kind, str) and kind.endswith("?")):
                yield f"{where}.{key} is missing"
    elif isinstance(schema, list):
        for position, one in enumerate(value):
            yield from wrong(schema[0], one, f"{where}[{position}]")
    elif not fits(schema, value):
        yield f"{where} does not fit {schema}"


def types(schema: Any, depth: int = 0) -> Iterator[tuple[str, int]]:
    if isinstance(schema, str):
        yield schema, depth
    for one in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from types(one, depth + (not isinstance(one, str)))


def test_every_key_is_one_that_the_supervisor_knows() -> None:
    assert set(CONFIG) == set(KEYS)
    assert [key for key, check in KEYS.items() if not check(CONFIG[key])] == []
    assert {one["type"] for one in CONFIG["map"]} <= MAPS
    assert all(one["read_only"] for one in CONFIG["map"])
    assert CONFIG["services"] == ["mqtt:want"]


def test_every_type_of_the_schema_is_one_of_the_supervisors() -> None:
    for kind, depth in types(SCHEMA):
        assert any(re.fullmatch(pattern, kind.removesuffix("?")) for pattern in TYPES), kind
        assert depth <= 2, kind


def test_the_user_is_asked_for_what_has_no_default_and_for_nothing_else() -> None:
    assert sorted(wrong(SCHEMA, DEFAULTS)) == [".relay.host is missing", ".sender is missing"]


def test_the_options_of_the_tests_are_options() -> None:
    assert list(wrong(SCHEMA, OPTIONS)) == []
    assert list(wrong(SCHEMA, OPTIONS | {"chip": {"bus": "usb"}})) == [
        ".chip.bus does not fit list(emulator|spidev)"
    ]
    assert list(wrong(SCHEMA, OPTIONS | {"x": 1})) == [".x is not in the schema"]


def used(monkeyed: dict[str, Any], path: tuple[str, ...]) -> bool:
    """Tell whether the option at ``path`` changes what is made of the options."""
    changed = {**monkeyed, path[0]: dict(monkeyed[path[0]])} if len(path) > 1 else dict(monkeyed)
    (changed[path[0]] if len(path) > 1 else changed).pop(path[-1])
    return configuration(changed, None) != configuration(monkeyed, None)


def test_every_option_has_an_effect() -> None:
    everything = {
        **OPTIONS,
        "relay": dict.fromkeys(SCHEMA["relay"], "r"),
        "broker": dict.fromkeys(SCHEMA["broker"], "b"),
        "chip": dict.fromkeys(SCHEMA["chip"], "c") | {"bus": "spidev"},
        **{key: ["x"] for key in ("allow_recipients", "attachment_folders")},
        "topic": "t",
        "discovery": False,
    }
    assert set(everything) == set(SCHEMA)
    paths = [(key, inner) for key in ("relay", "broker", "chip") for inner in SCHEMA[key]]
    idle = [
        path
        for path in [
            *paths,
            ("topic",),
            ("discovery",),
            ("allow_recipients",),
            ("attachment_folders",),
            ("sender",),
        ]
        if not used(everything, path)
    ]
    assert idle == []


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_option_is_explained(language: str) -> None:
    told = yaml.safe_load((APP / "translations" / f"{language}.yaml").read_text())["configuration"]
    assert set(told) == set(SCHEMA)
    assert all(set(one) == {"name", "description"} and all(one.values()) for one in told.values())


def test_the_documentation_has_every_option() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", (APP / "DOCS.md").read_text(), re.MULTILINE))
    assert set(rows) == set(SCHEMA)
    for key in ("relay", "broker", "chip"):
        assert {one for one in SCHEMA[key] if f"`{one}" not in rows[key]} == set()


def test_the_pictures_have_the_sizes_of_the_store() -> None:
    sizes = {}
    for name in ("icon", "logo"):
        content = (APP / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR")
        sizes[name] = struct.unpack(">II", content[16:24])
    assert sizes == {"icon": (128, 128), "logo": (250, 100)}


def test_the_start_script_takes_the_users_own_file_before_the_options() -> None:
    subprocess.run(["sh", "-n", APP / "run.sh"], check=True, timeout=10)
    assert (APP / "run.sh").stat().st_mode & 0o111
    assert RUN.index("/config/hardwire.yaml") < RUN.index("hardwire app-config --options /data/options.json")
    assert RUN.rstrip().endswith('exec hardwire run --config "$config"')
    assert 'CMD ["/run.sh"]' in (APP / "Dockerfile").read_text()


def test_the_assembled_app_has_all_that_its_build_copies(tmp_path: Path) -> None:
    subprocess.run(
        ["make", "-s", "app", f"APP={tmp_path / 'app'}"], cwd=ROOT, check=True, timeout=60, capture_output=True
    )
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (APP / "Dockerfile").read_text(), re.MULTILINE)
    for name in " ".join(copied).split():
        assert (tmp_path / "app" / name).exists(), name
    assert list((tmp_path / "app").rglob("config.yaml")) == [tmp_path / "app" / "config.yaml"]
    assert not list((tmp_path / "app").rglob("__pycache__"))


def test_everything_that_comes_over_the_network_is_checked_by_its_hash() -> None:
    runs = re.findall(r"bin/pip [^&\n]*\b(?:install|wheel)\b[^&\n]*", (APP / "Dockerfile").read_text())
    assert len(runs) == 5
    assert all("--require-hashes" in one or "--no-index" in one for one in runs)


def test_the_service_of_the_supervisor_is_taken() -> None:
    assert configuration(OPTIONS, SERVICE)["mqtt"]["host"] == SERVICE["host"]
