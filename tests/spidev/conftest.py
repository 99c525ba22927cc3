"""The stand-in for the device, or the reason why there is none."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey.conftest import automation, mail
from tests.spidev.chip import ChipServer
from tests.spidev.rig import Rig, compiled, hindrance, required

__all__ = ["automation", "library", "mail", "rig"]  # the household is that of every journey


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := hindrance():
        if required():
            pytest.fail(f"HARDWIRE_REQUIRE: spidev: {reason}")
        pytest.skip(reason)
    return compiled(tmp_path_factory.mktemp("preload"))


@pytest.fixture
def rig(library: Path, tmp_path: Path) -> Iterator[Rig]:
    with tempfile.TemporaryDirectory() as short:  # a Unix socket's path has 107 octets at most
        chip = ChipServer(Path(short) / "chip")
        yield Rig(library=library, chip=chip, folder=tmp_path)
        chip.close()
    assert chip.offences == []
