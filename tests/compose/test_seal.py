"""Whole mails: what they say, how they are built, and that nothing an alert holds can break one."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from plugin.alert import Alert, Attachment
from plugin.compose import Composer
from tests.compose.mails import (
    ALERT,
    DATE,
    DIRECTIONS,
    MESSAGE_ID,
    alert,
    composer,
    directions,
    html_of,
    png,
    read,
    seal,
    shape,
    text_of,
)


def words_of(html: str) -> str:
    """What a reader sees of the HTML, blanks evened out."""
    body = re.sub(
        r"<(head|style)\b.*?</\1>|<!--.*?-->|<div style=\"display:none.*?</div>", " ", html, flags=re.DOTALL
    )
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_the_mail_says_everything_in_text_and_in_html() -> None:
    mail = read(
        seal(
            alert(
                state="resolved",
                message="First line\nsecond <b>line</b> & more",
                data={"moisture": 87.5, "valve": "closed", "pumps": {"a": True}},
                attachments=(
                    Attachment(filename="camera.png", content_type="image/png", data=png()),
                    Attachment(filename="log.pdf", content_type="application/pdf", data=b"%PDF-" + b"x" * 2043),
                ),
            )
        )
    )
    text, html = text_of(mail), words_of(html_of(mail))
    for said in (
        "Water leak",
        "First line",
        "second <b>line</b> & more",
        "Resolved",
        "Critical",
        "2026-11-23 18:26:05 CET",
        "alerts/email/cellar/water_leak",
        "moisture",
        "87.5",
        "closed",
        '{"a": true}',
        "log.pdf (2 KiB)",
        "Hardwire 1.2.3, alert 7f3a",
    ):
        assert said in text
        assert said in html
    assert "camera.png" in text
    assert 'alt="camera.png"' in html_of(mail)


def test_the_text_of_the_mail_is_laid_out_like_this() -> None:
    data = {"moisture": 87.5, "readings": {"one": "x" * 40, "two": ["y" * 70, 3]}, "quote": "a\nb"}
    mail = read(seal(alert(data=data)))
    assert text_of(mail) == (
        "Water leak\n\n"
        "Water in the cellar.\n\n"
        "Severity: Critical\n"
        "Time:     2026-11-23 18:26:05 CET\n"
        "Source:   alerts/email/cellar/water_leak\n\n"
        "Data\n"
        "  moisture: 87.5\n"
        "  readings:\n"
        f"    one: {'x' * 40}\n"
        "    two:\n"
        f"      - {'y' * 70}\n"
        "      - 3\n"
        "  quote:\n"
        "    a\n"
        "    b\n\n"
        "Hardwire 1.2.3, alert 7f3a\n"
    )


def test_the_html_needs_nothing_from_outside_and_suits_dark_inboxes() -> None:
    html = html_of(read(seal(alert(attachments=(Attachment(filename="a.png", content_type="", data=png()),)))))
    assert not re.search(r"https?://|url\(|@import|<script|<link", html)
    assert '<html lang="en">' in html
    assert '<meta name="color-scheme" content="light dark">' in html
    assert "prefers-color-scheme: dark" in html
    assert 'dir="auto"' in html
    assert "max-width:600px" in html


@pytest.mark.parametrize(
    ("severity", "state", "colour"),
    [
        ("info", "firing", "#1d4ed8"),
        ("warning", "firing", "#b45309"),
        ("critical", "firing", "#b91c1c"),
        ("critical", "resolved", "#15803d"),
    ],
)
def test_the_colour_tells_the_severity(severity: str, state: str, colour: str) -> None:
    html = html_of(read(seal(alert(state=state), way=directions(severity=severity))))
    assert f'bgcolor="{colour}"' in html
    others = {"#1d4ed8", "#b45309", "#b91c1c", "#15803d"} - {colour}
    assert not [other for other in others if other in html]


def test_the_same_arguments_give_the_same_octets_and_new_identifiers_otherwise() -> None:
    given = alert(attachments=(Attachment(filename="a.png", content_type="image/png", data=png()),))
    assert seal(given) == seal(given)
    first, second = (composer().seal(given, DIRECTIONS, date=DATE) for _ in range(2))
    assert first.message_id != second.message_id
    assert re.fullmatch(r"<[0-9a-f]{32}@example\.net>", first.message_id)


def test_several_threads_may_seal_at_once() -> None:
    one = composer()

    def work(number: int) -> bytes:
        return one.seal(alert(title=f"n{number}"), DIRECTIONS, date=DATE, message_id=MESSAGE_ID).content

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(work, range(40)))
    assert made == [work(number) for number in range(40)]


@pytest.mark.parametrize(
    ("attachments", "expected"),
    [
        ((), ["multipart/alternative", "text/plain", "text/html"]),
        (
            (Attachment(filename="a.pdf", content_type="application/pdf", data=b"%PDF"),),
            ["multipart/mixed", "multipart/alternative", "text/plain", "text/html", "application/pdf"],
        ),
        (
            (Attachment(filename="a.png", content_type="image/png", data=png()),),
            ["multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png"],
        ),
        (
            (
                Attachment(filename="a.png", content_type="image/png", data=png(), content_id="cam"),
                Attachment(filename="a.csv", content_type="text/csv", data=b"a,b\n"),
            ),
            [
                "multipart/mixed",
                "multipart/alternative",
                "text/plain",
                "multipart/related",
                "text/html",
                "image/png",
                "text/csv",
            ],
        ),
    ],
    ids=["none", "file", "picture", "both"],
)
def test_the_tree_has_what_it_needs_and_no_more(attachments: tuple[Attachment, ...], expected: list[str]) -> None:
    assert shape(read(seal(alert(attachments=attachments)))) == expected


def test_pictures_are_shown_in_the_text_and_can_be_saved() -> None:
    data = png(900, 3)
    attachments = (
        Attachment(filename="door.png", content_type="image/png", data=data),
        Attachment(filename="yard.png", content_type="image/png", data=png(100, 3), content_id="<yard>"),
    )
    mail = read(seal(alert(attachments=attachments)))
    pictures = [part for part in mail.walk() if part.get_content_type() == "image/png"]
    html = html_of(mail)
    for part, name in zip(pictures, ("door.png", "yard.png"), strict=True):
        assert part.get_content_disposition() == "inline"
        assert part.get_filename() == name
        assert f'src="cid:{part["Content-ID"].strip("<>")}"' in html
    assert pictures[0].get_payload(decode=True) == data
    assert pictures[1]["Content-ID"] == "<yard>"
    # Outlook for Windows knows only the attribute; a small picture keeps its size.
    assert re.findall(r'<img [^>]*?width="(\d+)"', html) == ["542"]
    related = next(part for part in mail.walk() if part.get_content_type() == "multipart/related")
    assert related.get_param("type") == "text/html"


def test_own_html_replaces_the_templates_and_shows_its_pictures() -> None:
    attachments = (
        Attachment(filename="a.png", content_type="image/png", data=png(), content_id="cam1"),
        Attachment(filename="b.png", content_type="image/png", data=png(2)),
    )
    given = alert(html='<p>Own {{ title }} <img src="cid:cam1"></p>', attachments=attachments)
    mail = read(seal(given))
    assert html_of(mail).strip() == '<p>Own {{ title }} <img src="cid:cam1"></p>'
    assert "Water in the cellar." in text_of(mail)
    # A picture that the HTML does not show must not get lost in multipart/related.
    assert [(part.get_filename(), part.get_content_disposition()) for part in mail.iter_attachments()] == [
        ("b.png", "attachment")
    ]
    assert next(mail.iter_attachments())["Content-ID"] is None


def test_a_reference_to_another_content_id_is_none_to_this() -> None:
    given = alert(
        html='<a href="cid:doc2">two</a>',
        attachments=tuple(
            Attachment(filename=f"{name}.pdf", content_type="application/pdf", data=b"%PDF", content_id=name)
            for name in ("doc", "doc2")
        ),
    )
    mail = read(seal(given))
    assert [part.get_filename() for part in mail.iter_attachments()] == ["doc.pdf"]
    assert [part["Content-ID"] for part in mail.walk() if part["Content-ID"]] == ["<doc2>"]


def test_attachments_arrive_octet_for_octet_in_lines_of_76() -> None:
    data = bytes(range(256)) * 40 + b"\r\n.\r\n"
    sealed = seal(alert(attachments=(Attachment(filename="x.bin", content_type="", data=data),)))
    mail = read(sealed)
    (part,) = mail.iter_attachments()
    assert part.get_content_type() == "application/octet-stream"
    assert part.get_content() == data
    encoded = [line for line in sealed.content.split(b"\r\n") if re.fullmatch(rb"[A-Za-z0-9+/=]{60,}", line)]
    assert {len(line) for line in encoded[:-1]} == {76}


@pytest.mark.parametrize("fits", [True, False])
def test_the_bound_is_on_all_attachments_together(fits: bool) -> None:
    attachments = tuple(Attachment(filename=f"{n}.bin", content_type="", data=b"x" * 1000) for n in range(3))
    sealed = seal(alert(attachments=attachments), max_attachment_bytes=3000 if fits else 2999)
    names = [part.get_filename() for part in read(sealed).iter_attachments()]
    assert names == ["0.bin", "1.bin", "2.bin"][: 3 if fits else 2]
    left_out = "attachment '2.bin' was left out: it has 1000 bytes, and only 999 bytes are left for attachments"
    assert sealed.notes == (() if fits else (left_out,))


def test_a_file_that_is_not_there_is_noted_and_the_mail_goes(tmp_path: Path) -> None:
    path = str(tmp_path / "gone.jpg")
    given = alert(attachments=(Attachment(filename="", content_type="", path=path),))
    sealed = seal(given, allowed_dirs=[tmp_path])
    mail = read(sealed)
    note = f"attachment {path!r} was left out: no such file or directory"
    assert sealed.notes == (note,)
    assert f"Note: {note}" in text_of(mail)
    assert f"Note: {note}" in words_of(html_of(mail))
    assert html_of(mail).index("Note: ") < html_of(mail).index("</body>")


def test_a_file_of_this_machine_goes_along(tmp_path: Path) -> None:
    (tmp_path / "snap.png").write_bytes(png())
    path = str(tmp_path / "snap.png")
    sealed = seal(
        alert(attachments=(Attachment(filename="", content_type="", path=path),)), allowed_dirs=[tmp_path]
    )
    mail = read(sealed)
    assert sealed.notes == ()
    (picture,) = (part for part in mail.walk() if part.get_content_type() == "image/png")
    assert picture.get_filename() == "snap.png"
    assert picture.get_payload(decode=True) == png()


def test_a_text_too_long_to_read_is_cut_and_goes_along_whole() -> None:
    whole = "0123456789" * 30_000
    sealed = seal(alert(message=whole))
    mail = read(sealed)
    assert sealed.notes == ("the text is longer than 100,000 characters: message.txt has all of it",)
    assert "9012345678…\n" in text_of(mail)
    assert len(text_of(mail)) < 101_000
    (part,) = mail.iter_attachments()
    assert part.get_content().strip() == whole


def test_a_long_line_is_folded_and_read_back_whole() -> None:
    line = "x" * 3000
    sealed = seal(alert(message=line))
    assert max(map(len, sealed.content.split(b"\r\n"))) <= 78
    mail = read(sealed)
    assert line in text_of(mail)
    assert line in html_of(mail)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("a\0b\x07c", "abc"),
        ("\ud800 and \udfff", "\ufffd and \ufffd"),
        ("تسرب مياه", "تسرب مياه"),
        ("👨‍👩‍👧 🚰", "👨‍👩‍👧 🚰"),
        (".\r\n.leading dots\r\nFrom here", ".\n.leading dots\nFrom here"),
        ("tab\tkept", "tab\tkept"),
        ("--=_alt_0\nno boundary", "--=_alt_0\nno boundary"),
    ],
)
def test_odd_texts_have_a_defined_result(given: str, shown: str) -> None:
    mail = read(seal(alert(message=given, data={"value": given})))
    assert shown in text_of(mail)
    assert shown.replace("\n", "<br>") in html_of(mail)


def test_an_alert_with_nothing_in_it_still_makes_a_mail() -> None:
    bare = Alert(id="", topic="", name="", received_at=ALERT.received_at)
    mail = read(seal(bare))
    assert mail["Subject"] == "Alert"
    assert text_of(mail).startswith("Alert\n\nSeverity: Critical\n")


def test_a_table_without_end_is_bounded_and_says_so() -> None:
    data: dict[str, Any] = {f"key{n}": n for n in range(5000)}
    data["key0"] = "z" * 100_000
    data["key1"] = [{"a": list(range(1000))}] * 1000
    sealed = seal(alert(data=data))
    mail = read(sealed)
    assert len(sealed.content) < 200_000
    for said in (text_of(mail), words_of(html_of(mail))):
        assert "… and 4900 more" in said
        assert "key99" in said
        assert "key100" not in said
    assert sealed.notes == ()


def test_html_in_the_payload_is_text() -> None:
    evil = "<script>alert(1)</script>\" onload='x'"
    given = alert(
        title=evil,
        message=evil,
        topic=evil,
        id=evil,
        data={evil: evil},
        attachments=(Attachment(filename=evil, content_type="image/png", data=png()),),
    )
    html = html_of(read(seal(given)))
    assert "<script" not in html
    assert "onload='" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_the_date_is_in_the_zone_given() -> None:
    mail = read(seal(ALERT))
    assert mail["Date"] == "Mon, 23 Nov 2026 18:26:06 +0100"
    assert parsedate_to_datetime(mail["Date"]) == DATE


def test_a_sender_without_an_address_is_an_error_at_once() -> None:
    for wrong in ("House", "", "jürgen@example.net", "House <house>", "a@example.net\r\nBcc: x@example.net"):
        with pytest.raises(ValueError):  # noqa: PT011 -- each has its own sentence, which is the route's
            Composer(sender=wrong, templates_dir=None, max_attachment_bytes=1, product_version="1")
