"""``hardwire demo``: broker, mail server, emulated chip and bridge in one process; four alerts, shown live."""

from __future__ import annotations

import base64
import json
import logging
import queue
import secrets
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from importlib import resources
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from plugin.alert import Message
from plugin.config import load
from plugin.demo.broker import Broker, BrokerError, BrokerKind
from plugin.demo.mailserver import DOMAIN, MailServer
from plugin.mqtt import Mqtt, Settings
from plugin.service import Crew, Service, Watch

ALICE: Final = f"alice@{DOMAIN}"
OUTCOME_WAIT_S: Final = 15.0
READY_WAIT_S: Final = 10.0
PARTS: Final = {"publish": "magenta", "chip": "yellow", "smtp": "cyan", "mail": "green", "outcome": "bold"}


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


def _configuration(broker: Broker, mail: MailServer, login: str, password: str) -> str:
    """Return a hardwire.yaml for this broker and mail server."""
    return f"""\
# Written by `hardwire demo` for the broker and the mail server that it had started.
mqtt: {{host: {broker.host}, port: {broker.port}, protocol: "{broker.protocol}"}}
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
outbox: {{path: outbox.db}}
"""


class _Stage:
    """What is shown: one line an event, whoever it comes from."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._states: list[str] = []

    def headline(self, text: str) -> None:
        self._console.print(f"\n[bold]{escape(text)}[/bold]")

    def line(self, who: str, text: str) -> None:
        with self._lock:
            self._flush_states()
            self._print(who, text)

    def status(self, number: int, old: str, new: str) -> None:
        """Gather the states of a socket, and show them as one line once it rests."""
        with self._lock:
            self._states = [*(self._states or [f"socket {number}  Sn_SR", old]), new]
            if new in ("ESTABLISHED", "CLOSED"):
                self._flush_states()

    def _flush_states(self) -> None:
        if self._states:
            first, *rest = self._states
            self._states = []
            self._print("chip", f"{first} {' → '.join(rest)}")

    def _print(self, who: str, text: str) -> None:
        line = Text(f"   {who:<8} ", style=PARTS.get(who, ""))
        line.append(text, style="default not bold" if who != "outcome" else "")
        self._console.print(line, soft_wrap=True, highlight=False)


def run_demo(output: Path, *, stay: bool, kind: BrokerKind | None = None) -> int:
    """Run the show with the best broker there is, or ``kind``; 0 if each alert ended as it must."""
    console = Console()
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd's own; the dialogue is shown from our side
    try:
        output.mkdir(parents=True, exist_ok=True)
        for old in (*output.glob("*.eml"), *output.glob("*.html"), *output.glob("outbox.db*")):
            old.unlink()  # of an earlier show
    except OSError as error:
        console.print(
            f"[red]{escape(str(output))} cannot be written ({error.strerror}): name another --output[/red]"
        )
        return 1
    picture = resources.files("plugin.demo").joinpath("camera.png").read_bytes()
    password = secrets.token_urlsafe(12)
    try:
        with (
            Broker(kind) as broker,
            MailServer(users=(ALICE,), login="house", password=password) as mail,
        ):
            configuration = output / "hardwire.yaml"
            configuration.write_text(_configuration(broker, mail, "house", password))
            configuration.chmod(0o600)
            return _Show(console, broker, mail, output).run(_steps(picture), stay=stay)
    except BrokerError as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        return 1


class _Show:
    def __init__(self, console: Console, broker: Broker, mail: MailServer, output: Path) -> None:
        self._console, self._broker, self._mail, self._output = console, broker, mail, output
        self._stage = _Stage(console)
        self._outcomes: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self._ready = threading.Event()
        self._crew = Crew()

    def run(self, steps: tuple[_Step, ...], *, stay: bool) -> int:
        broker, mail, console = self._broker, self._mail, self._console
        console.print("[bold]Hardwire demo[/bold]: four alerts leave as mail through an emulated W5100\n")
        console.print(f"   broker   {broker.kind}, MQTT {broker.protocol}, {broker.host}:{broker.port}")
        console.print(f"   mail     {mail.host}:{mail.port}, one mailbox: {ALICE}")
        console.print(f"   bridge   {self._output / 'hardwire.yaml'}")
        watcher = self._watcher()
        service = Service(
            load(self._output / "hardwire.yaml"),
            watch=Watch(dialogue=lambda line: self._stage.line("smtp", line), status=self._stage.status),
        )
        self._crew.start("watcher", watcher.run)
        service.start()
        self._crew.start("supervisor", service.supervise)
        try:
            if not (self._ready.wait(READY_WAIT_S) and service.wait_subscribed(READY_WAIT_S)):
                console.print("[red]the broker did not take the connection in time[/red]")
                return 1
            ended = [self._play(number, step, watcher) for number, step in enumerate(steps, 1)]
            good = self._sum_up(steps, ended)
            if stay:
                self._stay()
        finally:
            service.stop()
            watcher.stop(timeout_s=2.0)
        return 0 if good else 1

    def _watcher(self) -> Mqtt:
        """Return the client that publishes the alerts and reads the outcomes, as an automation would."""

        def arrived(message: Message) -> None:
            watcher.acknowledge(message)
            if message.topic.split("/")[1] in ("success", "failure", "deferred"):
                self._outcomes.put((message.topic, json.loads(message.payload)))

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
        seen = len(self._mail.mails)
        topic = f"alerts/email/{step.name}"
        self._stage.line("publish", f"{topic}  {_shortened(step.payload)}")
        watcher.publish(topic, step.payload, token=None)
        ended = "nothing"
        for outcome_topic, outcome in self._until_final(step.name):
            for index, content in enumerate(self._mail.mails[seen:]):
                self._save(f"{number}-{step.name}{f'-{index}' if index else ''}", content)
                seen += 1
            self._stage.line("outcome", f"{outcome_topic}  {_told(outcome)}")
            ended = outcome["event_type"]
        if ended == "nothing":
            self._stage.line("outcome", f"none within {OUTCOME_WAIT_S:.0f} s")
        return ended

    def _until_final(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        while True:
            try:
                topic, outcome = self._outcomes.get(timeout=OUTCOME_WAIT_S)
            except queue.Empty:
                return
            if topic.endswith(f"/{name}"):
                yield topic, outcome
                if outcome["event_type"] != "deferred":
                    return

    def _save(self, stem: str, content: bytes) -> None:
        mail_file = self._output / f"{stem}.eml"
        mail_file.write_bytes(content)
        page = self._output / f"{stem}.html"
        page.write_text(_page(content))
        self._stage.line("mail", f"saved as {mail_file} and {page}")

    def _sum_up(self, steps: tuple[_Step, ...], ended: list[str]) -> bool:
        count = {one: ended.count(one) for one in ("success", "failure")}
        self._console.print(
            f"\n[bold]{len(ended)} outcomes: {count['success']} success, {count['failure']} failure[/bold]"
            f"   mails and configuration: {self._output}/"
        )
        for step, end in zip(steps, ended, strict=True):
            if end != step.ends:
                self._console.print(f"[red]{step.name} ended in {end} and should have ended in {step.ends}[/red]")
        return all(end == step.ends for step, end in zip(steps, ended, strict=True))

    def _stay(self) -> None:
        self._mail.recall_ehlo()
        where = f"-h {self._broker.host} -p {self._broker.port} -V 5"
        self._console.print(
            "\n[bold]It keeps running.[/bold] Publish by hand; outcomes and mails show here. Ctrl-C ends it.\n\n"
            f"   mosquitto_pub {where} -q 1 -t alerts/email/test -m 'Hello'\n"
            f"   mosquitto_pub {where} -q 1 -t alerts/email/test"
            """ -m '{"title": "Hello", "message": "World", "severity": "critical"}'\n"""
            f"   mosquitto_sub {where} -v -t 'alerts/#'\n",
            highlight=False,
            soft_wrap=True,
        )
        stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
        while not stopped.is_set():
            self._crew.check()
            seen = len(self._mail.mails)
            try:
                topic, outcome = self._outcomes.get(timeout=0.3)
            except queue.Empty:
                continue
            self._stage.line("outcome", f"{topic}  {_told(outcome)}")
            for index, content in enumerate(self._mail.mails[seen - 1 :], seen):
                if outcome["event_type"] == "success":
                    self._save(f"{index}-by-hand", content)


def _shortened(payload: bytes, most: int = 150) -> str:
    text = payload.decode()
    return text if len(text) <= most else f"{text[:most]} … ({len(payload)} octets)"


def _told(outcome: dict[str, Any]) -> str:
    """Return an outcome as one line for people."""
    words = [
        " ".join(str(part) for part in (one["address"], one["state"], one["code"], one["enhanced"]) if part)
        for one in outcome["recipients"]
    ]
    how = f"{outcome['greeting']}, {'authenticated' if outcome['authenticated'] else 'not authenticated'}"
    return f"{'; '.join(words)}  ({how}, {outcome['duration_s']} s)"


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
