"""What EHLO says, in the spellings that are met."""

from __future__ import annotations

import pytest

from plugin.smtp.extensions import Extensions


@pytest.mark.parametrize(
    ("lines", "mechanisms"),
    [
        (["AUTH PLAIN LOGIN"], {"PLAIN", "LOGIN"}),
        (["auth plain Login"], {"PLAIN", "LOGIN"}),
        (["AUTH=PLAIN LOGIN"], {"PLAIN", "LOGIN"}),
        (["auth=login", "AUTH PLAIN"], {"PLAIN", "LOGIN"}),
        (["AUTH= LOGIN"], {"LOGIN"}),
        (["AUTH"], set()),
        (["AUTHOR PLAIN"], set()),
        ([], set()),
        (["", "  ", "AUTH  LOGIN "], {"LOGIN"}),
    ],
)
def test_mechanisms(lines: list[str], mechanisms: set[str]) -> None:
    assert Extensions.parse(lines).mechanisms == mechanisms


@pytest.mark.parametrize(
    ("lines", "size_bytes"),
    [
        (["SIZE 1048576"], 1048576),
        (["size 10"], 10),
        (["SIZE"], None),
        (["SIZE 0"], None),
        (["SIZE many"], None),
        (["SIZE -5"], None),
        (["SIZE \u0661"], None),
        (["SIZE " + "9" * 20], int("9" * 20)),
        (["SIZE " + "9" * 5000], None),
        (["SIZE 5", "SIZE 7"], 5),
        ([], None),
    ],
)
def test_size(lines: list[str], size_bytes: int | None) -> None:
    assert Extensions.parse(lines).size_bytes == size_bytes


def test_keywords() -> None:
    extensions = Extensions.parse(["PIPELINING", "8bitmime", "XCLIENT NAME HELO", ""])
    assert extensions.offers("PIPELINING")
    assert extensions.offers("8BITMIME")
    assert not extensions.offers("CHUNKING")
    assert not extensions.offers("")
    assert extensions.keywords["XCLIENT"] == ("NAME", "HELO")
    assert not Extensions().keywords
