"""The configuration as frozen models: every key, its type and its default. docs/configuration.md explains them.

Keys are as the user writes them; where a key's value has a unit in the file (``max_age: 24h``), the attribute
carries the unit in its name (``max_age_s``). What one value must be is said by its type here; what several keys
must be together, and what this version refuses, is said in ``plugin.config.checks``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from plugin.alert import Severity
from plugin.config.faults import Fault
from plugin.config.values import (
    Address,
    Addresses,
    BusName,
    ClientId,
    Command,
    Duration,
    ExistingFile,
    Factor,
    HeloName,
    Host,
    Interface,
    Mac,
    Mailbox,
    Mechanisms,
    Names,
    Notify,
    Number,
    Paths,
    Patterns,
    Port,
    RelativePath,
    Secret,
    Size,
    TemplateName,
    Text,
    TopicFilter,
    TopicPrefix,
)
from plugin.route.routing import DEFAULT_MAX_RECIPIENTS, DEFAULT_TEMPLATE

Security = Literal["tls", "starttls", "none"]
Auth = Literal["required", "preferred", "none"]

MQTT_PORT: Final = 1883
MQTT_TLS_PORT: Final = 8883
SMTP_PORTS: Final[dict[str, int]] = {"tls": 465, "starttls": 587, "none": 25}
MAX_RATE: Final = 10_000  # mails a minute
MAX_ATTACHMENTS: Final = 50  # plugin.payload reads no more
MAX_MQTT_PAYLOAD_BYTES: Final = 268_435_455  # MQTT 5 §2.1.4: the largest Remaining Length


class Section(BaseModel):
    """Base of all: unknown keys are errors, nothing changes later, a key without a value counts as not given."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return cls.filled({key: value for key, value in data.items() if value is not None})

    @classmethod
    def filled(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return ``data`` with the defaults that depend on other keys."""
        return data


class MqttTls(Section):
    """TLS to the broker; without ``ca_file`` the authorities that this machine trusts."""

    ca_file: ExistingFile | None = None
    certfile: ExistingFile | None = None
    keyfile: ExistingFile | None = None
    verify: bool = True


class Mqtt(Section):
    """The broker."""

    host: Host = "127.0.0.1"
    port: Port = MQTT_PORT
    username: Text | None = None
    password: Secret | None = None
    protocol: Literal["5", "3.1.1"] = "5"
    client_id: ClientId = "hardwire"
    shared_group: ClientId | None = None
    tls: MqttTls | None = None

    @classmethod
    def filled(cls, data: dict[str, Any]) -> dict[str, Any]:
        """``tls: true`` means TLS with its defaults, TLS has its own port, and 5 is as good as "5"."""
        if isinstance(data.get("tls"), bool):
            data["tls"] = {} if data["tls"] else None
        if data.get("tls") is not None:
            data.setdefault("port", MQTT_TLS_PORT)
        if data.get("protocol") == 5:
            data["protocol"] = "5"
        return data


class Topics(Section):
    """Where the topics of the contract begin."""

    base: TopicPrefix = "alerts"


class GpioLine(Section):
    """One line of a GPIO chip."""

    chip: RelativePath
    line: Annotated[Number, Field(ge=0, le=1023)]


class Network(Section):
    """The chip's own addresses: by DHCP, fixed, or both, and then the fixed ones hold where no server answers.

    No ``gateway`` where the relay is in the same network. Without ``dhcp`` there is an ``address``.
    """

    dhcp: bool = False
    address: Interface | None = None
    gateway: Address | None = None
    dns: Addresses = ()


def _network(value: Any) -> Any:
    if value == "host":
        return None
    if value == "dhcp":
        return {"dhcp": True}
    if isinstance(value, str):
        text = "is no network: write host, dhcp, or {address: 192.168.1.50/24, gateway: 192.168.1.1}"
        raise ValueError(text)  # noqa: TRY004 - pydantic makes a fault of a ValueError alone
    return value


class Chip(Section):
    """The chip and the way to it; ``network`` None is the host's own."""

    model: Literal["auto", "w5100", "w5100s"] = "auto"
    bus: BusName = "emulator"
    device: Text = "/dev/spidev0.0"
    speed_hz: Annotated[Number, Field(ge=10_000, le=80_000_000)] = 14_000_000
    interrupt: GpioLine | None = None
    reset: GpioLine | None = None
    mac: Mac = "02:08:dc:01:02:03"
    network: Annotated[Network | None, BeforeValidator(_network)] = None
    lanes: Annotated[Number, Field(ge=1, le=3)] = 2


class Relay(Section):
    """One mail server; ``auth`` and ``port`` have their defaults filled in.

    ``mechanisms`` are in upper case; without any, whatever fits. ``dsn`` are RFC 3461's conditions for NOTIFY, in
    lower case; without any, nothing is said of it.
    """

    host: Host
    port: Port = SMTP_PORTS["starttls"]
    security: Security = "starttls"
    ca_file: ExistingFile | None = None
    verify: bool = True
    server_name: Host | None = None
    auth: Auth = "none"
    username: Text | None = None
    password: Secret | None = None
    token_file: RelativePath | None = None
    token_command: Command | None = Field(default=None, repr=False)
    token_timeout_s: Annotated[Duration, Field(gt=0, le=600)] = Field(default=30.0, alias="token_timeout")
    token_lifetime_s: Annotated[Duration, Field(ge=0, le=604_800)] = Field(default=2700.0, alias="token_lifetime")
    mechanisms: Mechanisms = ()
    greeting: Literal["auto", "helo"] = "auto"
    helo_name: HeloName | None = None
    eager: bool = False
    dsn: Notify = ()
    connect_timeout_s: Annotated[Duration, Field(gt=0, le=600)] = Field(default=30.0, alias="connect_timeout")
    idle_timeout_s: Annotated[Duration, Field(ge=0, le=3600)] = Field(default=60.0, alias="idle_timeout")

    @classmethod
    def filled(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Port 465 speaks TLS at once; every security has its port; a username is there to be used."""
        data.setdefault("security", "tls" if str(data.get("port")) == "465" else "starttls")
        data.setdefault("port", SMTP_PORTS.get(str(data["security"]), SMTP_PORTS["starttls"]))
        data.setdefault("auth", "required" if "username" in data else "none")
        return data


class RouteSettings(Section):
    """One route, as it is written."""

    topic: TopicFilter
    to: Names = ()
    cc: Names = ()
    bcc: Names = ()
    template: TemplateName = DEFAULT_TEMPLATE
    severity: Severity | None = None
    reply_to: Mailbox | None = None
    rate: Annotated[Number, Field(ge=1, le=MAX_RATE)] | None = None


class Retry(Section):
    """The wait before the second attempt, what it is multiplied by each time, and where it ends."""

    first_s: Annotated[Duration, Field(gt=0, le=86_400)] = Field(default=10.0, alias="first")
    factor: Factor = 2.0
    longest_s: Annotated[Duration, Field(gt=0, le=604_800)] = Field(default=900.0, alias="longest")


class Keep(Section):
    """How long settled alerts stay to be looked up, and how many at most."""

    age_s: Annotated[Duration, Field(ge=0, le=315_360_000)] = Field(default=30 * 86_400.0, alias="age")
    alerts: Annotated[Number, Field(ge=0, le=10_000_000)] = 10_000


class Outbox(Section):
    """The durable queue."""

    path: RelativePath = Field(default=Path("hardwire.db"), validate_default=True)
    max_age_s: Annotated[Duration, Field(gt=0, le=31_536_000)] = Field(default=86_400.0, alias="max_age")
    retry: Retry = Field(default_factory=Retry)
    keep: Keep = Field(default_factory=Keep)


class Attachments(Section):
    """Folders of this machine from which a payload may attach files."""

    allowed_dirs: Paths = ()


class Limits(Section):
    """Bounds on what is accepted."""

    payload_bytes: Annotated[Size, Field(ge=1, le=MAX_MQTT_PAYLOAD_BYTES)] = 10_485_760
    queue: Annotated[Number, Field(ge=1, le=10_000_000)] = 100_000
    queue_bytes: Annotated[Size, Field(ge=1_048_576, le=1_099_511_627_776)] = 4_294_967_296
    recipients: Annotated[Number, Field(ge=1, le=1000)] = DEFAULT_MAX_RECIPIENTS
    attachments: Annotated[Number, Field(ge=0, le=MAX_ATTACHMENTS)] = MAX_ATTACHMENTS
    attachments_bytes: Annotated[Size, Field(ge=0, le=MAX_MQTT_PAYLOAD_BYTES)] = 10_485_760


class HomeAssistant(Section):
    """Discovery for Home Assistant."""

    discovery: bool = True
    prefix: TopicPrefix = "homeassistant"


class Config(Section):
    """The whole configuration."""

    mqtt: Mqtt = Field(default_factory=Mqtt)
    topics: Topics = Field(default_factory=Topics)
    chip: Chip = Field(default_factory=Chip)
    relays: Annotated[tuple[Relay, ...], Field(min_length=1, max_length=20)]
    sender: Mailbox
    recipients: dict[str, Names] = Field(default_factory=dict)
    allow_recipients: Patterns = ()
    routes: Annotated[tuple[RouteSettings, ...], Field(min_length=1, max_length=1000)]
    templates_dir: RelativePath | None = None
    outbox: Outbox
    attachments: Attachments = Field(default_factory=Attachments)
    limits: Limits = Field(default_factory=Limits)
    home_assistant: HomeAssistant = Field(default_factory=HomeAssistant)

    _warnings: tuple[Fault, ...] = PrivateAttr(default=())
    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    @classmethod
    def filled(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Let an outbox of which nothing is said have its place beside the configuration file too."""
        data.setdefault("outbox", {})
        return data

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """What the user should know, with its place, although the configuration can be used."""
        return self._warnings

    @property
    def folder(self) -> Path:
        """The folder of the configuration file, absolute."""
        return self._folder

    def read_from(self, folder: Path, warnings: tuple[Fault, ...]) -> Config:
        """Return this configuration with where it was read and what was noticed."""
        copy = self.model_copy()
        copy._folder, copy._warnings = folder, warnings  # noqa: SLF001 - it is of this very class
        return copy


def schema_keys() -> list[str]:
    """Return every key of the configuration, dotted, in order: ``mqtt``, ``mqtt.host``, … ``relays[].host`` …."""
    return list(_keys(Config, ""))


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        yield key
        for inner, listed in _sections(field.annotation):
            yield from _keys(inner, f"{key}[]." if listed else f"{key}.")


def _sections(annotation: Any, *, listed: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """Yield the models in ``annotation``, each with whether it stands in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, listed
    for inner in get_args(annotation):
        yield from _sections(inner, listed=listed or get_origin(annotation) is tuple)
