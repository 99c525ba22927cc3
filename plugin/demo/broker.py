"""A broker on free loopback ports: mosquitto where its binary is, else iotcore, which comes from PyPI.

mosquitto speaks MQTT 5 and 3.1.1 on one port. iotcore (rumqttd) has one listener for each, cuts off a client that
speaks the other one, and loses a 3.1.1 subscriber at the first message that carries MQTT 5 properties; so all
clients of one journey should speak ``Broker.protocol``.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Literal, Protocol, Self

BrokerKind = Literal["mosquitto", "embedded"]
Version = Literal["5", "3.1.1"]

LOOPBACK: Final = "127.0.0.1"
MAX_PAYLOAD_BYTES: Final = 16 * 1024 * 1024
START_TIMEOUT_S: Final = 10.0
STOP_TIMEOUT_S: Final = 5.0
POLL_STEP_S: Final = 0.01


class BrokerError(RuntimeError):
    """A broker did not start; the text holds what it said."""


class _Server(Protocol):
    """One broker process that can be ended and started again with what it has stored."""

    ports: Mapping[Version, int]

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Broker:
    """A running broker; a context manager. ``stop`` and ``start`` interrupt it, ``close`` ends it for good.

    ``port`` takes clients that speak ``protocol``; ``port_for`` knows the port of each MQTT version. With
    ``users`` (name -> password) nobody else is let in. Raises BrokerError if it is not up within ten seconds.
    """

    host: Final = LOOPBACK
    protocol: Final[Version] = "5"

    def __init__(self, kind: BrokerKind | None = None, *, users: Mapping[str, str] | None = None) -> None:
        binary = mosquitto_binary()
        self.kind: Final[BrokerKind] = kind or ("mosquitto" if binary else "embedded")
        with ExitStack() as undo:
            directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="hardwire-broker-")))
            self._server: _Server
            if self.kind == "embedded":
                self._server = _Iotcore(directory, users)
            elif binary is None:
                raise BrokerError("there is no mosquitto on this machine")
            else:
                self._server = _Mosquitto(binary, directory, users)
            undo.callback(self._server.stop)
            self._server.start()
            self._undo = undo.pop_all()

    @property
    def port(self) -> int:
        """Return the port for clients that speak ``protocol``."""
        return self.port_for(self.protocol)

    def port_for(self, protocol: Version) -> int:
        """Return the port for clients that speak ``protocol``."""
        return self._server.ports[protocol]

    def start(self) -> None:
        """Start the broker again on its old ports, with what it kept (iotcore keeps nothing)."""
        self._server.start()

    def stop(self) -> None:
        """End the broker process; its ports refuse connections from now on."""
        self._server.stop()

    def close(self) -> None:
        """End the broker and remove what it stored."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Mosquitto:
    def __init__(self, binary: str, directory: Path, users: Mapping[str, str] | None) -> None:
        with _free_ports(1) as (port,):
            self.ports: Mapping[Version, int] = {"5": port, "3.1.1": port}
        passwords = directory / "passwords"
        if users:
            passwords.write_text(mosquitto_passwords(users))
            passwords.chmod(0o600)
        configuration = directory / "mosquitto.conf"
        configuration.write_text(
            mosquitto_configuration(
                port=port,
                address=LOOPBACK,
                data=str(directory),
                passwords=str(passwords) if users else None,
                user=getpass.getuser() if os.geteuid() == 0 else None,
            )
        )
        self._command: Final = (binary, "-c", str(configuration))
        self._log: Final = directory / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the binary found and a file written here
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        process = self._process

        def ended() -> bool:
            return process.poll() is not None

        if not wait_for_port(LOOPBACK, self.ports["5"], START_TIMEOUT_S, ended):
            self.stop()
            said = self._log.read_text(errors="replace")[-1000:].strip()
            raise BrokerError(f"mosquitto did not start: {said or 'it said nothing'}")

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)


