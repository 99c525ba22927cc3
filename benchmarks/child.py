"""A part of a benchmark in a process of its own, so that it does not share a lock with what is measured.

Parent and child talk over a socket pair: one JSON object a line, each request gets one answer. The child ends when
its parent closes its end, or is gone.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Self

ROOT: Final = Path(__file__).parents[1]
ANSWER_S: Final = 20.0
END_S: Final = 5.0
REQUEST_BYTES: Final = 64 * 1024

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class ChildError(RuntimeError):
    """A child process has ended, or does not answer."""


class Child:
    """A running child; a context manager. ``module`` calls ``answer_requests`` when it is run."""

    def __init__(self, module: str) -> None:
        self._module = module
        ours, theirs = socket.socketpair()
        with theirs:
            # A session of its own: Ctrl-C is for the parent, whose end then ends the child.
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno())],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        ours.settimeout(ANSWER_S)
        self._socket = ours
        self._channel = ours.makefile("rw", encoding="utf-8")

    def ask(self, **request: Any) -> dict[str, Any]:
        """Return the child's answer; raises ChildError without one in ``ANSWER_S`` seconds."""
        try:
            self._channel.write(json.dumps(request) + "\n")
            self._channel.flush()
            line = self._channel.readline()
        except OSError as error:
            raise ChildError(f"{self._module} does not answer: {error}") from error
        if not line:
            raise ChildError(f"{self._module} has ended; its own output says why")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the child; may be repeated."""
        self._channel.close()
        self._socket.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def answer_requests(answer: Answer) -> None:
    """In the child: answer the parent's requests, one after another, until it closes its end."""
    ours = socket.socket(fileno=int(sys.argv[1]))
    reader, writer = await asyncio.open_connection(sock=ours, limit=REQUEST_BYTES)
    while line := await reader.readline():
        writer.write(json.dumps(await answer(json.loads(line))).encode() + b"\n")
        await writer.drain()
    writer.close()
