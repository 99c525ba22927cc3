"""OAuth access tokens from outside: a file that something else keeps fresh, or a command that prints one.

How a token is obtained (consent, refresh, scopes) is the business of whoever writes that file or command. Here a
token is one line of visible ASCII, bounded, and never part of an error.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, Protocol

MAX_OUTPUT_BYTES: Final = 16 * 1024
"""Of a file or of what a command prints; the token stands in the first line."""
MAX_TOKEN_CHARS: Final = 8192
MAX_WORDS_CHARS: Final = 200
PIPE_BYTES: Final = 64 * 1024
"""What a pipe holds at most (pipe(7))."""
KILL_S: Final = 1.0
"""How long a killed command is waited for, which a process in the hands of the kernel may outlast."""

# RFC 6749 appendix A.12, without blanks, and without the quotation mark that every JSON has and no token.
_TOKEN: Final = re.compile(rb"[\x21\x23-\x7e]{1,%d}" % MAX_TOKEN_CHARS)
_LONG_WORD: Final = re.compile(r"[\w.~+=-]{40,}")  # in the words of a command this may be a token


class TokenError(OSError):
    """No token could be had; the text names the file or the command and the remedy, never a token."""


class TokenSource(Protocol):
    """Where the token for the next login comes from. Thread-safe."""

    def get(self) -> str:
        """Return the token: 1 to ``MAX_TOKEN_CHARS`` visible ASCII characters; raises TokenError."""
        ...

    def forget(self) -> None:
        """Hear that the relay refused the token: the next ``get`` asks anew."""
        ...


class TokenFile:
    """The first line of the file ``path``, read anew each time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self) -> str:
        """Return the token; raises TokenError."""
        try:
            content = _read(self._path)
        except OSError as error:
            why = error.strerror or error
            raise TokenError(
                f"the token file {self._path} cannot be read: {why}; let what obtains the tokens write it there,"
                " readable for this user"
            ) from None
        return _token(content, f"the token file {self._path}")

    def forget(self) -> None:
        """Do nothing: the file is read anew in any case."""


class TokenCommand:
    """The first line that the command ``argv`` prints, kept for ``lifetime_s`` seconds (0: asked for each time).

    The command runs without a shell and without standard input, in a process group of its own, which is killed
    when there is no token within ``timeout_s`` seconds. Only one runs at a time: who comes meanwhile waits, within
    the same time, and takes what it gives. Raises ValueError for an ``argv`` that no system could run.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        lifetime_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not argv or not argv[0] or any("\0" in one for one in argv):
            raise ValueError("a token command needs the name of a program, and no NUL in it or in its arguments")
        self._argv = tuple(argv)
        self._timeout_s = timeout_s
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._running = threading.Lock()
        self._held: tuple[str, float] | None = None

    def get(self) -> str:
        """Return the token that is held, or a new one; raises TokenError."""
        asked_at = self._clock()
        if not self._running.acquire(timeout=self._timeout_s):
            raise self._error(
                f"has not ended within {self._timeout_s:g} s", "make it quicker, or token_timeout longer"
            )
        try:
            held = self._held
            # What came while we waited is new enough, however short its life.
            if held is not None and (held[1] > asked_at or self._clock() - held[1] < self._lifetime_s):
                return held[0]
            token = self._run(asked_at + self._timeout_s)
            self._held = (token, self._clock())
            return token
        finally:
            self._running.release()

    def forget(self) -> None:
        """Drop the token that is held. Does not wait for a command that is running: what it gives is new."""
        self._held = None

    def _run(self, deadline: float) -> str:
        try:
            process = subprocess.Popen(  # noqa: S603 - the user's own command, as configured, without a shell
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise self._error(
                f"cannot be run: {error.strerror or error}", "write the path of a program that this user may run"
            ) from None
        try:
            printed, words = self._listen(process, deadline)
            status = process.wait(timeout=max(0.0, deadline - self._clock()))
            words += _what_is_left(process)
        except (TimeoutError, subprocess.TimeoutExpired):
            _kill(process)
            raise self._error(
                f"has given no token within {self._timeout_s:g} s", "make it quicker, or token_timeout longer"
            ) from None
        except BaseException:
            _kill(process)
            raise
        finally:
            for pipe in _pipes(process):
                pipe.close()
        if status != 0:
            how = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
            raise self._error(f"{how}{_last_words(words)}", "run it by hand as this user to see why")
        return _token(printed, self._name)

    def _listen(self, process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes]:
        """Return all that is printed, and the end of what is said on standard error, once the former has ended."""
        printed, words = bytearray(), bytearray()
        output, errors = _pipes(process)
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ, printed)
            selector.register(errors, selectors.EVENT_READ, words)
            while output in selector.get_map():
                left_s = deadline - self._clock()
                if left_s <= 0:
                    raise TimeoutError
                for key, _ in selector.select(left_s):
                    data = os.read(key.fd, MAX_OUTPUT_BYTES)
                    key.data.extend(data)
                    if not data:
                        selector.unregister(key.fileobj)
                if len(printed) > MAX_OUTPUT_BYTES:
                    raise self._error(
                        f"prints more than {MAX_OUTPUT_BYTES} octets", "let it print the token alone"
                    )
                del words[:-MAX_OUTPUT_BYTES]
        return bytes(printed), bytes(words)

    @property
    def _name(self) -> str:
        # The arguments may hold what should not be shown.
        return f"the token command {self._argv[0]}"

    def _error(self, what: str, remedy: str) -> TokenError:
        return TokenError(f"{self._name} {what}; {remedy}")


def _read(path: Path) -> bytes:
    # A named pipe without a writer would keep us for ever, at opening already.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no regular file")
        return os.read(descriptor, MAX_OUTPUT_BYTES)
    finally:
        os.close(descriptor)


def _token(content: bytes, where: str) -> str:
    line = content.split(b"\n", 1)[0].strip()
    if not line:
        raise TokenError(f"{where} gives an empty first line: the token must stand there")
    if not _TOKEN.fullmatch(line):
        raise TokenError(
            f"{where} gives a first line that is no token: it must be the token alone, without quotes, blanks"
            f" and JSON around it, at most {MAX_TOKEN_CHARS} ASCII characters"
        )
    return line.decode("ascii")


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdout is None or process.stderr is None:
        raise RuntimeError("the command was started without pipes")
    return process.stdout, process.stderr


def _what_is_left(process: subprocess.Popen[bytes]) -> bytes:
    """Return what lies in the pipe of standard error; whoever else may hold its other end is not waited for."""
    descriptor = _pipes(process)[1].fileno()
    os.set_blocking(descriptor, False)
    try:
        return os.read(descriptor, PIPE_BYTES)
    except BlockingIOError:
        return b""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the command and all that it has started, unless it has been waited for and its number is free again."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(KILL_S)


def _last_words(words: bytes) -> str:
    """Return ``: sentence`` for the last line with anything in it, safe to be shown; or nothing."""
    lines = words.decode("utf-8", "replace").splitlines()
    for line in reversed(lines):
        shown = "".join(character if character.isprintable() else " " for character in line)
        if shown := _LONG_WORD.sub("****", " ".join(shown.split())):
            return f": {shown[:MAX_WORDS_CHARS]}"
    return ""
