"""The second half of a session: mail transactions, one after another or several on the way (RFC 5321 §3.3)."""

from __future__ import annotations

from collections import deque
from typing import Final

from plugin.smtp.auth import Line
from plugin.smtp.dialogue import Command, Dialogue
from plugin.smtp.dsn import mail_parameters, rcpt_parameters
from plugin.smtp.envelope import Envelope, bdat_octets, data_octets
from plugin.smtp.errors import Fault, Phase
from plugin.smtp.opening import Opening
from plugin.smtp.pace import CHUNK_BYTES, envelope_first, fits_window, out_of_step
from plugin.smtp.reply import Reply
from plugin.smtp.settings import Settings
from plugin.smtp.table import PHASES, State
from plugin.smtp.transaction import Transaction

MAX_LETTERS: Final = 32
"""Letters on the way at a time, however large the window: it bounds what a broken connection leaves in doubt."""


class Mailing:
    """The letters of one connection, in the order in which they were begun."""

    def __init__(self, dialogue: Dialogue, opening: Opening, settings: Settings) -> None:
        self.letters: deque[Transaction] = deque()
        self._dialogue = dialogue
        self._opening = opening
        self._settings = settings
        self._used = False  # a MAIL has left on this connection
        self._welcome = False  # the envelope of a letter was listened to
        self._cautious = False  # the last letter was refused: the next ones go one by one
        self._stale = False  # the relay may still have a transaction open that has come to its end here
        self.lost_step = False  # a letter was refused for the pace; the connection is to be given up

    def has_room(self) -> bool:
        """Return whether another letter may be begun now.

        In lock-step one at a time; with DATA the next one waits for the content of the one before, to go with it;
        with BDAT as many as the replies to all of them fit the window. After a refusal one at a time until one is
        accepted: what rides behind a refused MAIL is refused as well, and relays count that as errors of ours.
        """
        if self.lost_step:
            return False
        if not self.letters:
            return True
        if self._cautious:
            return False
        if self._opening.pace == "chunking":
            replies = len(self._dialogue.outstanding) + len(self._dialogue.queue) + 4
            return len(self.letters) < MAX_LETTERS and fits_window(
                replies, window_bytes=self._dialogue.window_bytes
            )
        return self._opening.pace == "pipelining" and self.letters[-1].begun

    def begin(self, envelope: Envelope) -> Transaction:
        """Queue the commands of a letter; its ``Settled`` follows, at once where this relay cannot take it."""
        transaction = Transaction(envelope=envelope, barred=self._barred(envelope))
        self.letters.append(transaction)
        limit, size = self._opening.extensions.size_bytes, envelope.size_bytes
        if limit is not None and size > limit:
            text = f"the letter has {size} octets, the relay takes {limit} (SIZE, RFC 1870)"
            self._end(transaction, "mail", None, Fault(kind="size", text=text))
        elif not transaction.asked:
            fault = next(iter(transaction.barred.values()))
            self._end(transaction, "rcpt", None, fault)
        else:
            self._queue(transaction)
        return transaction

    def _barred(self, envelope: Envelope) -> dict[str, Fault]:
        if self._opening.extensions.offers("SMTPUTF8"):
            return {}
        text = "the address is not ASCII, and the relay does not offer SMTPUTF8 (RFC 6531)"
        fault = Fault(kind="smtputf8", text=text)
        return {one: fault for one in envelope.recipients if not one.isascii()}

    def _queue(self, transaction: Transaction) -> None:
        envelope, offers = transaction.envelope, self._opening.extensions.offers
        parameters = [f"SIZE={envelope.size_bytes}"] if offers("SIZE") else []
        if not all(one.isascii() for one in transaction.asked):
            parameters.append("SMTPUTF8")
        notify = self._settings.dsn if offers("DSN") else ()
        parameters += mail_parameters(envelope, notify)
        self._say(transaction, State.MAIL, " ".join((f"MAIL FROM:<{envelope.sender}>", *parameters)))
        for one in transaction.asked:
            self._say(transaction, State.RCPT, " ".join((f"RCPT TO:<{one}>", *rcpt_parameters(one, notify))))
        if self._opening.pace == "chunking":
            self._queue_chunks(transaction)
        else:
            self._say(transaction, State.DATA, "DATA")

    def _queue_chunks(self, transaction: Transaction) -> None:
        content = memoryview(bdat_octets(transaction.envelope.content))
        while len(content) > CHUNK_BYTES:
            chunk, content = bytes(content[:CHUNK_BYTES]), content[CHUNK_BYTES:]
            self._say(transaction, State.CHUNK, f"BDAT {len(chunk)}", chunk)
        self._say(transaction, State.CONTENT, f"BDAT {len(content)} LAST", bytes(content))

    def _say(self, transaction: Transaction, state: State, line: str, content: bytes = b"") -> None:
        self._dialogue.say(state, line, transaction=transaction, content=content)

    # --- What leaves ----------------------------------------------------------------------------------------

    def reset_first(self, command: Command) -> bool:
        """Put RSET before ``command``, which is next, where it needs it; return whether that was so.

        With BDAT every MAIL but the first needs it: the letters before may fail, and there are relays that send
        the next one under the sender of the one that failed. RFC 3030 §2 demands it after a BDAT that failed.
        """
        if command.state is not State.MAIL or command.letter.reset:
            return False
        if not self._stale and not (self._used and self._opening.pace == "chunking"):
            return False
        self._stale = False
        command.letter.reset = True
        self._dialogue.say(State.RSET, "RSET", transaction=command.transaction, first=True)
        return True

    def holds(self, command: Command) -> bool:
        """Return whether content must wait for the answer to the first envelope (``pace.envelope_first``)."""
        if command.state not in {State.CHUNK, State.CONTENT} or self._welcome or not command.line.octets:
            return False
        opening = self._opening
        secured, authenticated = opening.tls is not None, opening.authenticated
        return not opening.eager and envelope_first(
            opening.extensions, secured=secured, authenticated=authenticated
        )

    def left(self, command: Command) -> None:
        """Take note that ``command`` has left."""
        if command.state is State.MAIL:
            self._used = command.letter.begun = True
        elif command.state in {State.CHUNK, State.CONTENT}:
            command.letter.content_begun = True

    # --- What is answered -----------------------------------------------------------------------------------

    def recipient(self, command: Command, reply: Reply) -> None:
        """Take the answer for one recipient."""
        letter = command.letter
        letter.replies.append(reply)
        if reply.first != 2:
            self._mind_step(letter, reply)
        self._welcome |= letter.complete and letter.verdict is None
        if letter.complete and not letter.accepted_any:
            letter.decide("rcpt", reply)
            self._dialogue.drop(letter)

    def refused(self, command: Command, reply: Reply) -> None:
        """Take a refusal of the letter as a whole; what has not left of it stays here."""
        letter = command.letter
        self._mind_step(letter, reply)
        letter.decide(PHASES[command.state], reply)
        self._dialogue.drop(letter)

    def send_content(self, command: Command) -> None:
        """Queue the content, before all that waits; a lone dot where nobody wants it (RFC 2920 §3.1)."""
        letter = command.letter
        content = data_octets(letter.envelope.content) if letter.verdict is None else b".\r\n"
        shown = f"<{letter.envelope.size_bytes if letter.verdict is None else 0} octets of content>"
        self._dialogue.say(
            State.CONTENT, Line(octets="", shown=shown), transaction=letter, content=content, first=True
        )

    def last_word(self, command: Command, reply: Reply) -> None:
        """Take the answer to the whole content."""
        letter = command.letter
        if reply.first != 2:
            self._mind_step(letter, reply)
        letter.decide("content", reply)

    def answered(self, command: Command) -> None:
        """Take note that ``command`` has its answer; with the last one the letter has come to its end."""
        letter = command.transaction
        if letter is None:
            return
        letter.open -= 1
        if letter.open or letter not in self.letters:
            return
        if command.state is not State.CONTENT and letter.verdict is not None and letter.verdict[0] != "mail":
            self._stale = True
        phase, reply = letter.verdict or ("content", None)
        accepted = phase == "content" and reply is not None and reply.first == 2
        self._cautious = not accepted
        letter.out_of_step = letter.out_of_step and not accepted
        self.lost_step |= letter.out_of_step
        self._end(letter, phase, reply, untaken=self._opening.unwelcome is not None and not accepted)

    def _mind_step(self, letter: Transaction, reply: Reply) -> None:
        if self._opening.pace != "lockstep" and letter.verdict is None and out_of_step(reply):
            letter.out_of_step = True

    def _mind_silence(self, phase: Phase, fault: Fault | None) -> None:
        """Take silence right behind the answer to MAIL for a word about the pace.

        There are relays that offer PIPELINING and throw away what came along with the command they were reading:
        whoever goes on like that waits in vain for ever.
        """
        if phase != "rcpt" or fault is None or fault.kind != "timeout" or self._opening.pace == "lockstep":
            return
        letter = self.letters[0] if self.letters else None
        if letter is not None and letter.verdict is None and not letter.replies:
            letter.out_of_step = True

    # --- The end of the connection --------------------------------------------------------------------------

    def abandon(self, phase: Phase, reply: Reply | None, fault: Fault | None) -> None:
        """Settle every letter: the connection has ended with ``reply`` (421) or ``fault`` in ``phase``.

        A letter behind the one that was cut short is ``untaken``: relays answer in order, so after a 421 it was
        never looked at. After a fault this is known only where none of its content had left.
        """
        self._mind_silence(phase, fault)
        self.lost_step |= any(letter.out_of_step for letter in self.letters)
        for index, letter in enumerate(list(self.letters)):
            phase_here = self._phase_of(letter) if index else phase
            self._dialogue.drop(letter)
            if letter.verdict is not None:
                self._end(letter, *letter.verdict, untaken=self._opening.unwelcome is not None)
            else:
                turned_down = self._opening.unwelcome is not None
                behind = index > 0 and (reply is not None or not letter.content_begun)
                untaken = not letter.begun or self.lost_step or turned_down or behind
                self._end(letter, phase_here, reply, fault, untaken=untaken)

    def turn_away(self) -> None:
        """Settle the letters of which nothing has left: this connection is not for them any more."""
        for letter in [one for one in self.letters if not one.begun]:
            self._dialogue.drop(letter)
            self._end(letter, "mail", None, untaken=True)

    def _phase_of(self, letter: Transaction) -> Phase:
        commands = (*self._dialogue.outstanding, *self._dialogue.queue)
        states = (one.state for one in commands if one.transaction is letter and one.state is not State.RSET)
        return PHASES[next(states, State.MAIL)]

    def _end(
        self,
        letter: Transaction,
        phase: Phase,
        reply: Reply | None,
        fault: Fault | None = None,
        *,
        untaken: bool = False,
    ) -> None:
        self.letters.remove(letter)
        self._dialogue.tell(letter.settle(phase, reply, fault, untaken=untaken))
