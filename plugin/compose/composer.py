"""Composer: an alert and where it goes become sealed mail. No alert and no template can make it fail."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from html import escape
from pathlib import Path
from typing import Any, Final

from plugin.alert import Alert
from plugin.compose.files import File, check_path, collect, picture_width, shown_in_text
from plugin.compose.headers import checked_message_id, header_section, new_message_id, subject_line
from plugin.compose.mime import body
from plugin.compose.rendering import Rendered, TemplateFailed, Templates, TemplateUnknown
from plugin.compose.text import clean, size
from plugin.compose.variables import MAX_MESSAGE_CHARS, local_time, message, rows, title, variables
from plugin.route import Directions, parse_mailbox

log = logging.getLogger("hardwire.compose")

_BODY_END: Final = re.compile(r"</body\b", re.IGNORECASE)
_NOTE_STYLE: Final = (
    "max-width:556px;margin:0 auto 24px;padding:10px 20px;border-radius:6px;"
    "background-color:#fff3d1;color:#5a4300;"
    "font:13px/1.5 -apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;overflow-wrap:anywhere"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Mail whose octets are fixed for ever: CRLF ends, 7-bit, Date and Message-ID in it.

    ``sender`` is the bare address for the envelope. ``notes`` say what was left out or replaced, and why; they
    stand at the foot of the mail too.
    """

    subject: str
    message_id: str
    sender: str
    content: bytes
    notes: tuple[str, ...]


