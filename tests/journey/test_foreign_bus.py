"""The journey on a Bus from elsewhere: ``chip.bus: module:factory`` gives an object that has only ``exchange``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugin.config import load
from plugin.demo.mailserver import MailServer
from plugin.service import Service
from tests.brokers import AnyBroker
from tests.journey.house import ALICE, WAIT_S, Automation, Process, configuration, until
from tests.w5100 import foreign_chip

# What a user would write: an object that has exchange(frames) and nothing else, not even close.
ADAPTER = """
from foreign_chip import ForeignChip, Temper

class Adapter:
    __slots__ = ("_chip",)

    def __init__(self, seed):
        self._chip = ForeignChip(Temper.drawn(seed))

    def exchange(self, frames, /):
        return self._chip.exchange(frames)

def factory():
    return Adapter({seed})
"""
STATIC = "{address: 127.0.0.1/8}"
NETWORKS = pytest.mark.parametrize("network", [STATIC, "host"], ids=["static", "host"])


@pytest.fixture
def _own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget afterwards what a service in this process has imported from beside its configuration."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name in ("foreign_chip", "some_module"):
            del sys.modules[name]


def foreign(folder: Path, broker: AnyBroker, port: int, *, network: str, seed: int = 7, more: str = "") -> Path:
    """Write the configuration, and beside it the module that chip.bus names."""
    shutil.copy(foreign_chip.__file__, folder / "foreign_chip.py")
    (folder / "some_module.py").write_text(ADAPTER.replace("{seed}", str(seed)))
    chip = f'{{bus: "some_module:factory", network: {network}, lanes: 2}}'
    return configuration(folder, broker, port, chip=chip, more=more)


def hardwire(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command from a folder that is neither the project's nor the configuration's."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    root = str(Path(__file__).parents[2])
    start = f"import sys; sys.path[0] = {root!r}; from plugin.cli import main; main(prog_name='hardwire')"
    return subprocess.run(
        [sys.executable, "-c", start, *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        cwd=elsewhere,
        check=False,
    )


@NETWORKS
def test_the_whole_service_as_its_user_runs_it(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path, network: str
) -> None:
    with Process(foreign(tmp_path, any_broker, mail.port, network=network)) as process:
        until(lambda: automation.retained.get("bridge/state") == "online", "online")
        automation.publish("leak", {"id": "f1", "title": "Leak", "message": "x" * 20_000})
        outcome = automation.final("leak")
        assert (outcome["id"], outcome["event_type"], outcome["attempts"]) == ("f1", "success", 1)
        assert [(one["address"], one["code"]) for one in outcome["recipients"]] == [(ALICE, 250)]
        assert process.terminate() == 0
    (content,) = mail.mails
    assert b"Subject: Leak" in content
    assert content.count(b"x") >= 20_000
    assert "Traceback" not in process.log.read_text()


@pytest.mark.usefixtures("_own_modules")
@pytest.mark.parametrize("seed", range(4))
@NETWORKS
def test_the_journey_in_this_process(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path, network: str, seed: int
) -> None:
    service = Service(load(foreign(tmp_path, any_broker, mail.port, network=network, seed=seed)))
    service.start()
    supervisor = threading.Thread(target=service.supervise)
    supervisor.start()
    try:
        assert service.wait_subscribed(WAIT_S)
        names = [f"n{number}" for number in range(4)]
        for name in names:
            automation.publish(name, {"id": name, "message": name})
        outcomes = sorted((automation.next_final() for _ in names), key=lambda one: str(one["id"]))
        assert [(one["id"], one["event_type"]) for one in outcomes] == [(name, "success") for name in names]
        assert service.health()["chip"] == {"ok": True, "problem": None, "link": None}
    finally:
        service.stop()
        supervisor.join(WAIT_S)
    assert len(mail.mails) == 4


@NETWORKS
def test_check_finds_chip_and_relay(any_broker: AnyBroker, mail: MailServer, tmp_path: Path, network: str) -> None:
    config = foreign(tmp_path, any_broker, mail.port, network=network)
    done = hardwire("check", "--config", str(config), "--json", folder=tmp_path)
    findings = {one["what"]: one for one in json.loads(done.stdout)}
    assert findings["chip"] == {"what": "chip", "ok": True, "text": "a W5100 answers on some_module:factory"}
    assert findings[f"relay 127.0.0.1:{mail.port}"]["ok"] is True
    assert (done.returncode, done.stderr) == (0, "")


@NETWORKS
def test_send_sends_one_mail(any_broker: AnyBroker, mail: MailServer, tmp_path: Path, network: str) -> None:
    config = foreign(tmp_path, any_broker, mail.port, network=network)
    arguments = ("--to", "alice", "--title", "By hand", "--message", "It works", "--json")
    done = hardwire("send", "--config", str(config), *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["event_type"], outcome["recipients"][0]["code"]) == ("success", 250)
    (content,) = mail.mails
    assert b"Subject: By hand" in content


BROKEN = {
    "raises": ("def factory():\n    raise RuntimeError('no adapter found')\n", "RuntimeError: no adapter found"),
    "raises without words": ("def factory():\n    raise ValueError\n", "ValueError"),
    "exits": ("import sys\ndef factory():\n    sys.exit(3)\n", "SystemExit: 3"),
    "gives None": ("def factory():\n    return None\n", "NoneType, which has no exchange(frames)"),
    "gives a class": ("class A:\n    def exchange(self, frames): ...\ndef factory():\n    return A\n", "class A"),
    "wants arguments": ("def factory(port):\n    return port\n", "port"),
    "is no factory": ("factory = 5\n", "int"),
    "has no factory": ("", "factory"),
    "does not parse": ("def factory(:\n", "SyntaxError"),
    "does not exist": (None, "some_module"),
}


@pytest.mark.parametrize(("source", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_a_factory_that_gives_no_bus_is_named_in_one_sentence(
    any_broker: AnyBroker, mail: MailServer, tmp_path: Path, source: str | None, words: str
) -> None:
    config = str(foreign(tmp_path, any_broker, mail.port, network="host"))
    (tmp_path / "some_module.py").unlink()
    if source is not None:
        (tmp_path / "some_module.py").write_text(source)
    commands: list[tuple[str, ...]] = [("run",)]
    if words == "some_module":  # what holds for one fault holds for all
        commands += [("check",), ("send", "--to", "alice", "--message", "m")]
    for command, *more in commands:
        done = hardwire(command, "--config", config, *more, folder=tmp_path)
        told = done.stdout + done.stderr
        (sentence,) = [line for line in told.splitlines() if "chip.bus: some_module:factory" in line]
        assert words in sentence, command
        assert done.returncode == 1, command
        assert "Traceback" not in told, command
    assert mail.mails == ()


@pytest.mark.parametrize(
    ("answer", "words"),
    [("bytes(len(frames))", "stuck at 0"), ("None", "NoneType"), ("1 / 0", "ZeroDivisionError")],
    ids=["no chip", "no answer", "a fault"],
)
def test_a_bus_without_a_chip_is_told_and_the_mail_waits(
    any_broker: AnyBroker, automation: Automation, mail: MailServer, tmp_path: Path, answer: str, words: str
) -> None:
    config = foreign(tmp_path, any_broker, mail.port, network=STATIC)
    (tmp_path / "some_module.py").write_text(
        f"class Bus:\n    def exchange(self, frames):\n        return {answer}\n\nfactory = Bus\n"
    )
    with Process(config) as process:
        until(lambda: automation.retained.get("bridge/state") == "online", "online")
        automation.publish("leak", b"text")
        _, outcome = automation.next()
        assert outcome["event_type"] == "deferred"
        assert words in outcome["recipients"][0]["text"]
        until(lambda: words in str(json.loads(automation.retained["bridge/health"])["chip"]["problem"]), "health")
        assert process.terminate() == 0
    assert "Traceback" not in process.log.read_text()
    done = hardwire("check", "--config", str(config), folder=tmp_path)
    assert done.returncode == 1
    assert "FAIL chip: no W5100 answers within 1 s: SPI: " in done.stdout
    assert words in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
