"""``outbox …``: the queue and its dead letters, also while the service works with them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from plugin.cli.shared import EXIT_FAILED, as_text, config_option, fail, load_config, tell_notes

if TYPE_CHECKING:
    from plugin.alert import Attempt, RecipientOutcome
    from plugin.outbox import Listed, Recipient, Shown

STATES: Final = ("waiting", "wire", "failed", "sent")
MAX_LISTED: Final = 10_000
MAX_NAMED: Final = 2
_STATES: Final = {
    "waiting": "waiting",
    "wire": "on the wire",
    "failed": "failed for at least one recipient",
    "sent": "accepted for all recipients",
}


@click.group(short_help="The queue and its dead letters.")
def outbox() -> None:
    """Look at the queue, try again what has failed, drop what waits; also while the service runs.

    Example: hardwire outbox list --config hardwire.yaml
    """


@outbox.command("list", short_help="Which letters there are.")
@config_option
@click.option(
    "--state", type=click.Choice(STATES), help="Those alone that wait, are on the wire, failed, were sent."
)
@click.option(
    "--limit", type=click.IntRange(1, MAX_LISTED), default=50, show_default=True, help="So many at most."
)
@click.option("--offset", type=click.IntRange(0), default=0, help="Leave out so many before.")
@click.option("--json", "as_json", is_flag=True, help="Print them as a JSON list.")
def list_(config_path: Path, as_json: bool, **page: Any) -> None:
    """List letters, the newest first; with --state waiting or wire, the longest due first.

    Example: hardwire outbox list --state failed --config hardwire.yaml
    """
    config = load_config(config_path)
    from plugin.build import wall_lead_s
    from plugin.outbox import OutboxError, reading

    try:
        with reading(config.outbox.path) as reader:
            lead_s = wall_lead_s(reader)
            letters = [_by_the_wall(one, lead_s) for one in reader.list(**page)]
    except OutboxError as error:
        fail(str(error))
    if as_json:
        click.echo(as_text([listed_json(one) for one in letters]))
        return
    for one in letters:
        click.echo(_row(one))
    if len(letters) == page["limit"]:
        tell_notes([f"there may be more: --offset {page['offset'] + page['limit']}"])


@outbox.command(short_help="All that is known of one letter.")
@click.argument("number", type=click.IntRange(1))
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print all as one JSON object.")
def show(number: int, config_path: Path, as_json: bool) -> None:
    """Show letter NUMBER: its recipients, every attempt with its SMTP dialogue, its outcomes.

    Example: hardwire outbox show 7 --config hardwire.yaml
    """
    config = load_config(config_path)
    from plugin.build import wall_lead_s
    from plugin.outbox import OutboxError, reading

    try:
        with reading(config.outbox.path) as reader:
            lead_s = wall_lead_s(reader)
            shown = reader.show(number)
    except OutboxError as error:
        fail(str(error))
    if shown is None:
        fail(f"there is no letter {number}; `hardwire outbox list` shows which there are")
    shown = replace(shown, letter=_by_the_wall(shown.letter, lead_s))
    if as_json:
        click.echo(as_text(shown_json(shown)))
        return
    for line in _told(shown):
        click.echo(line)


@outbox.command(short_help="Try again what has failed.")
@click.argument("numbers", metavar="[NUMBER]...", nargs=-1, type=click.IntRange(1))
@config_option
@click.option("--all", "everything", is_flag=True, help="All that have failed.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one JSON object.")
def retry(numbers: tuple[int, ...], config_path: Path, everything: bool, as_json: bool) -> None:
    """Have letters that failed go out again, to those who do not have them; one that waits is due at once.

    Example: hardwire outbox retry 7 --config hardwire.yaml
    """
    _change("retry", numbers, config_path, everything=everything, as_json=as_json)


@outbox.command(short_help="Give up what waits.")
@click.argument("numbers", metavar="[NUMBER]...", nargs=-1, type=click.IntRange(1))
@config_option
@click.option("--all", "everything", is_flag=True, help="All that wait.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one JSON object.")
def drop(numbers: tuple[int, ...], config_path: Path, everything: bool, as_json: bool) -> None:
    """Give up letters that wait. Each is a failure, and its outcome is published.

    Example: hardwire outbox drop 7 8 --config hardwire.yaml
    """
    _change("drop", numbers, config_path, everything=everything, as_json=as_json)


def _change(verb: str, numbers: tuple[int, ...], config_path: Path, *, everything: bool, as_json: bool) -> None:
    if bool(numbers) == everything:
        raise click.UsageError("name letters by their numbers, or write --all")
    config = load_config(config_path)
    from plugin.outbox import OutboxError
    from plugin.service import by_hand

    try:
        answer = by_hand(config, verb, {"letters": "all" if everything else list(numbers)})
    except OutboxError as error:
        fail(str(error))
    if answer["error"] is not None:
        fail(answer["error"])
    data = answer["data"]
    if as_json:
        click.echo(as_text(data))
    else:
        click.echo(f"{data['letters']} letter{'' if data['letters'] == 1 else 's'}")
        tell_notes(f"letter {one['letter']} {one['reason']}" for one in data["left"])
    sys.exit(EXIT_FAILED if data["left"] else 0)


def listed_json(letter: Listed) -> dict[str, Any]:
    """Return a letter as ``list --json`` has it; the keys are those of docs/contract.md."""
    return {
        "number": letter.number,
        "state": letter.state,
        "alert_ids": list(letter.alert_ids),
        "topic": letter.topic,
        "route": letter.route,
        "subject": letter.subject,
        "recipients": [_recipient_json(one) for one in letter.recipients],
        "attempts": letter.attempts,
        "due_at": _time(letter.due_at) if letter.state == "waiting" else None,
        "received_at": _time(letter.received_at),
    }


def shown_json(shown: Shown) -> dict[str, Any]:
    """Return a letter as ``show --json`` has it: what ``list`` has, and more."""
    return {
        **listed_json(shown.letter),
        "message_id": shown.message_id,
        "sender": shown.sender,
        "notes": list(shown.notes),
        "possible_duplicate": shown.possible_duplicate,
        "content_bytes": shown.content_bytes,
        "tries": [_attempt_json(one) for one in shown.attempts],
        "outcomes": [json.loads(one) for one in shown.outcomes],
    }


def _by_the_wall(letter: Listed, lead_s: float) -> Listed:
    """Return ``letter`` with the times that people know."""
    return replace(letter, received_at=letter.received_at + lead_s, due_at=letter.due_at + lead_s)


def _recipient_json(recipient: Recipient) -> dict[str, Any]:
    fate = recipient.fate
    if fate is None:
        empty = dict.fromkeys(("phase", "code", "enhanced", "text"))
        return {"address": recipient.address, "state": None, **empty}
    return _fate_json(fate)


def _fate_json(fate: RecipientOutcome) -> dict[str, Any]:
    return {
        "address": fate.address,
        "state": fate.state,
        "phase": fate.phase,
        "code": fate.code,
        "enhanced": fate.enhanced,
        "text": fate.text,
    }


def _attempt_json(attempt: Attempt) -> dict[str, Any]:
    return {
        "started_at": _time(attempt.started_at.timestamp()),
        "duration_s": round(attempt.duration_s, 3),
        "relay": attempt.relay,
        "phase": attempt.phase,
        "fault": attempt.fault,
        "recipients": [_fate_json(one) for one in attempt.recipients],
        "transcript": list(attempt.transcript),
    }


def _row(letter: Listed) -> str:
    who = ", ".join(one.address for one in letter.recipients[:MAX_NAMED])
    more = len(letter.recipients) - MAX_NAMED
    return (
        f"{letter.number:>7}  {letter.state:<7}  {_time(letter.received_at)}  tried {letter.attempts:>2}x  "
        f"{who}{f' and {more} more' if more > 0 else ''}  {letter.subject or letter.topic}"
    )


def _told(shown: Shown) -> Iterator[str]:
    letter = shown.letter
    rows = {
        "letter": f"{letter.number}, {_STATES[letter.state]}",
        "alert": ", ".join(letter.alert_ids),
        "topic": letter.topic,
        "route": letter.route,
        "subject": letter.subject,
        "message-id": shown.message_id,
        "received": _time(letter.received_at),
        "due": _time(letter.due_at) if letter.state == "waiting" else None,
        "content": None if shown.content_bytes is None else f"{shown.content_bytes} octets",
        "duplicate": "possible" if shown.possible_duplicate else None,
    }
    yield from (f"{name:<11} {_plain(value)}" for name, value in rows.items() if value)
    yield from (f"{'note':<11} {_plain(note)}" for note in shown.notes)
    for one in letter.recipients:
        fate = one.fate
        words = "not tried yet" if fate is None else _words(fate)
        yield f"{'recipient':<11} {one.address}: {_plain(words)}"
    for number, attempt in enumerate(shown.attempts, start=1):
        yield ""
        relay = attempt.relay or "no relay"
        yield f"try {number}, {_time(attempt.started_at.timestamp())}, {relay}, {attempt.duration_s:.3f} s"
        yield from (f"  {_plain(line)}" for line in attempt.transcript)


def _words(fate: RecipientOutcome) -> str:
    said = " ".join(str(one) for one in (fate.code, fate.enhanced, fate.text) if one)
    return f"{fate.state} at {fate.phase}{f': {said}' if said else ''}"


def _plain(text: str) -> str:
    """Return ``text`` so that it cannot steer the terminal: a server's words, or an alert's."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
