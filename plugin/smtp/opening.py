"""The first half of a session: greeting, EHLO or HELO, STARTTLS and AUTH, to where a letter may follow."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from plugin.smtp.auth import Login, may_try_another
from plugin.smtp.dialogue import Command, Dialogue
from plugin.smtp.errors import Fault, FaultKind, Phase
from plugin.smtp.events import Event, Fallback, Ready, Refused
from plugin.smtp.extensions import Extensions
from plugin.smtp.pace import Pace, pace_of
from plugin.smtp.reply import Reply
from plugin.smtp.settings import Settings
from plugin.smtp.table import PHASES, State


class Opening:
    """What the relay has told of itself, and what it is asked until letters may follow.

    ``unwelcome`` is set where AUTH was refused with letters already behind it (``Settings.eager``): the event that
    ends the connection once those have their answers.
    """

    def __init__(
        self,
        dialogue: Dialogue,
        settings: Settings,
        *,
        token: str | None,
        fallback: bool,
        lockstep: bool,
        said: Collection[str] = (),
    ) -> None:
        self.extensions = Extensions()
        self.greeting: Literal["EHLO", "HELO"] | None = None
        self.authenticated = False
        self.tls: str | None = None
        self.ready = False
        self.eager = False
        self.unwelcome: Event | None = None
        self.login = Login(None if fallback else settings.login(token=token), said=said)
        self._dialogue = dialogue
        self._settings = settings
        self._fallback = fallback
        self._lockstep = lockstep
        dialogue.expect(State.HANDSHAKE if settings.security == "tls" else State.GREETING)

    @property
    def pace(self) -> Pace:
        """How much may be on the way, by what the relay offers."""
        return pace_of(self.extensions, lockstep=self._lockstep)

    def say_hello(self) -> None:
        """Answer the greeting."""
        if self._settings.security == "starttls" or (not self._fallback and self._settings.greeting == "auto"):
            self._dialogue.say(State.EHLO, f"EHLO {self._settings.helo_name}")
        elif self._settings.auth == "required":
            self._refuse("auth", None, "greeting is set to helo, which has no AUTH, and AUTH is required")
        else:
            self._dialogue.say(State.HELO, f"HELO {self._settings.helo_name}")

    def ehlo_refused(self, reply: Reply) -> None:
        """Go on with HELO, where that leads anywhere."""
        if self.may_say_helo():
            self._dialogue.say(State.HELO, f"HELO {self._settings.helo_name}")
        elif self._settings.security == "starttls":
            self._refuse(
                "hello", reply, "EHLO is refused, HELO has no STARTTLS, and security is starttls", kind="tls"
            )
        else:
            self._refuse("hello", reply, "EHLO is refused, HELO has no AUTH, and AUTH is required")

    def known(self, command: Command, reply: Reply) -> None:
        """Take note of what the relay offers, and go on to TLS or AUTH."""
        if command.state is State.EHLO:
            self.greeting = "EHLO"
            self.extensions = Extensions.parse(reply.lines[1:])
        else:
            self.greeting = "HELO"
        if self._settings.security == "starttls" and self.tls is None:
            self._demand_tls()
        else:
            self._authenticate()

    def secured(self, version: str) -> None:
        """Begin anew in TLS: what was learnt before is forgotten (RFC 3207 §4.2)."""
        self.tls = version
        self.extensions, self.greeting = Extensions(), None
        self._dialogue.outstanding.clear()
        if self._settings.security == "tls":
            self._dialogue.expect(State.GREETING)
        else:
            self._dialogue.say(State.EHLO, f"EHLO {self._settings.helo_name}")

    def logged_in(self) -> None:
        """Take note that AUTH has been accepted."""
        self.authenticated = True
        if not self.ready:
            self._get_ready()

    def not_logged_in(self, reply: Reply) -> None:
        """Try another mechanism, a connection without AUTH, or give up."""
        can_follow = not self.eager and may_try_another(reply)
        line = self.login.begin(self.extensions.mechanisms) if can_follow else None
        if line is not None:
            self._dialogue.say(State.AUTH, line)
        elif self._may_do_without_auth():
            self._end(Fallback(reason=f"AUTH is refused ({reply})"))
        else:
            self._end(Refused(phase="auth", reply=reply, fault=self._login_fault()))

    def relay_refuses(self, command: Command, reply: Reply) -> None:
        """Give up: the relay does not want us, or not now."""
        self._end(Refused(phase=PHASES[command.state], reply=reply))

    def answer(self, reply: Reply) -> None:
        """Answer a challenge."""
        self._dialogue.say(State.AUTH, self.login.answer(reply))

    def lost(self, phase: Phase, fault: Fault) -> None:
        """Tell that the connection has ended before it was ready."""
        if self._dialogue.head in {State.EHLO, State.HELO} and fault.kind == "lost" and self.may_say_helo():
            # Some relays and firewalls hang up on EHLO, or right after refusing it.
            self._dialogue.tell(Fallback(reason=f"EHLO is not answered: {fault}"))
        else:
            self._dialogue.tell(Refused(phase=phase, fault=fault))

    def may_say_helo(self) -> bool:
        """Whether the fallback to HELO is open: it has neither AUTH nor STARTTLS."""
        wanted = self._settings.greeting == "auto" and self._settings.security != "starttls"
        return wanted and self._may_do_without_auth()

    def _demand_tls(self) -> None:
        if self.extensions.offers("STARTTLS"):
            self._dialogue.say(State.STARTTLS, "STARTTLS")
            return
        text = (
            "security is starttls, and the relay does not offer STARTTLS, or someone on the way takes it out; "
            "if the relay speaks TLS from the start, write security: tls"
        )
        self._refuse("tls", None, text, kind="tls")

    def _authenticate(self) -> None:
        mechanisms = self.extensions.mechanisms
        line = None
        if self._settings.eager and self.pace != "lockstep":
            line = self.login.eager_line(mechanisms)
            self.eager = line is not None
        line = line or self.login.begin(mechanisms)
        if line is not None:
            self._dialogue.say(State.AUTH, line)
            if self.eager:
                self._get_ready()
        elif self._settings.auth == "required":
            offered = ", ".join(sorted(mechanisms)) or "none"
            self._refuse("auth", None, f"AUTH is required, and the relay offers no mechanism of ours: {offered}")
        else:
            self._get_ready()

    def _login_fault(self) -> Fault | None:
        return None if self.login.error is None else Fault(kind="auth", text=self.login.error)

    def _may_do_without_auth(self) -> bool:
        return not self._fallback and self._settings.auth != "required"

    def _get_ready(self) -> None:
        self.ready = True
        self._dialogue.tell(Ready())

    def _refuse(self, phase: Phase, reply: Reply | None, text: str, *, kind: FaultKind = "auth") -> None:
        self._dialogue.tell(Refused(phase=phase, reply=reply, fault=Fault(kind=kind, text=text)))

    def _end(self, event: Event) -> None:
        if self.eager:
            self.unwelcome = event
        else:
            self._dialogue.tell(event)
