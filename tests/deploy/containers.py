"""docker-compose.yml brought up for real: the engine, Compose, and a project of our own that ends with the tests.

HARDWIRE_REQUIRE=compose makes a hindrance a failure. Nothing is ever pulled: images.sh makes the images.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from plugin.demo.broker import LOOPBACK
from tests.brokers import COMPOSE

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "docker-compose.yml"
BASE_IMAGE: Final = "python:3.11-slim-bookworm"
ASK_S: Final = 10.0
BUILD_S: Final = 240.0
STOP_S: Final = 90.0
WAIT_S: Final = 60.0
LOG_LINES: Final = "60"
PORTS: Final = ("HARDWIRE_MQTT_PORT", "HARDWIRE_SMTP_PORT", "HARDWIRE_MAIL_WEB_PORT")

T = TypeVar("T")


def run(*command: str, timeout_s: float, environment: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed; what it says against it is the failure's text."""
    done = subprocess.run(
        command,
        env={**os.environ, "DOCKER_BUILDKIT": "0", **(environment or {})},  # BuildKit would ask a registry
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def answers(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    done = subprocess.run(command, capture_output=True, timeout=ASK_S, check=False)
    return done.returncode == 0


def base_image() -> str:
    """Return what our images are built from here."""
    return os.environ.get("HARDWIRE_BASE_IMAGE", BASE_IMAGE)


@functools.cache
def compose() -> tuple[str, ...] | None:
    """Return the command of Compose, the plugin before the program of old; None without one."""
    return next((one for one in (("docker", "compose"), ("docker-compose",)) if answers(*one, "version")), None)


@functools.cache
def hindrance() -> str | None:
    """Return why nothing can be brought up on this machine, or None."""
    if not answers("docker", "version"):
        return "no Docker engine answers"
    if compose() is None:
        return "there is neither `docker compose` nor docker-compose"
    services = yaml.safe_load(FILE.read_text())["services"]
    wanted = [
        base_image(),
        *(one["image"] for one in services.values() if "build" not in one and "profiles" not in one),
    ]
    missing = [image for image in wanted if not answers("docker", "image", "inspect", image)]
    return f"the engine has no {', '.join(missing)}: tests/deploy/images.sh makes them" if missing else None


def required(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether HARDWIRE_REQUIRE, a comma list, names compose."""
    return COMPOSE in (one.strip() for one in environment.get("HARDWIRE_REQUIRE", "").split(","))


def until(what: str, ask: Callable[[], T | None], *, timeout_s: float = WAIT_S) -> T:
    """Ask until there is an answer; connections that are refused meanwhile are none."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            answer = ask()
        except (OSError, http.client.HTTPException):
            answer = None
        if answer is not None:
            return answer
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What is up, under a name of its own, on free ports of the loopback address."""

    name: str
    environment: Mapping[str, str]

    def compose(self, *arguments: str, timeout_s: float = STOP_S) -> str:
        """Run Compose on this project."""
        command = compose()
        assert command is not None
        arguments = ("--project-name", self.name, "--file", str(FILE), *arguments)
        return run(*command, *arguments, timeout_s=timeout_s, environment=self.environment)

    def port(self, variable: str) -> int:
        """Return the port that stands for a variable of docker-compose.yml."""
        return int(self.environment[variable])

    def get(self, path: str) -> bytes:
        """Return what the mail catcher's API answers."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port("HARDWIRE_MAIL_WEB_PORT"), timeout=ASK_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.status == 200, path
            return answer.read()
        finally:
            connection.close()

    def mails(self, count: int) -> list[dict[str, Any]]:
        """Return the newest ``count`` mails, the last one first, as soon as there are so many."""

        def ask() -> list[dict[str, Any]] | None:
            caught: list[dict[str, Any]] = json.loads(self.get("/api/v1/messages"))["messages"]
            return caught if len(caught) >= count else None

        return until(f"{count} mails", ask)


def _free_ports(count: int) -> Sequence[int]:
    held = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


@contextmanager
def brought_up() -> Iterator[Project]:
    """Build and start what docker-compose.yml says; take it down again, with its volumes."""
    ports = dict(zip(PORTS, (str(port) for port in _free_ports(len(PORTS))), strict=True))
    project = Project(
        name=f"hardwire-test-{secrets.token_hex(4)}",
        environment={**ports, "HARDWIRE_BASE_IMAGE": base_image()},
    )
    try:
        project.compose("up", "--detach", "--build", timeout_s=BUILD_S)
        yield project
    except BaseException as error:
        error.add_note(project.compose("logs", "--no-color", "--tail", LOG_LINES))
        raise
    finally:
        project.compose("down", "--volumes", "--timeout", "10")
