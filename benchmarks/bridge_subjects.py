"""The bridges that are compared, each as a process: ``hardwire run`` on the emulated chip, and mqttwarn."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from benchmarks.bridge_figures import CHUNKING, PEER, PIPELINING
from benchmarks.child import ROOT
from plugin.demo.broker import LOOPBACK

LANES: Final = 3
BASE: Final = "alerts"
PEER_VERSION: Final = "0.36.1"
PEER_PACKAGES: Final = (f"mqttwarn=={PEER_VERSION}", "paho-mqtt==1.6.1")
MAKE_S: Final = 120.0
INSTALL_S: Final = 300.0
END_S: Final = 10.0
SAID_CHARS: Final = 1000
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class BridgeError(RuntimeError):
    """A bridge could not be measured; the text says which one, and why."""


class PeerMissingError(RuntimeError):
    """The peer is not there and cannot be installed; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a bridge finds its world: a folder of its own, and the ports of broker and mail server on loopback."""

    folder: Path
    broker_port: int
    mail_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A bridge: what its mail server offers, and how many reply delays a mail of it takes at most.

    ``slow``: it waits for all of them, mail by mail, so fewer alerts have to do where replies take time.
    ``prepare`` writes the configuration and returns the command. ``accepted``: what its log says of each alert
    that is on its disk; None where nothing is ever on disk.
    """

    name: str
    offers: tuple[str, ...]
    round_trips: int
    slow: bool
    prepare: Callable[[Place], tuple[str, ...]]
    accepted: bytes | None


def hardwire(place: Place) -> tuple[str, ...]:
    """Write a configuration with three lanes and else the defaults; return the command."""
    path = place.folder / "hardwire.yaml"
    path.write_text(
        f"mqtt: {{host: {LOOPBACK}, port: {place.broker_port}}}\n"
        f"topics: {{base: {BASE}}}\n"
        f"chip: {{bus: emulator, network: host, lanes: {LANES}}}\n"
        f"relays: [{{host: {LOOPBACK}, port: {place.mail_port}, security: none}}]\n"
        'sender: "House <house@example.net>"\n'
        "recipients: {alice: alice@example.net}\n"
        'routes: [{topic: "#", to: [alice]}]\n'
        "outbox: {path: outbox.db}\n"
    )
    return (sys.executable, "-m", "plugin", "run", "--config", str(path))


def mqttwarn(python: Path) -> Callable[[Place], tuple[str, ...]]:
    """Return what does the same for mqttwarn in ``python``: QoS 1, a session that the broker keeps, one worker."""

    def prepare(place: Place) -> tuple[str, ...]:
        path = place.folder / "mqttwarn.ini"
        path.write_text(
            "[defaults]\n"
            f"hostname = '{LOOPBACK}'\n"
            f"port = {place.broker_port}\n"
            "clientid = 'mqttwarn'\n"
            "cleansession = False\n"
            "protocol = 4\n"
            "num_workers = 1\n"
            "loglevel = INFO\n"
            "launch = smtp\n"
            "[config:smtp]\n"
            f"server = '{LOOPBACK}:{place.mail_port}'\n"
            "sender = 'House <house@example.net>'\n"
            "targets = {'alice': ['alice@example.net']}\n"
            "[alerts]\n"
            f"topic = {BASE}/email/+\n"
            "qos = 1\n"
            "targets = smtp:alice\n"
            "title = {title}\n"
            "format = {message}\n"
        )
        return (str(python), "-m", "mqttwarn", f"--config-file={path}")

    return prepare


OURS: Final = (
    Subject(
        name=PIPELINING,
        offers=("PIPELINING",),
        round_trips=2,
        slow=False,
        prepare=hardwire,
        accepted=b"event=accepted ",
    ),
    Subject(
        name=CHUNKING,
        offers=("PIPELINING", "CHUNKING"),
        round_trips=1,
        slow=False,
        prepare=hardwire,
        accepted=b"event=accepted ",
    ),
)


def peer(python: Path) -> Subject:
    """Return mqttwarn in ``python``; a mail waits for greeting, EHLO, MAIL, RCPT, DATA, content and QUIT."""
    return Subject(
        name=PEER,
        offers=("PIPELINING", "CHUNKING"),
        round_trips=7,
        slow=True,
        prepare=mqttwarn(python),
        accepted=None,
    )


def installed_peer(cache: Path) -> Path:
    """Return the Python of an environment below ``cache`` that has mqttwarn; it is made there if need be.

    Raises PeerMissingError.
    """
    folder = cache / f"mqttwarn-{PEER_VERSION}"
    python, whole = folder / "bin" / "python", folder / ".whole"
    if whole.exists() and python.exists():
        return python
    pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        for words, limit_s in (
            ((sys.executable, "-m", "venv", str(folder)), MAKE_S),
            ((*pip, *PEER_PACKAGES), INSTALL_S),
            ((str(python), "-c", "import mqttwarn.core"), MAKE_S),
        ):
            subprocess.run(words, check=True, capture_output=True, text=True, timeout=limit_s)
        whole.touch()
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "").strip().splitlines()
        raise PeerMissingError(f"mqttwarn could not be installed: {said[-1] if said else error}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerMissingError(f"mqttwarn could not be installed: {error}") from error
    return python


class Running:
    """A bridge that runs, in a session of its own; a context manager that kills what is left of it."""

    def __init__(self, subject: Subject, place: Place) -> None:
        self._name = subject.name
        self._log = place.folder / "bridge.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                subject.prepare(place),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise BridgeError if it has ended."""
        code = self._process.poll()
        if code is not None:
            raise BridgeError(f"{self._name} has ended with {code}: {self.said()}")

    def said(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(errors="replace")[-SAID_CHARS:]

    @property
    def log(self) -> Path:
        return self._log

    def cpu_s(self) -> float:
        """Return the processor's time of its processes so far, to 10 ms as a rule."""
        return sum(int(one[11]) + int(one[12]) for one in self._stats()) / TICKS_PER_S

    def memory_bytes(self) -> int:
        """Return what its processes have resident; what they share counts for each."""
        return self._status_bytes("VmRSS:")

    def peak_bytes(self) -> int:
        """Return the most that each of its processes has had resident, in all."""
        return self._status_bytes("VmHWM:")

    def kill(self) -> None:
        """End it as a power cut would; may be repeated."""
        for one in self.members():
            try:
                os.kill(one, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait(END_S)

    def end(self) -> None:
        """Ask it to end, as systemd does, and kill what does not."""
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def members(self) -> list[int]:
        """Return the ids of its processes, those left out that have ended and wait for their parent."""
        return [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/stat")
            if (stat := _stat(path)) and stat[0] != "Z" and int(stat[3]) == self._process.pid
        ]

    def _stats(self) -> Iterator[list[str]]:
        for member in self.members():
            if stat := _stat(Path(f"/proc/{member}/stat")):
                yield stat

    def _status_bytes(self, key: str) -> int:
        total = 0
        for member in self.members():
            try:
                lines = Path(f"/proc/{member}/status").read_text().splitlines()
            except OSError:
                continue  # it has ended since
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
        return total


def _stat(path: Path) -> list[str]:
    """Return proc(5)'s fields from ``state`` on: 3 is the session, 11 and 12 utime and stime; [] if it is gone."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []
