"""``hardwire demo``: broker, mail server, emulated chip and bridge in one process; four alerts, shown live."""

from __future__ import annotations

import base64
import json
import logging
import queue
import re
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from importlib import resources
from pathlib import Path
from typing import Any, Final, get_args

from rich.markup import escape

from plugin.alert import EventType, Message
from plugin.config import load
from plugin.demo.broker import Broker, BrokerError, BrokerKind
from plugin.demo.mailserver import DOMAIN, MailServer
from plugin.demo.stage import Stage, Terminal
from plugin.mqtt import Mqtt, Settings
from plugin.service import Crew, Service, ThreadDied, Watch

ALICE: Final = f"alice@{DOMAIN}"
OUTCOME_WAIT_S: Final = 15.0
READY_WAIT_S: Final = 10.0
LOOK_S: Final = 0.3  # how soon a dead thread, or an end that was asked for, is noticed
OUTCOMES_WAITING: Final = 10_000
ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CONFIGURATION: Final = "hardwire.yaml"
SIGNATURE: Final = "# Written by `hardwire demo` for the broker and the mail server that it had started.\n"
BY_HAND: Final = "by-hand"


class DemoError(Exception):
    """The demo cannot be shown; the text says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One alert of the show; ``ends`` is how it must end."""

    headline: str
    name: str
    payload: bytes
    ends: str
    forget_ehlo: bool = False


def _steps(picture: bytes) -> tuple[_Step, ...]:
    rich = {
        "title": "Somebody is at the front door",
        "message": "Motion was seen at the front door while nobody is at home.\nA parcel was left.",
        "severity": "warning",
        "data": {"camera": "front door", "confidence": "94 %", "temperature": "4.5 °C"},
        "attachments": [
            {"filename": "front-door.png", "content_type": "image/png", "data": base64.b64encode(picture).decode()}
        ],
    }
    leak = {
        "title": "Water in the cellar",
        "message": "The sensor under the washing machine is wet.",
        "severity": "critical",
        "data": {"sensor": "cellar 1", "moisture": "93 %"},
    }
    stranger = {
        "title": "Nobody will read this",
        "message": "The mail server knows no such user.",
        "to": "stranger",
    }
    return (
        _Step(
            headline="A plain text",
            name="garage_door",
            payload=b"The garage door has been open for 20 minutes.",
            ends="success",
        ),
        _Step(headline="A rich one, with a picture", name="front_door", payload=_json(rich), ends="success"),
        _Step(
            headline="The mail server knows no EHLO: HELO takes its place",
            name="water_leak",
            payload=_json(leak),
            ends="success",
            forget_ehlo=True,
        ),
        _Step(headline="An unknown recipient", name="stranger", payload=_json(stranger), ends="failure"),
    )


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _configuration(broker: Broker, mail: MailServer, login: str, password: str, outbox: Path) -> str:
    """Return a hardwire.yaml for this broker and mail server."""
    return f"""\
{SIGNATURE}mqtt: {{host: {broker.host}, port: {broker.port}, protocol: "{broker.protocol}"}}
chip: {{bus: emulator, lanes: 1}}
relays:
  - host: {mail.host}
    port: {mail.port}
    security: none
    auth: preferred
    username: {login}
    password: {password}
sender: "Hardwire <hardwire@{DOMAIN}>"
recipients: {{alice: {ALICE}, stranger: stranger@{DOMAIN}}}
routes:
  - {{topic: "#", to: [alice]}}
outbox: {{path: {json.dumps(str(outbox))}}}
"""


def run_demo(output: Path, *, stay: bool, kind: BrokerKind | None = None) -> bool:
    """Run the show with the best broker there is, or ``kind``; return whether each alert ended as it must.

    Mails and the configuration are left in ``output``; what a former show left there is removed. Raises DemoError.
    """
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd's own; the dialogue is shown from our side
    steps = _steps(resources.files("plugin.demo").joinpath("camera.png").read_bytes())
    password = secrets.token_urlsafe(12)
    _prepare(output)
    try:
        with (
            _ended_tidily(),
            tempfile.TemporaryDirectory(prefix="hardwire-demo-") as folder,
            Broker(kind) as broker,
            MailServer(users=(ALICE,), login="house", password=password) as mail,
        ):
            configuration = output / CONFIGURATION
            configuration.touch(mode=0o600)
            configuration.write_text(
                _configuration(broker, mail, "house", password, Path(folder) / "outbox.db"), encoding="utf-8"
            )
            return _Show(Stage(Terminal()), broker, mail, output).run(steps, stay=stay)
    except BrokerError as error:
        raise DemoError(
            f"{error} (install mosquitto, or what the extra brings: pip install 'hardwire[demo]')"
        ) from error
    except ThreadDied as error:
        raise DemoError(str(error)) from error


