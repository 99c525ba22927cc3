"""What is wrong and what to do about it, the exit code, and the entry for ``relays:``. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from plugin.config import Relay
from plugin.probe.plan import Plan
from plugin.probe.probing import SUBMISSIONS_PORT, Conclusion
from plugin.smtp.errors import FaultKind, Phase
from plugin.smtp.tls import Secured

EXIT_GOOD: Final = 0
EXIT_REFUSED: Final = 1
EXIT_NOT_NOW: Final = 75  # EX_TEMPFAIL of sysexits.h
SOON: Final = timedelta(days=21)
SECRET: Final = "!secret smtp"  # noqa: S105 - the place of one in secrets.yaml
SUBMISSION_PORTS: Final = (587, SUBMISSIONS_PORT)

_NOT_NOW: Final[frozenset[FaultKind]] = frozenset({"unreachable", "refused", "timeout", "lost"})
_PLAIN_SCALAR: Final = re.compile(r"[A-Za-z/][A-Za-z0-9._/@-]*|[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_WORDS_OF_YAML: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})

_REFUSED: Final[Mapping[Phase, str]] = {
    "greeting": "the server turns us away before we have said a word: it may not like this address, or want its "
    "users at port 587 or 465",
    "hello": "the server does not like how we introduce ourselves: try another --helo-name (relays[].helo_name)",
    "tls": "the server offers STARTTLS and does not carry it out: its administrator has to look into it",
    "auth": "the login is refused: check --username and the password; big providers want an app password or a "
    "token in place of the password of the account",
}
_FAULTS: Final[Mapping[tuple[Phase, FaultKind], str]] = {
    ("connect", "refused"): "check the port (25, 465 and 587 are usual), and that the server runs",
    ("connect", "timeout"): "check host and port; a firewall may be in the way, and many providers block port 25",
    ("connect", "unreachable"): "check the host's name, and that the network leads there",
    ("greeting", "timeout"): "a server speaks first: is this the port of a mail server? If it speaks TLS from the "
    "start, take --security tls; if it is slow, --security starttls and a longer --timeout",
    ("greeting", "protocol"): "what answers is no mail server: check the port (25, 465 and 587 are usual)",
    ("greeting", "lost"): "the server hangs up at once: it may have too many connections, or not take this "
    "address; if it speaks TLS from the start, take --security tls",
    ("hello", "timeout"): "the server does not answer in time: try again, or with a longer --timeout",
    ("hello", "lost"): "the server hangs up when we introduce ourselves: try another --helo-name",
    ("tls", "timeout"): "the server does not carry out the handshake in time: is --security right?",
    ("tls", "lost"): "the server hangs up in the handshake: is --security right? Its log may tell the reason",
    ("auth", "timeout"): "the server does not answer AUTH in time: try again, or with a longer --timeout",
}

_IN_VAIN: Final = "it fails without a check of the certificate as well, so this is not what is wrong"


def exit_code(conclusion: Conclusion) -> int:
    """Return 0 where a letter could follow, 75 where it may later, 1 where something has to be changed first."""
    if conclusion.phase is None:
        return EXIT_GOOD
    if conclusion.reply is not None:
        return EXIT_NOT_NOW if conclusion.reply.first == 4 else EXIT_REFUSED
    return EXIT_NOT_NOW if conclusion.fault is not None and conclusion.fault.kind in _NOT_NOW else EXIT_REFUSED


def problem_of(conclusion: Conclusion) -> str | None:
    """Return what keeps letters from following, with the remedy; None where nothing does."""
    phase, reply, fault = conclusion.phase, conclusion.reply, conclusion.fault
    if phase is None:
        return None
    remedy = None
    if reply is not None and reply.first == 4:
        remedy = "the server says that this is for now: try again later"
    elif reply is not None:
        remedy = _REFUSED.get(phase)
    elif fault is not None:
        in_vain = conclusion.seen.handshake_failed and not conclusion.seen.attempt.verify
        remedy = _IN_VAIN if in_vain else _FAULTS.get((phase, fault.kind))
    # A fault beside a reply says what our own settings made of it.
    said = [str(one) for one in (reply, fault) if one is not None]
    return f"{phase}: {'; '.join([*said, remedy] if remedy else said)}"


def notes_of(conclusion: Conclusion, *, port: int, login: bool, now: datetime) -> Iterator[str]:
    """Yield what the user should know although letters could follow, each one sentence."""
    seen = conclusion.seen
    if conclusion.phase is None and seen.secured is None:
        why = "STARTTLS is offered and not used" if seen.extensions.offers("STARTTLS") else "TLS is not offered"
        text = "everything is sent in clear text, mails and passwords too: do so within your own network only"
        yield f"{why}; {text}"
    if seen.greeting == "HELO":
        yield (
            "the server refuses EHLO and takes HELO, which has no AUTH, no TLS and no pipelining; greeting: helo "
            "saves the question"
        )
    if conclusion.security == "tls" and port != SUBMISSIONS_PORT and conclusion.secured is not None:
        yield f"port {port} speaks TLS from the start, as 465 does elsewhere: security must be tls"
    if conclusion.secured is not None:
        yield from _notes_of_certificate(conclusion.secured, now, refused=conclusion.phase == "tls")
    if conclusion.phase is None and not login and seen.extensions.mechanisms and port in SUBMISSION_PORTS:
        yield f"servers at port {port} usually demand a login: try it with --username"


def _notes_of_certificate(secured: Secured, now: datetime, *, refused: bool) -> Iterator[str]:
    if not secured.checked and not refused:
        yield "the certificate is NOT CHECKED: whoever answered may not be the server"
    if secured.expires_at is None:
        return
    left = secured.expires_at - now
    if timedelta() < left < SOON:
        days = "in less than a day" if left.days == 0 else f"in {left.days} day{'s' if left.days > 1 else ''}"
        yield f"the certificate expires {days}, on {secured.expires_at:%Y-%m-%d}: it must be renewed there by then"


def entry_of(relay: Relay, conclusion: Conclusion) -> dict[str, str | int | bool] | None:
    """Return the keys for ``relays:`` that fit what was seen; None where too little was.

    The password is not in it but ``!secret smtp``.
    """
    if conclusion.seen.greeting is None or (conclusion.phase == "tls" and conclusion.secured is None):
        return None
    entry: dict[str, str | int | bool] = {"host": relay.host, "port": relay.port, "security": conclusion.security}
    if conclusion.security != "none":
        if relay.ca_file is not None:
            entry["ca_file"] = str(relay.ca_file.absolute())
        if not relay.verify:
            entry["verify"] = False
        if relay.server_name is not None and not _certificate_refused(conclusion):
            entry["server_name"] = relay.server_name
    if relay.helo_name is not None:
        entry["helo_name"] = relay.helo_name
    if conclusion.seen.greeting == "HELO":
        entry["greeting"] = "helo"
    if relay.username is not None and conclusion.seen.extensions.offers("AUTH"):
        entry |= {"username": relay.username, "password": SECRET, "auth": "required"}
    return entry


def _certificate_refused(conclusion: Conclusion) -> bool:
    return conclusion.phase == "tls" and conclusion.secured is not None


def yaml_of(entry: Mapping[str, str | int | bool], *, hints: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of ``relays:`` with ``entry`` in it, and ``hints`` (key to value) as comments below it."""
    yield "relays:"
    for position, (key, value) in enumerate(entry.items()):
        yield f"{'    ' if position else '  - '}{key}: {SECRET if key == 'password' else _scalar(value)}"
    for key, value in hints.items():
        yield f"    # {key}: {value}"


def _scalar(value: str | int | bool) -> str:  # noqa: FBT001 - a value as YAML has them
    if isinstance(value, str) and _PLAIN_SCALAR.fullmatch(value) and value.lower() not in _WORDS_OF_YAML:
        return value
    return json.dumps(value, ensure_ascii=False)  # JSON is YAML


def hints_of(conclusion: Conclusion, plan: Plan | None, *, relay: Relay) -> dict[str, str]:
    """Return what is still to be filled in: the authority of a certificate that was refused, the login."""
    hints = {}
    if conclusion.secured is not None and _certificate_refused(conclusion):
        if relay.ca_file is None:
            hints["ca_file"] = (
                "FILE   # the authority of the certificate, in PEM, if that is what was wrong with it"
            )
        if relay.host not in conclusion.secured.names:
            hints["server_name"] = "NAME   # one that the certificate is for, if that is what was wrong with it"
    if plan is not None and plan.password_mechanism is not None and relay.username is None:
        hints["username"] = "NAME   # AUTH is offered"
        hints["password"] = SECRET
    return hints
