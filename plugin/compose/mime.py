"""The MIME tree of a mail (RFC 2045, 2046, 2387): text, HTML, pictures shown in it, files beside it.

    multipart/mixed
    ├── multipart/alternative
    │   ├── text/plain
    │   └── multipart/related        only where the HTML shows pictures
    │       ├── text/html
    │       └── image/png …
    └── application/pdf …            only where there are files

A multipart of one part is left out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from email.message import Message, MIMEPart
from email.policy import SMTP, Compat32
from typing import Any, Final

from plugin.compose.files import File

MAX_LINE_CHARS: Final = 78
# 7-bit octets suit every server and need no parameter of MAIL; the package's default would send 8-bit ones.
POLICY: Final = SMTP.clone(cte_type="7bit", max_line_length=MAX_LINE_CHARS)


class _Ready(Compat32):
    """Writes header fields as they are: they were folded when they were made, once and not for each mail."""

    def fold(self, name: str, value: str) -> str:
        return f"{name}: {value}{self.linesep}"

    def fold_binary(self, name: str, value: str) -> bytes:
        return self.fold(name, value).encode("ascii")


READY: Final = _Ready(linesep="\r\n")


def body(text: str, html: str | None, files: Sequence[File], *, seed: str) -> bytes:
    """Return the MIME headers, an empty line and the body: 7-bit octets, CRLF ends, lines of at most 78.

    The same arguments give the same octets: boundaries come from ``seed`` and the texts, so that nothing which
    stands in a text can be one of them. Files that the sender marked inline, and those whose Content-ID the
    HTML refers to, go into multipart/related; the others are attached.
    """
    digest = hashlib.sha256("\0".join((seed, text, html or "")).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    related = [one for one in files if html is not None and (one.inline or refers(html, one.content_id))]
    content = _text(text, "plain")
    if html is not None:
        shown = _text(html, "html")
        if related:
            parts = [shown, *(_file(one, "inline") for one in related)]
            shown = _multipart("related", digest, parts, root="text/html")
        content = _multipart("alternative", digest, [content, shown])
    if beside := [one for one in files if one not in related]:
        content = _multipart("mixed", digest, [content, *(_file(one, "attachment") for one in beside)])
    return content.as_bytes()


def refers(html: str, content_id: str | None) -> bool:
    """Tell whether ``html`` shows the part with this Content-ID (RFC 2392)."""
    return (
        content_id is not None and re.search(f"cid:{re.escape(content_id)}(?![A-Za-z0-9._@+-])", html) is not None
    )


def _text(text: str, subtype: str) -> Message:
    octets = "".join(f"{line}\r\n" for line in text.rstrip("\n").split("\n")).encode()
    if octets.isascii() and max(map(len, octets.splitlines())) <= MAX_LINE_CHARS:
        encoding, payload = "7bit", octets
    else:
        encoding, payload = "quoted-printable", binascii.b2a_qp(octets)
        # Base64 makes four octets of three, and line ends: where that is too much already it need not be tried.
        if not octets.isascii() and 3 * len(payload) > 4 * len(octets):
            other = base64.encodebytes(octets)
            if len(other) < len(payload):
                encoding, payload = "base64", other
    part = Message(READY)
    part["Content-Type"] = f'text/{subtype}; charset="utf-8"'
    part["Content-Transfer-Encoding"] = encoding
    part.set_payload(payload.decode("ascii"))
    return part


def _multipart(subtype: str, digest: str, parts: Sequence[Message], *, root: str | None = None) -> Message:
    """``root`` is the content type of the first part of a multipart/related (RFC 2387 §3.1)."""
    whole = Message(READY)
    # "=_" occurs neither in base64 nor in quoted-printable.
    boundary = f"=_{subtype[:3]}_{digest}"
    parameters = [f'boundary="{boundary}"', *([f'type="{root}"'] if root else [])]
    whole["Content-Type"] = ";\r\n ".join((f"multipart/{subtype}", *parameters))
    for part in parts:
        whole.attach(part)
    return whole


def _file(file: File, disposition: str) -> Message:
    main, _, sub = file.content_type.partition("/")
    part = MIMEPart(POLICY)
    part.set_content(file.data, maintype=main, subtype=sub, cte="base64")
    if file.charset is not None:
        part.set_param("charset", file.charset)
    # The file name stands here alone (RFC 2183, RFC 2231), for pictures in the text as well: so they can be saved.
    part.add_header("Content-Disposition", disposition, filename=file.name)
    # On an attached part it would make some programs hide the file, expecting it in the text.
    if file.content_id is not None and disposition == "inline":
        part["Content-ID"] = f"<{file.content_id}>"
    return _folded(part)


def _folded(part: MIMEPart) -> Message:
    """Return ``part`` with its header fields folded."""
    ready = Message(READY)
    fields: list[tuple[str, Any]] = part.items()
    for name, value in fields:
        ready[name] = value.fold(policy=POLICY).partition(": ")[2].rstrip("\r\n")
    ready.set_payload(part.get_payload())
    return ready
