"""How the servers are found; these tests need none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.rig import VARIABLE, find, read, required

TEXT = """# servers of this run
POSTFIX_PLAIN=2525        # no AUTH needed
POSTFIX_MAILDIR=/srv/mail#1

RIG_CA=/srv/ca.pem
RIG_CA=/srv/ca.pem
"""


def test_names_values_comments() -> None:
    rig = read(TEXT)
    assert rig.ports == {"POSTFIX_PLAIN"}
    assert rig.port("POSTFIX_PLAIN") == 2525
    assert rig.path("POSTFIX_MAILDIR") == Path("/srv/mail#1")
    assert rig.values["RIG_CA"] == "/srv/ca.pem"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("2525", "line 7: write NAME=VALUE"),
        ("A=", "line 7: write"),
        ("RIG_CA=/etc/ca.pem", "line 7: RIG_CA has two"),
    ],
)
def test_a_faulty_line_is_named(line: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read(TEXT + line)


def test_only_an_unset_variable_means_that_there_are_no_servers(tmp_path: Path) -> None:
    assert find({}) is None
    assert find({VARIABLE: ""}) is None
    with pytest.raises(FileNotFoundError):
        find({VARIABLE: str(tmp_path / "none")})
    (tmp_path / "servers").write_text(TEXT)
    assert find({VARIABLE: str(tmp_path / "servers")}) == read(TEXT)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", False), ("docker", False), ("mail-servers", True), ("docker, mail-servers ,mosquitto", True)],
)
def test_required(value: str, expected: bool) -> None:
    assert required({"HARDWIRE_REQUIRE": value}) is expected
