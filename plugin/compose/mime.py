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

import hashlib
import re
from collections.abc import Sequence
from email.message import MIMEPart
from email.policy import SMTP
from typing import Final

from plugin.compose.files import File

# 7-bit octets suit every server and need no parameter of MAIL; the package's default would send 8-bit ones.
POLICY: Final = SMTP.clone(cte_type="7bit", max_line_length=78)


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
            shown = _multipart("related", digest, [shown, *(_file(one, "inline") for one in related)])
            shown.set_param("type", "text/html")
        content = _multipart("alternative", digest, [content, shown])
    if beside := [one for one in files if one not in related]:
        content = _multipart("mixed", digest, [content, *(_file(one, "attachment") for one in beside)])
    return content.as_bytes(policy=POLICY)


def refers(html: str, content_id: str | None) -> bool:
    """Tell whether ``html`` shows the part with this Content-ID (RFC 2392)."""
    return (
        content_id is not None and re.search(f"cid:{re.escape(content_id)}(?![A-Za-z0-9._@+-])", html) is not None
    )


def _text(text: str, subtype: str) -> MIMEPart:
    part = MIMEPart(POLICY)
    part.set_content(text.rstrip("\n") + "\n", subtype=subtype)
    return part


def _multipart(subtype: str, digest: str, parts: Sequence[MIMEPart]) -> MIMEPart:
    whole = MIMEPart(POLICY)
    # "=_" occurs neither in base64 nor in quoted-printable.
    whole["Content-Type"] = f'multipart/{subtype}; boundary="=_{subtype[:3]}_{digest}"'
    for part in parts:
        whole.attach(part)
    return whole


def _file(file: File, disposition: str) -> MIMEPart:
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
    return part
