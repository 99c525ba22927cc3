"""What Home Assistant's configuration folder must hold to start without onboarding: owner, token, broker."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.home_assistant.client import TOKEN_ID, TOKEN_KEY

HA_CONFIG = Path(__file__).parents[2] / "ha_config"
OWNER, SINCE = "1" * 32, "2026-01-01T00:00:00+00:00"

# Integrations that every start loads (automation, script, frontend, ...) need no line.
CONFIGURATION = """\
homeassistant:
  name: House
  time_zone: UTC
  unit_system: metric
  country: DE
  latitude: 0
  longitude: 0
  elevation: 0
  media_dirs: {local: /media}
  packages: !include_dir_named packages
  auth_providers:
    # a browser on this machine is logged in without a form
    - type: trusted_networks
      trusted_networks: [127.0.0.0/8]
      allow_bypass_login: true
    - type: homeassistant
history:
logbook:
mobile_app:
recorder:
  commit_interval: 1
automation: !include automations.yaml
logger:
  default: warning
"""
HTTP = "http:\n  server_host: 127.0.0.1\n  server_port: {}\n"


def seed(folder: Path, *, version: str, broker_port: int, http_port: int) -> None:
    """Fill an empty ``folder``, and put all that ha_config has where its README says."""
    for name, content in _files(version, broker_port, http_port):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    for name in ("packages", "blueprints", "dashboards"):
        if (HA_CONFIG / name).is_dir():
            shutil.copytree(HA_CONFIG / name, folder / name, dirs_exist_ok=True)
    (folder / "packages").mkdir(exist_ok=True)
    (folder / "media").mkdir()


def _files(version: str, broker_port: int, http_port: int) -> Iterator[tuple[str, str | dict[str, Any]]]:
    yield "automations.yaml", "[]\n"
    # From 2026.8 on what is stored counts, not YAML. A stored version 1 is migrated and taken as proven.
    if [int(part) for part in version.split(".")[:2]] < [2026, 8]:
        yield "configuration.yaml", CONFIGURATION + HTTP.format(http_port)
    else:
        yield "configuration.yaml", CONFIGURATION
        yield ".storage/http", _stored("http", {"server_host": ["127.0.0.1"], "server_port": http_port})
    yield (
        ".storage/onboarding",
        _stored("onboarding", {"done": ["user", "core_config", "analytics", "integration"]}, 4),
    )
    yield (
        ".storage/core.analytics",
        _stored("core.analytics", {"onboarded": True, "preferences": {}, "uuid": None}),
    )
    # The oldest version of the entry: each Home Assistant migrates it to its own.
    mqtt: dict[str, Any] = {
        "created_at": SINCE,
        "modified_at": SINCE,
        "data": {"broker": "127.0.0.1", "port": broker_port, "protocol": "5"},
        "options": {},
        "disabled_by": None,
        "discovery_keys": {},
        "domain": "mqtt",
        "entry_id": "mqtt".ljust(26, "0"),
        "version": 1,
        "minor_version": 1,
        "pref_disable_new_entities": False,
        "pref_disable_polling": False,
        "source": "user",
        "subentries": [],
        "title": "mqtt",
        "unique_id": None,
    }
    yield ".storage/core.config_entries", _stored("core.config_entries", {"entries": [mqtt]}, 1, 5)
    yield ".storage/auth", _stored("auth", _owner())


def _stored(key: str, data: dict[str, Any], version: int = 1, minor: int = 1) -> dict[str, Any]:
    return {"version": version, "minor_version": minor, "key": key, "data": data}


def _owner() -> dict[str, Any]:
    return {
        "users": [
            {
                "id": OWNER,
                "name": "Owner",
                "group_ids": ["system-admin"],
                "is_owner": True,
                "is_active": True,
                "system_generated": False,
                "local_only": False,
            }
        ],
        "groups": [
            {"id": "system-admin", "name": "Administrators"},
            {"id": "system-users", "name": "Users"},
            {"id": "system-read-only", "name": "Read Only"},
        ],
        "credentials": [],
        "refresh_tokens": [
            {
                "id": TOKEN_ID,
                "jwt_key": TOKEN_KEY,
                "token": "2" * 128,
                "user_id": OWNER,
                "client_id": None,
                "client_name": "tests",
                "client_icon": None,
                "token_type": "long_lived_access_token",
                "created_at": SINCE,
                "access_token_expiration": 315360000.0,
                "last_used_at": None,
                "last_used_ip": None,
                "expire_at": None,
                "credential_id": None,
                "version": None,
            }
        ],
    }
