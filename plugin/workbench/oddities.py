"""What is odd about the registers of a chip, each with what it means and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Interface, NetmaskValueError
from typing import Final

from plugin.w5100 import registers as reg
from plugin.w5100.chip import Addressing
from plugin.w5100.registers import Interrupt, Mode, SocketInterrupt, SocketMode, Status
from plugin.workbench.snapshot import Snapshot

SHORTEST_RTR_S: Final = 0.01

_TCP: Final = frozenset(
    {
        Status.INIT,
        Status.LISTEN,
        Status.SYNSENT,
        Status.SYNRECV,
        Status.ESTABLISHED,
        Status.FIN_WAIT,
        Status.CLOSING,
        Status.TIME_WAIT,
        Status.CLOSE_WAIT,
        Status.LAST_ACK,
    }
)
_PROTOCOLS: Final = {
    **dict.fromkeys(_TCP, SocketMode.TCP),
    Status.UDP: SocketMode.UDP,
    Status.IPRAW: SocketMode.IPRAW,
    Status.MACRAW: SocketMode.MACRAW,
    Status.PPPOE: SocketMode.PPPOE,
}
_FOREIGN: Final = frozenset({Status.LISTEN, Status.SYNRECV, Status.MACRAW, Status.PPPOE})


def oddities(snapshot: Snapshot, wanted: Addressing | None) -> Iterator[str]:
    """Yield what is odd, a sentence each; ``wanted`` is what the chip is configured to be, None: nobody says."""
    yield from _chip(snapshot)
    if snapshot.number("SIPR") or snapshot.number("SHAR"):
        yield from _identity(snapshot)
        if wanted is not None:
            yield from _differences(snapshot, wanted)
    else:
        yield (
            "SIPR and SHAR are zero: the chip is fresh from a reset, and nobody has told it its addresses; "
            "if a service is running on it, look at its power supply and /RESET"
        )
    for number in range(reg.SOCKETS):
        for text in _socket(snapshot, number):
            yield f"socket {number}: {text}"


def _chip(snapshot: Snapshot) -> Iterator[str]:
    mode = snapshot.number("MR")
    events = snapshot.number("IR")
    if mode & Mode.RST:
        yield "MR.RST stands: the chip does not come out of its reset; look at its power supply, clock and /RESET"
    if mode & Mode.PPPOE:
        yield "MR.PPPoE is set, which Hardwire never does: does another program use this chip?"
    if mode & Mode.PB:
        yield "MR.PB is set: the chip answers no ping"
    if events & Interrupt.CONFLICT:
        yield (
            f"IR.CONFLICT: another host has asked the network for {snapshot.address('SIPR')} as its own; "
            "give one of the two another address"
        )
    if events & Interrupt.UNREACH:
        yield (
            f"IR.UNREACH: {snapshot.address('UIPR')} has said that nobody listens on its UDP port "
            f"{snapshot.number('UPORT')}"
        )
    if snapshot.number("RTR") * reg.RTR_UNIT_S < SHORTEST_RTR_S:
        yield (
            f"RTR is {snapshot.number('RTR')} units of 100 us: the chip gives up before any host can answer; "
            "a reset sets it to 200 ms"
        )


def _identity(snapshot: Snapshot) -> Iterator[str]:
    mac = snapshot.values["SHAR"]
    if mac[0] & 1:
        yield (
            f"SHAR {mac.hex(':')}: the first octet is odd, which marks a group of hosts, and switches drop what "
            "comes from one; give chip.mac an even one, 02 for instance"
        )
    elif not any(mac):
        yield "SHAR is zero: the chip has an address and no MAC; set chip.mac"
    address, mask, gateway = (snapshot.address(name) for name in ("SIPR", "SUBR", "GAR"))
    try:
        network = IPv4Interface(f"{address}/{mask}").network
    except (AddressValueError, NetmaskValueError):
        yield f"SUBR {mask} is no subnet mask: its ones must all stand before its zeros"
        return
    if network.prefixlen < 31 and address in (network.network_address, network.broadcast_address):
        yield f"SIPR {address} is no host's address: it is the first or the last one of {network}"
    if int(gateway) and gateway not in network:
        yield (
            f"GAR {gateway} is outside {network}, the chip's own network: it cannot reach a gateway there; "
            "check chip.network"
        )
    if gateway == address:
        yield f"GAR and SIPR are both {address}: the chip would be its own gateway"


def _differences(snapshot: Snapshot, wanted: Addressing) -> Iterator[str]:
    pairs = (
        ("SHAR", snapshot.values["SHAR"].hex(":"), wanted.mac.hex(":")),
        ("SIPR", snapshot.address("SIPR"), wanted.address),
        ("SUBR", snapshot.address("SUBR"), wanted.subnet_mask),
        ("GAR", snapshot.address("GAR"), wanted.gateway),
    )
    for name, seen, configured in pairs:
        if seen != configured:
            yield (
                f"{name} is {seen}, and the configuration says {configured}: it was set by another configuration, "
                "or the bus flips bits"
            )


def _socket(snapshot: Snapshot, number: int) -> Iterator[str]:
    def value(register: str) -> int:
        return snapshot.number(f"S{number}_{register}")

    status, protocol, command = value("SR"), value("MR") & reg.PROTOCOL_MASK, value("CR")
    if command:
        name = reg.Command(command).name if command in list(reg.Command) else f"0x{command:02X}"
        yield f"Sn_CR still holds {name}: the chip does not take it; only a reset helps"
    if status not in list(Status):
        yield f"Sn_SR 0x{status:02X} is no state of a W5100: lower chip.speed_hz, and see hardwire chip test"
        return
    wanted = _PROTOCOLS.get(Status(status))
    if wanted is not None and wanted != protocol:
        yield f"Sn_SR is {Status(status).name}, but Sn_MR is not {wanted.name}: it was written after OPEN"
    if status in _FOREIGN:
        yield f"Sn_SR is {Status(status).name}, where Hardwire never goes: does another program use this chip?"
    if value("IR") & SocketInterrupt.TIMEOUT:
        yield "Sn_IR.TIMEOUT: there was no answer to ARP, SYN, data or FIN; is the peer there, and the cable in?"
    if status != Status.CLOSED:
        yield from _rings(snapshot, number)


def _rings(snapshot: Snapshot, number: int) -> Iterator[str]:
    for register, name, counter in (("TMSR", "TX", "TX_FSR"), ("RMSR", "RX", "RX_RSR")):
        sizes = reg.sizes_of(snapshot.number(register))
        if sum(sizes[: number + 1]) > reg.MEMORY_BYTES:
            yield (
                f"it is open, and {register} leaves no {name} memory for it: the sockets before it have "
                f"{sum(sizes[:number]) // reg.KIB} of 8 KiB"
            )
        count = snapshot.number(f"S{number}_{counter}")
        if count > sizes[number]:
            yield (
                f"Sn_{counter} is {count} in a ring of {sizes[number]} octets: the memory was split anew under an "
                "open socket, or the bus flips bits"
            )
