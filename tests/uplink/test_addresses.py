"""Addresses that are lent: taken up again after a reset, given up for a fallback, asked for anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

import pytest

from plugin.uplink import Leased
from plugin.uplink import addresses as room
from plugin.w5100 import Addressing, Chip
from plugin.w5100.dhcp import DhcpClient, Lease
from plugin.w5100.emulator import Emulator
from plugin.w5100.errors import LeaseLost, NoLease, NoSocketError
from tests.smtp.scripted import Clock

MAC = bytes.fromhex("0208dc010203")
FALLBACK = Addressing(
    mac=MAC,
    address=IPv4Address("192.168.1.50"),
    subnet_mask=IPv4Address("255.255.255.0"),
    gateway=IPv4Address("192.168.1.1"),
)


class House:
    """A DHCP client whose server answers as told, and a chip that is only written to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, fallback: Addressing | None) -> None:
        self.clock = Clock()
        self.client = DhcpClient(MAC)
        self.answers: list[Lease | Exception] = []
        self.servers: list[tuple[IPv4Address, ...]] = []
        self.configured: list[Addressing] = []
        self.chip = Chip(Emulator())
        self.leased = Leased(self.client, fallback=fallback, use_servers=self._use, clock=self.clock)
        monkeypatch.setattr(room, "obtain", self._answer)
        monkeypatch.setattr(room, "renew", self._answer)

    def _use(self, servers: Sequence[IPv4Address]) -> None:
        self.servers.append(tuple(servers))

    def _answer(self, _chip: Chip, client: DhcpClient, configure: Any, **_: Any) -> Lease:
        answer = self.answers.pop(0)
        if isinstance(answer, LeaseLost):
            client.lease = None
        if isinstance(answer, Exception):
            raise answer
        client.lease = answer
        configure(answer.addressing(MAC))
        return answer

    def obtain(self) -> Addressing:
        return self.leased.obtain(self.chip, self.configured.append)

    def keep(self) -> Addressing | None:
        return self.leased.keep(self.chip, self.configured.append)

    def lease(self, address: str = "192.168.1.77/24") -> Lease:
        return Lease(
            address=IPv4Interface(address),
            gateway=IPv4Address("192.168.1.1"),
            dns=(IPv4Address("192.168.1.2"),),
            server=IPv4Address("192.168.1.1"),
            obtained_at=self.clock(),
            t1_s=300,
            t2_s=525,
            expires_s=600,
        )


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    return House(monkeypatch, fallback=FALLBACK)


def test_a_lease_is_taken_and_its_servers_are_asked(house: House) -> None:
    house.answers = [house.lease()]
    assert house.obtain().address == IPv4Address("192.168.1.77")
    assert house.servers == [(IPv4Address("192.168.1.2"),)]
    assert house.leased.problem is None


def test_a_renewal_with_other_servers_has_them_asked(house: House) -> None:
    house.answers = [house.lease()]
    house.obtain()
    house.answers = [house.lease(), replace(house.lease(), dns=(IPv4Address("192.168.1.3"),)), house.lease()]
    for _ in range(3):
        house.keep()
    assert house.servers == [(IPv4Address(f"192.168.1.{last}"),) for last in (2, 3, 2)]


def test_a_chip_that_reset_itself_has_its_lease_back_without_a_question(house: House) -> None:
    house.answers = [house.lease()]
    first = house.obtain()
    house.clock.pass_s(599)
    assert house.obtain() == first
    house.clock.pass_s(1)
    house.answers = [house.lease("192.168.1.78/24")]
    assert house.obtain().address == IPv4Address("192.168.1.78")


def test_without_a_server_the_fallback_holds_and_dhcp_is_tried_again(house: House) -> None:
    house.answers = [NoLease("no DHCP server gave an address")]
    assert house.obtain() == FALLBACK
    assert house.configured == [FALLBACK]
    assert house.leased.problem == "no DHCP server gave an address"
    assert house.keep() == FALLBACK
    house.clock.pass_s(room.RETRY_S)
    assert house.keep() is None  # set up anew
    house.answers = [house.lease()]
    assert house.obtain().address == IPv4Address("192.168.1.77")
    assert house.leased.problem is None


def test_without_server_and_fallback_there_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch, fallback=None)
    house.answers = [NoLease("no DHCP server gave an address")]
    with pytest.raises(NoLease):
        house.obtain()
    assert house.leased.problem == "no DHCP server gave an address"


def test_a_lease_is_renewed_kept_while_all_lanes_work_and_lost(house: House) -> None:
    house.answers = [house.lease()]
    first = house.obtain()
    house.answers = [house.lease(), NoSocketError("all in use"), LeaseLost("a server took it back (NAK)")]
    assert [house.keep(), house.keep(), house.keep()] == [first, first, None]
    assert house.leased.problem == "a server took it back (NAK)"
