"""The chip's two extra wires on a Raspberry Pi: /INT read and /RESET pulled, through libgpiod (extra ``gpio``).

The kernel hands a line to one program at a time, and gives it back when the request is released.
"""

from __future__ import annotations

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from plugin.w5100.errors import BusError

CONSUMER: Final = "hardwire"
# Low for 500 us at least (W5100S datasheet; the W5100 wants 2 us), then time for the PLL to lock.
RESET_LOW_S: Final = 0.001
RESET_SETTLE_S: Final = 0.150


@dataclass(frozen=True, slots=True, kw_only=True)
class GpioLine:
    """Line number ``line`` of the GPIO chip at the path ``chip``, such as /dev/gpiochip0."""

    chip: str
    line: int

    def __str__(self) -> str:
        """Return ``GPIO line 25 of /dev/gpiochip0``."""
        return f"GPIO line {self.line} of {self.chip}"


def load_gpiod() -> Any:
    """Return the module gpiod; raises BusError that names the extra where it is not installed."""
    try:
        return importlib.import_module("gpiod")
    except ImportError as error:
        raise BusError(
            f"the wires of /INT and /RESET need the module gpiod ({error}): install the extra, "
            "pip install 'hardwire[gpio]'"
        ) from error


class _Held(ABC):
    """A line that is requested by ``open``, as ``_settings`` has it, and given back by ``close``."""

    def __init__(self, line: GpioLine) -> None:
        self._line = line
        self._gpiod = load_gpiod()
        self._request: Any = None

    @abstractmethod
    def _settings(self) -> Any:
        """Return gpiod's LineSettings."""

    def open(self) -> None:
        """Request the line, unless that is done; raises BusError."""
        if self._request is None:
            self._request = _requested(self._gpiod, self._line, self._settings())

    def close(self) -> None:
        """Give the line back. May be repeated."""
        request, self._request = self._request, None
        if request is not None:
            request.release()


class InterruptInput(_Held):
    """/INT: low while the chip has news. One thread waits at a time."""

    def __init__(self, line: GpioLine, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take ``line``; it is requested by ``open``. Raises BusError without gpiod."""
        super().__init__(line)
        self._clock = clock

    def _settings(self) -> Any:
        line = self._gpiod.line
        # The pull-up keeps a wire that has come off high, which is "no news", instead of anything.
        return self._gpiod.LineSettings(
            direction=line.Direction.INPUT, edge_detection=line.Edge.FALLING, bias=line.Bias.PULL_UP
        )

    def wait(self, timeout_s: float) -> bool:
        """Sleep until /INT is low: True, at once if it is so already; or until the time is over: False.

        The level decides and the edges only wake: an edge before this call was perhaps followed by a rise, and one
        after the look at the level waits in the kernel's queue. Raises OSError.
        """
        deadline = self._clock() + timeout_s
        self.open()
        low = self._gpiod.line.Value.INACTIVE
        while True:
            if self._request.get_value(self._line.line) == low:
                return True
            if self._request.wait_edge_events(max(0.0, deadline - self._clock())):
                self._request.read_edge_events()
            elif self._clock() >= deadline:
                return bool(self._request.get_value(self._line.line) == low)


class ResetOutput(_Held):
    """/RESET: held high, and pulled low for a moment when it must be."""

    def __init__(self, line: GpioLine, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Take ``line``; it is requested by ``open``. Raises BusError without gpiod."""
        super().__init__(line)
        self._sleep = sleep

    def _settings(self) -> Any:
        line = self._gpiod.line
        return self._gpiod.LineSettings(direction=line.Direction.OUTPUT, output_value=line.Value.ACTIVE)

    def pulse(self) -> None:
        """Reset the chip in hardware; return when it can be spoken to. Raises OSError."""
        self.open()
        value = self._gpiod.line.Value
        self._request.set_value(self._line.line, value.INACTIVE)
        try:
            self._sleep(RESET_LOW_S)
        finally:
            self._request.set_value(self._line.line, value.ACTIVE)
        self._sleep(RESET_SETTLE_S)


def _requested(gpiod: Any, line: GpioLine, settings: Any) -> Any:
    try:
        return gpiod.request_lines(line.chip, consumer=CONSUMER, config={line.line: settings})
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raised = BusError(
            f"{line} cannot be had: {reason}; gpioinfo tells which lines there are and who holds them"
        )
        raised.errno = getattr(error, "errno", None)
        raise raised from error
