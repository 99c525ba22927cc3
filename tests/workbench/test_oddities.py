"""A chip as it should be has nothing odd; each thing that is odd is told, and nothing else with it."""

from __future__ import annotations

import re
from ipaddress import IPv4Address

import pytest

from plugin.w5100 import registers as reg
from plugin.w5100.bus import Wire, write
from plugin.w5100.chip import Addressing
from plugin.w5100.emulator import Emulator
from plugin.w5100.model import W5100
from plugin.workbench.oddities import oddities
from plugin.workbench.snapshot import Snapshot, take, wire_to

WANTED = Addressing(
    mac=bytes.fromhex("0208dc010203"),
    address=IPv4Address("192.168.1.50"),
    subnet_mask=IPv4Address("255.255.255.0"),
    gateway=IPv4Address("192.168.1.1"),
)


def good() -> dict[str, bytes]:
    """Return the registers of a chip that is configured for two lanes, one of them connected."""
    emulator = Emulator()
    Wire(emulator).transfer(
        [write(reg.GAR, WANTED.as_registers()), write(reg.RMSR, b"\x0a\x0a")],
    )
    values = dict(take(*wire_to(emulator)).values)
    emulator.close()
    return values | {"S0_MR": b"\x21", "S0_SR": b"\x17", "S0_TX_FSR": b"\x10\x00"}


def odd(**changes: str) -> list[str]:
    """Return what is odd about a good chip with these registers, in hexadecimal."""
    changed = {name: bytes.fromhex(value) for name, value in changes.items()}
    assert set(changed) <= set(good())
    return list(oddities(Snapshot(model=W5100, values=good() | changed), WANTED))


def test_nothing_is_odd_about_a_chip_at_work() -> None:
    assert odd() == []


def test_a_chip_fresh_from_a_reset_is_one_thing() -> None:
    (text,) = oddities(take(*wire_to(Emulator())), WANTED)
    assert "fresh from a reset" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"MR": "80"}, "MR.RST stands"),
        ({"MR": "08"}, "MR.PPPoE is set"),
        ({"MR": "10"}, "answers no ping"),
        ({"IR": "80"}, "IR.CONFLICT: another host .* 192.168.1.50"),
        ({"IR": "40", "UIPR": "c0a80107", "UPORT": "0035"}, "IR.UNREACH: 192.168.1.7 .* port 53"),
        ({"RTR": "0000"}, "RTR is 0"),
        ({"SHAR": "0108dc010203"}, "first octet is odd"),
        ({"SHAR": "000000000000"}, "SHAR is zero"),
        ({"SUBR": "ff00ff00"}, "255.0.255.0 is no subnet mask"),
        ({"SIPR": "c0a801ff"}, "192.168.1.255 is no host's address"),
        ({"GAR": "c0a80201"}, r"192.168.2.1 is outside 192.168.1.0/24"),
        ({"GAR": "c0a80132"}, "its own gateway"),
        ({"SIPR": "c0a80133"}, "SIPR is 192.168.1.51, and the configuration says 192.168.1.50"),
        ({"S1_CR": "20"}, "socket 1: Sn_CR still holds SEND"),
        ({"S1_SR": "77"}, "socket 1: Sn_SR 0x77 is no state of a W5100"),
        ({"S1_SR": "22"}, "socket 1: Sn_SR is UDP, but Sn_MR is not UDP"),
        ({"S1_SR": "14", "S1_MR": "01"}, "socket 1: Sn_SR is LISTEN, where Hardwire never goes"),
        ({"S1_IR": "08"}, "socket 1: Sn_IR.TIMEOUT"),
        ({"S0_RX_RSR": "1001"}, "socket 0: Sn_RX_RSR is 4097 in a ring of 4096"),
        (
            {"S2_SR": "13", "S2_MR": "01", "S2_TX_FSR": "0400"},
            "socket 2: it is open, and TMSR leaves no TX memory",
        ),
    ],
)
def test_each_oddity_is_told(changes: dict[str, str], words: str) -> None:
    texts = odd(**changes)
    assert any(re.search(words, one) for one in texts), texts
    # What follows of itself may be told beside it: another address than the configured one, the other memory.
    others = [one for one in texts if not re.search(words, one)]
    assert all("the configuration says" in one or "leaves no RX memory" in one for one in others)