class _Iotcore:
    def __init__(self, directory: Path, users: Mapping[str, str] | None) -> None:
        try:
            import iotcore  # noqa: PLC0415 - it has no wheel for musl; a machine with mosquitto does without
        except ImportError as error:
            raise BrokerError("there is no mosquitto on this machine, and iotcore is not installed") from error
        with _free_ports(2) as (first, second):
            self.ports: Mapping[Version, int] = {"3.1.1": first, "5": second}
        configuration = directory / "rumqttd.toml"
        configuration.write_text(rumqttd_configuration(self.ports, users))
        configuration.chmod(0o600)
        self._broker: Final = iotcore.Broker(config_path=str(configuration))

    def start(self) -> None:
        try:
            self._broker.start(timeout=START_TIMEOUT_S)
        except (OSError, RuntimeError) as error:
            raise BrokerError(f"the embedded broker did not start: {error}") from error

    def stop(self) -> None:
        self._broker.stop(timeout=STOP_TIMEOUT_S)


def wait_for_port(host: str, port: int, timeout_s: float, ended: Callable[[], bool] = lambda: False) -> bool:
    """Return True once ``host:port`` takes connections; False after ``timeout_s`` or when ``ended`` says so."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not ended():
        try:
            with socket.create_connection((host, port), timeout=1.0):
                return not ended()
        except OSError:
            time.sleep(POLL_STEP_S)
    return False


def mosquitto_binary() -> str | None:
    """Return the path of mosquitto, or None; Debian puts it where users' PATH does not look."""
    search = os.pathsep.join(
        (os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/opt/homebrew/sbin")
    )
    return shutil.which("mosquitto", path=search)


def mosquitto_configuration(*, port: int, address: str, data: str, passwords: str | None, user: str | None) -> str:
    """Return a mosquitto.conf: one listener, what it stores below ``data``, anonymous unless ``passwords``.

    ``user`` is for a broker that root starts: without it mosquitto becomes a user who may not read these files.
    """
    lines = [
        f"listener {port} {address}",
        f"allow_anonymous {'false' if passwords else 'true'}",
        "persistence true",
        f"persistence_location {data}/",
        "set_tcp_nodelay true",
        "log_dest stdout",
    ]
    lines += [f"password_file {passwords}"] if passwords else []
    lines += [f"user {user}"] if user else []
    return "\n".join(lines) + "\n"


def mosquitto_passwords(users: Mapping[str, str]) -> str:
    """Return a mosquitto password file: PBKDF2 with SHA-512, as mosquitto_passwd writes it (type 7)."""
    rounds, lines = 101, []
    for name, password in users.items():
        salt = os.urandom(12)
        digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds, dklen=64)
        lines.append(f"{name}:$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n")
    return "".join(lines)


def rumqttd_configuration(ports: Mapping[Version, int], users: Mapping[str, str] | None) -> str:
    """Return rumqttd's TOML: a loopback listener for each MQTT version, the payload limit raised from 20 KiB."""
    lines = [
        "id = 0",
        "[router]",
        "id = 0",
        "max_connections = 1000",
        "max_outgoing_packet_count = 200",
        "max_segment_size = 104857600",
        "max_segment_count = 10",
    ]
    for version, port in ports.items():
        table = "v5.1" if version == "5" else "v4.1"
        lines += [
            f"[{table}]",
            f'name = "{table[:2]}"',
            f'listen = "{LOOPBACK}:{port}"',
            "next_connection_delay_ms = 1",
            f"[{table}.connections]",
            "connection_timeout_ms = 60000",
            f"max_payload_size = {MAX_PAYLOAD_BYTES}",
            "max_inflight_count = 100",
        ]
        if users:
            lines.append(f"[{table}.connections.auth]")
            lines += [f'"{name}" = "{password}"' for name, password in users.items()]
    return "\n".join(lines) + "\n"


@contextmanager
def _free_ports(count: int) -> Iterator[Sequence[int]]:
    """Reserve ``count`` different loopback ports that nobody listens on, until the block ends."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(count)]
        yield [int(one.getsockname()[1]) for one in sockets]
