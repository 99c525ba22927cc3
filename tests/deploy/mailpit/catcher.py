"""Stands for Mailpit where its image cannot be pulled: SMTP on 1025, and of its API on 8025 what the tests ask.

``GET /api/v1/messages`` and ``GET /api/v1/message/ID/raw``, with Mailpit's names for what they return.
"""

from __future__ import annotations

import json
import signal
from email import message_from_bytes, policy
from email.utils import getaddresses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

CAUGHT: list[bytes] = []


class Catcher:
    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        CAUGHT.append(envelope.content)
        return f"250 2.0.0 Ok: queued as {len(CAUGHT)}"


def addresses(field: Any) -> list[dict[str, str]]:
    return [{"Name": name, "Address": address} for name, address in getaddresses([str(field or "")])]


def summary(number: int) -> dict[str, Any]:
    mail = message_from_bytes(CAUGHT[number], policy=policy.default)
    return {
        "ID": str(number),
        "From": addresses(mail["From"])[0],
        "To": addresses(mail["To"]),
        "Subject": str(mail["Subject"]),
    }


class Api(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        match self.path.strip("/").split("/"):
            case ["api", "v1", "messages"]:
                newest_first = [summary(number) for number in reversed(range(len(CAUGHT)))]
                self._answer(json.dumps({"total": len(CAUGHT), "messages": newest_first}).encode())
            case ["api", "v1", "message", number, "raw"]:
                self._answer(CAUGHT[int(number)])
            case _:
                self.send_error(404)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: exit(0))
    # As docker-compose.yml sets Mailpit up: any login will do, also without TLS.
    Controller(
        Catcher(),
        hostname="0.0.0.0",
        port=1025,
        auth_require_tls=False,
        authenticator=lambda *_: AuthResult(success=True),
    ).start()
    ThreadingHTTPServer(("0.0.0.0", 8025), Api).serve_forever()


if __name__ == "__main__":
    main()
