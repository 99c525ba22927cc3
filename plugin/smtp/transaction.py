"""One mail transaction (RFC 5321 §3.3) and what becomes of each of its recipients."""

from __future__ import annotations

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

    ``phase`` with ``reply`` or ``fault`` is the verdict on the letter as a whole. ``possible_duplicate``: the
    final dot may have arrived, but its reply did not, so the relay may deliver what counts as not accepted here.
    """

    recipients: tuple[RecipientResult, ...]
    phase: Phase
    reply: Reply | None = None
    fault: Fault | None = None
    possible_duplicate: bool = False


@dataclass(slots=True, kw_only=True)
class Transaction:
    """A letter on its way: the replies its recipients had so far, in order, and whether all of it is out."""

    envelope: Envelope
    replies: list[Reply] = field(default_factory=list)
    dot_sent: bool = False

    @property
    def complete(self) -> bool:
        """Whether every recipient has its answer to RCPT."""
        return len(self.replies) == len(self.envelope.recipients)

    @property
    def accepted_any(self) -> bool:
        """Whether there is anyone to send content for."""
        return any(reply.first == 2 for reply in self.replies)

    def settle(self, phase: Phase, reply: Reply | None, fault: Fault | None = None) -> Settled:
        """Give every recipient that was not refused by itself the verdict on the letter as a whole."""
        return Settled(
            recipients=tuple(
                RecipientResult(address=address, phase="rcpt", reply=self.replies[index])
                if self._refused(index)
                else RecipientResult(address=address, phase=phase, reply=reply, fault=fault)
                for index, address in enumerate(self.envelope.recipients)
            ),
            phase=phase,
            reply=reply,
            fault=fault,
            possible_duplicate=fault is not None and self.dot_sent,
        )

    def _refused(self, index: int) -> bool:
        return index < len(self.replies) and self.replies[index].first != 2
