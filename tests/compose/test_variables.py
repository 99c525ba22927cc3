"""The data table for people: short values on a line, long ones laid out, none without end."""

from __future__ import annotations

from typing import Any

import pytest

from plugin.compose.text import clean, shorten, single_line, size
from plugin.compose.variables import MAX_VALUE_CHARS, MAX_VALUE_LINES, rows


def nest(levels: int) -> Any:
    value: Any = "core"
    for _ in range(levels):
        value = {"k": value}
    return value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("text", "text"),
        ("", "-"),
        (" \n", " "),
        ("two\r\nlines\n", "two\nlines"),
        (None, "null"),
        (True, "true"),
        (21.5, "21.5"),
        (10**20, "100000000000000000000"),
        (float("nan"), "NaN"),
        ([], "[]"),
        ({}, "{}"),
        ([1, "ü"], '[1, "ü"]'),
        ({"a": {"b": [1]}}, '{"a": {"b": [1]}}'),
        (["x" * 60, {"a": "y" * 60, "b": 1}], f"- {'x' * 60}\n- a: {'y' * 60}\n  b: 1"),
        ({"a": ["z" * 60], "b": "p\nq" + "r" * 60}, f"a:\n  - {'z' * 60}\nb: p\n  q{'r' * 60}"),
        ("nul\0 and \ud800", "nul and \ufffd"),
    ],
)
def test_a_value_is_shown_like_this(value: Any, shown: str) -> None:
    (row,), more = rows({"key": value})
    assert row.value == shown
    assert more == 0


@pytest.mark.parametrize(
    "value",
    [
        nest(40),
        nest(5000),
        [[1] * 100_000],
        {str(n): "v" * 50 for n in range(10_000)},
        "line\n" * 100_000,
        "x" * 1_000_000,
        {"deep": {"deeper": "x" * 1_000_000}},
        [["y" * 3000] * 3] * 3,
        10**5000,
    ],
    ids=["nested", "far too nested", "list", "object", "lines", "text", "text within", "wide", "integer"],
)
def test_no_value_is_without_end(value: Any) -> None:
    (row,), _ = rows({"key": value})
    assert 0 < len(row.value) <= MAX_VALUE_CHARS
    assert len(row.value.split("\n")) <= MAX_VALUE_LINES + 1


def test_keys_are_one_bounded_line() -> None:
    shown, _ = rows({"a\r\nb": 1, "": 2, "k" * 1000: 3})
    assert [row.key for row in shown] == ["a b", "-", "k" * 79 + "…"]


def test_text_is_cleaned_and_cut() -> None:
    assert clean("a\x00\x1b[31mb\ufffe\x85c\u2028d\fe") == "a[31mb\nc\nde"
    assert single_line("a\t\r\n  b\u00a0c", 20) == "a b c"
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"
    assert shorten("\u200d" * 9, 4) == "\u200d" * 3 + "…"
    assert [size(n) for n in (0, 1023, 1024, 5 * 1024 * 1024)] == ["0 bytes", "1023 bytes", "1 KiB", "5.0 MiB"]
