"""Why a recipient was put off: what the retry schedule and the pace of a relay hang on.

That a recipient *is* put off is decided by the first digit alone (``verdict``). Here enhanced status codes
(RFC 3463, RFC 5248) and words are read as well: who reads them wrongly tries a little too early or too late.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from plugin.alert import Phase, RecipientOutcome
from plugin.delivery.verdict import ABOUT_US

Cause = Literal["unreachable", "unwanted", "limited", "busy", "crowded", "greylisted", "other"]
"""``unreachable``: no connection, or none that a letter could follow on, for now. ``unwanted``: the relay refuses
us or our credentials; who asks too often is locked out. ``limited``: the relay is busy, or we are too fast for it;
it would put off any letter. ``crowded``: too many recipients for one mail transaction; the rest may follow in the
next one (RFC 5321 §4.5.3.1.10). ``greylisted``: whoever comes again after a while is let in (RFC 6647). ``other``:
what concerns the recipient, the content, or a connection that was lost amid the letter."""

_ANY: Final[frozenset[Phase]] = ABOUT_US | {"mail", "rcpt", "data", "content"}
_MAIL: Final[frozenset[Phase]] = frozenset({"mail"})
_RCPT: Final[frozenset[Phase]] = frozenset({"rcpt"})
_CONTENT: Final[frozenset[Phase]] = frozenset({"data", "content"})
_LETTER: Final[frozenset[Phase]] = _MAIL | _RCPT | _CONTENT

_GREYLIST: Final = re.compile(r"gr[ae]y-?\s?list", re.IGNORECASE)
_LIMIT: Final = re.compile(
    r"too (?:much|many|fast|quickly|frequent)|rate.?limit|limits? (?:is |was |has been )?(?:exceeded|reached)"
    r"|exceed\w* .*(?:rate|limit)|throttl|unusual rate|slow down",
    re.IGNORECASE,
)
_AGAIN: Final = re.compile(r"\b(?:try|retry|come back|again|temporar\w+ deferred)\b", re.IGNORECASE)
_CROWDED: Final = re.compile("too many recipients", re.IGNORECASE)
_MAILBOX: Final = re.compile("mailbox|quota", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One kind of 4yz: all that is given must fit. ``enhanced`` are beginnings of the enhanced status code."""

    cause: Cause
    phases: frozenset[Phase] = _ANY
    codes: frozenset[int] = frozenset()
    enhanced: tuple[str, ...] = ()
    words: re.Pattern[str] | None = None

    def fits(self, phase: Phase, code: int, enhanced: str, text: str) -> bool:
        return (
            phase in self.phases
            and (not self.codes or code in self.codes)
            and (not self.enhanced or enhanced.startswith(self.enhanced))
            and (self.words is None or self.words.search(text) is not None)
        )


_TABLE: Final = (
    # Words that leave no doubt come before codes that many things share.
    _Row(cause="greylisted", phases=_LETTER, words=_GREYLIST),
    _Row(cause="crowded", phases=_RCPT, codes=frozenset({452}), enhanced=("4.5.3",)),
    _Row(cause="crowded", phases=_RCPT, codes=frozenset({452}), words=_CROWDED),
    # A full mailbox has its limits, too; that is the recipient's matter.
    _Row(cause="other", phases=_RCPT | _CONTENT, enhanced=("4.2.1", "4.2.2")),
    _Row(cause="other", phases=_RCPT | _CONTENT, codes=frozenset({452}), words=_MAILBOX),
    _Row(cause="limited", words=_LIMIT),
    _Row(cause="limited", codes=frozenset({432, 454})),
    # A connection that was silent for too long is said good-bye to by 421.
    _Row(cause="other", phases=_LETTER, codes=frozenset({421}), enhanced=("4.4.",)),
    _Row(cause="limited", phases=_ANY - _RCPT - _CONTENT, codes=frozenset({421, 450}), enhanced=("4.7.",)),
    _Row(cause="busy", codes=frozenset({421})),
    _Row(cause="unwanted", phases=frozenset({"auth"})),
    _Row(cause="unreachable", phases=ABOUT_US),
    # MAIL names nobody but us: what puts this letter off puts off all of them.
    _Row(cause="busy", phases=_MAIL),
    _Row(cause="busy", phases=_CONTENT, enhanced=("4.3.",)),
    _Row(cause="greylisted", phases=_RCPT, codes=frozenset({450}), enhanced=("4.2.0", "4.3.2")),
    _Row(cause="greylisted", phases=_RCPT | _CONTENT, enhanced=("4.7.",)),
    _Row(cause="greylisted", phases=_RCPT | _CONTENT, codes=frozenset({450, 451}), words=_AGAIN),
)


def cause(one: RecipientOutcome) -> Cause:
    """Return why ``one`` was put off; "other" for a recipient that was not.

    The table for 4yz is read from the top, and the first row that fits decides:

    ===================  =========================================================  ===========
    phase                reply                                                      cause
    ===================  =========================================================  ===========
    mail ... content     words tell of greylisting                                  greylisted
    rcpt                 452 4.5.3, 452 "too many recipients"                       crowded
    rcpt, data, content  4.2.1, 4.2.2 (mailbox disabled, full), 452 "mailbox"       other
    any                  words tell of a limit or of a rate; 432, 454               limited
    mail ... content     421 4.4.x (a connection that was silent for too long)      other
    connect ... mail     421 4.7.x, 450 4.7.x                                       limited
    any                  421                                                        busy
    auth                 any                                                        unwanted
    connect ... tls      any                                                        unreachable
    mail                 any                                                        busy
    data, content        4.3.x (the mail system)                                    busy
    rcpt                 450 4.2.0, 450 4.3.2 (postscreen has no letters yet)       greylisted
    rcpt, data, content  4.7.x                                                      greylisted
    rcpt, data, content  450, 451 whose words say "again"                           greylisted
    ===================  =========================================================  ===========

    Up to AUTH a 5yz is ``unwanted``, and so is a fault in AUTH; another fault is ``unreachable``.
    """
    if one.state != "deferred":
        return "other"
    if one.code is not None and 400 <= one.code <= 499:
        enhanced, text = one.enhanced or "", one.text or ""
        return next(
            (row.cause for row in _TABLE if row.fits(one.phase, one.code, enhanced, text)),
            "other",
        )
    if one.phase not in ABOUT_US:
        return "other"
    return "unwanted" if one.code is not None or one.phase == "auth" else "unreachable"


def wants_new_connection(one: RecipientOutcome) -> bool:
    """Return whether the relay will answer ``one`` otherwise, but only on another connection.

    Postfix's postscreen tests a newcomer to the end of its first connection, and says 450 4.3.2 to each RCPT on
    it.
    """
    return one.state == "deferred" and (one.phase, one.code, one.enhanced) == ("rcpt", 450, "4.3.2")
