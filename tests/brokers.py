"""Real brokers for the tests: which kinds this machine has, what each can do, and one running broker of each kind.

Kinds, best first: ``docker`` (eclipse-mosquitto:2 by testcontainers, where an engine answers and has the image;
nothing is ever pulled), ``mosquitto`` (a local binary), ``embedded`` (iotcore, which comes with the test extra).
HARDWIRE_REQUIRE=docker,mosquitto makes a missing one a failure.
"""

from __future__ import annotations

import functools
import http.client
import importlib.util
import os
import shlex
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol
from urllib.parse import urlsplit

from plugin.demo.broker import (
    LOOPBACK,
    Broker,
    BrokerError,
    Version,
    mosquitto_binary,
    mosquitto_configuration,
    mosquitto_passwords,
)

Kind = Literal["docker", "mosquitto", "embedded"]
ORDER: Final[tuple[Kind, ...]] = ("docker", "mosquitto", "embedded")
MAIL_SERVERS: Final = "mail-servers"  # HARDWIRE_REQUIRE may name them as well; tests/servers/rig.py heeds it
DNSMASQ: Final = "dnsmasq"  # likewise; tests/w5100/test_dhcp_dnsmasq.py heeds it
SPIDEV: Final = "spidev"  # likewise; tests/spidev/rig.py heeds it
COMPOSE: Final = "compose"  # likewise; tests/deploy/containers.py heeds it
SMALL_DISK: Final = "small-disk"  # likewise; tests/reliability heeds it
SOCKET_FILTER: Final = "socket-filter"  # likewise; tests/w5100/test_emulator_listen.py heeds it
IMAGE: Final = "eclipse-mosquitto:2"
ENGINE_TIMEOUT_S: Final = 2.0
START_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a kind of broker can do; the tests assert both what it can and what it cannot."""

    keeps_sessions: bool  # over a restart of the broker: subscriptions, waiting and retained messages
    marks_redelivery: bool  # sets DUP where a message goes out for the second time
    heeds_retain_handling: bool  # MQTT 5: sends no retained copies to who asks for none
    refuses_in_words: bool  # answers a wrong password with a CONNACK instead of closing the connection


MOSQUITTO: Final = Capabilities(
    keeps_sessions=True, marks_redelivery=True, heeds_retain_handling=True, refuses_in_words=True
)
CAPABILITIES: Final[Mapping[Kind, Capabilities]] = {
    "docker": MOSQUITTO,
    "mosquitto": MOSQUITTO,
    "embedded": Capabilities(
        keeps_sessions=False, marks_redelivery=False, heeds_retain_handling=False, refuses_in_words=False
    ),
}


class AnyBroker(Protocol):
    """A running broker; ``plugin.demo.broker.Broker`` is one."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def protocol(self) -> Version: ...
    def port_for(self, protocol: Version) -> int: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class DockerBroker:
    """eclipse-mosquitto:2 in a container on a loopback port; what it stores lives as long as the container."""

    protocol: Final[Version] = "5"

    def __init__(self, *, users: Mapping[str, str] | None = None) -> None:
        # The reaper is an image of its own, which would have to be pulled; `close` removes the container instead.
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
        from testcontainers.core.container import DockerContainer

        with socket.create_server((LOOPBACK, 0)) as reserved:
            self.port: Final = int(reserved.getsockname()[1])
        configuration = mosquitto_configuration(
            port=1883,
            address="0.0.0.0",
            data="/tmp/data",
            passwords="/tmp/passwords" if users else None,
            user="root",
        )
        # Written from within, so that it also works with an engine that does not share this file system.
        script = (
            "umask 077; mkdir -p /tmp/data; "
            f"printf %s {shlex.quote(mosquitto_passwords(users or {}))} >/tmp/passwords; "
            f"printf %s {shlex.quote(configuration)} >/tmp/mosquitto.conf; "
            "exec mosquitto -c /tmp/mosquitto.conf"
        )
        container = DockerContainer(IMAGE).with_kwargs(entrypoint=["/bin/sh", "-c", script])
        ports: dict[str, Any] = container.ports  # its types know no address beside the port
        ports["1883/tcp"] = (LOOPBACK, self.port)
        with ExitStack() as undo:
            undo.callback(container.stop)
            container.start()
            host = container.get_container_host_ip()
            self.host: Final = LOOPBACK if host == "localhost" else host
            self._container: Any = container.get_wrapped_container()
            self._await()
            self._undo = undo.pop_all()

    def port_for(self, protocol: Version) -> int:
        return self.port

    def start(self) -> None:
        self._container.start()
        self._await()

    def stop(self) -> None:
        self._container.stop(timeout=5)

    def close(self) -> None:
        self._undo.close()

    def _await(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(self.host, self.port):
            if time.monotonic() > deadline:
                raise BrokerError(f"no broker in the container: {self._container.logs().decode(errors='replace')}")
            time.sleep(0.02)


def answers(host: str, port: int) -> bool:
    """Tell whether a broker answers CONNECT; Docker's proxy takes connections long before one is there."""
    connect = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05probe"
    with suppress(OSError), socket.create_connection((host, port), timeout=1.0) as probe:
        probe.sendall(connect)
        return probe.recv(4)[:1] == b"\x20"
    return False


class _EngineConnection(http.client.HTTPConnection):
    def __init__(self, url: str) -> None:
        super().__init__("docker", timeout=ENGINE_TIMEOUT_S)
        self._url = urlsplit(url)

    def connect(self) -> None:
        if self._url.scheme == "unix":
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(ENGINE_TIMEOUT_S)
            self.sock.connect(self._url.path)
        elif self._url.scheme == "tcp":
            address = (self._url.hostname or LOOPBACK, self._url.port or 2375)
            self.sock = socket.create_connection(address, timeout=ENGINE_TIMEOUT_S)
        else:
            raise OSError(f"{self._url.scheme}:// cannot be asked")


def docker_hindrance(url: str) -> str | None:
    """Return why the engine at ``url`` cannot be used, or None; found out within seconds."""
    connection = _EngineConnection(url)
    try:
        connection.request("GET", f"/images/{IMAGE}/json")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"no Docker engine answers at {url} ({error})"
    finally:
        connection.close()
    return None if status == 200 else f"the Docker engine at {url} has no image {IMAGE}"


@functools.cache
def hindrance(kind: Kind) -> str | None:
    """Return why there is no broker of this kind on this machine, or None."""
    if kind == "docker":
        return docker_hindrance(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    if kind == "mosquitto":
        return None if mosquitto_binary() else "there is no mosquitto binary"
    return None if importlib.util.find_spec("iotcore") else "iotcore is not installed"


def required(environment: Mapping[str, str] = os.environ) -> tuple[Kind, ...]:
    """Return the kinds that HARDWIRE_REQUIRE names; raises ValueError for one that does not exist."""
    names = [one.strip() for one in environment.get("HARDWIRE_REQUIRE", "").split(",") if one.strip()]
    known = (*ORDER, MAIL_SERVERS, DNSMASQ, SPIDEV, COMPOSE, SMALL_DISK, SOCKET_FILTER)
    if unknown := [one for one in names if one not in known]:
        raise ValueError(f"HARDWIRE_REQUIRE: {unknown} are not known; there are {', '.join(known)}")
    return tuple(kind for kind in ORDER if kind in names)


def kinds(hindrance_of: Callable[[Kind], str | None] = hindrance) -> tuple[Kind, ...]:
    """Return the kinds to test with, best first: those that are here, and those that have to be."""
    found = tuple(kind for kind in ORDER if kind in required() or hindrance_of(kind) is None)
    return found or ("embedded",)


def launch(kind: Kind, *, users: Mapping[str, str] | None = None) -> AnyBroker:
    """Start a broker; raises BrokerError that says why there is none."""
    if reason := hindrance(kind):
        raise BrokerError(f"{kind}: {reason}")
    if kind == "docker":
        return DockerBroker(users=users)
    return Broker(kind, users=users)


@dataclass
class Brokers:
    """One running broker of each kind, started when it is first asked for."""

    running: dict[Kind, AnyBroker] = field(default_factory=dict)

    def get(self, kind: Kind) -> AnyBroker:
        """Return the broker of this kind; one that a test has stopped is started again."""
        broker = self.running.get(kind)
        if broker is None:
            broker = self.running[kind] = launch(kind)
        elif not answers(broker.host, broker.port_for("3.1.1")):
            broker.stop()
            broker.start()
        return broker

    def best(self) -> AnyBroker:
        """Return the best broker; raises BrokerError if a required one is missing, even if another would do."""
        for kind in required():
            if reason := hindrance(kind):
                raise BrokerError(f"HARDWIRE_REQUIRE: {kind}: {reason}")
        return self.get(kinds()[0])

    def close(self) -> None:
        while self.running:
            self.running.popitem()[1].close()

    def summary(self) -> str:
        """Return one line on what was used, and why the rest was not."""
        used = ", ".join(kind for kind in ORDER if kind in self.running)
        absent = "; ".join(f"no {kind}: {hindrance(kind)}" for kind in ORDER if hindrance(kind))
        return f"brokers used: {used}" + (f" ({absent})" if absent else "")
