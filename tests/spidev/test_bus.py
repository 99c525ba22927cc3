"""SpidevBus without a device: numbers of the kernel's interface, missing extras, and what it does not pretend."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from plugin.build import BusUnavailable, bus_of
from plugin.config import load
from plugin.w5100.errors import BusError
from plugin.w5100.gpio import GpioLine
from plugin.w5100.spidev import (
    MOST_TRANSFERS,
    TRANSFER_BYTES,
    SpidevBus,
    frames_per_call,
    spi_ioc_message,
)
from tests import brokers
from tests.spidev.rig import required

LINE = GpioLine(chip="/dev/gpiochip0", line=25)


@pytest.fixture
def spidev(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra: what is tested here never opens the device."""
    monkeypatch.setitem(sys.modules, "spidev", ModuleType("spidev"))


def test_the_numbers_of_the_kernels_interface() -> None:
    # What a C compiler makes of SPI_IOC_MESSAGE(1) and (511) from linux/spi/spidev.h.
    assert (spi_ioc_message(1), spi_ioc_message(511)) == (0x40206B00, 0x7FE06B00)
    assert (TRANSFER_BYTES, MOST_TRANSFERS) == (32, 511)


@pytest.mark.parametrize(
    ("buffer_bytes", "frame_bytes", "alignment_bytes", "frames"),
    [
        (4096, 4, 128, 32),
        (65536, 4, 128, 511),
        (4096, 4, 8, 511),
        (4096, 129, 128, 16),
        (4096, 3 + 2048, 128, 1),
        (4096, 3 + 8192, 128, 1),
    ],
)
def test_frames_a_call(buffer_bytes: int, frame_bytes: int, alignment_bytes: int, frames: int) -> None:
    assert frames_per_call(buffer_bytes, frame_bytes, alignment_bytes) == frames


@pytest.mark.parametrize(("missing", "extra"), [("spidev", "hardwire[spi]"), ("gpiod", "hardwire[gpio]")])
@pytest.mark.usefixtures("spidev")
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, missing: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for wires in ({"interrupt": LINE}, {"reset": LINE}):
        with pytest.raises(BusError) as caught:
            SpidevBus(**wires)  # type: ignore[arg-type]
        assert f"pip install '{extra}'" in str(caught.value)


@pytest.mark.usefixtures("spidev")
def test_wires_that_are_not_there_are_not_pretended() -> None:
    bus = SpidevBus()
    assert not hasattr(bus, "wait_interrupt"), "the driver would wait on it"
    assert not hasattr(bus, "reset_line")


@pytest.mark.usefixtures("spidev")
def test_what_is_no_run_of_frames_is_refused() -> None:
    for frames, frame_bytes in ((b"\x0f\x00\x17", 4), (b"\x0f", 0)):
        with pytest.raises(ValueError, match="are no frames"):
            SpidevBus().exchange(frames, frame_bytes)


@pytest.mark.usefixtures("spidev")
def test_a_closed_bus_says_so() -> None:
    bus = SpidevBus("/dev/spidev9.9")
    bus.close()
    bus.close()
    with pytest.raises(BusError, match=r"/dev/spidev9\.9 was closed"):
        bus.exchange(bytes(4))


# --- From the configuration -----------------------------------------------------------------------------------

CONFIG = """\
chip:
  bus: spidev
  device: /dev/spidev9.9
  speed_hz: 4000000
  network: {address: 192.168.1.50/24}
  reset: {chip: /dev/gpiochip9, line: 24}
relays: [{host: 192.168.1.9, security: none}]
sender: house@example.net
routes: [{topic: "#", to: alice@example.net}]
"""


def test_the_configuration_gives_the_bus_and_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("spidev", "gpiod"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    (tmp_path / "hardwire.yaml").write_text(CONFIG)
    bus = bus_of(load(tmp_path / "hardwire.yaml", environ={}))
    assert isinstance(bus, SpidevBus)
    assert bus.speed_hz == 4_000_000
    assert (hasattr(bus, "wait_interrupt"), hasattr(bus, "reset_line")) == (False, True)


@pytest.mark.parametrize(
    ("missing", "words"), [("spidev", "/dev/spidev9.9 needs the module"), ("gpiod", "/RESET need")]
)
def test_a_missing_extra_is_a_fault_of_the_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, words: str
) -> None:
    for name in ("spidev", "gpiod"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else ModuleType(name))
    (tmp_path / "hardwire.yaml").write_text(CONFIG)
    with pytest.raises(BusUnavailable) as caught:
        bus_of(load(tmp_path / "hardwire.yaml", environ={}))
    assert str(caught.value).startswith("chip.bus: spidev: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"), [("", False), ("docker", False), ("spidev", True), ("docker, spidev ", True)]
)
def test_what_ci_requires(value: str, expected: bool) -> None:
    assert required({"HARDWIRE_REQUIRE": value}) is expected
    assert "spidev" not in brokers.required({"HARDWIRE_REQUIRE": value}), "the word is known there, and no broker"
