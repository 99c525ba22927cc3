"""All registers of the chip as they stand, in a reading that changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final, final

from plugin.w5100 import registers as reg
from plugin.w5100.bus import ECHO, Bus, ExchangeOnly, Wire, read
from plugin.w5100.model import W5100, Model, held_to, recognised
from plugin.w5100.register_map import COMMON, SOCKETS, W5100S_ALONE, Register, words

LIVE: Final = ("TX_FSR", "RX_RSR")
"""Registers of a socket that count while they are read: two octets of them may belong to two moments."""
AGREE_READS: Final = 8

_OF_SOCKETS: Final = tuple(one for registers in SOCKETS for one in registers)
_LIVE: Final = tuple(one for one in _OF_SOCKETS if one.name.partition("_")[2] in LIVE)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The octets of each register, by name; a socket's with its number: S0_SR."""

    model: Model
    values: Mapping[str, bytes]

    @property
    def registers(self) -> tuple[Register, ...]:
        """All registers, by address."""
        return registers_of(self.model)

    def number(self, name: str) -> int:
        """Return the value of a register as a number."""
        return int.from_bytes(self.values[name], "big")

    def address(self, name: str) -> IPv4Address:
        """Return the value of a register of four octets as an address."""
        return IPv4Address(self.values[name])

    def as_json(self) -> list[dict[str, Any]]:
        """Return what ``--json`` prints: name, address, value in hexadecimal and in words of each register."""
        return [
            {
                "name": one.name,
                "address": f"0x{one.address:04X}",
                "value": self.values[one.name].hex(),
                "text": words(one, self.values[one.name]),
            }
            for one in self.registers
        ]


def registers_of(model: Model) -> tuple[Register, ...]:
    """Return the registers that are shown of ``model``, by address."""
    return (*COMMON, *(() if model is W5100 else W5100S_ALONE), *_OF_SOCKETS)


def wire_to(bus: Bus | ExchangeOnly) -> tuple[Wire, Model]:
    """Return the way to the registers, and which chip answers; nothing is written.

    Raises BusError, or OSError of the bus.
    """
    wire = Wire(bus)
    (verr, _), echo = wire.probe((read(reg.VERR), read(reg.RTR, 2)))
    model = recognised(verr[0])
    wire.speak(model, ECHO if model is W5100 else held_to(model, echo))
    return wire, model


def take(wire: Wire, model: Model) -> Snapshot:
    """Read all registers; nothing is written. Raises BusError, or OSError of the bus.

    Counters are read until two readings agree; one that never does, in AGREE_READS of them, is taken as it is.
    """
    values = _values(wire, registers_of(model))
    for _ in range(AGREE_READS):
        again = _values(wire, _LIVE)
        settled = all(values[name] == value for name, value in again.items())
        values |= again
        if settled:
            break
    return Snapshot(model=model, values=values)


def _values(wire: Wire, registers: tuple[Register, ...]) -> dict[str, bytes]:
    found = wire.transfer([read(one.address, one.size) for one in registers])
    return {one.name: value for one, value in zip(registers, found, strict=True)}
