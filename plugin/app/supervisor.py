"""The Supervisor's services API: which broker there is. One request, bounded in time and size.

``/services/mqtt`` of https://developers.home-assistant.io/docs/api/supervisor/endpoints: an app that declares the
service ``mqtt`` gets host, port, ssl, username, password and protocol.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from typing import Any, Final

HOST: Final = "supervisor"
PORT: Final = 80
TIMEOUT_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 65_536
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")  # what a header can hold; http.client shows the value of others
_REMEDY: Final = "start the app Mosquitto broker, or enter another one under broker"


class SupervisorError(Exception):
    """There is no broker to be had from the Supervisor; the text says why, and what to do."""


def mqtt_service(
    token: str, *, host: str = HOST, port: int = PORT, timeout_s: float = TIMEOUT_S
) -> dict[str, Any]:
    """Return the service's ``data``; ``token`` is SUPERVISOR_TOKEN. Raises SupervisorError."""
    if not _TOKEN.fullmatch(token):
        raise SupervisorError(f"SUPERVISOR_TOKEN is not set to a token, so this is no app: {_REMEDY}")
    deadline = time.monotonic() + timeout_s
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", "/services/mqtt", headers={"Authorization": f"Bearer {token}"})
        with connection.getresponse() as answer:
            status, content = answer.status, _content(answer, deadline)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SupervisorError(
            f"the Supervisor does not answer ({str(error) or type(error).__name__}): {_REMEDY}"
        ) from error
    finally:
        connection.close()
    data = _data(content)
    if status != http.client.OK or data is None:
        raise SupervisorError(f"the Supervisor knows of no broker (HTTP {status}): {_REMEDY}")
    return data


def _content(answer: http.client.HTTPResponse, deadline: float) -> bytes:
    content = b""
    while chunk := answer.read1(MAX_ANSWER_BYTES):
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise ValueError(f"more than {MAX_ANSWER_BYTES} octets")
        if time.monotonic() > deadline:
            raise TimeoutError("timed out")
    return content


def _data(content: bytes) -> dict[str, Any] | None:
    """Return what stands under ``data`` where it names a host."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return None
    data = answer.get("data") if isinstance(answer, dict) else None
    return data if isinstance(data, dict) and data.get("host") else None
