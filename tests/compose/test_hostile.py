"""Whatever comes from outside, in any field: a sound mail comes out, and only the headers that are ours."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugin.alert import Alert, Attachment
from tests.compose.mails import ALERT, read, seal

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
    expected = [one for one in attachments if one.data is not None]
    arrived = [part.get_payload(decode=True) for part in mail.walk() if part.get_content_disposition()]
    assert sorted(one.data or b"" for one in expected) == sorted(bytes(one or b"") for one in arrived)
    assert not [note for note in sealed.notes if note.startswith("template")]
