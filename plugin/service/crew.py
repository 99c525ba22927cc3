"""Threads that must not die, and room for what travels between them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger("hardwire.service")


class ThreadDied(RuntimeError):
    """A thread ended that must not end; the cause is chained."""


class Crew:
    """Threads that must not die: the first death is kept, and told to whoever supervises."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._death: tuple[str, BaseException] | None = None
        self.dead = threading.Event()

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Run ``work`` in a thread of its own; only an exception counts as a death."""

        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is told and ends the service
                _log.exception("event=thread_died thread=%s", name)
                if self._death is None:
                    self._death = (name, error)
                self.dead.set()

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def check(self) -> None:
        """Raise ThreadDied if a thread has died."""
        if self._death is not None:
            name, error = self._death
            raise ThreadDied(f"the thread {name} died: {error!r}") from error

    def join(self, timeout_s: float) -> bool:
        """Wait for all to end; False if some are still at work after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)


class Room:
    """Octets that may be under way at a time; what alone exceeds ``limit_bytes`` goes when nothing else does."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._taken_bytes = 0
        self._freed = threading.Condition()

    def take(self, size_bytes: int, timeout_s: float) -> bool:
        """Take room for ``size_bytes``; False if there is none within ``timeout_s``."""
        with self._freed:
            fits = self._freed.wait_for(
                lambda: not self._taken_bytes or self._taken_bytes + size_bytes <= self._limit_bytes, timeout_s
            )
            self._taken_bytes += size_bytes if fits else 0
            return fits

    def give_back(self, size_bytes: int) -> None:
        """Give back what was taken."""
        with self._freed:
            self._taken_bytes -= size_bytes
            self._freed.notify_all()


class Bell:
    """Wakes who sleeps. ``rung`` counts, so that a call is not lost on who was about to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asleep: list[threading.Event] = []
        self.rung = 0

    def ring(self, hands: int | None = None) -> None:
        """Wake as many as there are ``hands`` for, None: all; who fell asleep last is the first."""
        with self._lock:
            self.rung += 1
            for _ in range(len(self._asleep) if hands is None else min(hands, len(self._asleep))):
                self._asleep.pop().set()

    def sleep(self, heard: int, timeout_s: float) -> None:
        """Sleep until it is rung for this caller, at most ``timeout_s``; not at all if it was since ``heard``."""
        call = threading.Event()
        with self._lock:
            if self.rung != heard:
                return
            self._asleep.append(call)
        call.wait(timeout_s)
        with self._lock:
            if call in self._asleep:
                self._asleep.remove(call)
