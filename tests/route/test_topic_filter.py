"""Topic filters against the examples and rules of MQTT 5 §4.7, and ``covers`` against brute force."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.route import check_filter, covers, matches


@pytest.mark.parametrize(
    ("topic_filter", "name", "expected"),
    [
        # §4.7.1.2
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/tennis/player1/#", "sport/tennis/player10", False),
        ("sport/#", "sport", True),
        ("#", "anything/at/all", True),
        ("#", "", True),
        # §4.7.1.3
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("+/tennis/#", "sport/tennis", True),
        ("+/tennis/#", "sport/golf", False),
        # empty levels are levels
        ("a//b", "a//b", True),
        ("a//b", "a/b", False),
        ("a/+/b", "a//b", True),
        ("/#", "", True),
        ("/#", "/", True),
        ("/#", "a", False),
        ("+", "", True),
        # §4.7.3: case counts, nothing is normalised; §4.7.2 does not apply below a base
        ("Water", "water", False),
        ("#", "$SYS/x", True),
        ("+/x", "$SYS/x", True),
        ("a.c", "abc", False),
    ],
)
def test_matches(topic_filter: str, name: str, expected: bool) -> None:
    assert matches(topic_filter, name) is expected


@pytest.mark.parametrize("text", ["#", "+", "a/#", "+/tennis/#", "a//b", "/", "/a", "ä/ö", "$x", "a b/+"])
def test_sound_filters(text: str) -> None:
    assert check_filter(text) is None


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("a/#/b", "last"),
        ("a#", "alone"),
        ("a/b#", "alone"),
        ("##", "alone"),
        ("#/", "last"),
        ("a+/b", "+ must be alone"),
        ("sport+", "+ must be alone"),
        ("a/++", "+ must be alone"),
        ("a\0b", "NUL"),
        ("a\ud800", "surrogates"),
        ("ä" * 32_768, "65535"),
    ],
)
def test_wrong_filters(text: str, word: str) -> None:
    assert word in (check_filter(text) or "")


def test_the_longest_filter_is_sound() -> None:
    assert check_filter("a" * 65_535) is None
    assert check_filter("a" * 65_536) is not None


LEVELS = ["a", "b", "+", ""]
FILTERS = [
    "/".join(levels) + tail
    for length in range(1, 4)
    for levels in product(LEVELS, repeat=length)
    for tail in ("", "/#")
] + ["#"]
NAMES = ["/".join(levels) for length in range(1, 6) for levels in product(["a", "b", "", "other"], repeat=length)]


@given(wide=st.sampled_from(FILTERS), narrow=st.sampled_from(FILTERS))
def test_covers_says_what_the_names_say(wide: str, narrow: str) -> None:
    expected = all(matches(wide, name) for name in NAMES if matches(narrow, name))
    assert covers(wide, narrow) is expected
