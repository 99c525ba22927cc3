"""Config in, rooms out: how each room is made from the configuration. No threads, and nothing is started."""

from __future__ import annotations

import importlib
import ipaddress
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from plugin import __version__
from plugin.bridge import Bridge, Mark, SteadyClock
from plugin.compose import Composer
from plugin.config import Chip as ChipConfig
from plugin.config import Config, MqttTls
from plugin.config import Relay as RelayConfig
from plugin.delivery import JITTER, Schedule
from plugin.discovery import NOTIFY, Description, NamedRoute
from plugin.mqtt import Settings as MqttSettings
from plugin.mqtt import TlsSettings
from plugin.outbox import Keep, Outbox, Reader
from plugin.relay import Relay, Relays, Standings
from plugin.route import Route, Routing, name_for
from plugin.smtp.client import Settings
from plugin.smtp.dsn import Notify
from plugin.token import TokenCommand, TokenFile, TokenSource
from plugin.uplink import Addresses, Fixed, Leased, Resolve, Uplink, resolve_by_host, resolve_literal
from plugin.w5100 import Addressing, Chip
from plugin.w5100.bus import Bus, ExchangeOnly
from plugin.w5100.dhcp import DhcpClient
from plugin.w5100.dhcp.client import HOST_NAME
from plugin.w5100.dns import Resolver
from plugin.w5100.emulator import Emulator
from plugin.w5100.gpio import GpioLine
from plugin.w5100.spidev import SpidevBus

# What the chip is told when it shares the host's network: the emulator's octets travel through the host's own
# sockets, so these steer nothing; a foreign bus on loopback finds every peer "in its own network".
_HOST_NETWORK: Final = ipaddress.IPv4Interface("127.0.0.1/8")
_NO_ADDRESS: Final = ipaddress.IPv4Interface("0.0.0.0/0")  # until a DHCP server gives one
_NOTIFY: Final[Mapping[str, Notify]] = {
    "never": "NEVER",
    "success": "SUCCESS",
    "failure": "FAILURE",
    "delay": "DELAY",
}
CLOCK_KEY: Final = "clock"
"""Where the outbox keeps what the clock needs to go on in the next run."""
_NOWHERE: Final = ("192.0.2.1", 9)  # TEST-NET-1, RFC 5737: asked for a route to, never sent to


Tap = Callable[[Bus | ExchangeOnly], Bus | ExchangeOnly]
"""What is put before the bus by one who wants to see what goes over it: takes the bus, gives another."""


class BusUnavailable(OSError):
    """chip.bus names a module or a factory that does not give a bus."""


def bus_of(config: Config) -> Bus | ExchangeOnly:
    """Return the Bus that chip.bus names; raises BusUnavailable."""
    name = config.chip.bus
    if name == "emulator":
        return Emulator(model="w5100" if config.chip.model == "auto" else config.chip.model)
    if name == "spidev":
        return _spidev_of(config.chip)
    module_name, _, factory_name = name.partition(":")
    # A module beside the configuration file is found as well, behind everything that is installed.
    folder = str(config.folder)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        bus: Bus | ExchangeOnly = getattr(importlib.import_module(module_name), factory_name)()
    except (Exception, SystemExit) as error:
        raise BusUnavailable(f"chip.bus: {name}: {type(error).__name__}: {error}".removesuffix(": ")) from error
    if isinstance(bus, type):
        raise BusUnavailable(f"chip.bus: {name} gave the class {bus.__name__}, not an object of it")
    if not callable(getattr(bus, "exchange", None)):
        raise BusUnavailable(f"chip.bus: {name} gave a {type(bus).__name__}, which has no exchange(frames)")
    return bus


def _spidev_of(chip: ChipConfig) -> SpidevBus:
    """Return the bus on the SPI device, which is not opened yet: what is not there may come."""
    interrupt, reset = (
        GpioLine(chip=str(line.chip), line=line.line) if line else None for line in (chip.interrupt, chip.reset)
    )
    try:
        return SpidevBus(chip.device, speed_hz=chip.speed_hz, interrupt=interrupt, reset=reset)
    except OSError as error:
        raise BusUnavailable(f"chip.bus: spidev: {error}") from error


def addressing_of(config: Config) -> Addressing:
    """Return the addresses that the chip is to hold."""
    network = config.chip.network
    interface = (network.address or _NO_ADDRESS) if network else _HOST_NETWORK
    gateway = network.gateway if network else None
    return Addressing(
        mac=bytes.fromhex(config.chip.mac.replace(":", "").replace("-", "")),
        address=interface.ip,
        subnet_mask=interface.netmask,
        gateway=gateway or ipaddress.IPv4Address(0),
    )


