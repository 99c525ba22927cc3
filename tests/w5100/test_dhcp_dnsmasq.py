"""DNS and DHCP through the chip against a real dnsmasq, in network namespaces of their own.

The emulator uses the kernel's sockets, so the test's thread enters the namespace in which the chip is. There its
interface gets the address that the chip is configured with: on silicon the chip has a network of its own.
HARDWIRE_REQUIRE=dnsmasq makes a hindrance a failure.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

import pytest

from plugin.w5100.chip import Addressing, Chip
from plugin.w5100.dhcp import DhcpClient, Lease, State, obtain, renew
from plugin.w5100.dns import Resolver
from plugin.w5100.emulator import Emulator
from plugin.w5100.errors import LeaseLost, NameNotFound, NoAddressError, NoAnswerError, NoLease
from tests.brokers import DNSMASQ

MAC: Final = bytes.fromhex("0208dc010203")
NETWORK: Final = IPv4Network("10.77.0.0/24")
SERVER: Final = NETWORK[1]
CLONE_NEWNET: Final = 0x40000000
PATIENCE_S: Final = 10.0
RECORDS: Final = (
    "host-record=mail.test,10.77.0.25",
    "host-record=six.test,2001:db8::1",
    "cname=alias.test,mail.test",
    "address=/nowhere.test/",
    "address=/blocked.test/0.0.0.0",
    *(f"host-record=many.test,10.78.0.{n}" for n in range(1, 61)),  # some 1,000 octets: too many for UDP
)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)


class Lan:
    """Two namespaces joined by a wire: dnsmasq in one, the chip in the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.there, self.here = f"hw{os.getpid()}s", f"hw{os.getpid()}c"
        self.wire = f"hw{os.getpid()}"
        self._dnsmasq: subprocess.Popen[bytes] | None = None

    def build(self) -> None:
        for namespace in (self.there, self.here):
            run("ip", "netns", "add", namespace)
        ends = ["netns", self.there, "type", "veth", "peer", "name", self.wire, "netns", self.here]
        run("ip", "link", "add", self.wire, *ends)
        run("ip", "-n", self.there, "address", "add", f"{SERVER}/{NETWORK.prefixlen}", "dev", self.wire)
        run("ip", "-n", self.here, "link", "set", self.wire, "address", MAC.hex(":"))
        for namespace in (self.there, self.here):
            run("ip", "-n", namespace, "link", "set", self.wire, "up")

    def start(self, first: int, last: int) -> None:
        """Start dnsmasq with nothing but these addresses to give away."""
        self.stop()
        (self.folder / "leases").unlink(missing_ok=True)
        pool = f"{NETWORK[first]},{NETWORK[last]},{NETWORK.netmask},2m"
        lines = [*RECORDS, f"dhcp-range={pool}", f"dhcp-leasefile={self.folder}/leases", f"interface={self.wire}"]
        flags = [
            "bind-interfaces",
            "dhcp-authoritative",
            "no-ping",
            "no-resolv",
            "no-hosts",
            "local=/test/",
            "user=root",
            "pid-file=",
        ]
        (self.folder / "conf").write_text("\n".join([*lines, *flags, ""]))
        log = (self.folder / "log").open("ab")
        with log:
            command = ["ip", "netns", "exec", self.there, "dnsmasq", "-d", "-C", str(self.folder / "conf")]
            self._dnsmasq = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while b"DHCP, sockets bound" not in (self.folder / "log").read_bytes().rpartition(b"started, version")[2]:
            assert self._dnsmasq.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        if self._dnsmasq is not None:
            self._dnsmasq.kill()  # `ip netns exec` has become dnsmasq
            self._dnsmasq.wait(PATIENCE_S)
            self._dnsmasq = None

    def address(self, addressing: Addressing) -> None:
        """Give the chip's end of the wire the chip's address."""
        run("ip", "-n", self.here, "address", "flush", "dev", self.wire)
        if int(addressing.address):
            run("ip", "-n", self.here, "address", "add", f"{addressing.address}/24", "dev", self.wire)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let the sockets of this thread be in the chip's namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        home_path, away_path = Path("/proc/thread-self/ns/net"), Path("/run/netns") / self.here
        with home_path.open() as home, away_path.open() as away:
            assert libc.setns(away.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(home.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())

    def close(self) -> None:
        self.stop()
        for namespace in (self.there, self.here):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)


