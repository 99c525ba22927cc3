"""What the keys of ``chip`` must be together: the bus and what belongs to it, the network and who is in it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Final

from plugin.config.faults import Finding, KeyPath
from plugin.config.model import Chip
from plugin.config.plain import Data, address_of, has, is_there, is_truth, section_of, sections_in
from plugin.config.values import parse_interface
from plugin.route import quoted

_OF_SPIDEV: Final = ("device", "interrupt", "reset")
_ADDRESSES: Final = "{address: 192.168.1.50/24, gateway: 192.168.1.1}"
_NETWORK: Final[KeyPath] = ("chip", "network")


def check_chip(data: Data, folder: Path) -> Iterator[Finding]:
    """Yield faults and warnings of ``chip`` and of relays that cannot be reached from its network.

    Relative paths start at ``folder``.
    """
    chip = section_of(data, "chip")
    bus = chip.get("bus") or "emulator"
    if bus == "spidev":
        yield from _check_spidev(chip, folder)
    elif isinstance(bus, str):
        for key in _OF_SPIDEV:
            if has(chip, key):
                yield Finding(("chip", key), f"has no effect with bus: {bus}: it belongs to spidev", warning=True)
    network = chip.get("network")
    by_dhcp = network == "dhcp" or is_truth(section_of(chip, "network"), "dhcp", truth=True)
    if by_dhcp and bus == "emulator":
        text = (
            "the emulator speaks through this machine's own sockets, which the lease does not change: DHCP works "
            "only as root or in a network namespace. Write host"
        )
        yield Finding(_NETWORK, text, warning=True)
    if isinstance(network, dict):
        yield from _check_addresses(network, by_dhcp=by_dhcp)
        yield from _check_relays(network, sections_in(data, "relays"), by_dhcp=by_dhcp)


def _check_spidev(chip: Data, folder: Path) -> Iterator[Finding]:
    if chip.get("network", "host") in ("host", None):
        text = f"a chip on spidev is a host of its own, with its own addresses: write dhcp, or {_ADDRESSES}"
        yield Finding(_NETWORK, text)
    device = chip.get("device") or Chip.model_fields["device"].default
    if isinstance(device, str) and not is_there(Path(device)):
        text = f"there is no {device} yet: is SPI on (dtparam=spi=on in config.txt)?"
        yield Finding(("chip", "device"), text, warning=True)
    lines = [(key, section_of(chip, key)) for key in ("interrupt", "reset")]
    for key, line in lines:
        path = line.get("chip")
        if isinstance(path, str) and not is_there(folder / path):
            yield Finding(("chip", key, "chip"), f"there is no {folder / path} yet", warning=True)
    if has(chip, "reset") and section_of(chip, "interrupt") == section_of(chip, "reset"):
        yield Finding(("chip", "reset"), "is the same line as chip.interrupt: /INT and /RESET are two wires")


def _check_addresses(network: Data, *, by_dhcp: bool) -> Iterator[Finding]:
    if not has(network, "address"):
        if not by_dhcp:
            text = "is missing: write the chip's address, such as 192.168.1.50/24, or dhcp: true"
            yield Finding((*_NETWORK, "address"), text)
        elif has(network, "gateway"):
            text = "needs address beside it: both hold where no DHCP server answers"
            yield Finding((*_NETWORK, "gateway"), text)
        return
    interface = _interface(network)
    gateway = address_of(network.get("gateway"))
    if interface is not None and gateway is not None:
        yield from _check_gateway(interface, gateway)


def _check_relays(network: Data, relays: list[tuple[int, Data]], *, by_dhcp: bool) -> Iterator[Finding]:
    """Names need a name server, far relays a gateway; a DHCP server may tell both."""
    if by_dhcp:
        return
    interface = _interface(network)
    for position, relay in relays:
        host, path = relay.get("host"), ("relays", position, "host")
        address = address_of(host)
        if isinstance(host, str) and address is None and not network.get("dns"):
            text = (
                f"{quoted(host)} is a name, and the chip has nobody to ask for its address: write "
                "chip.network.dns, or the relay's IPv4 address"
            )
            yield Finding(path, text)
        if address is None or interface is None or has(network, "gateway"):
            continue
        if address not in interface.network:
            text = (
                f"{address} is outside {interface.network}, and without chip.network.gateway it cannot be reached"
            )
            yield Finding(path, text, warning=True)


def _check_gateway(interface: IPv4Interface, gateway: IPv4Address) -> Iterator[Finding]:
    path: KeyPath = (*_NETWORK, "gateway")
    network = interface.network
    if gateway not in network:
        yield Finding(path, f"{gateway} is outside the chip's network {network}")
    elif gateway == interface.ip:
        yield Finding(path, f"{gateway} is the chip's own address: write the router's")
    elif gateway in (network.network_address, network.broadcast_address):
        yield Finding(path, f"{gateway} is the first or last address of {network}, which no router can have")


def _interface(network: Data) -> IPv4Interface | None:
    try:
        return parse_interface(network.get("address"))
    except ValueError:
        return None
