"""The Home Assistants that setup.sh installed: checked, started, stopped."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.home_assistant.client import Client, until

HERE: Final = Path(__file__).parent
VERSIONS: Final[Mapping[str, str]] = {"2026.11": "2026.11.0", "2026.2": "2026.2.3"}
CHECK_S: Final = 180.0
START_S: Final = 180.0
STOP_S: Final = 60.0

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
# Said at each start here, and nothing to do with us: no pip, and no compiled zlib.
_ALWAYS: Final = ("Skipping pip installation of required modules", "zlib_ng and isal are not available")
_COMPLAINT: Final = re.compile(r"^(?:\S+ \S+ )?(?:WARNING|ERROR|CRITICAL)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A root with one version of Home Assistant. ``directory`` is setup.sh's DIR/<name>."""

    version: str
    directory: Path

    def command(self, config: Path, arguments: Sequence[str]) -> list[str]:
        """Return the command that runs ``arguments`` in the root; it dies with whoever started it."""
        inside = [str(HERE / "in_root.sh"), str(self.directory), str(config), *arguments]
        return ["setpriv", "--pdeathsig", "KILL", *inside]

    def check(self, config: Path) -> list[str]:
        """Return what Home Assistant's own check finds fault with: errors, warnings, an exit code.

        An automation that would be disabled, and a blueprint that is missing, are errors in the log only.
        """
        done = subprocess.run(
            self.command(
                config, ["/opt/ha/bin/hass", "--script", "check_config", "-c", "/config", "--fail-on-warnings"]
            ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CHECK_S,
            check=False,
        )
        lines = _COLOUR.sub("", done.stdout + done.stderr).splitlines()
        if done.returncode:
            return lines
        return [line for line in lines if _COMPLAINT.match(line)]


def installed(name: str, environment: Mapping[str, str] = os.environ) -> Installation:
    """Return the version ``name``, a key of ``VERSIONS``, below HARDWIRE_HOME_ASSISTANT; fails where it is not."""
    base = environment.get("HARDWIRE_HOME_ASSISTANT")
    assert base, "HARDWIRE_HOME_ASSISTANT is not set: run `make test-home-assistant`"
    directory = Path(base).absolute() / name
    assert (directory / "root/opt/ha/bin/hass").exists(), f"no Home Assistant in {directory}: run setup.sh {base}"
    return Installation(version=VERSIONS[name], directory=directory)


class HomeAssistant(Client):
    """A running Home Assistant; a context manager. ``stop`` and ``start`` restart it on the same configuration."""

    def __init__(self, installation: Installation, config: Path, port: int) -> None:
        super().__init__(port)
        self._installation = installation
        self._config = config
        self._log = config / "output.log"
        self._read = 0
        self._foreseen: list[str] = list(_ALWAYS)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is running."""
        # --skip-pip: what the tests need is installed; what else is loaded must not want to install anything.
        arguments = ["/opt/ha/bin/hass", "-c", "/config", "--log-no-color", "--skip-pip"]
        with self._log.open("ab") as log:
            self._process = process = subprocess.Popen(
                self._installation.command(self._config, arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        def up() -> bool:
            assert process.poll() is None, self._log.read_text(errors="replace")[-3000:]
            return self.running()

        until(up, f"Home Assistant {self._installation.version} has started", START_S)

    def stop(self) -> None:
        """End it in order."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)

    def foresee(self, *pieces: str) -> None:
        """Warnings and errors that hold one of ``pieces`` are no complaints until ``complaints`` is asked next."""
        self._foreseen += pieces

    def complaints(self) -> list[str]:
        """Return the warnings and errors that it has logged since this was last asked, but those foreseen."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            said = log.read()
            self._read = log.tell()
        foreseen, self._foreseen = tuple(self._foreseen), list(_ALWAYS)
        lines = said.decode(errors="replace").splitlines()
        return [line for line in lines if _COMPLAINT.match(line) and not any(piece in line for piece in foreseen)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
