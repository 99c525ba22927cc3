"""Every fault is found at once, at its line, in words that say what to do."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest

from plugin.config import ConfigError, load
from tests.config.configurations import complete, faults, faults_of, loaded, write

BROKEN = """\
mqtt:
  hots: broker
  port: 70000
  password: !secret nobody
topics: {base: alerts/#}
chip:
  bus: emulator
  mac: "03:08:dc:01:02:03"
  network:
    address: 192.168.1.50/24
    gateway: 192.168.2.1
  lanes: 4
  lanes: 2
relays:
  - host: smtp.example.net
    port: eighty
    username: house
    greeting: helol
    dsn: [failure, sucess]
sender: House
recipients:
  alice: alice@example..net
  family: [alice, bbo]
  bob: bob@example.net
  one: two
  two: [one]
routes:
  - topic: a/#/b
    to: [alcie]
  - topic: water/#
    severity: sever
    cc: [x@y@z, bob]
  - to: bob
outbox:
  max_age: soon
  retry: {first: 1h, longest: 15m}
limits:
  payload_bytes: 10 elephants
  queue: many
home_assistant: {discovery: perhaps}
sendre: x
"""

EXPECTED = [
    (2, "mqtt.hots", "did you mean host?"),
    (3, "mqtt.port", '"70000" must be at most 65535'),
    (4, "mqtt.password", "secrets.yaml beside this file has no nobody (did you mean somebody?)"),
    (4, "mqtt.password", "a password needs a username"),
    (5, "topics.base", "wildcards"),
    (8, "chip.mac", "odd first octet"),
    (11, "chip.network.gateway", "192.168.2.1 is outside the chip's network 192.168.1.0/24"),
    (12, "chip.lanes", '"4" must be at most 3'),
    (13, "chip.lanes", "is given twice; the first stands in line 12"),
    (15, "relays[0].host", "the chip has nobody to ask for its address: write chip.network.dns"),
    (16, "relays[0].port", '"eighty" must be a whole number'),
    (17, "relays[0].username", "a username needs a password"),
    (18, "relays[0].greeting", '"helol" must be auto or helo (did you mean helo?)'),
    (19, "relays[0].dsn[1]", '"sucess" must be never, success, failure or delay (did you mean success?)'),
    (20, "sender", '"House" is no usable mail address: it has no @'),
    (22, "recipients.alice", '"alice@example..net" is no usable mail address: the domain'),
    (23, "recipients.family[1]", '"bbo" is neither a name in recipients nor an address (did you mean bob?)'),
    (25, "recipients.one", 'the group contains itself: "one" → "two" → "one"'),
    (28, "routes[0].topic", '"a/#/b" is no topic filter: # must be the last level'),
    (29, "routes[0].to[0]", '"alcie" is neither a name in recipients nor an address (did you mean alice?)'),
    (31, "routes[1].severity", "must be info, warning or critical"),
    (32, "routes[1].cc[0]", '"x@y@z" is no usable mail address: it has more than one @'),
    (33, "routes[2].topic", "is missing: write a topic filter"),
    (35, "outbox.max_age", '"soon" is no duration'),
    (36, "outbox.retry.longest", "must not be shorter than first (3600 s)"),
    (38, "limits.payload_bytes", '"10 elephants" is no size'),
    (39, "limits.queue", '"many" must be a whole number'),
    (40, "home_assistant.discovery", "true or false"),
    (41, "sendre", "did you mean sender?"),
]


def test_a_broken_configuration_names_every_fault_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "secrets.yaml").write_text("somebody: x\n")
    file = write(tmp_path, BROKEN)
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    found = [(fault.line, fault.key, fault.text) for fault in caught.value.faults]
    assert sorted((line or 0, key) for line, key, _ in found) == sorted((line, key) for line, key, _ in EXPECTED)
    for line, key, text in EXPECTED:
        assert any((line, key) == one[:2] and text in one[2] for one in found), (line, key, text, found)
    assert [line for line, _, _ in found] == sorted(line for line, _, _ in EXPECTED), "in the order of the file"
    assert all(fault.file == file for fault in caught.value.faults)
    assert f"{file}:3: mqtt.port: " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "word"),
    [
        ("mqtt: {host: 'mqtt://broker'}", "mqtt.host", "port"),
        ("mqtt: {host: 'broker:1883'}", "mqtt.host", "write the port under `port`"),
        ("mqtt: {host: 'fe80::1'}", "mqtt.host", "IPv6"),
        ("mqtt: {host: 192.168.1.300}", "mqtt.host", "IPv4"),
        ("mqtt: {host: 1.2.3}", "mqtt.host", "IPv4"),
        ("mqtt: {host: 'a b'}", "mqtt.host", "is no host"),
        ("mqtt: {host: ☃☃.example}", "mqtt.host", "cannot be a name in DNS: write its xn-- form"),
        ("mqtt: {host: 1\uff192.168.1.300}", "mqtt.host", "IPv4"),
        ("mqtt: {host: " + "ü" * 254 + "}", "mqtt.host", "is no host"),
        ("mqtt: {port: 0}", "mqtt.port", "at least 1"),
        ("mqtt: {port: 1883.5}", "mqtt.port", "whole number"),
        ("mqtt: {port: yes}", "mqtt.port", "number"),
        ("mqtt: {port: [1]}", "mqtt.port", "whole number"),
        ("mqtt: {protocol: 4}", "mqtt.protocol", "must be 5 or 3.1.1"),
        ("mqtt: {username: 12}", "mqtt.username", "write the value in quotes"),
        ("mqtt: {username: ''}", "mqtt.username", "must not be empty"),
        ("mqtt: {username: a, password: ''}", "mqtt.password", "must not be empty"),
        ("mqtt: {password: x}", "mqtt.password", "username"),
        ("mqtt: {client_id: a/b}", "mqtt.client_id", "must not contain"),
        ("mqtt: {shared_group: 'a+'}", "mqtt.shared_group", "must not contain"),
        ("mqtt: {tls: {ca_file: nowhere.pem}}", "mqtt.tls.ca_file", "no file that can be read; looked for /"),
        ("mqtt: {tls: {keyfile: hardwire.yaml}}", "mqtt.tls.keyfile", "certfile"),
        ("mqtt: {tls: {verify: perhaps}}", "mqtt.tls.verify", "true or false"),
        ("mqtt: broker", "mqtt", "must be a section"),
        ("mqtt: [1]", "mqtt", "must be a section"),
        ("topics: {base: ''}", "topics.base", "1 to 200"),
        ("topics: {base: /a}", "topics.base", "begin or end with /"),
        ("topics: {base: a/}", "topics.base", "begin or end with /"),
        ("topics: {base: $SYS}", "topics.base", "$"),
        ("topics: {base: a/+/b}", "topics.base", "wildcards"),
        ("topics: {base: homeassistant}", "home_assistant.prefix", "differ"),
        ("chip: {bus: spidev}", "chip.network", "addresses: write dhcp, or"),
        ("chip: {bus: spidev, network: host}", "chip.network", "addresses: write dhcp, or"),
        ("chip: {model: w5500}", "chip.model", "must be auto, w5100 or w5100s"),
        ("chip: {bus: usb}", "chip.bus", "module:factory"),
        ("chip: {bus: 'a:b:c'}", "chip.bus", "module:factory"),
        ("chip: {bus: 'a-b:c'}", "chip.bus", "module:factory"),
        ("chip: {interrupt: {chip: /dev/gpiochip0}}", "chip.interrupt.line", "is missing: write the number"),
        ("chip: {reset: {line: 24}}", "chip.reset.chip", "is missing: write the GPIO chip"),
        ("chip: {reset: {chip: /dev/gpiochip0, line: 5000}}", "chip.reset.line", "at most 1023"),
        (
            "chip: {bus: spidev, network: dhcp, interrupt: {chip: g, line: 1}, reset: {chip: g, line: 1}}",
            "chip.reset",
            "/INT and /RESET are two wires",
        ),
        ("chip: {speed_hz: 1}", "chip.speed_hz", "at least 10000"),
        ("chip: {mac: 2:8:dc:1:2:3}", "chip.mac", "six octets"),
        ("chip: {mac: 'ff:ff:ff:ff:ff:ff'}", "chip.mac", "odd"),
        ("chip: {mac: 13:34:56:01:02:03}", "chip.mac", "odd"),
        ("chip: {mac: '00:00:00:00:00:00'}", "chip.mac", "begin with 02"),
        ("chip: {mac: '02:08-dc:01:02:03'}", "chip.mac", "six octets"),
        ("chip: {network: static}", "chip.network", "write host, dhcp, or"),
        ("chip: {network: {}}", "chip.network.address", "is missing"),
        ("chip: {network: {dhcp: false}}", "chip.network.address", "or dhcp: true"),
        ("chip: {network: {dhcp: sometimes, address: 10.0.0.2/8}}", "chip.network.dhcp", "true or false"),
        ("chip: {network: {dhcp: true, gateway: 192.168.1.1}}", "chip.network.gateway", "needs address beside it"),
        (
            "chip: {network: {dhcp: true, address: 10.0.0.2/8, gateway: 11.0.0.1}}",
            "chip.network.gateway",
            "outside",
        ),
        (
            "chip: {network: {address: 10.0.0.2/8, dns: []}}\nrelays: [{host: 10.0.0.1}, {host: a}]",
            "relays[1].host",
            "write chip.network.dns",
        ),
        ("chip: {network: 5}", "chip.network", "section"),
        ("chip: {network: {gateway: 192.168.1.1}}", "chip.network.address", "is missing"),
        ("chip: {network: {address: 192.168.1.50}}", "chip.network.address", "prefix"),
        ("chip: {network: {address: 192.168.1.50/33}}", "chip.network.address", "prefix"),
        ("chip: {network: {address: 192.168.1.50/31}}", "chip.network.address", "from 1 to 30"),
        ("chip: {network: {address: 192.168.1.0/24}}", "chip.network.address", "first or last"),
        ("chip: {network: {address: 192.168.1.255/24}}", "chip.network.address", "first or last"),
        ("chip: {network: {address: 224.0.0.5/24}}", "chip.network.address", "station"),
        ("chip: {network: {address: 10.0.0.2/8, gateway: 10.0.0.2}}", "chip.network.gateway", "own address"),
        ("chip: {network: {address: 10.0.0.2/8, gateway: 10.0.0.0}}", "chip.network.gateway", "first or last"),
        ("chip: {network: {address: 10.0.0.2/8, gateway: 11.0.0.1}}", "chip.network.gateway", "outside"),
        ("chip: {network: {address: 10.0.0.2/8, gateway: router}}", "chip.network.gateway", "IPv4"),
        ("chip: {network: {address: 10.0.0.2/8, dns: [dns.example]}}", "chip.network.dns[0]", "IPv4"),
        ("relays: []", "relays", "must not be empty"),
        ("relays: {host: x}", "relays", "must be a list"),
        ("relays: [127.0.0.1]", "relays[0]", "must be a section"),
        ("relays: [{security: none}]", "relays[0].host", "is missing: write the server's name"),
        ("relays: [{host: a, security: ssl}]", "relays[0].security", "must be tls, starttls or none"),
        ("relays: [{host: a, security: starttls, greeting: helo}]", "relays[0].greeting", "STARTTLS needs EHLO"),
        ("relays: [{host: a, greeting: helo}]", "relays[0].greeting", "STARTTLS needs EHLO"),
        ("relays: [{host: a, security: none, username: x}]", "relays[0].username", "needs a password"),
        ("relays: [{host: a, security: none, password: x}]", "relays[0].password", "needs a username"),
        ("relays: [{host: a, security: none, auth: required}]", "relays[0].auth", "needs username and password"),
        ("relays: [{host: a, security: none, auth: preferred}]", "relays[0].auth", "needs username"),
        (
            "relays: [{host: a, security: none, username: x, password: y, greeting: helo}]",
            "relays[0].greeting",
            "HELO offers no AUTH",
        ),
        ("relays: [{host: a, security: none, helo_name: 'a b'}]", "relays[0].helo_name", "is no name for EHLO"),
        ('relays: [{host: a, security: none, helo_name: "a\\r\\nRSET"}]', "relays[0].helo_name", "is no name"),
        ("relays: [{host: a, security: none, connect_timeout: 0}]", "relays[0].connect_timeout", "more than 0"),
        ("relays: [{host: a, security: none, connect_timeout: 1h}]", "relays[0].connect_timeout", "at most 600"),
        ('sender: "A\\nBcc: x <a@example.net>"', "sender", "line breaks"),
        ("sender: [a@example.net]", "sender", "must be text"),
        ("recipients: {a@b: a@example.net}", "recipients.a@b", "is no name for a recipient"),
        ("recipients: {a: }", "recipients.a", "must be a list"),
        ("recipients: {a: []}", "recipients.a", "empty"),
        ("recipients: {a: {b: c}}", "recipients.a", "must be a list"),
        ("recipients: {a: [a@example.net, 5]}", "recipients.a[1]", "must be text"),
        ("recipients: [a@example.net]", "recipients", "must be a section"),
        ("allow_recipients: [example.net]", "allow_recipients[0]", "such as *@example.net"),
        ("allow_recipients: 'a@b@c'", "allow_recipients", "pattern"),
        ("routes: []", "routes", "must not be empty"),
        ('routes: [{topic: ""}]', "routes[0].topic", "empty"),
        ("routes: [{topic: 5}]", "routes[0].topic", "in quotes"),
        ("routes: [{topic: a, template: ../x}]", "routes[0].template", "without folder"),
        ("routes: [{topic: a, reply_to: me}]", "routes[0].reply_to", "no @"),
        ("routes: [{topic: a, to: 'a, b'}]", "routes[0].to", "written as a list"),
        ("limits: {queue: 0}", "limits.queue", "at least 1"),
        ("limits: {payload_bytes: 1GiB}", "limits.payload_bytes", "at most 268435455"),
        ("limits: {bytes: 1}", "limits.bytes", "here are known: payload_bytes, queue, recipients|did you mean"),
        ("outbox: {path: ''}", "outbox.path", "is no path"),
        ("outbox: {retry: {factor: 0.5}}", "outbox.retry.factor", "at least 1"),
        ("outbox: {retry: {factor: true}}", "outbox.retry.factor", "number"),
        ("outbox: {retry: {longest: 5s}}", "outbox.retry.longest", "shorter than first (10 s)"),
        ("outbox: {max_age_s: 5}", "outbox.max_age_s", "did you mean max_age?"),
        ("outbox: {max_age: -1s}", "outbox.max_age", "duration"),
        ("outbox: {max_age: 10y}", "outbox.max_age", "duration"),
        ("zzz: 1", "zzz", "here are known: mqtt, topics"),
        ("username: me", "username", "is no known key here; there is mqtt.username and relays[].username"),
    ],
)
def test_one_fault_and_no_other(tmp_path: Path, text: str, key: str, word: str) -> None:
    found = faults(tmp_path, text)
    assert [one[:2] for one in found] == [(1 + text.count("\n"), key)], found
    assert any(one in found[0][2] for one in word.split("|")), found


LOGIN = "host: a, username: x"


@pytest.mark.parametrize(
    ("relay", "key", "word"),
    [
        ("host: a, token_file: t", "token_file", "a token needs a username"),
        ("host: a, token_command: t", "token_command", "a token needs a username"),
        (f"{LOGIN}", "username", "or token_file or token_command"),
        (f"{LOGIN}, password: p, token_file: hardwire.yaml", "token_file", "password stands there too: keep one"),
        (f"{LOGIN}, token_file: hardwire.yaml, token_command: t", "token_command", "token_file stands there too"),
        (f"{LOGIN}, token_file: ''", "token_file", "is no path"),
        (f"{LOGIN}, token_command: []", "token_command", "must not be empty"),
        (f"{LOGIN}, token_command: ''", "token_command", "must not be empty"),
        (f"{LOGIN}, token_command: ['', b]", "token_command", "the name of a program"),
        (f"{LOGIN}, token_command: [get, 5]", "token_command[1]", "write the value in quotes"),
        (f'{LOGIN}, token_command: [get, "a\\0"]', "token_command[1]", "NUL"),
        (f"{LOGIN}, token_command: get 'it", "token_command", "no closing quotation; write a list"),
        (f"{LOGIN}, token_command: [{'a, ' * 100}a]", "token_command", "at most 100"),
        (f"{LOGIN}, token_command: t, token_timeout: 0", "token_timeout", "more than 0"),
        (f"{LOGIN}, token_command: t, token_timeout: 11m", "token_timeout", "at most 600"),
        (f"{LOGIN}, token_command: t, token_lifetime: 8d", "token_lifetime", "at most 604800"),
        (f"{LOGIN}, password: p, mechanisms: [plain, cram]", "mechanisms[1]", "must be PLAIN, LOGIN, CRAM-MD5"),
        (f"{LOGIN}, password: p, mechanisms: [login, xoauth2]", "mechanisms[1]", "XOAUTH2 sends a token"),
        (f"{LOGIN}, token_command: t, mechanisms: PLAIN", "mechanisms", "write OAUTHBEARER or XOAUTH2"),
        ("host: a, eager: true", "eager", "there is none: write username and password"),
        (f"{LOGIN}, password: p, auth: none, eager: true", "eager", "there is none"),
        (f"{LOGIN}, token_command: t, eager: true", "eager", "never a token"),
        (f"{LOGIN}, password: p, mechanisms: [login, plain], eager: true", "eager", "put PLAIN first"),
        (
            f"{LOGIN}, password: p, security: tls, greeting: helo, auth: preferred, eager: true",
            "eager",
            "needs EHLO",
        ),
        ("host: a, eager: perhaps", "eager", "true or false"),
        ("host: a, idle_timeout: 2h", "idle_timeout", "at most 3600"),
        ("host: a, dsn: always", "dsn", "must be never, success, failure or delay"),
        ("host: a, dsn: [never, delay]", "dsn", "never stands alone"),
        ("host: a, server_name: 'mail:25'", "server_name", "is no host"),
    ],
)
def test_one_fault_of_a_relay_and_no_other(tmp_path: Path, relay: str, key: str, word: str) -> None:
    found = faults(tmp_path, f"relays: [{{{relay}}}]")
    assert [one[:2] for one in found] == [(1, f"relays[0].{key}")], found
    assert word in found[0][2]


@pytest.mark.parametrize(
    ("relay", "key", "word"),
    [
        ("security: none, ca_file: hardwire.yaml", "ca_file", "no effect with security: none"),
        ("security: none, server_name: b", "server_name", "no effect with security: none"),
        ("security: none, verify: false", "verify", "no effect with security: none"),
        ("username: x, token_file: nowhere", "token_file", "/nowhere yet"),
        ("username: x, password: p, token_timeout: 5s", "token_timeout", "no effect without token_command"),
        ("username: x, password: p, token_lifetime: 0", "token_lifetime", "no effect without token_command"),
        ("mechanisms: [PLAIN]", "mechanisms", "no effect without a username"),
        ("username: x, password: p, security: none, eager: true", "eager", "in clear text"),
    ],
)
def test_one_warning_about_a_relay_and_no_other(tmp_path: Path, relay: str, key: str, word: str) -> None:
    warnings = loaded(tmp_path, f"relays: [{{host: a, {relay}}}]").warnings
    assert [(one.line, one.key) for one in warnings] == [(1, f"relays[0].{key}")]
    assert word in warnings[0].text


@pytest.mark.parametrize(
    ("chip", "key", "word"),
    [
        ("device: /dev/spidev0.0", "device", "no effect with bus: emulator"),
        ("interrupt: {chip: /dev/gpiochip0, line: 25}", "interrupt", "it belongs to spidev"),
        ("reset: {chip: /dev/gpiochip0, line: 24}", "reset", "it belongs to spidev"),
        ('bus: "adapter:open_bus", reset: {chip: c, line: 1}', "reset", "no effect with bus: adapter:open_bus"),
        ("network: dhcp", "network", "only as root or in a network namespace"),
        ("network: {dhcp: true, address: 10.0.0.2/8}", "network", "only as root or in a network namespace"),
        ("bus: spidev, network: dhcp", "device", "there is no /dev/spidev0.0 yet"),
        ("bus: spidev, network: dhcp, device: /nowhere", "device", "there is no /nowhere yet: is SPI on"),
        (
            "bus: spidev, network: dhcp, device: /dev/null, interrupt: {chip: g, line: 1}",
            "interrupt.chip",
            "/g yet",
        ),
        (
            "bus: spidev, network: dhcp, device: /dev/null, reset: {chip: /nowhere, line: 1}",
            "reset.chip",
            "no /nowhere",
        ),
    ],
)
def test_one_warning_about_the_chip_and_no_other(tmp_path: Path, chip: str, key: str, word: str) -> None:
    warnings = loaded(tmp_path, f"chip: {{{chip}}}").warnings
    place = f"chip.{key}"
    assert [(one.line, one.key) for one in warnings] == [(1, place)]
    assert word in warnings[0].text


@pytest.mark.parametrize("bus", ["spidev, device: /dev/null", '"adapter:open_bus"'])
def test_a_server_that_gives_addresses_gives_name_servers_too(tmp_path: Path, bus: str) -> None:
    text = f"chip: {{bus: {bus}, network: dhcp}}\nrelays: [{{host: smtp.example.net}}, {{host: 10.0.0.1}}]"
    assert loaded(tmp_path, text).warnings == ()


def test_what_is_missing(tmp_path: Path) -> None:
    found = faults_of(write(tmp_path, ""))
    assert [(line, key) for line, key, _ in found] == [(1, "relays"), (1, "sender"), (1, "routes")]
    assert all(text.startswith("is missing: ") for _, _, text in found)


def test_a_group_larger_than_the_limit(tmp_path: Path) -> None:
    text = """\
        recipients: {crowd: [a@example.net, b@example.net, c@example.net]}
        limits: {recipients: 3}
        routes:
          - {topic: a, to: crowd, cc: a@example.net}
          - {topic: b, to: crowd, bcc: [d@example.net]}
    """
    assert faults(tmp_path, text) == [(5, "routes[1]", "names 4 recipients, more than limits.recipients (3)")]


def test_relays_beyond_a_network_without_gateway_are_warned_about(tmp_path: Path) -> None:
    text = """\
        chip: {bus: "adapter:open_bus", network: {address: 192.168.1.50/24}}
        relays:
          - {host: 192.168.1.9, security: none}
          - {host: 10.0.0.1, security: none}
    """
    assert [(one.line, one.key) for one in loaded(tmp_path, text).warnings] == [(4, "relays[1].host")]


def test_warnings_have_their_lines(tmp_path: Path) -> None:
    text = """\
        mqtt: {tls: {verify: no}}
        relays: [{host: 127.0.0.1, security: none, verify: false}]
        templates_dir: nowhere
        attachments: {allowed_dirs: [/, nowhere, .]}
        routes:
          - topic: water/#
          - topic: alerts/email/fire
          - topic: +/cellar
          - topic: "#"
          - topic: fire
          - topic: water/cellar
    """
    warnings = loaded(tmp_path, text).warnings
    assert [(one.line, one.key) for one in warnings] == [
        (1, "mqtt.tls.verify"),
        (2, "relays[0].verify"),
        (7, "routes[1].topic"),
        (10, "routes[4].topic"),
        (11, "routes[5].topic"),
        (3, "templates_dir"),
        (4, "attachments.allowed_dirs[0]"),
        (4, "attachments.allowed_dirs[1]"),
    ]
    assert 'write "fire"' in warnings[2].text
    assert 'routes[3] ("#") stands before it' in warnings[3].text
    assert 'routes[0] ("water/#") stands before it' in warnings[4].text


def test_templates_that_do_not_exist(tmp_path: Path) -> None:
    asked: list[Path | None] = []

    def names(templates_dir: Path | None) -> set[str]:
        asked.append(templates_dir)
        return {"alert", "leak"}

    text = "templates_dir: mine\nroutes: [{topic: a, template: leek}, {topic: b}]"
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, complete(text)), environ={}, template_names=names)
    assert [str(one) for one in caught.value.faults] == [
        f'{tmp_path / "hardwire.yaml"}:2: routes[0].template: there is no template "leek" (did you mean leak?)'
    ]
    assert asked == [tmp_path / "mine"]


SECRET = "hunter2 is the password"


@pytest.mark.parametrize(
    "text",
    [
        f'mqtt: {{password: "{SECRET}"}}',
        f"mqtt: {{username: a, password: [{SECRET}]}}",
        "mqtt: {host: !env SECRET}",
        "mqtt: {port: !secret it}",
        "sender: !file it",
        "mqtt: {tls: {ca_file: !env SECRET}}",
        "templates_dir: !env SECRET\nsender: x",
        "routes: [{topic: !env SECRET}, {topic: !env SECRET}, {topic: +x}]",
        "recipients: {a: !env SECRET, b: [!env SECRET]}",
        "routes: [{topic: a, to: !env SECRET, severity: !env SECRET}]",
        "chip: {mac: !env SECRET, bus: !env SECRET, network: !env SECRET}",
        f"mqtt: {{password: {SECRET}, password: {SECRET}}}",
        f"mqtt: {{passwrd: {SECRET}}}",
        "relays: [{host: a, username: a, token_command: 'get --key hunter2 \"'}]",
        "relays: [{host: a, token_command: [!env SECRET, !secret it]}]",
        "relays: [{host: a, token_file: !env SECRET, mechanisms: !secret it}]",
        f"mqtt: {{password: {SECRET}: x",
    ],
)
def test_no_fault_shows_a_secret(tmp_path: Path, text: str) -> None:
    (tmp_path / "it").write_text(SECRET + "\n")
    (tmp_path / "secrets.yaml").write_text(f"it: {SECRET}\n")
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, complete(text)), environ={"SECRET": SECRET})
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value.faults)
    assert "hunter2" not in told


def test_numbers_as_passwords_are_not_shown(tmp_path: Path) -> None:
    found = faults(
        tmp_path, "mqtt: {username: a, password: 0x1F_not}\nrelays: [{host: a, security: none, password: 4711}]"
    )
    assert [key for _, key, _ in found] == ["relays[0].password", "relays[0].password"]
    assert "4711" not in str(found)
    assert found[0][2] == "the value must be text: write the value in quotes"


def test_a_configuration_does_not_show_its_secrets(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """\
        mqtt: {username: a, password: hunter2}
        relays:
          - {host: a, security: none, username: b, password: !env SECRET}
          - {host: a, username: b, token_command: "get --key hunter4"}
        """,
        {"SECRET": "hunter3"},
    )
    assert "hunter" not in repr(config)
    assert not re.search("hunter[23]", str(config.model_dump()) + config.model_dump_json())
    assert config.mqtt.password is not None
    assert config.mqtt.password.get_secret_value() == "hunter2"
    assert config.relays[0].password is not None
    assert config.relays[0].password.get_secret_value() == "hunter3"
