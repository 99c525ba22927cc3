"""Attachments: what goes along, under which name and type; files of this machine only from allowed folders."""

from __future__ import annotations

import mimetypes
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plugin.alert import Attachment
from plugin.compose.text import clean, single_line, size, undirected

MAX_FILENAME_CHARS: Final = 80
MAX_FILENAME_BYTES: Final = 160
MAX_PATH_CHARS: Final = 200
MAX_CONTENT_ID_CHARS: Final = 60
MAX_PICTURES: Final = 20
READ_BYTES: Final = 1024 * 1024

_TYPE: Final = re.compile(r"(?P<main>[a-z0-9][a-z0-9!#$&^_.+-]{0,62})/(?P<sub>[a-z0-9][a-z0-9!#$&^_.+-]{0,62})")
_CHARSET: Final = re.compile(r";\s*charset=\"?(?P<charset>[A-Za-z0-9._-]{1,40})\"?", re.IGNORECASE)
_NOT_IN_NAMES: Final = re.compile(r'["\\;<>|?*:%]')
_CONTENT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")
# The types that mail programs show within a text.
_SHOWN: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"})
_SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
)
# Python's own table, not the machine's, so that a mail does not depend on where it is made.
_TYPES: Final = mimetypes.MimeTypes(filenames=())
for _suffix, _type in (
    (".webp", "image/webp"),
    (".avif", "image/avif"),
    (".heic", "image/heic"),
    (".log", "text/plain"),
):
    _TYPES.add_type(_type, _suffix)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One attachment as it goes into the mail.

    ``content_type`` is ``main/sub``; ``charset`` is set for text alone. ``content_id`` (without angle brackets)
    is what HTML refers to as ``cid:…``; ``inline`` says that the sender asked for that.
    """

    name: str
    content_type: str
    data: bytes
    charset: str | None = None
    content_id: str | None = None
    inline: bool = False


class FileRefused(Exception):
    """A file cannot go along; the text says why."""


def check_path(path: str, allowed_dirs: Sequence[Path]) -> str | None:
    """Return why ``path`` may not be attached, or None. A file that is not there (yet) is no reason."""
    try:
        _locate(path, allowed_dirs)
    except FileRefused as refused:
        return str(refused)
    return None


def read_path(path: str, allowed_dirs: Sequence[Path], max_bytes: int) -> bytes:
    """Return the octets of a regular file below ``allowed_dirs``; FileRefused with the reason otherwise.

    The way from the allowed folder to the file is walked folder by folder, each opened in the one before and
    never by a symbolic link: whoever swaps a part of the path after the check gets an error, not another file.
    """
    folder, steps = _locate(path, allowed_dirs)
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        held = os.open(folder, flags | os.O_DIRECTORY)
        for number, step in enumerate(steps, start=1):
            # O_NONBLOCK: opening a named pipe must not wait for its writer.
            last = number == len(steps)
            try:
                opened = os.open(step, flags | (os.O_NONBLOCK if last else os.O_DIRECTORY), dir_fd=held)
            finally:
                os.close(held)
            held = opened
        try:
            return _read(held, max_bytes)
        finally:
            os.close(held)
    except OSError as error:
        raise FileRefused((error.strerror or str(error)).lower()) from error


def _locate(path: str, allowed_dirs: Sequence[Path]) -> tuple[str, tuple[str, ...]]:
    """Return the allowed folder that holds ``path``, links resolved, and the steps from there to the file."""
    if not allowed_dirs:
        raise FileRefused("no folder is allowed; name it in attachments.allowed_dirs")
    if not path.startswith("/") or "\0" in path:
        raise FileRefused("it is not an absolute path")
    try:
        real = os.path.realpath(path)
        folders = [os.path.realpath(one) for one in allowed_dirs]
    except (OSError, ValueError) as error:  # ValueError: a lone surrogate has no octets in a path
        raise FileRefused("it is no path of this machine") from error
    for folder in folders:
        if real != folder and os.path.commonpath([real, folder]) == folder:
            return folder, Path(real).relative_to(folder).parts
    raise FileRefused("it is outside attachments.allowed_dirs")


def _read(file: int, max_bytes: int) -> bytes:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise FileRefused("it is no regular file")
    content = bytearray()
    # A file may grow while it is read, and files of /proc say that they are empty: the bound is on what comes.
    while len(content) <= max_bytes and (chunk := os.read(file, min(READ_BYTES, max_bytes + 1 - len(content)))):
        content += chunk
    if len(content) > max_bytes:
        larger = max(status.st_size, len(content))
        raise FileRefused(f"it has {size(larger)}, and only {size(max_bytes)} are left for attachments")
    return bytes(content)


def collect(
    attachments: Iterable[Attachment], *, allowed_dirs: Sequence[Path], max_bytes: int, stamp: str
) -> tuple[list[File], list[str]]:
    """Return the files that go along, and a note for each that cannot.

    ``max_bytes`` bounds all attachments of a mail together. Pictures without a Content-ID get one with
    ``stamp`` in it.
    """
    files: list[File] = []
    notes: list[str] = []
    taken: set[str] = set()
    for number, attachment in enumerate(attachments, start=1):
        name = filename(attachment.filename or attachment.path or "")
        try:
            data = _octets(attachment, allowed_dirs, max_bytes)
        except FileRefused as refused:
            shown_as = single_line(attachment.path or name, MAX_PATH_CHARS)
            notes.append(f"attachment {shown_as!r} was left out: {refused}")
            continue
        max_bytes -= len(data)
        content_type = media_type(attachment.content_type, name, data)
        content_id = (attachment.content_id or "").strip().removeprefix("<").removesuffix(">")
        usable = _usable(content_id) and content_id not in taken
        if content_id and not usable:
            notes.append(f"attachment {name!r}: content_id is taken or not valid, HTML cannot refer to it")
        if not usable:
            content_id = f"picture{number}.{stamp}@hardwire" if content_type in _SHOWN else ""
        taken.add(content_id)
        files.append(
            File(
                name=_with_suffix(name, content_type),
                content_type=content_type,
                data=data,
                charset=_charset(attachment.content_type, content_type, data),
                content_id=content_id or None,
                inline=usable and content_type.startswith("image/"),
            )
        )
    return files, notes


def _usable(content_id: str) -> bool:
    return len(content_id) <= MAX_CONTENT_ID_CHARS and _CONTENT_ID.fullmatch(content_id) is not None


def _with_suffix(name: str, content_type: str) -> str:
    """Return ``name``, with a suffix by its type when it has none: mail programs open files by it."""
    known = "." not in name and content_type != "application/octet-stream"
    return name + (_TYPES.guess_extension(content_type) or "") if known else name


def _octets(attachment: Attachment, allowed_dirs: Sequence[Path], max_bytes: int) -> bytes:
    if attachment.data is None and attachment.path is None:
        raise FileRefused("it has neither data nor a path")
    if attachment.data is None:
        return read_path(attachment.path or "", allowed_dirs, max_bytes)
    if len(attachment.data) > max_bytes:
        raise FileRefused(
            f"it has {size(len(attachment.data))}, and only {size(max_bytes)} are left for attachments"
        )
    return attachment.data


def shown_in_text(files: Sequence[File]) -> list[File]:
    """Return the files that the product's mail shows as pictures, at most 20."""
    return [one for one in files if one.content_type in _SHOWN and one.content_id is not None][:MAX_PICTURES]


