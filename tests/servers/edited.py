"""A Stream that changes what a server says, line by line: how the client meets a server that offers less."""

from __future__ import annotations

import re
import time

from plugin.smtp import Stream


class EditedStream:
    """``stream``, with ``pattern`` replaced in each line that comes in."""

    def __init__(self, stream: Stream, pattern: re.Pattern[bytes], replacement: bytes) -> None:
        self._stream = stream
        self._pattern = pattern
        self._replacement = replacement
        self._line = b""  # a line of which the end has not come yet
        self._ready = b""

    def send_all(self, data: bytes, *, timeout_s: float) -> None:
        self._stream.send_all(data, timeout_s=timeout_s)

    def receive(self, max_bytes: int, *, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        while not self._ready:
            data = self._stream.receive(max_bytes, timeout_s=max(deadline - time.monotonic(), 0.001))
            *whole, self._line = (self._line + data).split(b"\n")
            self._ready = b"".join(self._pattern.sub(self._replacement, line) + b"\n" for line in whole)
            if not data:
                self._ready, self._line = self._line, b""
                break
        given, self._ready = self._ready[:max_bytes], self._ready[max_bytes:]
        return given

    def close(self, *, timeout_s: float = 1.0) -> None:
        self._stream.close(timeout_s=timeout_s)
