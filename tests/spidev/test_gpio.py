"""/INT and /RESET on a GPIO chip that is played: the level decides, edges only wake."""

from __future__ import annotations

import enum
import errno
import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from plugin.w5100 import Chip
from plugin.w5100.emulator import Emulator
from plugin.w5100.errors import BusError
from plugin.w5100.gpio import GpioLine, InterruptInput, ResetOutput
from plugin.w5100.spidev import SpidevBus

LINE = GpioLine(chip="/dev/gpiochip0", line=25)


class Value(enum.Enum):
    INACTIVE = 0
    ACTIVE = 1


class Request:
    """A line as libgpiod's LineRequest shows it: a level, and edges in a queue. ``after_looks`` moves it."""

    def __init__(self, gpio: Gpio) -> None:
        self._gpio = gpio
        self.released = False

    def get_value(self, line: int) -> Value:
        assert (line, self.released) == (25, False)
        value = Value.ACTIVE if self._gpio.high else Value.INACTIVE
        if self._gpio.after_looks:
            self._gpio.after_looks.pop(0)()
        return value

    def set_value(self, line: int, value: Value) -> None:
        assert (line, self.released) == (25, False)
        self._gpio.moves.append(value.name)

    def wait_edge_events(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self._gpio.waits += 1
        if not self._gpio.edges:
            self._gpio.now += timeout
        return bool(self._gpio.edges)

    def read_edge_events(self, max_events: int | None = None) -> list[Any]:
        assert self._gpio.edges, "would block"
        events, self._gpio.edges = self._gpio.edges, []
        return events

    def release(self) -> None:
        assert not self.released
        self.released = True


class Gpio(ModuleType):
    """The part of gpiod that is used, with a clock that only waiting turns."""

    line = SimpleNamespace(
        Value=Value,
        Direction=SimpleNamespace(INPUT="input", OUTPUT="output"),
        Edge=SimpleNamespace(FALLING="falling"),
        Bias=SimpleNamespace(PULL_UP="pull-up"),
    )

    def __init__(self) -> None:
        super().__init__("gpiod")
        self.high = True
        self.edges: list[Any] = []
        self.after_looks: list[Callable[[], None]] = []
        self.moves: list[Any] = []
        self.waits = 0
        self.now = 100.0
        self.error: Exception | None = None
        self.asked: list[tuple[Any, ...]] = []
        self.requests: list[Request] = []

    def LineSettings(self, **settings: Any) -> dict[str, Any]:  # noqa: N802 - as gpiod has it
        return settings

    def request_lines(self, path: str, config: dict[int, Any], consumer: str | None = None) -> Request:
        if self.error:
            raise self.error
        self.asked.append((path, config, consumer))
        self.requests.append(Request(self))
        return self.requests[-1]

    def fall(self) -> None:
        self.high = False
        self.edges.append("falling")

    def blip(self) -> None:
        """Low and high again before anyone looks."""
        self.edges.append("falling")

    def clock(self) -> float:
        return self.now


@pytest.fixture
def gpio(monkeypatch: pytest.MonkeyPatch) -> Gpio:
    gpio = Gpio()
    monkeypatch.setitem(sys.modules, "gpiod", gpio)
    monkeypatch.setitem(sys.modules, "spidev", ModuleType("spidev"))
    return gpio


def test_the_line_is_asked_for_as_an_input_that_wakes_when_it_falls(gpio: Gpio) -> None:
    line = InterruptInput(LINE)
    assert gpio.asked == []
    line.open()
    line.open()
    settings = {"direction": "input", "edge_detection": "falling", "bias": "pull-up"}
    assert gpio.asked == [("/dev/gpiochip0", {25: settings}, "hardwire")]
    line.close()
    line.close()
    assert gpio.requests[0].released


def test_a_line_that_is_low_already_is_news_at_once(gpio: Gpio) -> None:
    gpio.high = False
    assert InterruptInput(LINE, clock=gpio.clock).wait(5.0) is True
    assert (gpio.waits, gpio.now) == (0, 100.0)


def test_an_edge_wakes_the_one_who_waits(gpio: Gpio) -> None:
    gpio.after_looks = [gpio.fall]  # right after the level was looked at: the kernel keeps the edge
    assert InterruptInput(LINE, clock=gpio.clock).wait(5.0) is True
    assert (gpio.waits, gpio.now) == (1, 100.0)


def test_edges_of_the_past_are_no_news(gpio: Gpio) -> None:
    gpio.edges = ["falling", "falling"]
    gpio.after_looks = [lambda: None, gpio.blip]
    assert InterruptInput(LINE, clock=gpio.clock).wait(5.0) is False
    assert (gpio.waits, gpio.now) == (3, 105.0)


def test_time_that_is_over_ends_the_wait(gpio: Gpio) -> None:
    line = InterruptInput(LINE, clock=gpio.clock)
    assert line.wait(0.5) is False
    assert gpio.now == 100.5
    assert line.wait(0.0) is False


def test_a_reset_is_a_short_low_and_a_long_rest(gpio: Gpio) -> None:
    line = ResetOutput(LINE, sleep=gpio.moves.append)
    line.open()
    assert gpio.asked == [
        ("/dev/gpiochip0", {25: {"direction": "output", "output_value": Value.ACTIVE}}, "hardwire")
    ]
    assert gpio.moves == [], "to open the line is no reset"
    line.pulse()
    low, low_s, high, rest_s = gpio.moves
    assert (low, high) == ("INACTIVE", "ACTIVE")
    assert low_s >= 500e-6
    assert rest_s >= 0.15


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError(errno.EBUSY, "Device or resource busy"), "resource busy"), (ValueError("no such line"), "no such")],
)
@pytest.mark.parametrize("kind", [InterruptInput, ResetOutput])
def test_a_line_that_cannot_be_had_is_named(gpio: Gpio, kind: Any, error: Exception, words: str) -> None:
    gpio.error = error
    with pytest.raises(BusError) as caught:
        kind(LINE).open()
    assert str(caught.value).startswith("GPIO line 25 of /dev/gpiochip0 cannot be had: ")
    assert words in str(caught.value)
    assert caught.value.errno == getattr(error, "errno", None)


