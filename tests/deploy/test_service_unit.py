"""The systemd unit: what it is allowed, and when it is started again."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy" / "hardwire.service"


def read(lines: list[str]) -> dict[str, dict[str, str]]:
    """Return sections and keys. systemd joins the values of a list that is given twice, and so does this."""
    joined: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    section = ""
    for line in lines:
        if line.startswith("["):
            section = line
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#") and (section, key) in seen:
            joined[seen[section, key]] += " " + value
            continue
        seen[section, key] = len(joined)
        joined.append(line)
    parser = ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string("\n".join(joined))
    return {name: dict(parser[name]) for name in parser.sections()}


SECTIONS = read(UNIT.read_text().splitlines())
SERVICE = SECTIONS["Service"]

HARDENING = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RemoveIPC": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service ~@privileged @resources",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "DevicePolicy": "closed",
    "UMask": "0077",
}


@pytest.mark.parametrize(("key", "value"), HARDENING.items())
def test_hardening(key: str, value: str) -> None:
    assert SERVICE[key] == value


def test_it_runs_the_service_as_its_own_user_with_its_own_folders() -> None:
    assert SERVICE["ExecStart"] == "/opt/hardwire/bin/hardwire run --config /etc/hardwire/hardwire.yaml"
    assert (SERVICE["User"], SERVICE["Group"]) == ("hardwire", "hardwire")
    assert (SERVICE["StateDirectory"], SERVICE["StateDirectoryMode"]) == ("hardwire", "0700")
    assert (SERVICE["ConfigurationDirectory"], SERVICE["ConfigurationDirectoryMode"]) == ("hardwire", "0750")


def test_it_always_comes_back_but_not_with_a_wrong_configuration() -> None:
    assert SERVICE["Restart"] == "always"
    assert SERVICE["RestartPreventExitStatus"] == "78"
    assert SECTIONS["Unit"]["StartLimitIntervalSec"] == "0"
    assert int(SERVICE["RestartSec"]) >= 1
    assert (int(SERVICE["RestartSteps"]) > 1, SERVICE["RestartMaxDelaySec"]) == (True, "5min")


def test_it_may_use_spi_and_gpio_and_no_other_device() -> None:
    assert SERVICE["DeviceAllow"].split() == ["char-spi", "rw", "char-gpiochip", "rw"]
    assert SERVICE["PrivateDevices"] == "no"
    # A group that is not there would keep the service from starting: it is for the owner of a board to switch on.
    assert "SupplementaryGroups" not in SERVICE
    assert "\n#SupplementaryGroups=spi gpio\n" in UNIT.read_text()


def test_it_is_watched_and_can_be_reloaded() -> None:
    assert (SERVICE["Type"], SERVICE["WatchdogSec"]) == ("notify", "3min")
    assert SERVICE["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_it_has_time_to_finish_what_is_on_the_wire() -> None:
    assert SERVICE["KillSignal"] == "SIGTERM"
    assert int(SERVICE["TimeoutStopSec"]) >= 60


def test_it_starts_with_the_machine() -> None:
    assert SECTIONS["Install"]["WantedBy"] == "multi-user.target"
    assert "network-online.target" in SECTIONS["Unit"]["Wants"]
    assert "network-online.target" in SECTIONS["Unit"]["After"]
