"""Whatever comes from outside, in any field: a sound mail comes out, and only the headers that are ours."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugin.alert import Alert, Attachment
from plugin.route import parse_mailbox, parse_recipient
from tests.compose.mails import ALERT, directions, read, seal

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=[]), max_size=120)
HOSTILE = st.one_of(
    ANY_TEXT, st.sampled_from(["=?utf-8?q?a=0D=0ABcc:_x?=", "a\r\nBcc: x@example.net", "{{ 1/0 }}", "\0"])
)
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), HOSTILE),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(HOSTILE, inner, max_size=3)),
    max_leaves=8,
)
ATTACHMENT = st.builds(
    Attachment,
    filename=HOSTILE,
    content_type=st.one_of(
        HOSTILE, st.sampled_from(["image/png", "text/plain; charset=latin1", "message/rfc822"])
    ),
    data=st.one_of(st.none(), st.binary(max_size=200)),
    path=st.one_of(st.none(), HOSTILE),
    content_id=st.one_of(st.none(), HOSTILE),
)


MIME_FIELDS = {"content-type", "content-transfer-encoding", "content-disposition", "content-id", "mime-version"}
LOCAL_PART = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=64)
DOMAIN = st.sampled_from(
    ["example.net", "bücher.example", "[192.0.2.1]", "x" * 63 + "." + "y" * 63 + ".例え.テスト"]
)
PHRASE = st.one_of(HOSTILE, st.text(st.sampled_from('"\\,;:()<>@[]=?_ aäあ'), max_size=200))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    title=HOSTILE,
    message=HOSTILE,
    topic=HOSTILE,
    html=st.one_of(st.none(), HOSTILE),
    data=st.dictionaries(HOSTILE, VALUE, max_size=4),
    attachments=st.lists(ATTACHMENT, max_size=3),
)
def test_whatever_an_alert_holds_a_sound_mail_comes_out(
    title: str, message: str, topic: str, html: str | None, data: dict[str, Any], attachments: list[Attachment]
) -> None:
    given = Alert(
        id=topic,
        topic=topic,
        name=topic,
        title=title,
        message=message,
        html=html,
        thread=title,
        data=data,
        attachments=tuple(attachments),
        labels=((title, message),),
        received_at=ALERT.received_at,
    )
    sealed = seal(given)
    mail = read(sealed)
    assert mail["Subject"] == sealed.subject
    assert len(sealed.subject) <= 200
    assert mail["Bcc"] is None
    known = {"date", "from", "to", "subject", "message-id", "in-reply-to", "references", "auto-submitted"}
    known |= {"x-priority", "importance", "priority", "user-agent", "mime-version", "content-type"}
    known |= {"x-hardwire-alert-id", "x-hardwire-topic", "x-hardwire-state", "content-transfer-encoding"}
    assert {name.lower() for name in mail} <= known
    assert {name.lower() for part in mail.walk() if part is not mail for name in part} <= MIME_FIELDS
    expected = [one for one in attachments if one.data is not None]
    arrived = [part.get_payload(decode=True) for part in mail.walk() if part.get_content_disposition()]
    assert sorted(one.data or b"" for one in expected) == sorted(bytes(one or b"") for one in arrived)
    assert not [note for note in sealed.notes if note.startswith("template")]


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(name=PHRASE, domain=DOMAIN, local_parts=st.lists(LOCAL_PART, max_size=6))
def test_whoever_writes_and_is_written_to_can_be_read_again(
    name: str, domain: str, local_parts: list[str]
) -> None:
    sender = "House <house@bücher.example>"
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    for one in (f'"{quoted}" <house@{domain}>', f"{name} <house@{domain}>"):
        with suppress(ValueError):
            parse_mailbox(one)
            sender = one
    to = ["alice@example.net"]
    for local in local_parts:
        with suppress(ValueError):
            to.append(parse_recipient(f"{local}@{domain}")[1])
    sealed = seal(ALERT, sender=sender, way=directions(to=tuple(to), cc=tuple(to[::-1])))
    mail = read(sealed)
    shown, address = parse_mailbox(sender)
    assert [one.addr_spec for one in mail["From"].addresses] == [sealed.sender] == [address]
    assert _joined(mail["From"].addresses[0].display_name) == _joined(shown)
    for field, expected in ((mail["To"], to), (mail["Cc"], to[::-1])):
        read_again = [_joined(one.display_name or str(one.addresses[0])) for one in field.groups]
        assert read_again == expected


def _joined(phrase: str) -> str:
    # Python 3.11 puts blanks between encoded words that belong together (RFC 2047 §6.2): left out here.
    return phrase.replace(" ", "")
