"""The decision: an alert goes to these recipients in this template, or to nobody for this reason."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from plugin.alert import Alert, Phase, Severity
from plugin.route.address import Pattern, check_pattern, parse_mailbox, parse_recipient, quoted
from plugin.route.recipients import AddressBook, check_member
from plugin.route.topic_filter import check_filter, matches

DEFAULT_MAX_RECIPIENTS: Final = 100  # RFC 5321 §4.5.3.1.8: what every server takes in one mail transaction
DEFAULT_TEMPLATE: Final = "alert"
DEFAULT_SEVERITY: Final[Severity] = "info"

RecipientKey = Literal["to", "cc", "bcc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route: alerts whose name matches ``topic`` go to these names and addresses, in this template."""

    topic: str
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    template: str = DEFAULT_TEMPLATE
    severity: Severity | None = None
    reply_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Directions:
    """What routing decided. ``route`` is the filter that matched; addresses are what ``parse_address`` returns."""

    route: str
    template: str
    severity: Severity
    to: tuple[str, ...]
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    reply_to: str | None = None

    @property
    def recipients(self) -> tuple[str, ...]:
        """Every address of the envelope once, in order; only the case of the domain is ignored."""
        return _unique((*self.to, *self.cc, *self.bcc))


def _unique(addresses: Iterable[str]) -> tuple[str, ...]:
    unique: dict[tuple[str, str], str] = {}
    for address in addresses:
        local, _, domain = address.rpartition("@")
        unique.setdefault((local, domain.lower()), address)
    return tuple(unique.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Why an alert goes to nobody: the offending ``key`` of its payload and one sentence for people.

    ``denied`` are the addresses that ``allow_recipients`` does not admit.
    """

    key: str | None
    reason: str
    denied: tuple[str, ...] = ()
    phase: Phase = "route"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resolved:
    """What became of one of ``to``, ``cc``, ``bcc``: addresses, and what was wrong."""

    addresses: tuple[str, ...]
    faults: tuple[str, ...]
    denied: tuple[str, ...]


class Routing:
    """Decides for each alert. All that is configured is checked here; ValueError names the first fault.

    ``recipients`` maps a name to an address, or to a list of names and addresses. ``allow_recipients`` are
    patterns (see ``check_pattern``) for addresses that come in a payload.
    """

    def __init__(
        self,
        *,
        routes: Sequence[Route],
        recipients: Mapping[str, str | Sequence[str]],
        allow_recipients: Sequence[str] = (),
        template_names: Collection[str] = (DEFAULT_TEMPLATE,),
        max_recipients: int = DEFAULT_MAX_RECIPIENTS,
    ) -> None:
        for pattern in allow_recipients:
            if wrong := check_pattern(pattern):
                raise ValueError(f"allow_recipients: {quoted(pattern)}: {wrong}")
        self._book = AddressBook(recipients, [Pattern(text) for text in allow_recipients])
        self._template_names = frozenset(template_names)
        self._max_recipients = max_recipients
        self._routes = tuple(routes)
        for route in self._routes:
            self._check(route)

    def _check(self, route: Route) -> None:
        if wrong := check_filter(route.topic):
            raise ValueError(f"routes: {quoted(route.topic)}: {wrong}")
        if route.reply_to is not None:
            parse_mailbox(route.reply_to)
        for token in (*route.to, *route.cc, *route.bcc):
            if token not in self._book and (wrong := check_member(token)):
                raise ValueError(f"routes: {wrong}")

    def direct(self, alert: Alert) -> Directions | Rejected:
        """Return where ``alert`` goes, or why it goes nowhere; the first route that matches decides.

        The payload's ``to`` replaces the route's; its ``cc`` and ``bcc`` come on top of the route's. One bad
        recipient rejects the alert as a whole: who published it must learn of it, and nothing is half sent.
        """
        route = next((one for one in self._routes if matches(one.topic, alert.name)), None)
        if route is None:
            return Rejected(
                key=None, reason=f"no route matches {quoted(alert.name)}; a last route # takes the rest"
            )
        template = route.template if alert.template is None else alert.template
        if template not in self._template_names:
            return Rejected(key="template", reason=f"there is no template {quoted(template)}")
        try:
            reply_to = _bare(route.reply_to if alert.reply_to is None else alert.reply_to)
        except ValueError as error:
            return Rejected(key="reply_to", reason=f"reply_to: {error}")
        resolved: dict[RecipientKey, _Resolved] = {
            "to": self._resolve((), alert.to) if alert.to is not None else self._resolve(route.to, ()),
            "cc": self._resolve(route.cc, alert.cc),
            "bcc": self._resolve(route.bcc, alert.bcc),
        }
        directions = Directions(
            route=route.topic,
            template=template,
            severity=alert.severity or route.severity or DEFAULT_SEVERITY,
            to=resolved["to"].addresses,
            cc=resolved["cc"].addresses,
            bcc=resolved["bcc"].addresses,
            reply_to=reply_to,
        )
        return self._refuse(resolved, directions) or directions

    def _refuse(self, resolved: Mapping[RecipientKey, _Resolved], directions: Directions) -> Rejected | None:
        faults = [(key, fault) for key, one in resolved.items() for fault in one.faults]
        if faults:
            key, reason = faults[0]
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            denied = _unique(address for one in resolved.values() for address in one.denied)
            return Rejected(key=key, reason=f"{key}: {reason}{more}", denied=denied)
        count = len(directions.recipients)
        if not count:
            reason = f"no recipient: neither the alert nor its route {quoted(directions.route)} names one"
            return Rejected(key="to", reason=reason)
        if count > self._max_recipients:
            reason = f"{count} recipients are more than limits.recipients ({self._max_recipients}) allows"
            return Rejected(key="to", reason=reason)
        return None

    def _resolve(self, configured: Sequence[str], named: Sequence[str]) -> _Resolved:
        """Resolve what the configuration names, which is trusted, and what the payload names, which is not."""
        addresses = self._book.expand(configured)
        faults: list[str] = []
        denied: list[str] = []
        for token in named:
            if token in self._book:
                addresses += self._book.expand((token,))
            elif fault := check_member(token):
                faults.append(fault)
            else:
                _, address = parse_recipient(token)
                admitted = self._book.admits(address)
                if admitted is None:
                    denied.append(address)
                    faults.append(f"{quoted(address)} is neither in recipients nor admitted by allow_recipients")
                else:
                    addresses.append(admitted)
        return _Resolved(addresses=_unique(addresses), faults=tuple(faults), denied=tuple(denied))


def _bare(reply_to: str | None) -> str | None:
    return None if reply_to is None else parse_mailbox(reply_to)[1]
