"""What several keys must be together, and what this version refuses.

Pure functions from plain data to findings. They take what is sound and leave the rest alone (UNSOUND), so that
they run also when other faults have been found; types and ranges of single values are no matter here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from plugin.config.faults import Finding, KeyPath, did_you_mean
from plugin.config.values import parse_duration, parse_interface, parse_ipv4
from plugin.route import check_recipients, covers, quoted
from plugin.route.recipients import AddressBook, check_member
from plugin.route.routing import DEFAULT_MAX_RECIPIENTS, DEFAULT_TEMPLATE

Data = Mapping[str, Any]

# takes the place of what is known to be wrong already, so that positions in a list stay what they are
_PLACEHOLDER: Final = "unsound@localhost"
_BOOL: Final = TypeAdapter(bool)

# what a login may be proved by, and which AUTH mechanisms send what (plugin.smtp.auth has their exchanges)
_PROOFS: Final = ("password", "token_file", "token_command")
_PASSWORD_MECHANISMS: Final = ("PLAIN", "LOGIN", "CRAM-MD5")
_TOKEN_MECHANISMS: Final = ("OAUTHBEARER", "XOAUTH2")


def check(data: Data, *, folder: Path, template_names: Collection[str] | None) -> Iterator[Finding]:
    """Yield all faults and warnings of ``data``.

    Relative paths start at ``folder``; ``template_names`` None means that nobody knows them yet.
    """
    relays = _items(data, "relays")
    yield from _check_broker(_section(data, "mqtt"))
    yield from _check_chip(_section(data, "chip"))
    yield from _check_network(_section(data, "chip"), relays)
    for position, relay in relays:
        yield from _check_relay(relay, ("relays", position))
    yield from _check_book(data)
    yield from _check_routes(data, template_names)
    yield from _check_outbox(_section(data, "outbox"))
    yield from _check_home_assistant(data)
    yield from _check_paths(data, folder)


def _section(data: Data, key: str) -> Data:
    found = data.get(key)
    return found if isinstance(found, dict) else {}


def _items(data: Data, key: str) -> list[tuple[int, Data]]:
    found = data.get(key)
    listed = found if isinstance(found, list) else []
    return [(position, one) for position, one in enumerate(listed) if isinstance(one, dict)]


def _given(data: Data, key: str) -> bool:
    return data.get(key) is not None


def _is(data: Data, key: str, truth: bool) -> bool:  # noqa: FBT001 - reads as: key is true
    try:
        return _BOOL.validate_python(data.get(key)) is truth
    except ValidationError:
        return False


def _names(entry: Any) -> list[str]:
    listed = [entry] if isinstance(entry, str) else entry if isinstance(entry, list) else []
    return [one if isinstance(one, str) else _PLACEHOLDER for one in listed]


# --- MQTT ---------------------------------------------------------------------------------------------------
def _check_broker(mqtt: Data) -> Iterator[Finding]:
    if _given(mqtt, "password") and not _given(mqtt, "username"):
        yield Finding(("mqtt", "password"), "a password needs a username beside it")
    tls = _section(mqtt, "tls")
    if _given(tls, "keyfile") and not _given(tls, "certfile"):
        yield Finding(("mqtt", "tls", "keyfile"), "a key needs its certificate: write certfile too")
    if _is(tls, "verify", truth=False):
        yield Finding(
            ("mqtt", "tls", "verify"), "the broker's certificate IS NOT CHECKED: anyone may pose as it", True
        )


# --- The chip -----------------------------------------------------------------------------------------------
def _check_chip(chip: Data) -> Iterator[Finding]:
    if chip.get("bus") == "spidev":
        text = "the bus spidev is not built yet: write emulator, or module:factory for a Bus of your own"
        yield Finding(("chip", "bus"), text)
    for key in ("device", "interrupt", "reset"):
        if _given(chip, key):
            yield Finding(("chip", key), "belongs to the bus spidev, which is not built yet: take this key out")
    if chip.get("network") == "dhcp":
        text = (
            "DHCP is not built yet: write host for the emulator,"
            " else {address: 192.168.1.50/24, gateway: 192.168.1.1} with an address that is free"
        )
        yield Finding(("chip", "network"), text)


@dataclass(frozen=True, slots=True)
class _Network:
    interface: IPv4Interface
    gateway: IPv4Address | None


def _check_network(chip: Data, relays: list[tuple[int, Data]]) -> Iterator[Finding]:
    static = _section(chip, "network")
    if not static:
        return
    for position, relay in relays:
        host = relay.get("host")
        if isinstance(host, str) and _ipv4(host) is None:
            text = (
                f"{quoted(host)} is a name, and DNS over the chip is not built yet: give the relay's IPv4 address"
                " (or, on the emulator, write chip.network: host)"
            )
            yield Finding(("relays", position, "host"), text)
    try:
        interface = parse_interface(static.get("address"))
    except ValueError:
        return
    if _given(static, "gateway"):
        yield from _check_gateway(interface, _ipv4(static.get("gateway")))
        return
    for position, relay in relays:
        address = _ipv4(relay.get("host"))
        if address is not None and address not in interface.network:
            text = (
                f"{address} is outside {interface.network}, and without chip.network.gateway it cannot be reached"
            )
            yield Finding(("relays", position, "host"), text, warning=True)


def _check_gateway(interface: IPv4Interface, gateway: IPv4Address | None) -> Iterator[Finding]:
    path: KeyPath = ("chip", "network", "gateway")
    network = interface.network
    if gateway is None:
        return
    if gateway not in network:
        yield Finding(path, f"{gateway} is outside the chip's network {network}")
    elif gateway == interface.ip:
        yield Finding(path, f"{gateway} is the chip's own address: write the router's")
    elif gateway in (network.network_address, network.broadcast_address):
        yield Finding(path, f"{gateway} is the first or last address of {network}, which no router can have")


def _ipv4(value: Any) -> IPv4Address | None:
    try:
        return parse_ipv4(value)
    except ValueError:
        return None


# --- Relays -------------------------------------------------------------------------------------------------
def _check_relay(relay: Data, path: KeyPath) -> Iterator[Finding]:
    yield from _check_security(relay, path)
    yield from _check_login(relay, path)
    yield from _check_mechanisms(relay, path)
    yield from _check_eager(relay, path)
    username, auth = _given(relay, "username"), relay.get("auth")
    if auth in ("required", "preferred") and not username:
        yield Finding((*path, "auth"), f"{auth} needs username and password, or a token; without them write none")
    if relay.get("greeting") == "helo" and (auth == "required" or (auth is None and username)):
        text = "HELO offers no AUTH, so no mail could ever leave: write greeting: auto, or auth: preferred or none"
        yield Finding((*path, "greeting"), text)


def _check_login(relay: Data, path: KeyPath) -> Iterator[Finding]:
    given = [key for key in _PROOFS if _given(relay, key)]
    if _given(relay, "username") and not given:
        text = "a username needs a password beside it (password: !secret NAME), or token_file or token_command"
        yield Finding((*path, "username"), text)
    if given and not _given(relay, "username"):
        yield Finding((*path, given[0]), f"a {given[0].partition('_')[0]} needs a username beside it")
    for key in given[1:]:
        text = f"{given[0]} stands there too: keep one of {', '.join(_PROOFS)}, and take the others out"
        yield Finding((*path, key), text)
    if not _given(relay, "token_command"):
        for key in ("token_timeout", "token_lifetime"):
            if _given(relay, key):
                yield Finding((*path, key), "has no effect without token_command", warning=True)


def _proof(relay: Data) -> str | None:
    """Return what the login is proved by, ``password`` or ``token``; None where nothing or too much is said."""
    given = [key for key in _PROOFS if _given(relay, key)]
    return given[0].partition("_")[0] if len(given) == 1 else None


def _mechanisms(relay: Data) -> list[str]:
    return [name.upper() for name in _names(relay.get("mechanisms"))]


def _check_mechanisms(relay: Data, path: KeyPath) -> Iterator[Finding]:
    proof = _proof(relay)
    if _mechanisms(relay) and not _given(relay, "username"):
        yield Finding((*path, "mechanisms"), "has no effect without a username", warning=True)
    for position, name in enumerate(_mechanisms(relay)):
        place = (position,) if isinstance(relay.get("mechanisms"), list) else ()
        if proof == "password" and name in _TOKEN_MECHANISMS:
            text = f"{name} sends a token: write token_file or token_command in place of password, or take it out"
            yield Finding((*path, "mechanisms", *place), text)
        elif proof == "token" and name in _PASSWORD_MECHANISMS:
            fit = " or ".join(_TOKEN_MECHANISMS)
            text = f"{name} sends a password, and there is a token: write {fit}, or take it out"
            yield Finding((*path, "mechanisms", *place), text)


def _check_eager(relay: Data, path: KeyPath) -> Iterator[Finding]:
    """Eager sends AUTH PLAIN and what follows in one write, so all of it must be known beforehand."""
    path = (*path, "eager")
    if not _is(relay, "eager", truth=True):
        return
    if not _given(relay, "username") or relay.get("auth") == "none":
        text = "sends the login together with the mail, and there is none: write username and password, or false"
        yield Finding(path, text)
    elif _proof(relay) == "token":
        yield Finding(path, "sends a password together with the mail, never a token: write password, or false")
    elif _mechanisms(relay)[:1] in (["LOGIN"], ["CRAM-MD5"]):
        yield Finding(
            path, "sends AUTH PLAIN together with the mail: put PLAIN first in mechanisms, or write false"
        )
    elif relay.get("greeting") == "helo":
        yield Finding(path, "needs EHLO, which helo never says: write greeting: auto, or eager: false")
    elif _security(relay) == "none":
        text = "sends password and mail in clear text, and does not wait until the relay has taken the login"
        yield Finding(path, text, warning=True)


def _check_security(relay: Data, path: KeyPath) -> Iterator[Finding]:
    security = _security(relay)
    if security == "starttls" and relay.get("greeting") == "helo":
        text = "STARTTLS needs EHLO (RFC 3207), which helo never says: write greeting: auto, or security: tls"
        yield Finding((*path, "greeting"), text)
    if security == "none":
        set_keys = [key for key in ("ca_file", "server_name") if _given(relay, key)]
        for key in [*set_keys, *(["verify"] if _is(relay, "verify", truth=False) else [])]:
            yield Finding((*path, key), "has no effect with security: none", warning=True)


def _security(relay: Data) -> Any:
    return relay.get("security") or ("tls" if str(relay.get("port")) == "465" else "starttls")


# --- Recipients and routes ----------------------------------------------------------------------------------
def _book(data: Data) -> dict[str, str | list[str]]:
    return {
        name: _names(entry) if isinstance(entry, list) else entry if isinstance(entry, str) else _PLACEHOLDER
        for name, entry in _section(data, "recipients").items()
    }


def _check_book(data: Data) -> Iterator[Finding]:
    book = _book(data)
    for fault in check_recipients(book):
        near = did_you_mean(fault.unknown, book) if fault.unknown is not None else ""
        position = () if fault.position is None else (fault.position,)
        yield Finding(("recipients", fault.name, *position), f"{fault.reason}{near}")


def _check_routes(data: Data, template_names: Collection[str] | None) -> Iterator[Finding]:
    book = _book(data)
    book_is_sound = isinstance(data.get("recipients", {}), dict | None)
    routes = _items(data, "routes")
    for position, route in routes:
        path: KeyPath = ("routes", position)
        for key in ("to", "cc", "bcc"):
            for at, name in enumerate(_names(route.get(key))):
                if name in book or (not book_is_sound and "@" not in name):
                    continue
                if wrong := check_member(name):
                    place = (at,) if isinstance(route.get(key), list) else ()
                    yield Finding((*path, key, *place), f"{wrong}{did_you_mean(name, book)}")
        template = route.get("template", DEFAULT_TEMPLATE)
        if template_names is not None and isinstance(template, str) and template not in template_names:
            near = did_you_mean(template, template_names)
            yield Finding((*path, "template"), f"there is no template {quoted(template)}{near}")
    yield from _check_order(routes, data)
    yield from _check_sizes(routes, data, book)


def _check_order(routes: list[tuple[int, Data]], data: Data) -> Iterator[Finding]:
    base = _section(data, "topics").get("base", "alerts")
    earlier: list[tuple[int, str]] = []
    for position, route in routes:
        topic = route.get("topic")
        if not isinstance(topic, str):
            continue
        path: KeyPath = ("routes", position, "topic")
        below = f"{base}/email/"
        if topic.startswith(below):
            text = f"filters are taken below {below} already: write {quoted(topic.removeprefix(below))}"
            yield Finding(path, text, warning=True)
        before = next((one for one in earlier if covers(one[1], topic)), None)
        if before is not None:
            text = (
                f"is never reached: routes[{before[0]}] ({quoted(before[1])}) stands before it and takes all of it"
            )
            yield Finding(path, text, warning=True)
        earlier.append((position, topic))


def _check_sizes(
    routes: list[tuple[int, Data]], data: Data, book: Mapping[str, str | list[str]]
) -> Iterator[Finding]:
    limit = _section(data, "limits").get("recipients", DEFAULT_MAX_RECIPIENTS)
    try:
        known = AddressBook(book, ())
    except ValueError:
        return  # its faults have been found
    for position, route in routes:
        names = [name for key in ("to", "cc", "bcc") for name in _names(route.get(key))]
        count = len(set(known.expand(name for name in names if name in known or check_member(name) is None)))
        if isinstance(limit, int) and count > limit:
            text = f"names {count} recipients, more than limits.recipients ({limit})"
            yield Finding(("routes", position), text)


# --- The rest -----------------------------------------------------------------------------------------------
def _check_outbox(outbox: Data) -> Iterator[Finding]:
    retry = _section(outbox, "retry")
    try:
        first, longest = parse_duration(retry.get("first", 10)), parse_duration(retry.get("longest", 900))
    except ValueError:
        return
    if longest < first:
        yield Finding(("outbox", "retry", "longest"), f"must not be shorter than first ({first:g} s)")


def _check_home_assistant(data: Data) -> Iterator[Finding]:
    section = _section(data, "home_assistant")
    if _is(section, "discovery", truth=True):
        text = "discovery is not built yet: write false, and take the package in ha_config/ for Home Assistant"
        yield Finding(("home_assistant", "discovery"), text)
    prefix = section.get("prefix", "homeassistant")
    if isinstance(prefix, str) and prefix == _section(data, "topics").get("base", "alerts"):
        yield Finding(("home_assistant", "prefix"), "must differ from topics.base")


def _check_paths(data: Data, folder: Path) -> Iterator[Finding]:
    for position, relay in _items(data, "relays"):
        token_file = relay.get("token_file")
        if isinstance(token_file, str) and not _is_file(folder / token_file):
            text = f"there is no file {folder / token_file} yet, and no login without it"
            yield Finding(("relays", position, "token_file"), text, warning=True)
    templates_dir = data.get("templates_dir")
    if isinstance(templates_dir, str) and not _is_folder(folder / templates_dir):
        yield Finding(("templates_dir",), f"there is no folder {folder / templates_dir}", warning=True)
    allowed_dirs = _section(data, "attachments").get("allowed_dirs")
    for position, name in enumerate([allowed_dirs] if isinstance(allowed_dirs, str) else allowed_dirs or ()):
        path: KeyPath = ("attachments", "allowed_dirs", position)
        if not isinstance(name, str):
            continue
        if not _is_folder(folder / name):
            yield Finding(path, f"there is no folder {folder / name}", warning=True)
        elif (folder / name).resolve() == Path("/"):
            yield Finding(path, "admits every file of this machine to mails", warning=True)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
