"""The stand-in for /dev/spidevB.D on this machine: compiled here, loaded into child processes with LD_PRELOAD.

HARDWIRE_REQUIRE=spidev makes it a failure where it cannot be had.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.brokers import SPIDEV
from tests.spidev.chip import ChipServer

DEVICE: Final = "/dev/spidev7.1"  # no machine has it
ROOT: Final = Path(__file__).parents[2]
SOURCE: Final = Path(__file__).with_name("preload.c")
COMPILE_S: Final = 60.0
CHILD_S: Final = 90.0


def hindrance() -> str | None:
    """Return why there is no stand-in on this machine, or None."""
    if not sys.platform.startswith("linux"):
        return "spidev is of Linux"
    if shutil.which("cc") is None:
        return "there is no C compiler (cc) for tests/spidev/preload.c"
    if importlib.util.find_spec("spidev") is None:
        return "the module spidev is not installed: pip install -r requirements/board.lock"
    return None


def required(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether HARDWIRE_REQUIRE, a comma list, names spidev."""
    return SPIDEV in (one.strip() for one in environment.get("HARDWIRE_REQUIRE", "").split(","))


def compiled(folder: Path) -> Path:
    """Compile the stand-in; what the compiler says against it is an error."""
    library = folder / "preload.so"
    command = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(library), str(SOURCE)]
    done = subprocess.run(
        [*command, "-ldl", "-lpthread"], capture_output=True, text=True, timeout=COMPILE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return library


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """A chip behind the stand-in, and child processes that see it as DEVICE."""

    library: Path
    chip: ChipServer
    folder: Path

    def environment(self, *, bufsiz: int = 4096, align: int = 8, left_mode: int = 0) -> dict[str, str]:
        """Return what a child needs: the kernel's buffer and alignment in octets, the mode that others left."""
        parameter = self.folder / "bufsiz"
        parameter.write_text(f"{bufsiz}\n")
        return {
            "LD_PRELOAD": str(self.library),
            "SPIDEV_TEST_DEVICE": DEVICE,
            "SPIDEV_TEST_SOCKET": str(self.chip.path),
            "SPIDEV_TEST_BUFSIZ": str(parameter),
            "SPIDEV_TEST_ALIGN": str(align),
            "SPIDEV_TEST_MODE": str(left_mode),
        }

    def run(self, what: str, *arguments: object, **kernel: int) -> Any:
        """Run a function of ``inside.py`` in a child with this kernel; return what it returns."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.spidev.inside", what, *(json.dumps(one) for one in arguments)],
            env={**os.environ, **self.environment(**kernel)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=CHILD_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