def _prepare(output: Path) -> None:
    """Make the folder, or remove from it what a former show saved; what is not from a show is not touched."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        configuration = output / CONFIGURATION
        if configuration.exists():
            if not configuration.read_bytes().startswith(SIGNATURE.encode()):
                raise DemoError(f"{configuration} is not from a demo and stays: name another --output")
            names = "|".join(re.escape(name) for name in (*(one.name for one in _steps(b"")), BY_HAND))
            ours = re.compile(rf"[0-9]+-(?:{names})\.(?:eml|html)")
            for path in output.iterdir():
                if ours.fullmatch(path.name):
                    path.unlink()
            configuration.unlink()
        # Found out now, and not after the first mail; access rights do not tell all (a read-only file system).
        tempfile.TemporaryFile(dir=output).close()
    except OSError as error:
        raise DemoError(f"{output} cannot be written ({error.strerror}): name another --output") from error


@contextmanager
def _ended_tidily() -> Iterator[None]:
    """Make SIGTERM and a closed terminal what Ctrl-C is, so that the broker's process never outlives the demo."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    former = {number: signal.getsignal(number) for number in ENDS}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if former[number] is not signal.SIG_IGN:  # `nohup` means it
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)


class _Show:
    def __init__(self, stage: Stage, broker: Broker, mail: MailServer, output: Path) -> None:
        self._stage, self._broker, self._mail, self._output = stage, broker, mail, output
        self._outcomes: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue(OUTCOMES_WAITING)
        self._ready = threading.Event()
        self._crew = Crew()
        self._saved = 0

    def run(self, steps: tuple[_Step, ...], *, stay: bool) -> bool:
        broker, mail, tell = self._broker, self._mail, self._stage.tell
        configuration = self._output / CONFIGURATION
        tell("[bold]Hardwire demo[/bold]: four alerts leave as mail through an emulated W5100\n")
        tell(f"   broker   {broker.kind}, MQTT {broker.protocol}, {broker.host}:{broker.port}")
        tell(f"   mail     {mail.host}:{mail.port}, one mailbox: {ALICE}")
        tell(f"   bridge   {escape(str(configuration))}")
        watcher = self._watcher()
        service = Service(
            load(configuration),
            watch=Watch(dialogue=lambda line: self._stage.line("smtp", line), status=self._stage.status),
        )
        self._crew.start("watcher", watcher.run)
        service.start()
        self._crew.start("supervisor", service.supervise)
        try:
            if not (self._ready.wait(READY_WAIT_S) and service.wait_subscribed(READY_WAIT_S)):
                raise DemoError("the broker did not take the connection in time")
            ended = [self._play(number, step, watcher) for number, step in enumerate(steps, 1)]
            good = self._sum_up(steps, ended)
            if stay and not self._stage.left_alone:
                self._stay()
        finally:
            # The end is bounded by itself; a second Ctrl-C must not leave the broker's process behind.
            for number in ENDS:
                signal.signal(number, signal.SIG_IGN)
            service.stop()
            watcher.stop(timeout_s=2.0)
        return good and not self._stage.left_alone

    def _watcher(self) -> Mqtt:
        """Return the client that publishes the alerts and reads the outcomes, as an automation would."""

        def arrived(message: Message) -> None:
            watcher.acknowledge(message)
            if message.topic.split("/")[1] in get_args(EventType) and (outcome := _outcome(message.payload)):
                with suppress(queue.Full):
                    self._outcomes.put_nowait((message.topic, outcome))

        def connection(connected: bool, _problem: str | None) -> None:  # noqa: FBT001 - mqtt's callback
            if connected:
                self._ready.set()

        watcher = Mqtt(
            Settings(
                host=self._broker.host,
                port=self._broker.port,
                protocol=self._broker.protocol,
                client_id="hardwire-demo",
                onlooker="alerts/+/#",
            ),
            on_message=arrived,
            on_published=lambda _token: None,
            on_session=lambda _present: None,
            on_connection=connection,
        )
        return watcher

    def _play(self, number: int, step: _Step, watcher: Mqtt) -> str:
        """Publish one alert and wait for its outcome; return the outcome's event type."""
        self._stage.headline(f"{number}  {step.headline}")
        if step.forget_ehlo:
            self._mail.forget_ehlo()
        else:
            self._mail.recall_ehlo()
        topic = f"alerts/email/{step.name}"
        self._stage.line("publish", f"{topic}  {_shortened(step.payload)}")
        watcher.publish(topic, step.payload, token=None)
        ended = "nothing"
        for outcome_topic, outcome in self._until_final(step.name):
            self._save_new(step.name)
            self._stage.line("outcome", f"{outcome_topic}  {_told(outcome)}")
            ended = outcome["event_type"]
        if ended == "nothing":
            self._stage.line("outcome", f"none within {OUTCOME_WAIT_S:.0f} s")
        return ended

    def _until_final(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        deadline = time.monotonic() + OUTCOME_WAIT_S
        while time.monotonic() < deadline and not self._stage.left_alone:
            self._crew.check()
            try:
                topic, outcome = self._outcomes.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            if topic.endswith(f"/{name}"):
                yield topic, outcome
                if outcome["event_type"] != "deferred":
                    return

    def _save_new(self, name: str) -> None:
        """Save what the mail server has taken since the last time, numbered in the order of arrival."""
        for content in self._mail.mails[self._saved :]:
            self._saved += 1
            mail_file, page = (self._output / f"{self._saved}-{name}.{kind}" for kind in ("eml", "html"))
            try:
                mail_file.write_bytes(content)
                page.write_text(_page(content), encoding="utf-8")
            except OSError as error:
                raise DemoError(f"{mail_file} cannot be written: {error.strerror}") from error
            self._stage.line("mail", f"saved as {mail_file} and {page}")

    def _sum_up(self, steps: tuple[_Step, ...], ended: list[str]) -> bool:
        count = {one: ended.count(one) for one in ("success", "failure")}
        self._stage.tell(
            f"\n[bold]{sum(count.values())} outcomes: "
            f"{count['success']} success, {count['failure']} failure[/bold]"
            f"   mails and configuration: {escape(str(self._output))}/"
        )
        for step, end in zip(steps, ended, strict=True):
            if end != step.ends:
                self._stage.tell(f"[red]{step.name} ended in {end} and should have ended in {step.ends}[/red]")
        return all(end == step.ends for step, end in zip(steps, ended, strict=True))

    def _stay(self) -> None:
        self._mail.recall_ehlo()
        where = f"-h {self._broker.host} -p {self._broker.port} -V 5"
        with suppress(KeyboardInterrupt):
            self._stage.tell(
                "\n[bold]It keeps running.[/bold] "
                "Publish by hand; outcomes and mails show here. Ctrl-C ends it.\n\n"
                f"   mosquitto_pub {where} -q 1 -t alerts/email/test -m 'Hello'\n"
                f"   mosquitto_pub {where} -q 1 -t alerts/email/test"
                """ -m '{"title": "Hello", "message": "World", "severity": "critical"}'\n"""
                f"   mosquitto_sub {where} -v -t 'alerts/#'\n"
            )
            while not self._stage.left_alone:
                self._crew.check()
                with suppress(queue.Empty):
                    topic, outcome = self._outcomes.get(timeout=LOOK_S)
                    self._save_new(BY_HAND)
                    self._stage.line("outcome", f"{topic}  {_told(outcome)}")


def _shortened(payload: bytes, most: int = 150) -> str:
    text = payload.decode()
    return text if len(text) <= most else f"{text[:most]} … ({len(payload)} octets)"


def _outcome(payload: bytes) -> dict[str, Any] | None:
    """Return the outcome in ``payload``, or None: anybody may publish anything on its topic by hand."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not {"event_type", "reason", "recipients", "greeting"} <= value.keys():
        return None
    fates = value["recipients"]
    return value if isinstance(fates, list) and all(isinstance(one, dict) for one in fates) else None


def _told(outcome: dict[str, Any]) -> str:
    """Return an outcome as one line for people: each recipient's fate, or why it did not come to that."""
    fates = [
        " ".join(str(one[key]) for key in ("address", "state", "code", "enhanced") if one.get(key))
        for one in outcome["recipients"]
    ]
    details = [f"{outcome['duration_s']} s"] if outcome.get("duration_s") is not None else []
    if outcome["greeting"]:
        how = "authenticated" if outcome.get("authenticated") else "not authenticated"
        details = [str(outcome["greeting"]), how, *details]
    said = "; ".join(fates) if outcome["greeting"] else str(outcome["reason"])
    return f"{said}  ({', '.join(details)})" if details else said


def _page(content: bytes) -> str:
    """Return the mail's HTML with its pictures in it, so that a browser shows what a mail reader would."""
    mail = message_from_bytes(content, policy=policy.default)
    assert isinstance(mail, EmailMessage)  # noqa: S101 - policy.default makes nothing else
    body = mail.get_body(("html", "plain"))
    html = body.get_content() if body is not None else ""
    for part in mail.walk():
        identity = (part["Content-ID"] or "").strip("<>")
        if identity:
            data = base64.b64encode(part.get_content()).decode()
            html = html.replace(f"cid:{identity}", f"data:{part.get_content_type()};base64,{data}")
    return str(html)
