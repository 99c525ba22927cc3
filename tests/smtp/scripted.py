"""Relays that follow a script, and a clock that moves only when someone waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from plugin.smtp.stream import Stream
from plugin.smtp.tls import Secured, TlsError

Kind = Literal["S", "C", "hangup", "reset", "silence", "tls", "no tls"]

SECURED = Secured(version="TLSv1.3", cipher="SCRIPTED", subject="relay.test", expires_at=None, resumed=False)
CONTENT = b"Subject: test\r\n\r\nHello.\r\n"


class Clock:
    """Seconds that pass only by ``pass_s``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_s(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


@dataclass(frozen=True)
class Step:
    kind: Kind
    octets: bytes = b""


def said(*lines: str) -> list[Step]:
    """Steps in the transcripts' notation, for short scripts in a test."""
    steps = []
    for line in lines:
        if line.startswith(("S: ", "C: ")):
            octets = CONTENT + b".\r\n" if line == "C: <content>" else f"{line[3:]}\r\n".encode()
            steps.append(Step("S" if line[0] == "S" else "C", octets))
        else:
            assert line in ("hangup", "reset", "silence", "tls", "no tls"), line
            steps.append(Step(line))  # type: ignore[arg-type]  # checked in the line above
    return steps


class ScriptedStream:
    """A Stream whose peer follows ``steps``; a client that strays from them fails the test at once."""

    def __init__(self, steps: Sequence[Step], clock: Clock, *, chunk_bytes: int | None = None) -> None:
        self.steps = deque(steps)
        self.closed = False
        self.secured = SECURED
        self._clock = clock
        self._chunk_bytes = chunk_bytes
        self._sent = b""
        self._last = b""
        self._incoming = b""

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        assert not self.closed
        assert timeout_s > 0
        assert data
        assert not self._incoming, f"talked while {self._incoming!r} was unread"
        if self.steps and self.steps[0].kind == "reset":
            raise ConnectionResetError("connection reset by peer")
        self._sent += data
        while self._sent:
            assert self.steps, f"unexpected {self._sent!r}"
            step = self.steps[0]
            assert step.kind == "C", f"{self._sent!r} sent before {step}"
            if len(self._sent) < len(step.octets):
                assert step.octets.startswith(self._sent), f"{self._sent!r} instead of {step.octets!r}"
                return
            assert self._sent.startswith(step.octets), f"{self._sent!r} instead of {step.octets!r}"
            self._sent = self._sent[len(step.octets) :]
            self._last = self.steps.popleft().octets

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        assert not self.closed
        assert timeout_s >= 0
        while self.steps and self.steps[0].kind == "S" and not self._sent:
            self._incoming += self.steps.popleft().octets
        if self._incoming:
            size = min(max_bytes, self._chunk_bytes or max_bytes)
            chunk, self._incoming = self._incoming[:size], self._incoming[size:]
            return chunk
        if timeout_s == 0 and (not self.steps or self.steps[0].kind in ("C", "silence")):
            raise TimeoutError("nothing there")
        assert not self._sent, f"waits after half a command: {self._sent!r}"
        assert self.steps, "waits although the script has ended"
        step = self.steps[0]
        assert step.kind != "C", f"waits instead of sending {step.octets!r}"
        self.steps.popleft()
        if step.kind == "hangup":
            return b""
        if step.kind == "reset":
            raise ConnectionResetError("connection reset by peer")
        self._clock.pass_s(timeout_s)
        raise TimeoutError("timed out")

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def unread(self) -> bytes:
        return self._incoming

    @property
    def unanswered(self) -> bytes:
        return self._sent

    def close(self, *, timeout_s: float = 1.0) -> None:
        assert timeout_s > 0
        self.closed = True
        if self._last == b"QUIT\r\n":
            self.steps.clear()  # what is said to that is nobody's business any more


def scripted_tls(stream: Stream, *, timeout_s: float) -> ScriptedStream:
    """Stand for the handshake: what the script has to say in clear text instead of it makes it fail."""
    assert isinstance(stream, ScriptedStream)
    assert timeout_s > 0
    assert not stream.unanswered, "a handshake after half a command"
    step = stream.steps.popleft() if stream.steps else Step("hangup")
    if stream.unread or step.kind in ("S", "no tls"):
        stream.steps.clear()
        raise TlsError("what answers does not speak TLS")
    if step.kind == "silence":
        stream.clock.pass_s(timeout_s)
        raise TimeoutError
    if step.kind == "hangup":
        raise ConnectionResetError("the relay closed the connection in the TLS handshake")
    assert step.kind == "tls", f"a handshake instead of {step}"
    return stream


class ScriptedRelay:
    """``connect`` for a Client: one script a connection; None in its place refuses the connection."""

    def __init__(
        self, *scripts: Sequence[Step] | None, clock: Clock | None = None, chunk_bytes: int | None = None
    ) -> None:
        self.clock = clock or Clock()
        self.streams: list[ScriptedStream] = []
        self._scripts = deque(scripts)
        self._chunk_bytes = chunk_bytes

    def connect(self) -> ScriptedStream:
        assert self._scripts, "one connection too many"
        assert all(stream.closed for stream in self.streams), "a second connection beside the first"
        script = self._scripts.popleft()
        if script is None:
            raise ConnectionRefusedError(111, "Connection refused")
        stream = ScriptedStream(script, self.clock, chunk_bytes=self._chunk_bytes)
        self.streams.append(stream)
        return stream

    def assert_played(self) -> None:
        """Every connection was made, played to the end of its script, and closed."""
        assert not self._scripts, "a connection was not made"
        for stream in self.streams:
            assert not stream.steps, f"not played: {list(stream.steps)}"
            assert stream.closed


class Peer:
    """A Stream that answers by a function of everything sent so far, and can refuse to take more."""

    def __init__(
        self,
        clock: Clock,
        answer: Callable[[bytes], bytes | OSError],
        *,
        takes_bytes: int | None = None,
        thinks_s: float = 1.0,
    ) -> None:
        self.sent = b""
        self.writes: list[tuple[int, float]] = []
        self.receives = 0
        self.closed = False
        self._clock = clock
        self._answer = answer
        self._takes_bytes = takes_bytes
        self._thinks_s = thinks_s

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        assert timeout_s > 0
        self.writes.append((len(data), timeout_s))
        if self._takes_bytes is not None and len(self.sent) + len(data) > self._takes_bytes:
            raise ConnectionResetError("connection reset by peer")
        self.sent += data

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        if timeout_s == 0:
            raise TimeoutError
        self.receives += 1
        answer = self._answer(self.sent)
        if isinstance(answer, TimeoutError) or timeout_s < self._thinks_s:
            self._clock.pass_s(timeout_s)
            raise TimeoutError
        if isinstance(answer, OSError):
            raise answer
        self._clock.pass_s(self._thinks_s)
        return answer[:max_bytes]

    def close(self, *, timeout_s: float = 1.0) -> None:
        self.closed = True
