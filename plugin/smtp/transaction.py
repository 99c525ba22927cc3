"""One mail transaction (RFC 5321 §3.3) and what becomes of each of its recipients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from plugin.smtp.envelope import Envelope
from plugin.smtp.errors import Fault, Phase
from plugin.smtp.reply import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientResult:
    """What became of one recipient: the reply or the fault that decided, and the phase in which it did."""

    address: str
    phase: Phase
    reply: Reply | None = None
    fault: Fault | None = None

    @property
    def accepted(self) -> bool:
        """Whether the relay has taken responsibility for this recipient (RFC 5321 §6.1)."""
        return self.phase == "content" and self.reply is not None and self.reply.first == 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A letter has come to its end, with one result a recipient, in the envelope's order.

    ``phase`` with ``reply`` or ``fault`` is the verdict on the letter as a whole. ``possible_duplicate``: all of
    the content may have arrived, and what the relay has made of it is not known, so it may deliver what counts as
    not accepted here. ``untaken``: the relay has told, or has had no chance, to do nothing with this letter; it
    may go over another connection at once. ``out_of_step``: what was refused is the pace, not the letter.
    """

    transaction: Transaction
    recipients: tuple[RecipientResult, ...]
    phase: Phase
    reply: Reply | None = None
    fault: Fault | None = None
    possible_duplicate: bool = False
    untaken: bool = False
    out_of_step: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class Transaction:
    """A letter on its way: what it was answered so far, and how much of it is out.

    ``barred`` are the recipients that this relay is not asked for, with the reason; ``replies`` those to RCPT,
    in the order of the others; ``open`` counts its commands without an answer; ``reset`` tells that RSET was put
    before its MAIL, ``begun`` that MAIL has left. ``verdict`` is the first answer that decides on the letter as
    a whole; what comes behind it in a pipeline decides nothing any more.
    """

    envelope: Envelope
    barred: Mapping[str, Fault] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)
    open: int = 0
    reset: bool = False
    begun: bool = False
    content_begun: bool = False
    content_sent: bool = False
    verdict: tuple[Phase, Reply] | None = None
    accepted_after_all: bool = False
    out_of_step: bool = False

    @property
    def asked(self) -> tuple[str, ...]:
        """The recipients that RCPT names, in the envelope's order."""
        return tuple(one for one in self.envelope.recipients if one not in self.barred)

    @property
    def complete(self) -> bool:
        """Whether every recipient that was asked for has its answer."""
        return len(self.replies) == len(self.asked)

    @property
    def accepted_any(self) -> bool:
        """Whether there is anyone to send content for."""
        return any(reply.first == 2 for reply in self.replies)

    def decide(self, phase: Phase, reply: Reply) -> None:
        """Take ``reply`` for the verdict on the letter, unless it has one."""
        if self.verdict is None:
            self.verdict = phase, reply
        elif phase == "content" and reply.first == 2 and self.accepted_any:
            self.accepted_after_all = True

    def settle(
        self, phase: Phase, reply: Reply | None, fault: Fault | None = None, *, untaken: bool = False
    ) -> Settled:
        """Give every recipient that was not refused by itself the verdict on the letter as a whole."""
        replies = dict(zip(self.asked, self.replies, strict=False))
        return Settled(
            transaction=self,
            recipients=tuple(
                self._result(address, replies.get(address), phase, reply, fault)
                for address in self.envelope.recipients
            ),
            phase=phase,
            reply=reply,
            fault=fault,
            possible_duplicate=self.accepted_after_all
            or (self.content_sent and fault is not None and self.verdict is None),
            untaken=untaken,
            out_of_step=self.out_of_step,
        )

    def _result(
        self, address: str, own: Reply | None, phase: Phase, reply: Reply | None, fault: Fault | None
    ) -> RecipientResult:
        if address in self.barred:
            return RecipientResult(address=address, phase="rcpt", fault=self.barred[address])
        # Behind a refused MAIL every RCPT is refused as well, but not for the recipient's sake.
        if own is not None and own.first != 2 and phase != "mail":
            return RecipientResult(address=address, phase="rcpt", reply=own)
        return RecipientResult(address=address, phase=phase, reply=reply, fault=fault)
