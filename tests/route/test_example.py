"""The way back from a route to an alert that takes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.route import matches, name_for


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["water_leak/#", "#"], ["water_leak", "notify"]),
        (["garage/+/door", "+", "+/#"], ["garage/notify/door", "notify", None]),
        (["#", "notify/#"], ["notify", None]),
        (["notify", "#"], ["notify", None]),
        (["/#", "a/", "+/+"], [None, "a/", "notify/notify"]),
        (["tab\tulator"], [None]),
    ],
)
def test_names_that_reach_a_route(filters: list[str], names: list[str | None]) -> None:
    assert [name_for(filters, at) for at in range(len(filters))] == names


@given(
    st.lists(st.sampled_from(["#", "+", "a", "a/#", "a/+", "+/a", "+/+", "a/b/#", "notify", "+/#"]), min_size=1)
)
def test_a_name_is_taken_by_its_route_and_by_none_before(filters: list[str]) -> None:
    for at in range(len(filters)):
        name = name_for(filters, at)
        if name is not None:
            assert [one for one in range(at + 1) if matches(filters[one], name)] == [at]
