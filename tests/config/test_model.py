"""What the models give: the example, the contract, defaults, values; and the documentation says the same."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import ValidationError

from plugin.config import Config, Network, load, schema_keys
from plugin.config.values import Mechanism, parse_duration, parse_size
from plugin.route import check_recipients
from plugin.smtp.auth import Credentials
from tests.config.configurations import complete, faults_of, loaded, write

RELAY_WITH = {
    "password": "host: a, username: u, password: p",
    "token": "host: a, username: u, token_command: t",
}
ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def test_the_documentation_names_every_key_and_no_other() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert re.findall(r"^\| `([a-z_\[\].]+)` \|[^|]+\|[^|]*\|[^|]*\|$", text, re.MULTILINE) == schema_keys()


def test_the_documented_defaults_are_the_defaults(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    rows = re.findall(r"^\| `([a-z_\[\].]+)` \|[^|]+\| `([^`|]+)` \|[^|]*\|$", text, re.MULTILINE)
    written: dict[str, str] = dict(rows)
    assert len(written) > 25
    every = Config.model_validate(
        yaml.safe_load(complete("mqtt: {tls: true, port: 1883}\nchip: {network: {address: 10.0.0.2/8}}"))
    )
    for key, default in written.items():
        if key in ("chip.network", "relays[].auth", "relays[].port", "relays[].security"):
            continue  # in words
        found: object = every
        for part in re.split(r"\.|\[\]\.", key):
            if isinstance(found, tuple):
                found = found[0]
            names = {(field.alias or name): name for name, field in type(found).model_fields.items()}  # type: ignore[attr-defined]
            found = getattr(found, names[part])
        expected = yaml.safe_load(default)
        if isinstance(found, float) and isinstance(expected, str):
            expected = parse_duration(expected)
        if key == "routes[].severity":
            assert found is None, "the route leaves it to plugin.route, whose default is info"
            continue
        assert str(list(found) if isinstance(found, tuple) else found) in (str(expected), f"{expected}.0"), key


def test_the_example_works(tmp_path: Path) -> None:
    config = load(ROOT / "hardwire.example.yaml", environ={})
    assert config.warnings == ()
    assert config.chip.bus == "emulator"
    assert config.chip.network is None
    assert config.relays[0].security == "none"
    assert config.outbox.path == ROOT / "hardwire.db"
    assert list(check_recipients(config.recipients)) == []
    # its commented lines are a configuration too
    lines = (ROOT / "hardwire.example.yaml").read_text().splitlines()
    fuller = [re.sub(r"# (username|password):", r"\1:", line) for line in lines]
    (tmp_path / "secrets.yaml").write_text("mqtt: a\nsmtp: b\n")
    config = load(write(tmp_path, "\n".join(fuller)), environ={})
    assert (config.mqtt.username, config.relays[0].username) == ("hardwire", "house@example.net")
    assert config.relays[0].auth == "required"


def test_the_example_of_the_contract_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "secrets.yaml").write_text("mqtt: a\nsmtp: b\n")
    (tmp_path / "templates").mkdir()
    load(write(tmp_path, (HERE / "contract.yaml").read_text()), environ={})


def test_the_example_of_the_contract_on_the_emulator_has_no_warning(tmp_path: Path) -> None:
    text = (HERE / "contract.yaml").read_text()
    text = re.sub(r"(?m)^  (device|interrupt|reset): .*\n", "", text)
    text = text.replace("network: dhcp", "network: host")
    (tmp_path / "secrets.yaml").write_text("mqtt: a\nsmtp: b\n")
    (tmp_path / "templates").mkdir()
    config = load(write(tmp_path, text), environ={})
    assert config.warnings == ()
    assert config.folder == tmp_path
    assert (config.relays[0].auth, config.relays[0].port) == ("required", 587)
    assert config.templates_dir == tmp_path / "templates"
    assert config.outbox.path == tmp_path / "hardwire.db"
    assert (config.outbox.max_age_s, config.outbox.retry.first_s, config.outbox.retry.longest_s) == (
        86_400,
        10,
        900,
    )
    assert config.routes[0].severity == "critical"


def test_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path, "")
    assert (config.mqtt.host, config.mqtt.port, config.mqtt.protocol, config.mqtt.tls) == (
        "127.0.0.1",
        1883,
        "5",
        None,
    )
    assert (config.topics.base, config.chip.bus, config.chip.network, config.chip.lanes) == (
        "alerts",
        "emulator",
        None,
        2,
    )
    assert config.outbox.path == tmp_path / "hardwire.db"
    assert (config.home_assistant.discovery, config.home_assistant.prefix) == (True, "homeassistant")
    assert config.routes[0].to == ()


def test_empty_sections_and_null_count_as_not_given(tmp_path: Path) -> None:
    text = "mqtt:\ntopics: {base: ~}\nchip: {network: , bus: null}\noutbox:\nrecipients:\nlimits:\n  queue:\n"
    assert loaded(tmp_path, text) == loaded(tmp_path, "")


@pytest.mark.parametrize(
    ("relay", "port", "auth"),
    [
        ("security: none", 25, "none"),
        ("security: none, port: 2525", 2525, "none"),
        ("security: none, username: a, password: b", 25, "required"),
        ("security: none, username: a, password: b, auth: preferred", 25, "preferred"),
        ("security: none, username: a, password: b, auth: none", 25, "none"),
        ("security: none, greeting: helo", 25, "none"),
        ("security: none, greeting: helo, username: a, password: b, auth: preferred", 25, "preferred"),
        ("security: none, username: a, password: b, auth: ", 25, "required"),
    ],
)
def test_defaults_of_a_relay(tmp_path: Path, relay: str, port: int, auth: str) -> None:
    config = loaded(tmp_path, f"relays: [{{host: a, {relay}}}]")
    assert (config.relays[0].port, config.relays[0].auth) == (port, auth)


def test_a_relay_with_a_password(tmp_path: Path) -> None:
    keys = "host: a, username: u, password: p, eager: yes, mechanisms: [plain, Cram-MD5, PLAIN], idle_timeout: 0"
    relay = loaded(tmp_path, f"relays: [{{{keys}, dsn: [failure, delay, failure]}}]").relays[0]
    assert relay.eager is True
    assert relay.mechanisms == ("PLAIN", "CRAM-MD5")
    assert relay.dsn == ("failure", "delay")
    assert relay.idle_timeout_s == 0
    assert (relay.token_file, relay.token_command) == (None, None)


@pytest.mark.parametrize(
    ("written", "argv"),
    [
        ("get-token", ("get-token",)),
        ("\"get-token --user 'a b' $HOME | x\"", ("get-token", "--user", "a b", "$HOME", "|", "x")),
        ("[get token, --user, 'a b', '']", ("get token", "--user", "a b", "")),
        ("bin/get a/b", ("{folder}/bin/get", "a/b")),
        ("[/bin/get, ./a]", ("/bin/get", "./a")),
    ],
)
def test_a_command_for_tokens(tmp_path: Path, written: str, argv: tuple[str, ...]) -> None:
    text = f"relays: [{{host: a, username: u, token_command: {written}, token_lifetime: 1h, token_timeout: 5s}}]"
    relay = loaded(tmp_path, text).relays[0]
    assert relay.token_command == tuple(one.format(folder=tmp_path) for one in argv)
    assert (relay.auth, relay.token_lifetime_s, relay.token_timeout_s) == ("required", 3600, 5)


def test_a_file_with_a_token(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    text = "relays: [{host: a, username: u, token_file: token, mechanisms: xoauth2, dsn: never}]"
    config = loaded(tmp_path, text)
    relay = config.relays[0]
    assert (relay.token_file, relay.mechanisms, relay.dsn) == (tmp_path / "token", ("XOAUTH2",), ("never",))
    assert config.warnings == ()


def test_the_mechanisms_are_those_of_the_mail_client(tmp_path: Path) -> None:
    """What the configuration lets through, the login takes, each with what it sends."""
    known = get_args(Mechanism)
    assert Credentials(username="u", password="p").order + Credentials(username="u", token="t").order == known
    for name in known:
        fits = [
            proof
            for proof in ("password", "token")
            if not faults_of(write(tmp_path, complete(f"relays: [{{{RELAY_WITH[proof]}, mechanisms: {name}}}]")))
        ]
        login = Credentials(username="u", **{fits[0]: "x"}, mechanisms=(name,))  # type: ignore[arg-type]
        assert [login.kind] == fits


@pytest.mark.parametrize(
    ("written", "host"),
    [("bücher.example", "xn--bcher-kva.example"), ("SMTP.Straße.EXAMPLE", "smtp.xn--strae-oqa.example")],
)
def test_international_names_of_relays(tmp_path: Path, written: str, host: str) -> None:
    relay = loaded(tmp_path, f"relays: [{{host: {written}, server_name: {written}}}]").relays[0]
    assert (relay.host, relay.server_name) == (host, host)


@pytest.mark.parametrize(
    ("tls", "port"), [("tls: true", 8883), ("tls: {}", 8883), ("tls: false", 1883), ("tls: true, port: 1", 1)]
)
def test_the_port_of_the_broker(tmp_path: Path, tls: str, port: int) -> None:
    assert loaded(tmp_path, f"mqtt: {{{tls}}}").mqtt.port == port


def test_a_bus_of_ones_own_with_fixed_addresses(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """\
        chip:
          bus: my.adapter:Bus.open
          mac: 02-08-DC-AA-BB-CC
          network: {address: 192.168.1.50/24, gateway: 192.168.1.1, dns: 192.168.1.1}
          lanes: 3
        relays: [{host: 192.168.1.2, security: none, helo_name: "[192.168.1.50]"}]
        """,
    )
    assert config.chip.network == Network(
        address=IPv4Interface("192.168.1.50/24"),
        gateway=IPv4Address("192.168.1.1"),
        dns=(IPv4Address("192.168.1.1"),),
    )
    assert config.chip.mac == "02:08:dc:aa:bb:cc"
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("written", "network"),
    [
        ("host", None),
        ("dhcp", Network(dhcp=True)),
        ("{dhcp: true}", Network(dhcp=True)),
        ("{dhcp: yes, dns: 1.1.1.1}", Network(dhcp=True, dns=(IPv4Address("1.1.1.1"),))),
        (
            "{dhcp: true, address: 192.168.1.50/24, gateway: 192.168.1.1}",
            Network(dhcp=True, address=IPv4Interface("192.168.1.50/24"), gateway=IPv4Address("192.168.1.1")),
        ),
        ("{dhcp: false, address: 10.0.0.2/8}", Network(address=IPv4Interface("10.0.0.2/8"))),
    ],
)
def test_networks(tmp_path: Path, written: str, network: Network | None) -> None:
    relay = "relays: [{host: 10.0.0.1, security: none}]"
    config = loaded(tmp_path, f'chip: {{bus: "adapter:open_bus", network: {written}}}\n{relay}')
    assert config.chip.network == network
    assert config.warnings == ()


def test_a_chip_on_a_board(tmp_path: Path) -> None:
    for name in ("spi", "gpio"):
        (tmp_path / name).touch()
    config = loaded(
        tmp_path,
        f"""\
        chip:
          model: w5100s
          bus: spidev
          device: {tmp_path / "spi"}
          speed_hz: 8000000
          interrupt: {{chip: gpio, line: 25}}
          reset: {{chip: {tmp_path / "gpio"}, line: 24}}
          network: {{address: 192.168.1.50/24, dns: [192.168.1.1, 1.1.1.1]}}
        relays: [{{host: smtp.example.net, security: none}}]
        """,
    )
    chip = config.chip
    assert (chip.model, chip.bus, chip.device, chip.speed_hz) == (
        "w5100s",
        "spidev",
        str(tmp_path / "spi"),
        8_000_000,
    )
    assert chip.interrupt is not None
    assert chip.reset is not None
    assert (chip.interrupt.chip, chip.interrupt.line) == (tmp_path / "gpio", 25)
    assert (chip.reset.chip, chip.reset.line) == (tmp_path / "gpio", 24)
    assert config.warnings == ()


def test_paths_start_at_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").touch()
    (tmp_path / "sub").mkdir()
    write(tmp_path, complete("mqtt: {tls: {ca_file: ca.pem}}\ntemplates_dir: sub\noutbox: {path: /var/lib/x.db}"))
    monkeypatch.chdir(tmp_path / "sub")
    config = load(Path("../hardwire.yaml"), environ={})
    assert config.mqtt.tls is not None
    assert config.mqtt.tls.ca_file is not None
    assert config.mqtt.tls.ca_file.is_absolute()
    assert config.mqtt.tls.ca_file.samefile(tmp_path / "ca.pem")
    assert config.outbox.path == Path("/var/lib/x.db")
    assert config.warnings == ()


def test_nothing_changes_later(tmp_path: Path) -> None:
    config = loaded(tmp_path, "")
    with pytest.raises(ValidationError):
        config.sender = "x"
    with pytest.raises(ValidationError):
        config.mqtt.port = 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24h", 86_400.0),
        ("10s", 10.0),
        ("15m", 900.0),
        ("500ms", 0.5),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("1.5h", 5400.0),
        ("7d", 604_800.0),
        ("2w", 1_209_600.0),
        ("90", 90.0),
        (90, 90.0),
        (0.5, 0.5),
    ],
)
def test_durations(text: object, expected: float) -> None:
    assert parse_duration(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "h", "5 years", "-5s", "1e3", "inf", "nan", True, None, [1], "\u0665s", "5s\n5"]
)
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (5, 5),
        ("5", 5),
        ("10MiB", 10_485_760),
        ("10 mib", 10_485_760),
        ("1MB", 1_000_000),
        ("64k", 65_536),
        ("1.5K", 1536),
    ],
)
def test_sizes(text: object, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "MiB", "-1", "5 eggs", True, 1.5, None])
def test_no_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)