def filename(text: str) -> str:
    """Return the last part of ``text`` as a file name: no path, no control characters, bounded, never empty."""
    name = undirected(clean(text)).replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = single_line(_NOT_IN_NAMES.sub("_", name), 10_000).strip(". ")
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix) > 10:
        stem, dot, suffix = name, "", ""
    stem = stem[:MAX_FILENAME_CHARS]
    while (
        len(stem) + len(dot + suffix) > MAX_FILENAME_CHARS
        or len((stem + dot + suffix).encode()) > MAX_FILENAME_BYTES
    ):
        stem = stem[:-1]
    return (stem + dot + suffix).strip() or "attachment"


def media_type(given: str, name: str, data: bytes) -> str:
    """Return ``main/sub`` for a file: as given if that is one, else by its name, else by its first octets."""
    content_type = given.partition(";")[0].strip().lower()
    if not _TYPE.fullmatch(content_type) or content_type == "application/octet-stream":
        content_type = _TYPES.guess_type(name)[0] or _signature(data) or "application/octet-stream"
    # message/* and multipart/* must not be in base64 (RFC 2046 §5): as octets they arrive unharmed.
    return "application/octet-stream" if content_type.startswith(("message/", "multipart/")) else content_type


def _signature(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((content_type for signature, content_type in _SIGNATURES if data.startswith(signature)), None)


def _charset(given: str, content_type: str, data: bytes) -> str | None:
    """Return the charset that a text says it has, or UTF-8 if it is that; without one it is read as ASCII."""
    if not content_type.startswith("text/"):
        return None
    if named := _CHARSET.search(given):
        return named["charset"].lower()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return "utf-8"


def picture_width(data: bytes) -> int | None:
    """Return the width in pixels of a PNG, GIF or JPEG, or None.

    Outlook on Windows ignores ``max-width``: a camera's picture without a width would be as wide as it is.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        return int.from_bytes(data[16:20], "big")
    if data.startswith(b"GIF8") and len(data) >= 10:
        return int.from_bytes(data[6:8], "little")
    position = 2 if data.startswith(b"\xff\xd8") else len(data)
    while position + 9 <= len(data) and data[position] == 0xFF:  # JPEG: a chain of segments
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            return int.from_bytes(data[position + 7 : position + 9], "big")
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None