def hindrance() -> str | None:
    """Return why there can be no dnsmasq in a namespace on this machine, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    missing = [name for name in ("ip", "dnsmasq") if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: iproute2, dnsmasq-base)"
    return None


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    required = DNSMASQ in os.environ.get("HARDWIRE_REQUIRE", "").replace(" ", "").split(",")
    if (reason := hindrance()) is not None:
        (pytest.fail if required else pytest.skip)(f"no dnsmasq to test with: {reason}")
    lan = Lan(tmp_path_factory.mktemp("dnsmasq"))
    with contextlib.closing(lan):
        try:
            lan.build()
        except subprocess.CalledProcessError as error:
            reason = f"no network namespaces on this machine: {error.stderr.decode().strip()}"
            (pytest.fail if required else pytest.skip)(reason)
        yield lan


class House:
    """A chip in its namespace, its DHCP client, and a clock that can be moved on."""

    def __init__(self, lan: Lan) -> None:
        self.lan = lan
        self.later_s = 0.0
        self.emulator = Emulator()
        self.chip = Chip(self.emulator)
        self.chip.reset()
        self.client = DhcpClient(MAC, host_name="hardwire")

    def clock(self) -> float:
        return time.monotonic() + self.later_s

    def configure(self, addressing: Addressing) -> None:
        self.lan.address(addressing)
        self.chip.configure(addressing)

    def obtain(self, timeout_s: float = PATIENCE_S) -> Lease:
        return obtain(self.chip, self.client, self.configure, clock=self.clock, timeout_s=timeout_s)

    def renew(self) -> Lease:
        """Move on to the moment at which something is due, and do it."""
        self.later_s += max(0.0, self.client.due_at - self.clock())
        return renew(self.chip, self.client, self.configure, clock=self.clock, timeout_s=2.0)

    def resolver(self, servers: tuple[IPv4Address, ...]) -> Resolver:
        return Resolver(self.chip.udp_socket, self.chip.tcp_socket, servers, self.clock)


@pytest.fixture
def house(lan: Lan) -> Iterator[House]:
    lan.start(50, 60)
    with lan.entered():
        house = House(lan)
        with contextlib.closing(house.emulator):
            yield house


def renew_often(house: House) -> None:
    for _ in range(20):
        house.renew()


def lose(house: House, reason: str) -> None:
    """Renew until the lease is lost, which is a matter of a few steps."""
    with pytest.raises(LeaseLost, match=reason):
        renew_often(house)


def test_a_lease_is_obtained_renewed_and_rebound(house: House) -> None:
    lease = house.obtain()
    assert NETWORK[50] <= lease.address.ip <= NETWORK[60]
    assert lease.address.network == NETWORK
    assert (lease.gateway, lease.dns, lease.server, lease.expires_s) == (SERVER, (SERVER,), SERVER, 120.0)
    assert house.chip.holds(lease.addressing(MAC))
    _, mac, address, name, identity = (house.lan.folder / "leases").read_text().split()
    assert (mac, address, name) == (MAC.hex(":"), str(lease.address.ip), "hardwire")
    assert identity == "01:" + MAC.hex(":")
    renewed = house.renew()
    assert renewed.obtained_at >= lease.obtained_at + lease.t1_s
    house.later_s += renewed.t2_s + 1  # nobody looked at T1
    rebound = house.renew()
    assert rebound.obtained_at >= renewed.obtained_at + renewed.t2_s
    assert rebound.address == lease.address
    assert house.client.state is State.BOUND


def test_a_known_address_is_asked_for_and_granted_again(house: House) -> None:
    lease = house.obtain()
    house.client = DhcpClient(MAC, remembered=lease.address.ip)
    assert house.obtain().address == lease.address


def test_a_lease_from_a_pool_that_has_changed_is_lost_and_another_obtained(house: House) -> None:
    lease = house.obtain()
    house.lan.start(70, 80)
    lose(house, "NAK|expired")
    another = house.obtain()
    assert NETWORK[70] <= another.address.ip <= NETWORK[80]
    assert another.address != lease.address


def test_a_server_that_is_gone_costs_the_lease_only_at_its_end(house: House) -> None:
    lease = house.obtain()
    house.lan.stop()
    states = []
    for _ in range(2):
        assert house.renew() is lease
        states.append(house.client.state)
    assert states == [State.RENEWING, State.REBINDING]
    lose(house, "expired")
    with pytest.raises(NoLease, match=r"none answered|expired"):
        house.obtain(timeout_s=2.0)
    house.lan.start(50, 60)
    assert house.obtain().address.network == NETWORK


def test_names_are_looked_up_over_udp_and_tcp(house: House) -> None:
    resolver = house.resolver(house.obtain().dns)
    assert resolver.resolve("mail.test") == (IPv4Address("10.77.0.25"),)
    assert resolver.resolve("alias.test") == (IPv4Address("10.77.0.25"),)
    many = resolver.resolve("many.test")
    assert len(many) == 16
    assert set(many) <= {IPv4Address(f"10.78.0.{n}") for n in range(1, 61)}
    with pytest.raises(NameNotFound):
        resolver.resolve("nowhere.test")
    with pytest.raises(NoAddressError, match="no IPv4 address"):
        resolver.resolve("six.test")
    with pytest.raises(NoAddressError, match="blocks"):
        resolver.resolve("blocked.test")
    with pytest.raises(NoAnswerError, match="REFUSED"):
        resolver.resolve("elsewhere.example")  # dnsmasq knows nobody whom to ask
    house.lan.stop()
    house.later_s += 5
    assert resolver.resolve("mail.test") == (IPv4Address("10.77.0.25"),)