def test_the_driver_sleeps_on_the_line_and_does_not_poll(gpio: Gpio) -> None:
    """The bus has ``wait_interrupt`` with the line, and the chip waits by it alone."""
    emulator = Emulator()
    bus = SpidevBus(interrupt=LINE, reset=LINE)
    bus.exchange = emulator.exchange  # type: ignore[method-assign]
    slept: list[float] = []
    chip = Chip(bus, sleep=slept.append)
    gpio.after_looks = [gpio.fall]
    chip.wait(0, 1.0)
    assert (gpio.waits, slept) == (1, [])
    bus.reset_line()
    assert gpio.moves == ["INACTIVE", "ACTIVE"]
    bus.close()
    assert [one.released for one in gpio.requests] == [True, True]
    emulator.close()


# --- The module itself ----------------------------------------------------------------------------------------


@pytest.fixture
def gpiod() -> Any:
    return pytest.importorskip("gpiod", reason="gpiod is not installed: pip install -r requirements/board.lock")


def test_the_played_module_has_the_signatures_of_gpiod(gpiod: Any) -> None:
    def parameters(of: Any) -> set[str]:
        return set(inspect.signature(of).parameters)

    assert parameters(Gpio.request_lines) - {"self"} <= parameters(gpiod.request_lines)
    for name in ("get_value", "set_value", "wait_edge_events", "read_edge_events", "release"):
        assert parameters(getattr(Request, name)) == parameters(getattr(gpiod.LineRequest, name)), name
    line = gpiod.line
    gpiod.LineSettings(direction=line.Direction.INPUT, edge_detection=line.Edge.FALLING, bias=line.Bias.PULL_UP)
    gpiod.LineSettings(direction=line.Direction.OUTPUT, output_value=line.Value.ACTIVE)
    assert {one.name for one in Value} == {one.name for one in line.Value}


def test_gpiod_without_a_gpio_chip(gpiod: Any) -> None:
    assert importlib.import_module("gpiod") is gpiod
    with pytest.raises(BusError, match="GPIO line 1 of /dev/null cannot be had: ") as caught:
        InterruptInput(GpioLine(chip="/dev/null", line=1)).open()
    assert caught.value.errno is not None
