"""YAML of other programs: all of it is read, whatever its tags are."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from plugin.config import Block, Tagged, read_foreign


def read(folder: Path, text: str) -> Any:
    file = folder / "foreign.yaml"
    file.write_text(dedent(text))
    data, faults = read_foreign(file)
    assert faults == ()
    return data


def test_tags_stay_beside_their_values_and_blocks_know_their_lines(tmp_path: Path) -> None:
    data = read(tmp_path, "a: !secret x\nb: !odd\n  c: [1, yes, ~]\nd: !include_dir_named e\n")
    assert (data["a"].tag, data["a"].value, data["a"].line) == ("!secret", "x", 1)
    assert isinstance(data["b"], Tagged)
    assert isinstance(data["b"].value, Block)
    assert data["b"].value == {"c": [1, True, None]}
    assert (data["b"].value.line, data["b"].value.file) == (2, tmp_path / "foreign.yaml")
    assert data["d"].tag == "!include_dir_named"


def test_what_our_own_reader_would_refuse_is_read(tmp_path: Path) -> None:
    text = """
        base: &base {port: 1, host: a}
        one: {<<: *base, port: 2}
        two: {port: 3, port: 4}
        three: {[1, 2]: x, y: !!int z}
        """
    data = read(tmp_path, text)
    assert data["one"] == {"port": 2, "host": "a"}
    assert data["two"] == {"port": 4}
    assert data["three"] == {"y": "z"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a: [", "this is no YAML"),
        (b"\xff", "is not UTF-8"),
        (b"a: &a [*a]", "aliases written out"),
        (b"a: &a [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
            b"%c: &%c [%s]\n" % (one, one, b", ".join([b"*%c" % (one - 1)] * 10)) for one in b"bcdefg"
        ), "aliases written out"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "foreign.yaml"
    file.write_bytes(content)
    data, faults = read_foreign(file)
    assert data is None
    assert why in faults[0].text


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert read_foreign(tmp_path / "none.yaml")[1][0].text == "there is no such file"
