"""The probe on a terminal, in a file, in a pipe: lines as they happen, then what they mean."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.text import Text

from plugin.probe.plan import Plan, readable
from plugin.probe.report import Report
from plugin.smtp.pace import Pace
from plugin.smtp.tls import Secured

_MARKS: Final = {"S: ": "cyan", "C: ": "green", "= ": "yellow"}
_LABEL_CHARS: Final = 10
_TERM_CHARS: Final = 20
MIN_TEXT_CHARS: Final = 30

_PACES: Final[dict[Pace, str]] = {
    "chunking": "chunking: CHUNKING and PIPELINING are offered, so a whole letter leaves in one write",
    "pipelining": "pipelining: PIPELINING is offered and CHUNKING is not, so MAIL, RCPT and DATA leave together, "
    "and the content after the 354",
    "lockstep": "lock-step: PIPELINING is not offered, so each command waits for its answer",
}


class Screen:
    """Standard output. A terminal gets colours (but for NO_COLOR) and broken lines, anything else neither.

    ``quiet``: nothing is shown, so that JSON can be printed alone.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(file=sys.stdout, quiet=quiet, highlight=False, soft_wrap=True, markup=False)
        self._last_step = ""

    def begin(self, host: str, port: int, way: str) -> None:
        """Tell where to, and which way."""
        self._console.print(
            Text(f"{host}:{port}", "bold").append(f" through {way}; no letter is sent", "not bold")
        )

    def line(self, step: str, line: str, waited_s: float | None) -> None:
        """Show a line of the dialogue, and how long it was waited for."""
        if step == "once more" or not self._last_step:
            self._console.print()  # a connection begins
        label = "" if step == self._last_step else step
        self._last_step = step
        waited = "" if waited_s is None or step == "once more" else _readable(waited_s)
        text = Text(f"  {label:<{_LABEL_CHARS}}", "bold").append(f"{waited:>10}  ", "not bold dim")
        mark = next((one for one in _MARKS if line.startswith(one)), "")
        text.append(mark, f"not bold {_MARKS.get(mark, '')}").append(line.removeprefix(mark), "not bold")
        self._console.print(text)

    def print_json(self, report: Report) -> None:
        """Print the report as one object."""
        json.dump(report.as_json(), sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")

    def sum_up(self, report: Report) -> None:
        """Show what the dialogue means."""
        if report.offers:
            self._headline("What the server offers")
            for one in report.offers:
                shown = (
                    f"{one.parameters}: {one.meaning}" if one.parameters and one.keyword != "SIZE" else one.meaning
                )
                self._entry(one.keyword, shown)
        if report.conclusion.secured is not None:
            self._headline("TLS and certificate")
            for term, text in _certificate(report.conclusion.secured, report.trusted):
                self._entry(term, text)
        if report.plan is not None:
            self._headline("What Hardwire would do")
            for term, text in _plan(report.plan):
                self._entry(term, text)
        self._result(report)

    def _result(self, report: Report) -> None:
        self._headline("Result")
        if report.problem is not None:
            self._paragraph("FAIL ", "bold red", report.problem)
        else:
            self._paragraph("ok   ", "green", _good(report))
        for note in report.notes:
            self._paragraph("note ", "yellow", note)
        if report.entry_lines:
            self._headline("For hardwire.yaml")
            for line in report.entry_lines:
                self._console.print(Text(line, "dim" if line.lstrip().startswith("#") else ""))

    def _headline(self, text: str) -> None:
        self._console.print()
        self._console.print(Text(text, "bold"))

    def _entry(self, term: str, text: str) -> None:
        self._paragraph(f"  {term:<{_TERM_CHARS}} ", "cyan", text)

    def _paragraph(self, before: str, style: str, text: str) -> None:
        lines = [text]
        if self._console.is_terminal:
            width = max(MIN_TEXT_CHARS, self._console.width - len(before))
            lines = textwrap.wrap(text, width, break_on_hyphens=False) or [""]
        self._console.print(Text(before, style).append(lines[0], "not bold default"))
        for line in lines[1:]:
            self._console.print(" " * len(before) + line)


def _readable(duration_s: float) -> str:
    return f"{duration_s * 1000:.1f} ms" if duration_s < 1 else f"{duration_s:.2f} s"


def _good(report: Report) -> str:
    seen = report.conclusion.seen
    how = f"in {seen.secured.version}" if seen.secured is not None else "in clear text"
    return f"a letter could follow, {how}, {'logged in' if seen.authenticated else 'without a login'}"


def _certificate(secured: Secured, trusted: str) -> Iterator[tuple[str, str]]:
    yield "agreed on", f"{secured.version}, {secured.cipher}"
    yield "subject", secured.subject or "not to be read"
    if secured.names:
        yield "names", ", ".join(secured.names)
    yield "issuer", secured.issuer or "not to be read"
    yield "until", "not to be read" if secured.expires_at is None else f"{secured.expires_at:%Y-%m-%d %H:%M} UTC"
    yield "checked", f"against {trusted}" if secured.checked else "NO: these words may be anybody's"


def _plan(plan: Plan) -> Iterator[tuple[str, str]]:
    yield "pace", _PACES[plan.pace]
    yield "AUTH", _auth(plan)
    parts = ", ".join(f"{what} {count}" for what, count in plan.first_mail)
    more = plan.login_round_trips
    login = "" if more is None else f"; {more or 'no'} more for AUTH with a password"
    yield "first mail", f"{_round_trips(plan.first_mail_round_trips)} ({parts}){login}"
    yield "next mail", f"{_round_trips(plan.next_mail_round_trips)}, on the connection that is kept"
    saves = "relays[].eager would save a round trip of the first mail with a password, if the server takes it"
    yield "eager", saves if plan.eager else "not possible: it takes AUTH PLAIN and PIPELINING"
    limit = (
        "no limit is told"
        if plan.largest_bytes is None
        else f"{readable(plan.largest_bytes)}; attachments take 4/3 of their size"
    )
    yield "largest mail", limit
    at_once = plan.replies_at_once
    yield (
        "window",
        (
            f"{plan.window_bytes} octets of replies may be under way; "
            f"{'one command' if at_once == 1 else f'up to {at_once} commands'} at a time"
        ),
    )


def _auth(plan: Plan) -> str:
    if plan.password_mechanism is None and plan.token_mechanism is None:
        return "not offered, or by no mechanism of ours"
    password = plan.password_mechanism or "nothing"
    return f"{password} with a password, {plan.token_mechanism or 'nothing'} with a token"


def _round_trips(count: int) -> str:
    return f"{count} round trip{'' if count == 1 else 's'}"
