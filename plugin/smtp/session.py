"""One SMTP connection as a machine without input or output (RFC 5321): octets in, octets and events out.

``table.TABLE`` is the whole protocol. Every command that was sent stays in ``_outstanding`` until its reply has
come, so a reply always meets the row of its own command, however many are on the way, and each command knows the
letter it belongs to. ``_may_leave`` alone decides how many are on the way: one, for now (lock-step).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from plugin.smtp.auth import Line, Login, may_try_another
from plugin.smtp.envelope import Envelope, data_octets
from plugin.smtp.errors import Fault, FaultKind, Phase, ProtocolError
from plugin.smtp.events import Event, Fallback, Handshake, Ready, Refused
from plugin.smtp.extensions import Extensions
from plugin.smtp.reply import Reply, ReplyParser
from plugin.smtp.settings import Settings
from plugin.smtp.table import PHASES, State, Step, next_step
from plugin.smtp.transaction import Transaction

BLOCK_BYTES: Final = 64 * 1024
"""Content is given out in blocks of this size, each of which must be sent in time."""


_NOTHING: Final = Line(octets="", shown="")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """A command on its way, the row of the table that judges its reply, and the letter it belongs to."""

    state: State
    line: Line = _NOTHING
    transaction: Transaction | None = None

    @property
    def letter(self) -> Transaction:
        """The letter, for the rows that have one: MAIL to CONTENT."""
        if self.transaction is None:
            raise RuntimeError(f"{self.state.value} belongs to no letter")
        return self.transaction


class Session:
    """The client's side of one connection, from the greeting to QUIT.

    The driver calls, in turn: ``next_write`` until it gives b"", and sends what it gets; ``receive`` with what
    came (b"" at the end of the connection), or ``fail`` when something else ended it; ``next_event`` until None.
    ``fallback`` says HELO where it may and never AUTH, whatever the settings prefer. ``record`` gets the
    lines of the transcript, without secrets. Nothing that the peer does raises an exception.
    """

    def __init__(self, settings: Settings, *, record: Callable[[str], None], fallback: bool = False) -> None:
        self.extensions = Extensions()
        self.greeting: Literal["EHLO", "HELO"] | None = None
        self.authenticated = False
        self.tls: str | None = None
        self.ready = False
        self.closed = False
        self.replies = 0
        self._settings = settings
        self._record = record
        self._fallback = fallback
        self._login = Login(None if fallback else settings.credentials)
        self._parser = ReplyParser()
        self._outstanding: deque[_Command] = deque()
        self._queue: deque[_Command] = deque()
        self._events: deque[Event] = deque()
        self._await(State.HANDSHAKE if settings.security == "tls" else State.GREETING)
        self._transaction: Transaction | None = None
        self._content = memoryview(b"")

    @property
    def phase(self) -> Phase:
        """The phase whose reply is waited for, or whose command is next."""
        return PHASES[self._head]

    @property
    def idle(self) -> bool:
        """Whether every command has been sent and answered."""
        return not self._outstanding and not self._queue

    def next_event(self) -> Event | None:
        """Return the oldest event not taken yet, or None."""
        return self._events.popleft() if self._events else None

    def next_write(self) -> bytes:
        """Return what is to be sent now, at most ``BLOCK_BYTES`` of content at a time; b"" for nothing."""
        if self.closed:
            return b""
        if self._content:
            return self._next_block()
        if not self._queue or not self._may_leave(self._queue[0]):
            return b""
        command = self._queue.popleft()
        self._outstanding.append(command)
        self._record(f"C: {command.line.shown}")
        if command.state is State.CONTENT:
            self._content = memoryview(data_octets(command.letter.envelope.content))
            return self._next_block()
        return f"{command.line.octets}\r\n".encode("ascii")

    def send(self, envelope: Envelope) -> None:
        """Begin a mail transaction; its ``Settled`` follows. RuntimeError unless the session is ready and idle."""
        if not self.ready or self.closed or not self.idle:
            raise RuntimeError("not ready for a letter")
        self._transaction = Transaction(envelope=envelope)
        limit, size = self.extensions.size_bytes, envelope.size_bytes
        if limit is not None and size > limit:
            text = f"the letter has {size} octets, the relay takes {limit} (SIZE, RFC 1870)"
            self._settle("mail", None, Fault(kind="size", text=text))
            return
        parameter = f" SIZE={size}" if self.extensions.offers("SIZE") else ""
        self._say(State.MAIL, f"MAIL FROM:<{envelope.sender}>{parameter}")

    def secured(self, version: str, described: str) -> None:
        """Go on in TLS ``version`` ("TLSv1.3"). What was learnt before is forgotten (RFC 3207 §4.2)."""
        if self.closed or self._head is not State.HANDSHAKE:
            raise RuntimeError("no handshake was asked for")
        self.tls = version
        self._record(f"= {described}")
        self.extensions, self.greeting, self._parser = Extensions(), None, ReplyParser()
        self._outstanding.clear()
        if self._settings.security == "tls":
            self._await(State.GREETING)
        else:
            self._say(State.EHLO, f"EHLO {self._settings.helo_name}")

    def quit(self) -> None:
        """Say goodbye, between letters. A RSET that has not left yet need not: QUIT ends the transaction too."""
        self._queue.clear()
        self._say(State.QUIT, "QUIT")

    def receive(self, data: bytes) -> None:
        """Take what the peer sent; b"" means that it has ended the connection."""
        if not data:
            self.fail(Fault(kind="lost", text="the relay closed the connection"))
        self._parser.feed(data)
        try:
            while not self.closed and (reply := self._parser.next_reply()) is not None:
                self._judge(reply)
        except ProtocolError as error:
            self.fail(Fault(kind="protocol", text=str(error)))

    def fail(self, fault: Fault) -> None:
        """End the session: the connection is gone, or of no further use. Settles what was on the way."""
        if self.closed:
            return
        self.closed = True
        if self._head is State.QUIT:
            return
        self._record(f"= {fault}")
        if self._transaction is not None:
            self._settle(self.phase, None, fault)
        elif self._head in (State.EHLO, State.HELO) and fault.kind == "lost" and self._may_say_helo():
            # Some relays and firewalls hang up on EHLO, or right after refusing it.
            self._events.append(Fallback(reason=f"EHLO is not answered: {fault}"))
        elif not self.ready and not self.idle:
            self._events.append(Refused(phase=self.phase, fault=fault))

    @property
    def _head(self) -> State:
        head = next(iter((*self._outstanding, *self._queue)), None)
        return State.IDLE if head is None else head.state

    def _may_leave(self, command: _Command) -> bool:
        """Whether ``command`` may be sent although what is outstanding has no answer: never, in lock-step.

        This is the place for RFC 2920 and RFC 3030; what may ride depends on the command and the extensions.
        """
        del command
        return not self._outstanding

    def _judge(self, reply: Reply) -> None:
        self.replies += 1
        reply = self._login.without_secrets(reply)
        for number, line in enumerate(reply.lines, 1):
            self._record(f"S: {reply.code}{'-' if number < len(reply.lines) else ' '}{line}")
        command = self._outstanding[0] if self._outstanding else _Command(state=State.IDLE)
        step = next_step(command.state, reply)
        # Content that is not all out cannot have been accepted.
        if step is Step.PROTOCOL_ERROR or (self._content and reply.first == 2):
            raise ProtocolError(f"{reply} is no answer to {command.state.value}")
        _ACTIONS[step](self, command, reply)
        if not self.closed:
            # Answered only now: a failure on the way here belongs to the phase of this command.
            self._outstanding.popleft()

    def _say_hello(self, _command: _Command, _reply: Reply) -> None:
        if self._settings.security == "starttls" or (not self._fallback and self._settings.greeting == "auto"):
            self._say(State.EHLO, f"EHLO {self._settings.helo_name}")
        elif self._settings.auth == "required":
            self._refuse("auth", None, "greeting is set to helo, which has no AUTH, and AUTH is required")
        else:
            self._say(State.HELO, f"HELO {self._settings.helo_name}")

    def _say_helo(self, _command: _Command, reply: Reply) -> None:
        if self._may_say_helo():
            self._say(State.HELO, f"HELO {self._settings.helo_name}")
        elif self._settings.security == "starttls":
            self._refuse(
                "hello", reply, "EHLO is refused, HELO has no STARTTLS, and security is starttls", kind="tls"
            )
        else:
            self._refuse("hello", reply, "EHLO is refused, HELO has no AUTH, and AUTH is required")

    def _known(self, command: _Command, reply: Reply) -> None:
        if command.state is State.EHLO:
            self.greeting = "EHLO"
            self.extensions = Extensions.parse(reply.lines[1:])
        else:
            self.greeting = "HELO"
        if self._settings.security == "starttls" and self.tls is None:
            self._demand_tls()
        else:
            self._authenticate()

    def _demand_tls(self) -> None:
        if self.extensions.offers("STARTTLS"):
            self._say(State.STARTTLS, "STARTTLS")
            return
        text = (
            "security is starttls, and the relay does not offer STARTTLS, or someone on the way takes it out; "
            "if the relay speaks TLS from the start, write security: tls"
        )
        self._refuse("tls", None, text, kind="tls")

    def _secure(self, _command: _Command, _reply: Reply) -> None:
        if self._parser.pending:
            # RFC 3207 §4.2: whoever put that there wants it to be read as if it had come encrypted.
            text = (
                "octets in clear text lie behind the 220 to STARTTLS: someone on the way may have put them there"
            )
            self.fail(Fault(kind="tls", text=text))
        else:
            self._await(State.HANDSHAKE)

    def _authenticate(self) -> None:
        line = self._login.begin(self.extensions.mechanisms)
        if line is not None:
            self._say(State.AUTH, line)
        elif self._settings.auth == "required":
            offered = ", ".join(sorted(self.extensions.mechanisms)) or "none"
            self._refuse("auth", None, f"AUTH is required, and the relay offers no mechanism of ours: {offered}")
        else:
            self._get_ready()

    def _answer(self, _command: _Command, reply: Reply) -> None:
        self._say(State.AUTH, self._login.answer(reply))

    def _logged_in(self, _command: _Command, _reply: Reply) -> None:
        self.authenticated = True
        self._get_ready()

    def _not_logged_in(self, _command: _Command, reply: Reply) -> None:
        line = self._login.begin(self.extensions.mechanisms) if may_try_another(reply) else None
        if line is not None:
            self._say(State.AUTH, line)
        elif self._may_do_without_auth():
            self._events.append(Fallback(reason=f"AUTH is refused ({reply})"))
        else:
            self._events.append(Refused(phase="auth", reply=reply))

    def _relay_refuses(self, command: _Command, reply: Reply) -> None:
        self._events.append(Refused(phase=PHASES[command.state], reply=reply))

    def _name_recipients(self, command: _Command, _reply: Reply) -> None:
        for recipient in command.letter.envelope.recipients:
            self._say(State.RCPT, f"RCPT TO:<{recipient}>")

    def _recipient(self, command: _Command, reply: Reply) -> None:
        command.letter.replies.append(reply)
        if not command.letter.complete:
            return
        if command.letter.accepted_any:
            self._say(State.DATA, "DATA")
        else:
            self._letter_failed(command, reply)

    def _send_content(self, command: _Command, _reply: Reply) -> None:
        shown = f"<{command.letter.envelope.size_bytes} octets of content>"
        self._say(State.CONTENT, Line(octets="", shown=shown))

    def _letter_done(self, command: _Command, reply: Reply) -> None:
        # A relay that refuses before it has had everything would read the rest as commands.
        self.closed = bool(self._content)
        self._settle(PHASES[command.state], reply)

    def _letter_failed(self, command: _Command, reply: Reply) -> None:
        self._settle(PHASES[command.state], reply)
        self._say(State.RSET, "RSET")

    def _ready_again(self, _command: _Command, _reply: Reply) -> None:
        """Nothing is left of the last letter; ``send`` may be called."""

    def _closing(self, _command: _Command, reply: Reply) -> None:
        self.closed = True
        if self._transaction is not None:
            self._settle(self.phase, reply)
        elif not self.ready and self._head not in (State.IDLE, State.QUIT):
            self._events.append(Refused(phase=self.phase, reply=reply))

    def _may_do_without_auth(self) -> bool:
        return not self._fallback and self._settings.auth != "required"

    def _may_say_helo(self) -> bool:
        wanted = self._settings.greeting == "auto" and self._settings.security != "starttls"
        return wanted and self._may_do_without_auth()

    def _get_ready(self) -> None:
        self.ready = True
        self._events.append(Ready())

    def _refuse(self, phase: Phase, reply: Reply | None, text: str, *, kind: FaultKind = "auth") -> None:
        self._events.append(Refused(phase=phase, reply=reply, fault=Fault(kind=kind, text=text)))

    def _settle(self, phase: Phase, reply: Reply | None, fault: Fault | None = None) -> None:
        if self._transaction is not None:
            self._events.append(self._transaction.settle(phase, reply, fault))
        self._transaction = None
        self._content = memoryview(b"")

    def _await(self, state: State) -> None:
        """Wait for what the other side, or the driver, does without a command of ours."""
        self._outstanding.append(_Command(state=state))
        if state is State.HANDSHAKE:
            self._events.append(Handshake())

    def _say(self, state: State, line: str | Line) -> None:
        said = Line(octets=line, shown=line) if isinstance(line, str) else line
        self._queue.append(_Command(state=state, line=said, transaction=self._transaction))

    def _next_block(self) -> bytes:
        block, self._content = bytes(self._content[:BLOCK_BYTES]), self._content[BLOCK_BYTES:]
        if not self._content and self._transaction is not None:
            # From here on the relay may hold the whole letter, even if sending this block goes wrong.
            self._transaction.dot_sent = True
        return block


_ACTIONS: Final[Mapping[Step, Callable[[Session, _Command, Reply], None]]] = {
    Step.SAY_HELLO: Session._say_hello,  # noqa: SLF001
    Step.SAY_HELO: Session._say_helo,  # noqa: SLF001
    Step.KNOWN: Session._known,  # noqa: SLF001
    Step.SECURE: Session._secure,  # noqa: SLF001
    Step.ANSWER: Session._answer,  # noqa: SLF001
    Step.LOGGED_IN: Session._logged_in,  # noqa: SLF001
    Step.NOT_LOGGED_IN: Session._not_logged_in,  # noqa: SLF001
    Step.RELAY_REFUSES: Session._relay_refuses,  # noqa: SLF001
    Step.NAME_RECIPIENTS: Session._name_recipients,  # noqa: SLF001
    Step.RECIPIENT: Session._recipient,  # noqa: SLF001
    Step.SEND_CONTENT: Session._send_content,  # noqa: SLF001
    Step.LETTER_DONE: Session._letter_done,  # noqa: SLF001
    Step.LETTER_FAILED: Session._letter_failed,  # noqa: SLF001
    Step.READY: Session._ready_again,  # noqa: SLF001
    Step.CLOSING: Session._closing,  # noqa: SLF001
}