def uplink_of(
    config: Config, observe: Callable[[int, str, str], None] | None = None, tap: Tap | None = None
) -> Uplink:
    """Return the chip with its addresses, not brought up yet; raises BusUnavailable."""
    bus = bus_of(config)
    network = config.chip.network
    chip = Chip(tap(bus) if tap else bus, model=config.chip.model, observe=observe)
    resolver = Resolver(chip.udp_socket, chip.tcp_socket, network.dns if network else (), time.monotonic)
    resolve: Resolve = resolver.resolve
    if network is None:
        resolve = resolve_by_host
    elif not network.dhcp and not network.dns:
        resolve = resolve_literal
    return Uplink(
        chip,
        _addresses_of(config, resolver),
        lanes=config.chip.lanes,
        resolve=resolve,
        reset_line=getattr(bus, "reset_line", None),
    )


def _addresses_of(config: Config, resolver: Resolver) -> Addresses:
    addressing, network = addressing_of(config), config.chip.network
    if network is None or not network.dhcp:
        return Fixed(addressing)
    name = socket.gethostname().partition(".")[0]
    client = DhcpClient(addressing.mac, host_name=name if HOST_NAME.fullmatch(name) else "")
    fallback = addressing if network.address else None
    return Leased(client, fallback=fallback, use_servers=resolver.use)


def helo_name_of(config: Config, relay: RelayConfig) -> str | None:
    """Return what we call ourselves: as configured, the host's full name, or an address literal.

    None where only the connection will tell the address, because DHCP lends it. Servers refuse names like
    "localhost" and take address literals (RFC 5321 §4.1.3).
    """
    if relay.helo_name:
        return relay.helo_name
    if network := config.chip.network:
        return None if network.dhcp or network.address is None else f"[{network.address.ip}]"
    name = socket.gethostname()
    if name.isascii() and "." in name.strip(".") and not name.startswith("localhost"):
        return name
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(ipaddress.IPv4Address(relay.host)), relay.port))
        except ValueError:
            try:
                probe.connect(_NOWHERE)
            except OSError:
                return "[127.0.0.1]"
        except OSError:
            return "[127.0.0.1]"
        return f"[{probe.getsockname()[0]}]"


def standings_of(config: Config, on_recovery: Callable[[], None] = lambda: None) -> Standings:
    """Return what is known of the relays, for all lanes: nothing yet."""
    return Standings([f"{one.host}:{one.port}" for one in config.relays], on_recovery=on_recovery)


def settings_of(config: Config, relay: RelayConfig) -> Settings:
    """Return how ``relay`` wants to be spoken to."""
    return Settings(
        host=relay.host,
        helo_name=helo_name_of(config, relay),
        security=relay.security,
        ca_file=str(relay.ca_file) if relay.ca_file else None,
        verify=relay.verify,
        server_name=relay.server_name,
        greeting=relay.greeting,
        auth=relay.auth,
        username=relay.username,
        password=relay.password.get_secret_value() if relay.password else None,
        token=_token_of(relay),
        mechanisms=relay.mechanisms,
        eager=relay.eager,
        dsn=tuple(_NOTIFY[one] for one in relay.dsn),
        idle_s=relay.idle_timeout_s,
    )


def _token_of(relay: RelayConfig) -> TokenSource | None:
    if relay.token_file is not None:
        return TokenFile(relay.token_file)
    if relay.token_command is not None:
        return TokenCommand(
            relay.token_command, timeout_s=relay.token_timeout_s, lifetime_s=relay.token_lifetime_s
        )
    return None


def relays_of(config: Config) -> tuple[Relay, ...]:
    """Return the relays in their order, for all lanes: these share the tokens."""
    return tuple(
        Relay(
            host=one.host,
            port=one.port,
            connect_timeout_s=one.connect_timeout_s,
            settings=settings_of(config, one),
        )
        for one in config.relays
    )


def lane_of(
    relays: Sequence[Relay],
    uplink: Uplink,
    observe: Callable[[str], None] | None = None,
    standings: Standings | None = None,
) -> Relays:
    """Return what delivers over one lane; ``standings`` is what the lanes know together."""
    return Relays(relays, uplink.connect, now=_now, observe=observe, standings=standings)


def composer_of(config: Config) -> Composer:
    """Return the composer with the product's templates and the user's."""
    return Composer(
        sender=config.sender,
        templates_dir=config.templates_dir,
        allowed_dirs=config.attachments.allowed_dirs,
        max_attachment_bytes=config.limits.attachments_bytes,
        product_version=__version__,
    )


