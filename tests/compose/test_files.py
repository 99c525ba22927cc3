"""Attachments: names, types, widths; and that nothing outside the allowed folders is ever read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugin.alert import Attachment
from plugin.compose import files as files_room
from plugin.compose.files import FileRefused, check_path, collect, filename, media_type, picture_width, read_path
from tests.compose.mails import alert, composer, png, read, seal

JPEG = (
    b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b\x08"
    + (480).to_bytes(2, "big")
    + (640).to_bytes(2, "big")
    + b"\3xx"
)


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"content")
    (folder / "inner" / "b.txt").write_bytes(b"inner")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "media-other").mkdir()
    (tmp_path / "media-other" / "c.txt").write_bytes(b"other")
    return folder


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_files_below_an_allowed_folder_are_read(allowed: Path) -> None:
    for path, content in (("a.txt", b"content"), ("inner/b.txt", b"inner"), ("inner/../a.txt", b"content")):
        given = str(allowed) + "/" + path
        assert check_path(given, [allowed]) is None
        assert read_path(given, [allowed.parent / "elsewhere", allowed], 100) == content


def test_nothing_else_is(allowed: Path) -> None:
    outside = allowed.parent / "secret"
    (allowed / "link").symlink_to(outside)
    (allowed / "folder").symlink_to(allowed.parent)
    (allowed / "loop").symlink_to(allowed / "loop")
    for path in (
        str(outside),
        f"{allowed}/../secret",
        f"{allowed}/link",
        f"{allowed}/folder/secret",
        str(allowed.parent / "media-other" / "c.txt"),
        str(allowed),
        "/etc/passwd",
    ):
        assert check_path(path, [allowed]) == "it is outside attachments.allowed_dirs"
        with pytest.raises(FileRefused, match="outside"):
            read_path(path, [allowed], 100)
    for path in ("a.txt", "", f"{allowed}/a.txt\0", "media/a.txt", "~/a.txt"):
        assert check_path(path, [allowed]) == "it is not an absolute path"
    assert check_path(f"{allowed}/\ud800", [allowed]) == "it is no path of this machine"
    with pytest.raises(FileRefused):
        read_path(f"{allowed}/loop", [allowed], 100)


def test_without_allowed_folders_no_file_is_read(allowed: Path) -> None:
    assert check_path(str(allowed / "a.txt"), []) == "no folder is allowed; name it in attachments.allowed_dirs"
    assert composer(allowed_dirs=[allowed]).check_path(str(allowed / "a.txt")) is None
    assert composer().check_path(str(allowed / "a.txt")) is not None


def test_links_that_stay_inside_and_an_allowed_folder_that_is_a_link_are_fine(allowed: Path) -> None:
    (allowed / "latest.txt").symlink_to("inner/b.txt")
    assert read_path(str(allowed / "latest.txt"), [allowed], 100) == b"inner"
    (allowed.parent / "alias").symlink_to(allowed)
    assert read_path(str(allowed.parent / "alias" / "a.txt"), [allowed.parent / "alias"], 100) == b"content"


@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_a_link_put_in_place_after_the_check_is_not_followed(
    allowed: Path, swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(allowed / "inner" / "b.txt")
    located = files_room._locate(path, [allowed])
    if swapped == "file":
        (allowed / "inner" / "b.txt").unlink()
        (allowed / "inner" / "b.txt").symlink_to(allowed.parent / "secret")
    else:
        (allowed / "inner").rename(allowed / "old")
        (allowed.parent / "b.txt").write_bytes(b"secret")
        (allowed / "inner").symlink_to(allowed.parent)
    monkeypatch.setattr(files_room, "_locate", lambda *_: located)
    before = open_files()
    with pytest.raises(FileRefused):
        read_path(path, [allowed], 100)
    assert open_files() == before


def test_what_is_no_regular_file_is_refused_at_once(allowed: Path) -> None:
    os.mkfifo(allowed / "pipe")
    before = open_files()
    for name in ("pipe", "inner"):
        assert check_path(str(allowed / name), [allowed]) is None
        with pytest.raises(FileRefused, match="it is no regular file"):
            read_path(str(allowed / name), [allowed], 100)
    assert open_files() == before


def test_files_are_bounded(allowed: Path) -> None:
    assert read_path(str(allowed / "a.txt"), [allowed], 7) == b"content"
    with pytest.raises(FileRefused, match="it has 7 bytes, and only 6 bytes are left for attachments"):
        read_path(str(allowed / "a.txt"), [allowed], 6)


def test_a_file_that_says_it_is_empty_is_read_to_its_end() -> None:
    folder = Path("/proc/self")
    assert read_path("/proc/self/status", [folder], 100_000).startswith(b"Name:")
    with pytest.raises(FileRefused, match="only 10 bytes are left"):
        read_path("/proc/self/status", [folder], 10)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("photo.jpg", "photo.jpg"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\evil.exe", "evil.exe"),
        ("C:\\photos\\a b.png", "a b.png"),
        ("a\r\nBcc: x.png", "a Bcc_ x.png"),
        ("", "attachment"),
        ("..", "attachment"),
        ("/", "attachment"),
        (".hidden", "hidden"),
        ("größe — 家.pdf", "größe — 家.pdf"),
        ("photo\u202egnp.exe", "photognp.exe"),
        ('a"b;c.txt', "a_b_c.txt"),
        ("x" * 200 + ".jpeg", "x" * 75 + ".jpeg"),
        ("家" * 200 + ".jpeg", "家" * 51 + ".jpeg"),
        ("x." + "y" * 200, ("x." + "y" * 200)[:80]),
        ("nul\0.txt", "nul.txt"),
        ("\ud800.txt", "\ufffd.txt"),
    ],
)
def test_a_name_becomes_a_file_name(given: str, name: str) -> None:
    assert filename(given) == name
    attachment = Attachment(filename=given, content_type="text/x-own", data=b"1")
    (part,) = read(seal(alert(attachments=(attachment,)))).iter_attachments()
    assert (part.get_filename() or "").startswith(name)


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec=None, exclude_categories=[]), max_size=200))
def test_every_file_name_arrives_as_it_was_made(given: str) -> None:
    name = filename(given)
    assert 0 < len(name) <= 80
    assert "/" not in name
    attachment = Attachment(filename=given + ".bin", content_type="", data=b"1")
    (part,) = read(seal(alert(attachments=(attachment,)))).iter_attachments()
    assert part.get_filename() == filename(given + ".bin")


@pytest.mark.parametrize(
    ("given", "name", "data", "expected"),
    [
        ("image/png", "x", b"", "image/png"),
        (" Image/PNG ; x=y", "x", b"", "image/png"),
        ("", "a.jpg", b"", "image/jpeg"),
        ("application/octet-stream", "a.webp", b"", "image/webp"),
        ("", "a", JPEG, "image/jpeg"),
        ("", "a", b"RIFF1234WEBPVP8 ", "image/webp"),
        ("", "a", b"%PDF-1.7", "application/pdf"),
        ("", "a", b"?", "application/octet-stream"),
        ("nonsense", "a.txt", b"", "text/plain"),
        ("image/png\r\nBcc: x", "a", b"", "application/octet-stream"),
        ("message/rfc822", "a.eml", b"", "application/octet-stream"),
        ("multipart/mixed", "a", b"", "application/octet-stream"),
    ],
)
def test_the_type_is_the_one_given_or_guessed(given: str, name: str, data: bytes, expected: str) -> None:
    assert media_type(given, name, data) == expected


@pytest.mark.parametrize(
    ("content_type", "data", "charset"),
    [
        ("text/plain", "größe".encode(), "utf-8"),
        ("text/csv; charset=ISO-8859-1", "größe".encode("latin-1"), "iso-8859-1"),
        ("text/plain", b"\xff", None),
        ("image/png", b"abc", None),
    ],
)
def test_a_text_says_its_charset(content_type: str, data: bytes, charset: str | None) -> None:
    (part,) = (
        part
        for part in read(
            seal(alert(html="own", attachments=(Attachment(filename="a", content_type=content_type, data=data),)))
        ).iter_attachments()
    )
    assert part.get_param("charset") == charset
    assert part.get_payload(decode=True) == data


def test_a_name_without_a_suffix_gets_one_by_its_type() -> None:
    made, _ = collect(
        [Attachment(filename="snapshot", content_type="image/png", data=png())],
        allowed_dirs=(),
        max_bytes=1000,
        stamp="s",
    )
    assert made[0].name == "snapshot.png"


def test_content_ids_that_cannot_be_used_are_replaced_and_noted() -> None:
    def picture(content_id: str) -> Attachment:
        return Attachment(filename="a.png", content_type="image/png", data=png(), content_id=content_id)

    made, notes = collect(
        [
            picture("cam"),
            picture("cam"),
            picture("a b"),
            picture("x\r\nBcc: y"),
            picture("k" * 61),
            picture("<ok@home>"),
        ],
        allowed_dirs=(),
        max_bytes=10_000,
        stamp="s",
    )
    assert [one.content_id for one in made] == [
        "cam",
        "picture2.s@hardwire",
        "picture3.s@hardwire",
        "picture4.s@hardwire",
        "picture5.s@hardwire",
        "ok@home",
    ]
    assert len(notes) == 4


def test_an_attachment_with_nothing_in_it_is_noted() -> None:
    sealed = seal(alert(attachments=(Attachment(filename="a.txt", content_type="text/plain"),)))
    assert sealed.notes == ("attachment 'a.txt' was left out: it has neither data nor a path",)
    read(sealed)


@pytest.mark.parametrize(
    ("data", "width"),
    [
        (png(900), 900),
        (JPEG, 640),
        (b"GIF89a" + (300).to_bytes(2, "little") + b"\1\0", 300),
        (b"", None),
        (b"\xff\xd8", None),
        (b"\xff\xd8" + b"\xff\xe0\x00\x00" * 4, None),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"BM", None),
    ],
)
def test_the_width_of_a_picture(data: bytes, width: int | None) -> None:
    assert picture_width(data) == width


@given(st.binary(max_size=300))
def test_no_octets_make_the_width_fail_or_last(data: bytes) -> None:
    picture_width(b"\xff\xd8" + data)
    picture_width(b"\x89PNG\r\n\x1a\n" + data)
