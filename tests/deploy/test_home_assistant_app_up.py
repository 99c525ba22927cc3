"""The app's image built and run beside a Supervisor of our own: options and its answer are all that it gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.containers import BUILD_S, STOP_S, WAIT_S, Project, base_image, run
from tests.deploy.listener import listening

pytestmark = pytest.mark.timeout(400)  # the image is built in here

TOKEN = "t0ken-of-the-supervisor"
BROKER = {
    "host": "mosquitto",
    "port": 1883,
    "ssl": False,
    "protocol": "3.1.1",
    "username": "addons",
    "password": "br0ker",
}
ANSWER = json.dumps({"result": "ok", "data": BROKER}).encode()
# Answers as the Supervisor does to an app that has its token and wants the service mqtt.
SUPERVISOR = f"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = self.path == "/services/mqtt" and self.headers["Authorization"] == "Bearer {TOKEN}"
        self.send_response(200 if good else 401)
        self.end_headers()
        self.wfile.write({ANSWER!r} if good else b"401: Unauthorized")
http.server.HTTPServer(("", 80), Handler).serve_forever()
"""
OPTIONS = {
    "relay": {"host": "mailpit", "port": 1025, "security": "none"},
    "sender": "App <app@example.net>",
    "recipients": [{"name": "carol", "address": "carol@example.net"}],
    "allow_recipients": [],
    "attachment_folders": [],
    "broker": {},
    "chip": {"bus": "emulator"},
}


@pytest.fixture(scope="module")
def image(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("app") / "app"
    run("make", "-s", "app", f"APP={folder}", timeout_s=WAIT_S)
    name = f"{project.name}-app"
    run("docker", "build", "-t", name, "--build-arg", f"BASE_IMAGE={base_image()}", str(folder), timeout_s=BUILD_S)
    yield name
    run("docker", "rmi", "--force", name, timeout_s=STOP_S)


@contextmanager
def container(*arguments: str, project: Project, files: dict[str, Path] | None = None) -> Iterator[str]:
    """Run a container on the project's network, with files copied in: so an engine elsewhere will do as well."""
    made = run("docker", "create", "--network", f"{project.name}_default", *arguments, timeout_s=WAIT_S).strip()
    try:
        for target, file in (files or {}).items():
            run("docker", "cp", str(file), f"{made}:{target}", timeout_s=WAIT_S)
        run("docker", "start", made, timeout_s=WAIT_S)
        yield made
    except BaseException as error:
        error.add_note(run("docker", "logs", "--tail", "60", made, timeout_s=WAIT_S))
        raise
    finally:
        run("docker", "rm", "--force", "--volumes", made, timeout_s=STOP_S)


def test_options_and_the_supervisors_broker_are_enough_for_a_mail(
    project: Project, image: str, tmp_path: Path
) -> None:
    (tmp_path / "options.json").write_text(json.dumps(OPTIONS))
    project.compose("stop", "hardwire")  # a bridge has its client id for itself
    try:
        server = ["--network-alias", "supervisor", base_image(), "python3", "-c", SUPERVISOR]
        app = ["--env", f"SUPERVISOR_TOKEN={TOKEN}", image]
        with (
            container(*server, project=project),
            container(*app, project=project, files={"/data/options.json": tmp_path / "options.json"}) as running,
            listening(project) as listener,
        ):
            listener.publish("alerts/email/door", {"title": "From the app", "message": "open"})
            outcome = listener.outcome("alerts/success/door")
            log = run("docker", "logs", running, timeout_s=WAIT_S)
    finally:
        project.compose("start", "hardwire")
    assert [one["address"] for one in outcome["recipients"]] == ["carol@example.net"]
    newest = project.mails(1)[0]
    assert (newest["Subject"], newest["From"]["Address"]) == ("From the app", "app@example.net")
    assert "written: /data/hardwire.yaml; broker mosquitto:1883, the Supervisor's" in log
    assert "br0ker" not in log
    assert TOKEN not in log


def test_the_image_has_what_a_board_needs(image: str) -> None:
    run("docker", "run", "--rm", image, "/opt/hardwire/bin/python", "-c", "import spidev, gpiod", timeout_s=WAIT_S)


def test_a_file_of_the_users_own_goes_before_the_options(project: Project, image: str, tmp_path: Path) -> None:
    (tmp_path / "hardwire.yaml").write_text("relays: 5\n")
    with container(image, project=project, files={"/config": tmp_path}) as running:
        code = run("docker", "wait", running, timeout_s=WAIT_S).strip()
        log = run("docker", "logs", running, timeout_s=WAIT_S)
    assert code == "78"
    assert "the options are not looked at" in log
