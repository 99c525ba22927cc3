"""The one request to the Supervisor, against a server of our own; and the command around it."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from plugin import app
from plugin.app import SupervisorError, mqtt_service
from plugin.cli import main
from tests.app.test_options import OPTIONS, SERVICE

TOKEN = "t0ken-of-the-supervisor"
ANSWER = json.dumps({"result": "ok", "data": SERVICE}).encode()


@contextmanager
def supervisor(status: int = 200, body: bytes = ANSWER, *, length: int | None = None) -> Iterator[int]:
    """Serve one answer on the port that is given; without the token or elsewhere it is a 401 or 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            granted = self.headers["Authorization"] == f"Bearer {TOKEN}"
            self.send_response(status if granted and self.path == "/services/mqtt" else 401)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def test_the_broker_is_what_the_supervisor_says() -> None:
    with supervisor() as port:
        assert mqtt_service(TOKEN, host="127.0.0.1", port=port) == SERVICE


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (400, b'{"result": "error", "message": "Service not enabled"}', "knows of no broker (HTTP 400)"),
        (200, b'{"result": "ok", "data": {}}', "knows of no broker"),
        (200, b'{"result": "ok"}', "knows of no broker"),
        (200, b"[]", "knows of no broker"),
        (200, b"no JSON", "knows of no broker"),
        (200, b"[" * 60_000, "knows of no broker"),
        (200, b"x" * 70_000, "more than 65536 octets"),
    ],
)
def test_what_is_no_answer_is_told_with_the_remedy(status: int, body: bytes, says: str) -> None:
    with supervisor(status, body) as port, pytest.raises(SupervisorError) as caught:
        mqtt_service(TOKEN, host="127.0.0.1", port=port)
    assert says in str(caught.value)
    assert "start the app Mosquitto broker" in str(caught.value)


@pytest.mark.parametrize("token", ["", "wrong", f"{TOKEN}\nX: y"])
def test_a_token_that_is_not_taken(token: str) -> None:
    with supervisor() as port, pytest.raises(SupervisorError) as caught:
        mqtt_service(token, host="127.0.0.1", port=port)
    assert TOKEN not in str(caught.value)


def test_nobody_there_and_nobody_who_answers() -> None:
    with supervisor() as port:
        pass
    with pytest.raises(SupervisorError, match="does not answer"):
        mqtt_service(TOKEN, host="127.0.0.1", port=port)
    with supervisor(body=b"{", length=100) as port, pytest.raises(SupervisorError):
        mqtt_service(TOKEN, host="127.0.0.1", port=port, timeout_s=0.2)


def command(folder: Path, *options: str) -> Any:
    arguments = ["app-config", "--options", str(folder / "options.json"), "--output", str(folder), *options]
    result = CliRunner().invoke(main, arguments, env={"SUPERVISOR_TOKEN": TOKEN})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    for secret in ("pa55word", "br0ker", TOKEN):
        assert secret not in result.output
    return result


def test_the_command_asks_writes_and_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "options.json").write_text(json.dumps(OPTIONS))
    with supervisor() as port:
        monkeypatch.setattr(app, "mqtt_service", partial(mqtt_service, host="127.0.0.1", port=port))
        first, second = command(tmp_path), command(tmp_path, "--json")
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "broker core-mosquitto:1883, the Supervisor's" in first.stdout
    files = [tmp_path / "secrets.yaml", tmp_path / "hardwire.yaml"]
    assert json.loads(second.stdout) == {
        "files": [str(file) for file in files], "broker": "core-mosquitto:1883", "from_supervisor": True,
    }  # fmt: skip
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"broker": {"host": "b.test"}}, 0, ""),
        ({"broker": {"host": "b.test"}, "recipients": []}, 78, "hardwire: recipients: there are none"),
        ({"broker": {"host": "b.test"}, "sender": "nobody"}, 78, "sender"),
        ({}, 1, "hardwire: the Supervisor does not answer"),
    ],
)
def test_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], code: int, says: str
) -> None:
    with supervisor() as port:  # it has ended when it is asked
        monkeypatch.setattr(app, "mqtt_service", partial(mqtt_service, host="127.0.0.1", port=port))
    (tmp_path / "options.json").write_text(json.dumps(OPTIONS | change))
    result = command(tmp_path)
    assert result.exit_code == code, result.output
    assert says in result.stderr
