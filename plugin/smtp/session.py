"""One SMTP connection as a machine without input or output (RFC 5321): octets in, octets and events out.

``table.TABLE`` is the whole protocol. Every command that was sent stays among the outstanding ones until its
reply has come, so a reply always meets the row of its own command, however many are on the way, and each command
knows the letter it belongs to. What a reply leads to is the business of two halves: ``opening`` up to AUTH,
``mailing`` for letters; ``pace`` tells how many commands may be on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from plugin.smtp.dialogue import Command, Dialogue
from plugin.smtp.envelope import Envelope
from plugin.smtp.errors import Fault, Phase, ProtocolError
from plugin.smtp.events import Event, Refused
from plugin.smtp.extensions import Extensions
from plugin.smtp.mailing import Mailing
from plugin.smtp.opening import Opening
from plugin.smtp.pace import Pace, may_ride
from plugin.smtp.reply import Reply, ReplyParser
from plugin.smtp.settings import Settings
from plugin.smtp.stream import DEFAULT_WINDOW_BYTES
from plugin.smtp.table import PHASES, State, Step, next_step
from plugin.smtp.transaction import Transaction

BLOCK_BYTES: Final = 64 * 1024
"""Octets are given out in writes of about this size, each of which must be sent in time."""

Record = Callable[[str, Transaction | None], None]
"""Gets a line of the transcript, without secrets, and the letter that it belongs to."""


class Session:
    """The client's side of one connection, from the greeting to QUIT.

    The driver calls, in turn: ``next_write`` until it gives b"", and sends what it gets; ``receive`` with what
    came (b"" at the end of the connection), or ``fail`` when something else ended it; ``next_event`` until None.
    ``token`` is the access token for AUTH, where the settings have one. ``fallback`` says HELO where it may and
    never AUTH, whatever the settings prefer; ``lockstep`` sends one command at a time, whatever the relay
    offers; ``window_bytes`` of replies may arrive without being read; ``said`` is what was said in
    confidence before (``Login.said``). Nothing that the peer does raises an exception.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        record: Record,
        token: str | None = None,
        fallback: bool = False,
        lockstep: bool = False,
        window_bytes: int = DEFAULT_WINDOW_BYTES,
        said: Collection[str] = (),
    ) -> None:
        self.closed = False
        self.end: Refused | None = None  # what ``closed`` it, once it is, but for QUIT
        self.replies = 0
        self._record = record
        self._dialogue = Dialogue(window_bytes=window_bytes)
        self._opening = Opening(
            self._dialogue, settings, token=token, fallback=fallback, lockstep=lockstep, said=said
        )
        self._mailing = Mailing(self._dialogue, self._opening, settings)
        self._parser = ReplyParser(conceal=self._opening.login.masked)
        self._content = memoryview(b"")
        self._sending: Command | None = None  # whose content is on its way out
        self._told_unwelcome = False

    @property
    def phase(self) -> Phase:
        """The phase whose reply is waited for, or whose command is next."""
        return PHASES[self._dialogue.head]

    @property
    def idle(self) -> bool:
        """Whether every command has been sent and answered."""
        return not self._dialogue.outstanding and not self._dialogue.queue

    @property
    def writing(self) -> bool:
        """Whether content is only partly given out: more of it is to be written at once."""
        return bool(self._content) and not self.closed

    @property
    def extensions(self) -> Extensions:
        """What the relay offers."""
        return self._opening.extensions

    @property
    def opening(self) -> Opening:
        """What the relay has told of itself, and who we are to it."""
        return self._opening

    @property
    def pace(self) -> Pace:
        """How much may be on the way."""
        return self._opening.pace

    @property
    def ready(self) -> bool:
        """Whether the connection has come to where letters may follow."""
        return self._opening.ready

    @property
    def lost_step(self) -> bool:
        """Whether a letter was refused for the pace: the next connection is to be in lock-step."""
        return self._mailing.lost_step

    @property
    def has_room(self) -> bool:
        """Whether ``send`` may be called now."""
        return self.ready and not self.closed and self._opening.unwelcome is None and self._mailing.has_room()

    def next_event(self) -> Event | None:
        """Return the oldest event not taken yet, or None."""
        return self._dialogue.events.popleft() if self._dialogue.events else None

    def send(self, envelope: Envelope) -> Transaction:
        """Begin a mail transaction; its ``Settled`` follows. RuntimeError unless ``has_room``."""
        if not self.has_room:
            raise RuntimeError("not ready for a letter")
        return self._mailing.begin(envelope)

    def next_write(self) -> bytes:
        """Return what is to be sent now, in one write: all that may go, content included; b"" for nothing.

        A write ends behind the command or block that makes it ``BLOCK_BYTES`` long.
        """
        parts: list[bytes] = []
        size_bytes = 0
        while size_bytes < BLOCK_BYTES and (part := self._next_part(BLOCK_BYTES - size_bytes)):
            parts.append(part)
            size_bytes += len(part)
        return b"".join(parts)

    def _next_part(self, max_bytes: int) -> bytes:
        if self.closed:
            return b""
        if self._content:
            return self._next_block(max_bytes)
        queue, outstanding = self._dialogue.queue, self._dialogue.outstanding
        if not queue:
            return b""
        self._mailing.reset_first(queue[0])
        command = queue[0]
        states = [one.state for one in outstanding]
        if self._mailing.holds(command) or not may_ride(
            command.state,
            states,
            pace=self.pace,
            window_bytes=self._dialogue.window_bytes,
            eager=self._opening.eager,
        ):
            return b""
        outstanding.append(queue.popleft())
        self._mailing.left(command)
        if command.line.shown:
            self._record(f"C: {command.line.shown}", command.transaction)
        if command.state in {State.CHUNK, State.CONTENT}:
            self._sending, self._content = command, memoryview(command.content)
            if command.line.octets:
                self._record(f"C: <{len(command.content)} octets of content>", command.transaction)
            self._note_sent()
        if command.state is State.CONTENT and not command.line.octets:
            return self._next_block(max_bytes)  # what follows a 354 has no line of its own
        return f"{command.line.octets}\r\n".encode()

    def _next_block(self, max_bytes: int) -> bytes:
        block, self._content = bytes(self._content[:max_bytes]), self._content[max_bytes:]
        self._note_sent()
        return block

    def _note_sent(self) -> None:
        if not self._content and self._sending is not None:
            if self._sending.state is State.CONTENT:
                # From here on the relay may hold the whole letter, even if sending this block goes wrong.
                self._sending.letter.content_sent = True
            self._sending = None

    def secured(self, version: str, described: str, *, window_bytes: int = DEFAULT_WINDOW_BYTES) -> None:
        """Go on in TLS ``version`` ("TLSv1.3"). What was learnt before is forgotten (RFC 3207 §4.2)."""
        if self.closed or self._dialogue.head is not State.HANDSHAKE:
            raise RuntimeError("no handshake was asked for")
        self._record(f"= {described}", None)
        self._parser = ReplyParser(conceal=self._opening.login.masked)
        self._dialogue.window_bytes = window_bytes
        self._opening.secured(version)

    def quit(self) -> None:
        """Say goodbye, between letters."""
        self._dialogue.queue.clear()
        self._dialogue.say(State.QUIT, "QUIT")

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
        head, phase = self._dialogue.head, self.phase
        self.closed = True
        if head is State.QUIT:
            return
        self.end = Refused(phase=phase, fault=fault)
        self._record(f"= {fault}", None)
        if self._mailing.letters:
            self._abandon(phase, None, fault)
        elif not self.ready and not self.idle:
            self._opening.lost(phase, fault)

    def _abandon(self, phase: Phase, reply: Reply | None, fault: Fault | None) -> None:
        self.closed = True
        self._mailing.abandon(phase, reply, fault)
        self._tell_unwelcome()

    def _judge(self, reply: Reply) -> None:
        self.replies += 1
        heard, reply = reply, self._opening.login.without_secrets(reply)
        outstanding = self._dialogue.outstanding
        command = outstanding[0] if outstanding else Command(state=State.IDLE)
        for number, line in enumerate(reply.lines, 1):
            mark = "-" if number < len(reply.lines) else " "
            self._record(f"S: {reply.code}{mark}{line}", command.transaction)
        step = next_step(command.state, reply)
        # Content that is not all out cannot have been accepted.
        unfinished = command is self._sending
        if step is Step.PROTOCOL_ERROR or (unfinished and reply.first == 2):
            raise ProtocolError(f"{reply} is no answer to {command.state.value}")
        _ACTIONS[step](self, command, heard if step is Step.ANSWER else reply)
        if self.closed:
            return
        # Answered only now: a failure on the way here belongs to the phase of this command.
        outstanding.popleft()
        self._mailing.answered(command)
        if unfinished:
            # A relay that refuses before it has had everything would read the rest as commands.
            self._abandon("mail", None, Fault(kind="lost", text="the letter before was refused amid its content"))
        elif self._opening.unwelcome is not None or self.lost_step:
            self._mailing.turn_away()
            self._tell_unwelcome()

    def _tell_unwelcome(self) -> None:
        if self._opening.unwelcome is not None and not self._mailing.letters and not self._told_unwelcome:
            self._told_unwelcome = True
            self._dialogue.tell(self._opening.unwelcome)

    def _secure(self, _command: Command, _reply: Reply) -> None:
        if self._parser.pending:
            # RFC 3207 §4.2: whoever put that there wants it to be read as if it had come encrypted.
            text = (
                "octets in clear text lie behind the 220 to STARTTLS: someone on the way may have put them there"
            )
            self.fail(Fault(kind="tls", text=text))
        else:
            self._dialogue.expect(State.HANDSHAKE)

    def _answer(self, _command: Command, reply: Reply) -> None:
        if self._opening.eager:
            text = f"{reply.code} to an AUTH that has all it needs: what rides behind it is no answer"
            raise ProtocolError(text)
        self._opening.answer(reply)

    def _send_content(self, command: Command, _reply: Reply) -> None:
        if self._opening.unwelcome is not None:
            # AUTH was refused, and this relay would take the letter all the same; not from us.
            self._abandon("auth", None, Fault(kind="auth", text="the relay goes on although AUTH was refused"))
        elif command.letter.verdict is not None and command.letter.verdict[0] == "mail":
            raise ProtocolError("a 354 behind a refused MAIL")
        else:
            self._mailing.send_content(command)

    def _auth_demanded(self, command: Command, reply: Reply) -> None:
        self._opening.unwelcome = self._opening.unwelcome or Refused(phase="auth", reply=reply)
        if command.state is State.RCPT:
            self._mailing.recipient(command, reply)
        elif command.state is State.CONTENT:
            self._mailing.last_word(command, reply)
        else:
            self._mailing.refused(command, reply)

    def _closing(self, _command: Command, reply: Reply) -> None:
        head, phase = self._dialogue.head, self.phase
        self.closed = True
        self.end = Refused(phase=phase, reply=reply)
        if self._mailing.letters:
            if head is State.AUTH:
                self._opening.unwelcome = Refused(phase="auth", reply=reply)
            self._abandon(phase, reply, None)
        elif not self.ready and head not in {State.IDLE, State.QUIT}:
            self._dialogue.tell(self.end)


