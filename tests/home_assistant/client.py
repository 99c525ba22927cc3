"""Talks to a Home Assistant as a program does: REST for states and actions, WebSocket for what REST lacks."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import jwt
from websockets.sync.client import connect

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
    claims = {"iss": TOKEN_ID, "iat": 1767225600, "exp": 2082758400}  # 2026 to 2036
    return jwt.encode(claims, TOKEN_KEY, algorithm="HS256")


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
        uri = f"ws://{LOOPBACK}:{self.port}/api/websocket"
        with connect(uri, open_timeout=REQUEST_S, max_size=None, proxy=None) as socket:

            def receive() -> dict[str, Any]:
                message: dict[str, Any] = json.loads(socket.recv(REQUEST_S))
                return message

            receive()  # auth_required
            socket.send(json.dumps({"type": "auth", "access_token": token()}))
            if (answer := receive())["type"] != "auth_ok":
                raise Refused(0, str(answer))
            socket.send(json.dumps({"id": 1, "type": kind, **data}))
            while (answer := receive()).get("id") != 1:
                pass
        if not answer["success"]:
            raise Refused(0, str(answer["error"]))
        return answer["result"]