class Composer:
    """Builds mails; keeps nothing between two of them and may be used by several threads.

    ``sender`` is ``House <house@example.net>`` or a bare address (ValueError if it is neither, or if the part
    before the @ is not ASCII);
    ``templates_dir`` goes before the product's templates; files are attached from ``allowed_dirs`` alone;
    ``max_attachment_bytes`` bounds all attachments of a mail together, before base64. ``zone`` is that of the
    times in the mail, by default the machine's.
    """

    def __init__(
        self,
        *,
        sender: str,
        templates_dir: Path | None,
        allowed_dirs: Sequence[Path] = (),
        max_attachment_bytes: int,
        product_version: str,
        zone: tzinfo | None = None,
    ) -> None:
        self._sender = parse_mailbox(sender)
        self._templates = Templates(templates_dir)
        self._allowed_dirs = tuple(allowed_dirs)
        self._max_attachment_bytes = max_attachment_bytes
        self._version = product_version
        self._zone = zone

    def names(self) -> list[str]:
        """Return the names of all templates, the product's and the user's, sorted."""
        return self._templates.names()

    def check(self) -> list[tuple[str, str]]:
        """Return (file, error text) for every template that cannot work whatever the alert says."""
        return self._templates.check()

    def check_path(self, path: str) -> str | None:
        """Return why a file must not be attached, or None; whether it is there is seen when the mail is made."""
        return check_path(path, self._allowed_dirs)

    def render(self, alert: Alert, directions: Directions) -> Rendered:
        """Return what the mail would say; TemplateUnknown, or TemplateFailed with file, line and remedy."""
        attached, notes = self._files(alert, stamp="preview")
        return self._rendered(alert, directions, attached, notes)

    def seal(
        self, alert: Alert, directions: Directions, *, date: datetime, message_id: str | None = None
    ) -> Sealed:
        """Return the mail. ``date`` is aware; ``message_id`` is given where the octets have to be repeatable.

        A template that fails, or is not there, is replaced by a plain mail, and a file that cannot be read is
        left out: both with a note. ValueError: ``message_id`` is none (RFC 5322 §3.6.4).
        """
        envelope = self._sender[1]
        identifier = checked_message_id(message_id) if message_id else new_message_id(envelope)
        attached, notes = self._files(alert, stamp=hashlib.sha256(identifier.encode()).hexdigest()[:12])
        try:
            rendered = self._rendered(alert, directions, attached, notes)
        except (TemplateFailed, TemplateUnknown) as fault:
            log.warning(
                "event=template_failed alert=%r problem=%r", alert.id, f"mailed without its template: {fault}"
            )
            rendered = self._plain(alert, attached, [f"{fault}. This mail was made without it.", *notes])
        section = header_section(
            alert=alert,
            severity=directions.severity,
            sender=self._sender,
            to=directions.to,
            cc=directions.cc,
            reply_to=directions.reply_to,
            subject=rendered.subject,
            date=date.astimezone(self._zone),
            identifier=identifier,
            product=self._version,
        )
        return Sealed(
            subject=rendered.subject,
            message_id=identifier,
            sender=envelope,
            content=section + body(rendered.text, rendered.html, attached, seed=identifier),
            notes=rendered.notes,
        )

    def _files(self, alert: Alert, *, stamp: str) -> tuple[list[File], list[str]]:
        attached, notes = collect(
            alert.attachments,
            allowed_dirs=self._allowed_dirs,
            max_bytes=self._max_attachment_bytes,
            stamp=stamp,
        )
        if len(alert.message) > MAX_MESSAGE_CHARS:
            whole = clean(alert.message).encode()
            attached.append(File(name="message.txt", content_type="text/plain", data=whole, charset="utf-8"))
            notes.append(f"the text is longer than {MAX_MESSAGE_CHARS:,} characters: message.txt has all of it")
        return attached, notes

    def _rendered(
        self, alert: Alert, directions: Directions, attached: Sequence[File], notes: Sequence[str]
    ) -> Rendered:
        subject, text, html = self._templates.render(
            directions.template, self._variables(alert, directions, attached)
        )
        if alert.html is not None:
            html = clean(alert.html)
        return Rendered(
            subject=subject_line(subject) or title(alert),
            text=_noted_text(text, notes),
            html=_noted_html(html, notes),
            notes=tuple(notes),
        )

    def _variables(self, alert: Alert, directions: Directions, attached: Sequence[File]) -> Mapping[str, Any]:
        pictures = shown_in_text(attached)
        return variables(
            alert,
            severity=directions.severity,
            received_at=alert.received_at.astimezone(self._zone),
            product=self._version,
            pictures=[
                {"cid": one.content_id, "name": one.name, "width": picture_width(one.data)} for one in pictures
            ],
            files=[{"name": one.name, "size": size(len(one.data))} for one in attached if one not in pictures],
        )

    def _plain(self, alert: Alert, attached: Sequence[File], notes: Sequence[str]) -> Rendered:
        """Make the mail without any template, so that nothing is left that could fail."""
        subject = title(alert)
        shown, more = rows(alert.data)
        received_at = local_time(alert.received_at.astimezone(self._zone))
        lines = [subject, "", *([message(alert), ""] if alert.message else [])]
        lines += [f"state: {alert.state}", f"time: {received_at}", f"topic: {clean(alert.topic)}"]
        lines += [f"{row.key}: {row.value}" for row in shown]
        lines += [f"… and {more} more"] if more else []
        lines += [f"attached: {one.name}" for one in attached]
        return Rendered(
            subject=subject,
            text=_noted_text("\n".join(lines), notes),
            html=_noted_html(clean(alert.html), notes) if alert.html is not None else None,
            notes=tuple(notes),
        )


def _noted_text(text: str, notes: Sequence[str]) -> str:
    return "\n\n".join([text.strip("\n"), *(f"Note: {note}" for note in notes)]) + "\n"


def _noted_html(html: str, notes: Sequence[str]) -> str:
    """Put the notes at the end of the body, also of HTML that somebody else wrote."""
    if not notes:
        return html
    shown = "".join(f'<p style="margin:4px 0">Note: {escape(note)}</p>' for note in notes)
    foot = f'<div style="{_NOTE_STYLE}">{shown}</div>'
    ends = [found.start() for found in _BODY_END.finditer(html)]
    end = ends[-1] if ends else len(html)
    return html[:end] + foot + html[end:]