_ACTIONS: Final[Mapping[Step, Callable[[Session, Command, Reply], None]]] = {
    Step.SAY_HELLO: lambda session, _command, _reply: session.opening.say_hello(),
    Step.SAY_HELO: lambda session, _command, reply: session.opening.ehlo_refused(reply),
    Step.KNOWN: lambda session, command, reply: session.opening.known(command, reply),
    Step.SECURE: Session._secure,  # noqa: SLF001
    Step.ANSWER: Session._answer,  # noqa: SLF001
    Step.LOGGED_IN: lambda session, _command, _reply: session.opening.logged_in(),
    Step.NOT_LOGGED_IN: lambda session, _command, reply: session.opening.not_logged_in(reply),
    Step.RELAY_REFUSES: lambda session, command, reply: session.opening.relay_refuses(command, reply),
    Step.GO_ON: lambda _session, _command, _reply: None,
    Step.RECIPIENT: lambda session, command, reply: session._mailing.recipient(command, reply),  # noqa: SLF001
    Step.SEND_CONTENT: Session._send_content,  # noqa: SLF001
    Step.LETTER_REFUSED: lambda session, command, reply: session._mailing.refused(command, reply),  # noqa: SLF001
    Step.LAST_WORD: lambda session, command, reply: session._mailing.last_word(command, reply),  # noqa: SLF001
    Step.AUTH_DEMANDED: Session._auth_demanded,  # noqa: SLF001
    Step.CLOSING: Session._closing,  # noqa: SLF001
}
