"""docker-compose.yml and what it mounts: nothing is published beyond this machine, every image is pinned."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugin.config import load
from tests.deploy.home_assistant import load as load_home_assistant

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PORT = re.compile(r"(?P<address>[0-9.]+):\$\{HARDWIRE_[A-Z_]+:-(?P<host>[0-9]+)\}:(?P<container>[0-9]+)")
MOSQUITTO = dict(
    line.split(" ", 1)
    for line in (ROOT / "deploy/mosquitto/mosquitto.conf").read_text().splitlines()
    if line and not line.startswith("#")
)


def test_the_services() -> None:
    assert set(SERVICES) == {"mosquitto", "hardwire", "mailpit", "home-assistant"}
    assert SERVICES["home-assistant"]["profiles"] == ["home-assistant"]
    assert not [name for name, one in SERVICES.items() if "profiles" in one and name != "home-assistant"]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        matched = PORT.fullmatch(port)
        assert matched, port
        assert ip_address(matched["address"]).is_loopback
    assert "network_mode" not in SERVICES[name]


def test_what_is_published() -> None:
    published = {
        name: [PORT.sub(r"\g<host>:\g<container>", port) for port in one.get("ports", [])]
        for name, one in SERVICES.items()
    }
    assert published == {
        "mosquitto": ["1883:1883"],
        "hardwire": [],
        "mailpit": ["1025:1025", "8025:8025"],
        "home-assistant": ["8123:8123"],
    }


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_to_a_version(name: str) -> None:
    tag = SERVICES[name]["image"].rpartition(":")[2]
    assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?", tag), tag


@pytest.mark.parametrize("name", SERVICES)
def test_everything_that_is_mounted_is_there_and_named_volumes_are_declared(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, _, rest = volume.partition(":")
        if source.startswith("./"):
            assert (ROOT / source).exists(), volume
            assert rest.endswith(":ro"), f"{volume}: a container has no business in the repository"
        else:
            assert source in COMPOSE["volumes"]


def test_the_bridge_has_as_few_rights_as_it_needs() -> None:
    bridge = SERVICES["hardwire"]
    assert bridge["cap_drop"] == ["ALL"]
    assert bridge["security_opt"] == ["no-new-privileges:true"]
    assert bridge["read_only"] is True
    assert "privileged" not in bridge
    assert bridge["stop_grace_period"] == "60s"


def test_every_service_comes_back_after_a_restart() -> None:
    assert {one["restart"] for one in SERVICES.values()} == {"unless-stopped"}


def test_the_configuration_of_the_bridge_is_sound_and_fits_the_services() -> None:
    config = load(ROOT / "deploy/compose/hardwire.yaml")
    assert config.mqtt.host in SERVICES
    assert str(config.mqtt.port) == MOSQUITTO["listener"]
    (relay,) = config.relays
    assert relay.host in SERVICES
    assert f"}}:{relay.port}" in "".join(SERVICES[relay.host]["ports"])
    assert config.chip.bus == "emulator"
    # On the volume: the rest of the container is read-only and gone with it.
    assert "hardwire-data:/data" in SERVICES["hardwire"]["volumes"]
    assert config.outbox.path.parent == Path("/data")


def test_the_image_starts_with_the_mounted_configuration() -> None:
    mounted = [one for one in SERVICES["hardwire"]["volumes"] if "hardwire.yaml" in one]
    assert mounted == ["./deploy/compose/hardwire.yaml:/config/hardwire.yaml:ro"]
    assert 'CMD ["run", "--config", "/config/hardwire.yaml"]' in (ROOT / "Dockerfile").read_text()


def test_the_broker_keeps_what_waits_for_the_bridge() -> None:
    assert MOSQUITTO["persistence"] == "true"
    assert MOSQUITTO["persistence_location"].rstrip("/") == "/mosquitto/data"
    assert "mosquitto-data:/mosquitto/data" in SERVICES["mosquitto"]["volumes"]
    assert int(MOSQUITTO["autosave_interval"]) <= 60
    # The outbox takes as many; a session of the bridge lives for seven days.
    config = load(ROOT / "deploy/compose/hardwire.yaml")
    assert int(MOSQUITTO["max_queued_messages"]) >= config.limits.queue
    assert int(MOSQUITTO["persistent_client_expiration"].removesuffix("d")) >= 7
    # An alert may also be too large for us, and then has a failure outcome, not a silent end at the broker.
    assert int(MOSQUITTO["max_packet_size"]) > config.limits.payload_bytes


def test_home_assistant_reads_the_package() -> None:
    configuration = load_home_assistant(ROOT / "deploy/compose/home-assistant.yaml")
    packages = configuration["homeassistant"]["packages"]
    assert (packages.tag, str(packages)) == ("!include_dir_named", "packages")
    for part in ("packages", "dashboards", "blueprints/automation/hardwire"):
        assert (ROOT / "ha_config" / part).is_dir()
        assert f"./ha_config/{part}:/config/{part}:ro" in SERVICES["home-assistant"]["volumes"]
    # What configuration.yaml includes is there at the first start.
    entrypoint = SERVICES["home-assistant"]["entrypoint"][-1]
    for name in ("automation", "script", "scene"):
        assert f"/config/{configuration[name]} " in entrypoint
    assert entrypoint.endswith("exec /init")
