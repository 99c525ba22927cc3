"""Talks to a Home Assistant as a program does: REST for states and actions, WebSocket for what REST lacks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, BinaryIO, Final, TypeVar

from plugin.demo.broker import LOOPBACK

REQUEST_S: Final = 60.0
WAIT_S: Final = 30.0
STEP_S: Final = 0.1

T = TypeVar("T")

# The owner's long-lived token. It opens only what seed.py prepared, which listens on loopback.
TOKEN_ID: Final = "0" * 32
TOKEN_KEY: Final = "test" * 30


class Refused(Exception):
    """Home Assistant answered with an error; ``status`` is HTTP's, or 0 from the WebSocket."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


def token() -> str:
    """Return the access token (a JWT, HS256) that the owner of ``seed.py`` has."""

    def encoded(raw: bytes) -> bytes:
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    parts = (
        {"alg": "HS256", "typ": "JWT"},
        {"iss": TOKEN_ID, "iat": 1767225600, "exp": 2082758400},
    )  # 2026 to 2036
    body = b".".join(encoded(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    signature = hmac.new(TOKEN_KEY.encode(), body, hashlib.sha256).digest()
    return (body + b"." + encoded(signature)).decode()


def until(look: Callable[[], T | None], what: str, timeout_s: float = WAIT_S) -> T:
    """Return what ``look`` gives once it is neither None nor false; fail after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(STEP_S)
    return found


class Client:
    """One Home Assistant on a port of this machine. Each call has a deadline."""

    def __init__(self, port: int) -> None:
        self.port = port

    # REST

    def request(self, method: str, path: str, data: object = None) -> Any:
        """Return the answer of ``/api/<path>``; raises Refused, or OSError where nobody listens."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=REQUEST_S)
        try:
            connection.request(
                method,
                f"/api/{path}",
                None if data is None else json.dumps(data),
                {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise Refused(answer.status, body.decode(errors="replace"))
        return json.loads(body) if "json" in answer.getheader("Content-Type", "") else body.decode()

    def states(self) -> dict[str, dict[str, Any]]:
        """Return every state object by entity id."""
        return {one["entity_id"]: one for one in self.request("GET", "states")}

    def state(self, entity_id: str) -> str | None:
        """Return an entity's state, or None where there is no such entity."""
        found = self.entity(entity_id)
        return None if found is None else str(found["state"])

    def entity(self, entity_id: str) -> dict[str, Any] | None:
        """Return an entity's state object with its attributes, or None."""
        try:
            found: dict[str, Any] = self.request("GET", f"states/{entity_id}")
        except Refused as error:
            if error.status == 404:
                return None
            raise
        return found

    def wait_for(self, entity_id: str, state: str | None = None, *, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """Wait until the entity is there and has ``state``; without one, any that is known."""

        def look() -> dict[str, Any] | None:
            found = self.entity(entity_id)
            if found is None:
                return None
            known = found["state"] not in ("unknown", "unavailable") if state is None else found["state"] == state
            return found if known else None

        return until(look, f"{entity_id} = {state}", timeout_s)

    def act(self, action: str, **data: Any) -> None:
        """Perform an action such as ``script.turn_on``; raises Refused."""
        self.request("POST", "services/" + action.replace(".", "/"), data)

    def ask(self, action: str, **data: Any) -> Any:
        """Perform an action that answers, and return its response."""
        return self.request("POST", f"services/{action.replace('.', '/')}?return_response", data)[
            "service_response"
        ]

    def render(self, template: str) -> str:
        """Return what Home Assistant makes of a template."""
        return str(self.request("POST", "template", {"template": template}))

    def running(self) -> bool:
        """Tell whether it has started."""
        try:
            return bool(self.request("GET", "config")["state"] == "RUNNING")
        except (OSError, http.client.HTTPException, Refused):  # nobody listens yet, or not yet the API
            return False

    # WebSocket

    def command(self, kind: str, **data: Any) -> Any:
        """Return the result of one WebSocket command; raises Refused."""
        with socket.create_connection((LOOPBACK, self.port), REQUEST_S) as connection:
            frames = _Frames(connection)
            frames.shake_hands(f"{LOOPBACK}:{self.port}")
            frames.receive()  # auth_required
            frames.send({"type": "auth", "access_token": token()})
            if (answer := frames.receive())["type"] != "auth_ok":
                raise Refused(0, str(answer))
            frames.send({"id": 1, "type": kind, **data})
            while (answer := frames.receive()).get("id") != 1:
                pass
        if not answer["success"]:
            raise Refused(0, str(answer["error"]))
        return answer["result"]


class _Frames:
    """The little of RFC 6455 that a client needs for JSON in both directions."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream: BinaryIO = connection.makefile("rb")

    def shake_hands(self, host: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self._connection.sendall(
            f"GET /api/websocket HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        while self._stream.readline() not in (b"\r\n", b""):
            pass

    def send(self, message: dict[str, Any]) -> None:
        body, mask = json.dumps(message).encode(), os.urandom(4)
        size = len(body)
        assert size < 1 << 16
        head = struct.pack("!BB", 0x81, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x81, 0xFE, size)
        masked = bytes(octet ^ mask[index % 4] for index, octet in enumerate(body))
        self._connection.sendall(head + mask + masked)

    def receive(self) -> dict[str, Any]:
        body = b""
        while True:
            first, size = self._exactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", self._exactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self._exactly(8))
            part = self._exactly(size)
            if first & 0x0F < 3:  # text, binary or a continuation; not ping or close
                body += part
                if first & 0x80:
                    message: dict[str, Any] = json.loads(body)
                    return message

    def _exactly(self, count: int) -> bytes:
        got = self._stream.read(count)
        if len(got) < count:
            raise ConnectionError("Home Assistant closed the WebSocket")
        return got
