"""All that a probe has found, and its shape as JSON, which is part of the contract (docs/contract.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from plugin.probe.plan import Offer, Plan
from plugin.probe.probing import Conclusion
from plugin.probe.visit import Visit
from plugin.smtp.tls import Secured


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is shown; ``authority`` is the file of authorities, None: those that this machine trusts."""

    host: str
    port: int
    way: str
    helo_name: str | None
    authority: str | None
    visits: tuple[Visit, ...]
    conclusion: Conclusion
    offers: tuple[Offer, ...]
    plan: Plan | None
    problem: str | None
    notes: tuple[str, ...]
    entry: dict[str, str | int | bool] | None
    entry_lines: tuple[str, ...]
    exit_code: int

    @property
    def trusted(self) -> str:
        """Who may have issued the certificate, in words."""
        return "the authorities that this machine trusts" if self.authority is None else self.authority

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints; durations are in seconds, sizes in octets."""
        conclusion, seen = self.conclusion, self.conclusion.seen
        reply, fault = conclusion.reply, conclusion.fault
        return {
            "host": self.host,
            "port": self.port,
            "way": self.way,
            "helo_name": self.helo_name,
            "exit_code": self.exit_code,
            "phase": conclusion.phase,
            "reply": reply and str(reply),
            "fault": fault and str(fault),
            "security": conclusion.security,
            "greeting": seen.greeting,
            "authenticated": seen.authenticated,
            "steps": [
                {
                    "connection": number,
                    "step": step.what,
                    "duration_s": round(step.duration_s, 6),
                    "lines": list(step.lines),
                }
                for number, visit in enumerate(self.visits, 1)
                for step in visit.steps
            ],
            "extensions": [
                {"keyword": one.keyword, "parameters": one.parameters, "meaning": one.meaning}
                for one in self.offers
            ],
            "plan": self.plan and _plan(self.plan),
            "certificate": conclusion.secured and _certificate(conclusion.secured, self.trusted),
            "problems": [] if self.problem is None else [self.problem],
            "notes": list(self.notes),
            "relay": self.entry,
        }


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "pace": plan.pace,
        "password_mechanism": plan.password_mechanism,
        "token_mechanism": plan.token_mechanism,
        "first_mail_round_trips": plan.first_mail_round_trips,
        "login_round_trips": plan.login_round_trips,
        "next_mail_round_trips": plan.next_mail_round_trips,
        "eager": plan.eager,
        "largest_bytes": plan.largest_bytes,
        "window_bytes": plan.window_bytes,
    }


def _certificate(secured: Secured, trusted: str) -> dict[str, Any]:
    return {
        "version": secured.version,
        "cipher": secured.cipher,
        "subject": secured.subject,
        "names": list(secured.names),
        "issuer": secured.issuer,
        "expires_at": secured.expires_at and secured.expires_at.isoformat().replace("+00:00", "Z"),
        "checked": secured.checked,
        "authority": trusted,
    }
