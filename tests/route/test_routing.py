"""Who gets what: first match, replacement, groups, the allow-list, and every way to be rejected."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from plugin.alert import Alert
from plugin.route import Directions, Rejected, Route, Routing, check_recipients

RECIPIENTS = {
    "alice": "Alice@Example.net",
    "bob": ["bob@example.net"],
    "family": ["alice", "bob", "granny@example.org"],
    "all": ["family", "alice", "Carol <carol@example.com>"],
}
ROUTES = (
    Route(
        topic="water_leak/#",
        to=("family",),
        template="leak",
        severity="critical",
        reply_to="Desk <desk@example.net>",
    ),
    Route(topic="garage/+/door", to=("alice",), cc=("bob",), bcc=("archive@example.net",)),
    Route(topic="nobody"),
    Route(topic="#", to=("alice",), severity="warning"),
)


def routing(**changes: Any) -> Routing:
    options: dict[str, Any] = {
        "routes": ROUTES,
        "recipients": RECIPIENTS,
        "allow_recipients": ["*@example.net"],
        "template_names": {"alert", "leak", "plain"},
    }
    return Routing(**(options | changes))


def alert(name: str = "x", **fields: Any) -> Alert:
    return Alert(
        id="1", topic=f"alerts/email/{name}", name=name, received_at=datetime(2026, 11, 23, tzinfo=UTC), **fields
    )


def directed(found: Directions | Rejected) -> Directions:
    assert isinstance(found, Directions), found
    return found


def rejected(found: Directions | Rejected) -> Rejected:
    assert isinstance(found, Rejected), found
    assert found.phase == "route"
    assert found.reason.isprintable()
    return found


def test_the_first_route_that_matches_decides() -> None:
    assert routing().direct(alert("water_leak/cellar")) == Directions(
        route="water_leak/#",
        template="leak",
        severity="critical",
        to=("Alice@example.net", "bob@example.net", "granny@example.org"),
        reply_to="desk@example.net",
    )
    assert routing().direct(alert("other")) == Directions(
        route="#", template="alert", severity="warning", to=("Alice@example.net",)
    )


def test_cc_and_bcc_of_the_route() -> None:
    found = directed(routing().direct(alert("garage/left/door", cc=("granny@example.org",), bcc=("bob",))))
    assert found.severity == "info"
    assert (found.to, found.cc, found.bcc) == (
        ("Alice@example.net",),
        ("bob@example.net", "granny@example.org"),
        ("archive@example.net", "bob@example.net"),
    )
    assert found.recipients == (
        "Alice@example.net",
        "bob@example.net",
        "granny@example.org",
        "archive@example.net",
    )


def test_the_payload_replaces_to_template_severity_and_reply_to() -> None:
    found = directed(
        routing().direct(
            alert(
                "water_leak", to=("all",), template="plain", severity="info", reply_to="Me <Me@Anywhere.Example>"
            )
        )
    )
    assert found == Directions(
        route="water_leak/#",
        template="plain",
        severity="info",
        to=("Alice@example.net", "bob@example.net", "granny@example.org", "carol@example.com"),
        reply_to="Me@anywhere.example",
    )


def test_recipients_are_listed_once_whatever_the_case_of_the_domain() -> None:
    found = Directions(
        route="#",
        template="alert",
        severity="info",
        to=("a@example.net", "A@example.net"),
        cc=("a@EXAMPLE.net",),
        bcc=("b@example.net", "a@example.net"),
    )
    assert found.recipients == ("a@example.net", "A@example.net", "b@example.net")


def test_addresses_in_a_payload() -> None:
    decide = routing()
    assert directed(decide.direct(alert(to=("new@example.net",)))).to == ("new@example.net",)
    assert directed(decide.direct(alert(to=("New <new@EXAMPLE.net>",)))).to == ("new@example.net",)
    known = directed(decide.direct(alert(to=("GRANNY@example.org", "carol@example.com", "aLICE@example.net"))))
    assert known.to == ("granny@example.org", "carol@example.com", "Alice@example.net"), "as they are configured"


def test_an_international_mailbox_is_one_however_it_is_written() -> None:
    decide = routing(
        recipients={"jürgen": "Jürgen <jürgen@bücher.example>", "desk": ["info@bücher.example", "jürgen"]},
        routes=(Route(topic="#", to=("desk",), cc=("ju\u0308rgen@xn--bcher-kva.example",)),),
        allow_recipients=["*@exämple.net"],
    )
    found = directed(
        decide.direct(alert(bcc=("JU\u0308RGEN@BÜCHER.example", "é@exämple.net", "e\u0301@EXÄMPLE.net")))
    )
    assert found.to == ("info@xn--bcher-kva.example", "jürgen@xn--bcher-kva.example")
    assert found.cc == found.bcc[:1] == ("jürgen@xn--bcher-kva.example",), "as it is configured"
    assert found.recipients == (*found.to, "é@xn--exmple-cua.net")


def test_who_is_answered_has_an_ascii_local_part() -> None:
    found = directed(routing().direct(alert(reply_to="Büro <info@bücher.example>")))
    assert found.reply_to == "info@xn--bcher-kva.example"
    assert "before the @ must be ASCII" in rejected(routing().direct(alert(reply_to="jürgen@example.net"))).reason
    with pytest.raises(ValueError, match="before the @ must be ASCII"):
        routing(routes=[Route(topic="a", to=("alice",), reply_to="jürgen@example.net")])


def test_without_an_allow_list_only_what_is_configured_may_be_named() -> None:
    decide = routing(allow_recipients=())
    assert directed(decide.direct(alert(to=("bob@example.net",)))).to == ("bob@example.net",)
    assert rejected(decide.direct(alert(to=("new@example.net",)))).denied == ("new@example.net",)
    # an address that only a route names is no entry of the address book
    assert rejected(decide.direct(alert(to=("archive@example.net",)))).key == "to"


def test_one_address_that_is_not_admitted_stops_the_alert() -> None:
    found = rejected(
        routing().direct(
            alert(to=("alice", "m@evil.example"), cc=("m@evil.example", "n@evil.example"), bcc=("bob",))
        )
    )
    assert found.key == "to"
    assert found.denied == ("m@evil.example", "n@evil.example")
    assert (
        '"m@evil.example" is neither in recipients nor admitted by allow_recipients (and 2 more)' in found.reason
    )


@pytest.mark.parametrize("key", ["to", "cc", "bcc"])
@pytest.mark.parametrize(
    ("token", "denied", "word"),
    [
        ("alcie", (), "neither a name in recipients nor an address"),
        ("Alice", (), "neither a name"),
        ("", (), "neither a name"),
        ("alice, bob", (), "written as a list"),
        ("x@evil@example.net", (), "more than one @"),
        ("a@example.net\r\nBcc: b@evil.example", (), "line breaks"),
        ("a@example.net\r\nBcc: b", (), "line breaks"),
        ("x@evil.example\n@example.net", (), "line breaks"),
        ("a@example.net, b@example.net", (), "blanks"),
        ("é\u202e@example.net", (), "cannot be seen"),
        ("é@☃.example", (), "international domain"),
        ("é@Bücher.example", ("é@xn--bcher-kva.example",), "allow_recipients"),
        ("a@sub.example.net", ("a@sub.example.net",), "allow_recipients"),
        ("Alice <a@Evil.example>", ("a@evil.example",), "allow_recipients"),
    ],
)
def test_rejected_recipients(key: str, token: str, denied: tuple[str, ...], word: str) -> None:
    found = rejected(routing().direct(alert("water_leak", **{key: ("bob", token)})))
    assert (found.key, found.denied) == (key, denied)
    assert word in found.reason


def test_no_route() -> None:
    found = rejected(routing(routes=ROUTES[:1]).direct(alert("attic/fire")))
    assert (found.key, found.denied) == (None, ())
    assert '"attic/fire"' in found.reason


def test_no_recipient() -> None:
    assert rejected(routing().direct(alert("nobody"))).key == "to"
    assert rejected(routing().direct(alert("water_leak", to=()))).key == "to"
    assert directed(routing().direct(alert("nobody", bcc=("bob",)))).recipients == ("bob@example.net",)


def test_unknown_template() -> None:
    found = rejected(routing().direct(alert(template="../../etc/passwd")))
    assert found.key == "template"
    assert '"../../etc/passwd"' in found.reason
    assert rejected(routing(template_names=["alert"]).direct(alert("water_leak"))).key == "template"


@pytest.mark.parametrize("text", ["", "me", "a@b@c", "a@example.net\nBcc: x@example.net", "bob"])
def test_bad_reply_to(text: str) -> None:
    found = rejected(routing().direct(alert(reply_to=text)))
    assert found.key == "reply_to"
    assert found.reason.startswith("reply_to: ")


def test_too_many_recipients() -> None:
    crowd = {"crowd": [f"p{number}@example.net" for number in range(5)]}
    assert (
        len(directed(routing(recipients=RECIPIENTS | crowd, max_recipients=5).direct(alert(to=("crowd",)))).to)
        == 5
    )
    found = rejected(routing(recipients=RECIPIENTS | crowd, max_recipients=5).direct(alert(to=("crowd", "alice"))))
    assert found.key == "to"
    assert "6 recipients" in found.reason


def test_groups_in_groups_do_not_explode() -> None:
    doubling: dict[str, list[str]] = {f"g{level}": [f"g{level + 1}"] * 2 for level in range(2_000)}
    doubling["g2000"] = ["end@example.net"]
    decide = Routing(routes=[Route(topic="#", to=("g0",))], recipients=doubling)
    assert directed(decide.direct(alert())).recipients == ("end@example.net",)


def test_check_recipients_finds_all() -> None:
    faults = list(
        check_recipients(
            {
                "a@b": "a@example.net",
                "empty": [],
                "blank": "",
                "one": ["two", "nobody", "x@y@z"],
                "two": ["three"],
                "three": ["one"],
                "self": "self",
                "fine": ["one", "f@example.net"],
            }
        )
    )
    assert [(fault.name, fault.position, fault.unknown) for fault in faults] == [
        ("a@b", None, None),
        ("empty", None, None),
        ("blank", None, ""),
        ("one", 1, "nobody"),
        ("one", 2, None),
        ("one", None, None),
        ("self", None, None),
    ]
    assert faults[5].reason == 'the group contains itself: "one" → "two" → "three" → "one"'
    assert faults[6].reason == 'the group contains itself: "self" → "self"'


def test_many_circles_are_found_in_time() -> None:
    assert len(list(check_recipients({f"g{number}": f"g{number}" for number in range(3_000)}))) == 10


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"recipients": {"a": "b"}}, "recipients: "),
        ({"recipients": {"a": "a"}}, "itself"),
        ({"allow_recipients": ["example.net"]}, "allow_recipients: "),
        ({"routes": [Route(topic="a/#/b")]}, "routes: "),
        ({"routes": [Route(topic="a", to=("nobody",))]}, "routes: "),
        ({"routes": [Route(topic="a", bcc=("x@",))]}, "routes: "),
        ({"routes": [Route(topic="a", reply_to="x")]}, "no @"),
    ],
)
def test_what_is_configured_is_checked_at_once(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        routing(**changes)
