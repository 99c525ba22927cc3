"""A house for the tests: broker, mail server, Hardwire as a process, and Home Assistant with all of ha_config."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

import paho.mqtt.publish
from paho.mqtt.client import MQTTv5

from plugin.demo.broker import LOOPBACK, Broker
from plugin.demo.mailserver import DOMAIN, MailServer
from tests.home_assistant.client import WAIT_S, until
from tests.home_assistant.installation import HomeAssistant, Installation
from tests.home_assistant.seed import seed
from tests.journey.house import ALICE, BOB, LOGIN, PASSWORD, Automation, Process, configuration

STRANGER: Final = f"stranger@{DOMAIN}"  # whom the mail server does not know
SILENCE_S: Final = 2.0


class Household:
    """What runs; each part can be stopped and started by a test, which leaves it running."""

    def __init__(self, *, broker: Broker, mail: MailServer, bridge_config: Path, home: HomeAssistant) -> None:
        self.broker = broker
        self.mail = mail
        self.home = home
        self.bridge_config = bridge_config
        self.automation = Automation(broker, "alerts", persistent=True)
        self.bridge = Process(bridge_config)

    @property
    def config(self) -> Path:
        """Return Home Assistant's configuration folder."""
        return self.bridge_config.parent / "config"

    def stop(self) -> None:
        """End what began with this house."""
        self.automation.close()
        self.bridge.__exit__()
        self.mail.close()

    def restart_bridge(self) -> None:
        """End Hardwire in order, and begin it again."""
        self.stop_bridge()
        self.start_bridge()

    def stop_bridge(self) -> None:
        """End Hardwire in order."""
        assert self.bridge.terminate() == 0, self.bridge.said()

    def start_bridge(self) -> None:
        """Start Hardwire, and wait until it is subscribed."""
        self.bridge = Process(self.bridge_config)
        self.bridge.wait_connected()

    def restart_home(self) -> None:
        """End Home Assistant in order, and begin it again."""
        self.home.stop()
        self.home.start()

    def restart_broker(self) -> None:
        """End the broker, begin it again, and wait until both are back on it."""
        self.home.foresee(
            *("MQTT server", "failed to receive on socket", "Task exception was never retrieved"),
            "The client is not currently connected",  # it was about to subscribe, and does so when it is back
        )
        connections = self.bridge.said().count("event=broker_connected")
        self.broker.stop()
        self.broker.start()
        self.bridge.wait_connected(connections + 1)

    def connected(self) -> None:
        """Wait until Home Assistant is on the broker and reads what is published there."""
        marker = f"{time.monotonic_ns()}"
        self.tell("marker", marker)
        self.home.wait_for("sensor.marker", marker)

    def tell(self, name: str, payload: str | bytes) -> None:
        """Publish the state of something in the house, retained."""
        paho.mqtt.publish.single(
            f"house/{name}",
            payload,
            qos=1,
            retain=True,
            hostname=self.broker.host,
            port=self.broker.port,
            protocol=MQTTv5,
        )

    def show(self, camera: str, picture: bytes) -> None:
        """Let a camera see ``picture``, and wait until Home Assistant has it."""
        self.tell(camera, picture)
        self.connected()

    def notifications(self) -> dict[str, dict[str, Any]]:
        """Return what Home Assistant shows its user, by id."""
        return {one["notification_id"]: one for one in self.home.command("persistent_notification/get")}

    def in_one_area(self, *entity_ids: str) -> None:
        """Put entities into an area of their own."""
        area = self.home.command("config/area_registry/create", name=f"Area {time.monotonic_ns()}")["area_id"]
        for entity_id in entity_ids:
            self.home.command("config/entity_registry/update", entity_id=entity_id, area_id=area)

    def mails(self, subject: str = "") -> list[EmailMessage]:
        """Return the mails that have come whose subject holds ``subject``, in order."""
        read: list[EmailMessage] = [message_from_bytes(raw, policy=policy.default) for raw in self.mail.mails]
        return [one for one in read if subject in str(one["Subject"])]

    def wait_mail(self, subject: str, number: int = 1, *, timeout_s: float = WAIT_S) -> EmailMessage:
        """Wait for the so many-th mail with this subject."""
        found = until(lambda: self.mails(subject)[number - 1 : number], f"mail {number}: {subject}", timeout_s)
        return found[0]

    def no_more_mails(self, subject: str, number: int) -> None:
        """Fail if there are more than ``number`` mails with this subject, or come soon.

        An alert of our own goes last: the queue is in order, so what came before it has been sent by then.
        """
        marker = f"marker {time.monotonic_ns()}"
        time.sleep(SILENCE_S)
        self.automation.publish("marker", {"title": marker, "message": "all before me are through"})
        self.wait_mail(marker)
        assert len(self.mails(subject)) == number, [str(one["Subject"]) for one in self.mails()]


def parts(mail: EmailMessage, kind: str) -> list[EmailMessage]:
    """Return the parts of a content type such as ``image/jpeg``."""
    return [one for one in mail.walk() if one.get_content_type() == kind]


def text(mail: EmailMessage) -> str:
    """Return the plain text."""
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


@contextmanager
def household(installation: Installation, folder: Path) -> Iterator[Household]:
    """Bring a house up in ``folder``."""
    config = folder / "config"
    config.mkdir()
    with ExitStack() as undo:
        broker = undo.enter_context(Broker("mosquitto"))
        mail = undo.enter_context(MailServer(users=(ALICE, BOB), login=LOGIN, password=PASSWORD))
        with socket.create_server((LOOPBACK, 0)) as free:
            port = int(free.getsockname()[1])
        seed(config, version=installation.version, broker_port=broker.port, http_port=port)
        shutil.copy(Path(__file__).with_name("house.yaml"), config / "packages")
        bridge_config = configuration(
            folder,
            broker,
            mail.port,
            topics="{base: alerts}",
            chip="{bus: emulator, network: host, lanes: 1}",
            recipients=f"{{alice: {ALICE}, bob: {BOB}, family: [alice, bob], stranger: {STRANGER}}}",
            allow_recipients=f'["*@{DOMAIN}"]',
            attachments=f"{{allowed_dirs: [{config / 'media'}]}}",
        )
        home = undo.enter_context(HomeAssistant(installation, config, port))
        house = Household(broker=broker, mail=mail, bridge_config=bridge_config, home=home)
        undo.callback(house.stop)
        house.bridge.wait_connected()
        home.start()
        house.connected()
        yield house
