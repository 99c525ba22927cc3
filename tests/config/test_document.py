"""YAML itself: syntax, tags, keys, aliases, bounds; whatever the file holds, the answer is a fault."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugin.config import ConfigError, load
from tests.config.configurations import complete, faults, faults_of, loaded, write


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("mqtt: {host: a\n\nsender: b\n", 3, "expected ',' or '}'"),
        ("mqtt:\n\thost: a\n", 2, "never with tabs"),
        ("a: b: c\n", 1, "mapping values are not allowed here"),
        ("a: 'b\n\n\n", 4, "end of stream"),
        ("a: *nobody\n", 1, "undefined alias"),
        ("a: 1\n---\nb: 2\n", 2, "expected a single document"),
        ('\na: "\\UFFFFFFFF"\n', 2, "escape"),
        ('a: "\\q"\n', 1, "unknown escape"),
        ("\n\na: \x07\n", 3, "U+0007"),
        ("%YAML " + "9" * 5000 + ".1\n--- a\n", 1, "escape|version"),
        ("a: " + "[" * 50_000, 1, "levels deep"),
        ("a: " + "- " * 50_000, 1, ""),
    ],
)
def test_what_is_no_yaml(tmp_path: Path, text: str, line: int, word: str) -> None:
    file = tmp_path / "hardwire.yaml"
    file.write_text(text)
    found = faults_of(file)
    assert len(found) == 1
    assert found[0][:2] == (line, "")
    assert found[0][2].startswith("this is no YAML: ")
    assert any(one in found[0][2] for one in word.split("|"))


@pytest.mark.parametrize("text", ["- a\n", "hello\n", "5\n"])
def test_the_file_must_be_a_mapping(tmp_path: Path, text: str) -> None:
    assert faults_of(write(tmp_path, text)) == [
        (1, "", "this file must be a mapping: lines of the form `key: value`")
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert faults_of(tmp_path / "absent.yaml") == [(None, "", "there is no such file")]
    assert faults_of(tmp_path) == [(None, "", "this is no regular file")]
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert faults_of(fifo) == [(None, "", "this is no regular file")], "and nobody waits for a writer"
    large = tmp_path / "large.yaml"
    large.write_bytes(b"# " + b"x" * (1 << 20))
    assert faults_of(large) == [(None, "", "has more than 1048576 octets")]
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: 1\nb: \xfc\n")
    assert faults_of(latin) == [(None, "", "is not UTF-8: see line 2")]


def test_a_byte_order_mark_and_windows_lines_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "hardwire.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + complete("topics: {base: x}").replace("\n", "\r\n").encode())
    assert load(file, environ={}).topics.base == "x"


def test_keys_are_text_and_values_are_what_they_look_like(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """\
        mqtt: {tls: yes, protocol: 5, username: 2026-11-23, password: 12:30:45}
        recipients: {on: a@example.net, no: b@example.net, 12: c@example.net, null: d@example.net}
        chip: {mac: 12:34:56:01:02:03}
        routes: [{topic: a, to: ["on", "no", "12", "null"]}]
        """,
    )
    assert config.mqtt.tls is not None
    assert config.mqtt.username == "2026-11-23"
    assert config.mqtt.password is not None
    assert config.mqtt.password.get_secret_value() == "12:30:45"
    assert list(config.recipients) == ["on", "no", "12", "null"]
    assert config.chip.mac == "12:34:56:01:02:03"


def test_keys_given_twice(tmp_path: Path) -> None:
    text = """\
        recipients:
          a: a@example.net
          a: b@example.net
        topics: {base: x, base: y}
        recipients: {b: b@example.net}
        ? [a, b]
        : 1
    """
    assert faults(tmp_path, text) == [
        (3, "recipients.a", "is given twice; the first stands in line 2"),
        (4, "topics.base", "is given twice; the first stands in line 4"),
        (5, "recipients", "is given twice; the first stands in line 1"),
        (6, "", "a key must be plain text"),
    ]


def test_tags(tmp_path: Path) -> None:
    (tmp_path / "secrets.yaml").write_text("# ours\nmqtt: 0815\nsmtp: 'a: b'\n")
    (tmp_path / "broker").write_text("broker.example.net\r\n")
    (tmp_path / "sender").write_text("House <house@example.net>")
    config = loaded(
        tmp_path,
        """\
        mqtt: {host: !file broker, port: !env PORT, username: u, password: !secret mqtt, tls: {verify: !env NO}}
        relays: [{host: a, security: none, username: u, password: !secret smtp}]
        sender: !file sender
        outbox: {max_age: !env AGE}
        """,
        {"PORT": "8884", "AGE": "36h", "NO": "false"},
    )
    assert (config.mqtt.host, config.mqtt.port) == ("broker.example.net", 8884)
    assert config.mqtt.password is not None
    assert config.mqtt.password.get_secret_value() == "0815", "as it is written, no number"
    assert config.relays[0].password is not None
    assert config.relays[0].password.get_secret_value() == "a: b"
    assert config.sender == "House <house@example.net>"
    assert config.outbox.max_age_s == 36 * 3600
    assert config.mqtt.tls is not None
    assert config.mqtt.tls.verify is False


def test_only_one_line_end_of_a_file_goes(tmp_path: Path) -> None:
    (tmp_path / "it").write_text(" s3cret pass \n\n")
    password = loaded(tmp_path, "mqtt: {username: a, password: !file it}").mqtt.password
    assert password is not None
    assert password.get_secret_value() == " s3cret pass \n"


def test_tags_that_give_nothing(tmp_path: Path) -> None:
    (tmp_path / "secrets.yaml").write_text("mqtt: x\nmqtt: y\nlist: [1]\ntag: !env HOME\nempty:\n")
    (tmp_path / "binary").write_bytes(b"\xff\xff")
    text = """\
        mqtt:
          username: !secret mtqt
          password: !env NOBODY
          client_id: !file absent
          shared_group: !include x.yaml
        topics: {base: !secret list}
        sender: !file binary
        limits:
          queue: !env
          payload_bytes: !!binary aGk=
        outbox: !secret {a: b}
        home_assistant: {prefix: !secret empty}
        chip: {speed_hz: !!int many}
        !env KEY : 1
    """
    found = faults(tmp_path, text)
    assert [(line, key) for line, key, _ in found] == [
        (2, "mqtt.username"),
        (3, "mqtt.password"),
        (4, "mqtt.client_id"),
        (5, "mqtt.shared_group"),
        (6, "topics.base"),
        (7, "sender"),
        (9, "limits.queue"),
        (10, "limits.payload_bytes"),
        (11, "outbox"),
        (12, "home_assistant.prefix"),
        (13, "chip.speed_hz"),
        (14, ""),
        (2, "mqtt"),
        (4, "tag"),
    ]
    texts = [text for _, _, text in found]
    assert "secrets.yaml beside this file has no mtqt (did you mean mqtt?); add a line `mtqt: …` to it" in texts[0]
    assert texts[1] == "the environment variable NOBODY is not set"
    assert "absent: there is no such file" in texts[2]
    assert texts[3] == 'the tag "!include" is not known: there are !secret, !env, !file'
    assert texts[4] == "list in secrets.yaml is no text"
    assert "is not UTF-8" in texts[5]
    assert texts[6] == "!env: the name is missing"
    assert texts[7].startswith('the tag "!!binary" is not known')
    assert texts[12] == "is given twice; the first stands in line 1"
    assert "secrets.yaml takes none" in texts[13]


def test_a_secrets_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "secrets.yaml").write_text("a: [b\n")
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, complete("mqtt: {username: !secret a}")), environ={})
    assert [fault.file.name for fault in caught.value.faults] == ["hardwire.yaml", "secrets.yaml"]


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """\
        relays:
          - &first
            host: 192.168.1.10
            security: none
            connect_timeout: 5s
          - <<: *first
            host: 192.168.1.11
        recipients: {all: &all [a@example.net], some: *all}
        """,
    )
    assert [(one.host, one.connect_timeout_s) for one in config.relays] == [
        ("192.168.1.10", 5),
        ("192.168.1.11", 5),
    ]
    assert config.recipients["some"] == ("a@example.net",)


def test_faults_behind_aliases_have_a_line(tmp_path: Path) -> None:
    text = """\
        relays:
          - &first {host: a, security: none, port: 0}
          - {<<: *first, host: b b}
          - {<<: 5, host: c, security: none}
        recipients: &loop {all: [*loop]}
    """
    assert [(line, key) for line, key, _ in faults(tmp_path, text)] == [
        (2, "relays[0].port"),
        (2, "relays[1].port"),
        (3, "relays[1].host"),
        (4, "relays[2]"),
        (5, "recipients.all[0]"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        # nine to the power of nine
        "\n".join(
            ["x0: &x0 [a]", *(f"x{n}: &x{n} [{','.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 10))],
        ),
        # a chain of merges, deeper than the stack
        "\n".join(["x0: &x0 {a: b}", *(f"x{n}: &x{n} {{<<: *x{n - 1}}}" for n in range(1, 5_000))]),
        # lists in lists, each short
        "\n".join(["x0: &x0 [a]", *(f"x{n}: &x{n} [[[[*x{n - 1}]]]]" for n in range(1, 1_000))]),
    ],
    ids=["width", "merges", "depth"],
)
def test_alias_bombs_are_defused(tmp_path: Path, text: str) -> None:
    begun = time.monotonic()
    found = faults(tmp_path, text)
    assert time.monotonic() - begun < 20
    assert len(found) == 1
    assert "aliases written out" in found[0][2]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(alphabet="[]{}:,-&*!<>|?'\"#%@`abc \n\t~0123456789\\Uu", max_size=200).map(str.encode),
        st.lists(
            st.sampled_from(
                [
                    b"mqtt:",
                    b" {host: ",
                    b"relays:",
                    b"\n  - ",
                    b"!secret ",
                    b"host",
                    b": ",
                    b"\n",
                    b"&a ",
                    b"*a",
                    b"<<: ",
                ]
            ),
            max_size=20,
        ).map(b"".join),
    )
)
def test_whatever_the_file_holds_the_answer_is_a_fault(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "hardwire.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    assert caught.value.faults
    assert all(fault.text for fault in caught.value.faults)