def routes_of(config: Config) -> list[Route]:
    """Return the routes as they are configured, and behind them the one of Home Assistant's notifiers.

    These name their recipient themselves, so that none of the configured routes has to know of them.
    """
    configured = [Route(**one.model_dump(exclude={"rate"})) for one in config.routes]
    return [*configured, Route(topic=f"{NOTIFY}/#")] if config.home_assistant.discovery else configured


def description_of(config: Config) -> Description:
    """Return what Home Assistant is to be told of this bridge."""
    filters = [one.topic for one in config.routes]
    named = [(at, name_for(filters, at)) for at, one in enumerate(config.routes) if one.to or one.cc or one.bcc]
    return Description(
        base=config.topics.base,
        prefix=config.home_assistant.prefix,
        version=__version__,
        expiry_s=max(1, round(config.outbox.max_age_s)) if config.mqtt.protocol == "5" else None,
        recipients=tuple(config.recipients),
        routes=tuple(NamedRoute(topic_filter=filters[at], name=name) for at, name in named if name is not None),
    )


def routing_of(config: Config, composer: Composer, routes: Sequence[Route]) -> Routing:
    """Return ``routes`` with the address book."""
    return Routing(
        routes=routes,
        recipients=config.recipients,
        allow_recipients=config.allow_recipients,
        template_names=composer.names(),
        max_recipients=config.limits.recipients,
    )


def outbox_of(config: Config) -> Outbox:
    """Open the queue; raises OutboxError."""
    keep = config.outbox.keep
    return Outbox(config.outbox.path, keep=Keep(age_s=keep.age_s, alerts=keep.alerts))


def clock_of(outbox: Outbox) -> SteadyClock:
    """Return the clock by which letters wait, going on from where the last run left it; raises OutboxError."""
    return SteadyClock(Mark.read(outbox.memo.get(CLOCK_KEY)))


def wall_lead_s(reader: Reader) -> float:
    """Return by how much the wall clock is ahead of the one by which letters wait, in seconds."""
    mark = Mark.read(reader.memo(CLOCK_KEY))
    return 0.0 if mark is None else mark.lead_s


def bridge_of(config: Config, outbox: Outbox, routes: Sequence[Route], clock: SteadyClock | None = None) -> Bridge:
    """Return the journey over ``outbox`` by ``routes``."""
    composer, clock = composer_of(config), clock or clock_of(outbox)
    retry = config.outbox.retry
    return Bridge(
        outbox=outbox,
        routing=routing_of(config, composer, routes),
        composer=composer,
        schedule=Schedule(
            first_s=retry.first_s,
            factor=retry.factor,
            longest_s=retry.longest_s,
            max_age_s=config.outbox.max_age_s,
            jitter=JITTER,
        ),
        base=config.topics.base,
        payload_bytes=config.limits.payload_bytes,
        queue=config.limits.queue,
        queue_bytes=config.limits.queue_bytes,
        max_attachments=config.limits.attachments,
        attachments_bytes=config.limits.attachments_bytes,
        # The first route with a filter is the one that is reached.
        rates={one.topic: one.rate for one in reversed(config.routes) if one.rate is not None},
        forbidden_responses=(config.topics.base, config.home_assistant.prefix),
        clock=clock,
        date=clock.date,
    )


def mqtt_settings_of(config: Config) -> MqttSettings:
    """Return how to reach the broker."""
    mqtt = config.mqtt
    description = description_of(config)
    watched = (description.birth_topic, description.topic)
    return MqttSettings(
        host=mqtt.host,
        port=mqtt.port,
        username=mqtt.username,
        password=mqtt.password.get_secret_value() if mqtt.password else None,
        protocol=mqtt.protocol,
        client_id=mqtt.client_id,
        base=config.topics.base,
        shared_group=mqtt.shared_group,
        watched=watched if config.home_assistant.discovery else (),
        unwatched=() if config.home_assistant.discovery else watched,
        tls=_tls_of(mqtt.tls) if mqtt.tls else None,
    )


def _tls_of(tls: MqttTls) -> TlsSettings:
    ca_file, certfile, keyfile = (one and str(one) for one in (tls.ca_file, tls.certfile, tls.keyfile))
    return TlsSettings(
        ca_file=ca_file or None, certfile=certfile or None, keyfile=keyfile or None, verify=tls.verify
    )


def _now() -> datetime:
    return datetime.now(UTC)
