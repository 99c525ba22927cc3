"""A ping by the chip: ICMP over one hardware socket in IPRAW (W5100 datasheet, chapter 5), every wait bounded."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, final

from plugin.config import Config
from plugin.w5100 import registers as reg
from plugin.w5100.bus import write
from plugin.w5100.errors import ChipTimeout, W5100Error
from plugin.w5100.hardware_socket import HardwareSocket, advance
from plugin.w5100.registers import SocketInterrupt, SocketMode, Status, status_name
from plugin.w5100.waiting import Pace
from plugin.workbench.echo import PAYLOAD_BYTES, judge, request
from plugin.workbench.reach import Hands, chip_of

BETWEEN_S: Final = 0.25
HEADER_BYTES: Final = 6  # in front of each datagram of IPRAW: the sender's address, the length


class NoTarget(ValueError):
    """There is no gateway to ping, and no address was given."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """One request to ``address``: how long its reply took, None without one; ``text`` says it in a sentence."""

    address: IPv4Address
    number: int
    duration_s: float | None
    text: str


def ping_by(
    config: Config, address: IPv4Address | None, hands: Hands, *, count: int, timeout_s: float
) -> Iterator[Ping]:
    """Reset and configure the chip, and ping ``address``, or the gateway, ``count`` times; yield each as it ends.

    Raises NoTarget before the chip is touched, where it can be known, else before anything is sent; OSError where
    chip or bus fail, and where this machine forbids the emulated chip to ping.
    """
    if refusal := host_refuses(config):
        raise W5100Error(refusal)
    network = config.chip.network
    if address is None and not (network is not None and (network.gateway or network.dhcp)):
        raise NoTarget("the chip has no gateway (chip.network.gateway): give an ADDRESS")
    with chip_of(config, hands) as reached:
        target = address or reached.addressing.gateway
        if not int(target):
            raise NoTarget("the DHCP server names no gateway: give an ADDRESS")
        lane = reached.chip.tcp_socket()  # never connected: what is wanted of it are its registers and its memory
        pinger = _Pinger(lane.hardware, target, hands.clock)
        try:
            for number in range(1, count + 1):
                if number > 1:
                    hands.sleep(BETWEEN_S)
                duration_s, text = pinger.ping(number, timeout_s)
                yield Ping(address=target, number=number, duration_s=duration_s, text=text)
        finally:
            pinger.close()
            lane.close()


def host_refuses(config: Config) -> str | None:
    """Return why the emulated chip cannot ping here, in a sentence; None for another bus, or if it can."""
    if config.chip.bus != "emulator":
        return None
    refused = ""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP).close()
        except OSError as error:
            refused = error.strerror or errno.errorcode.get(error.errno or 0, "")
        else:
            return None
    return (
        f"the emulated chip pings by an ICMP socket of this machine, which is refused ({refused}): give the user "
        "a group of net.ipv4.ping_group_range, or CAP_NET_RAW; on a real chip nothing of this is needed"
    )


class _Pinger:
    """One hardware socket in IPRAW. Its pointers are kept here, since a read of the chip's may give older ones."""

    def __init__(self, hardware: HardwareSocket, address: IPv4Address, clock: Callable[[], float]) -> None:
        self._hw = hardware
        self._address = address
        self._clock = clock
        self._identifier = secrets.randbelow(0x10000)
        self._tx = self._rx = 0
        self._open = False

    def ping(self, number: int, timeout_s: float) -> tuple[float | None, str]:
        """Send request ``number``; return the seconds until its reply, None without one, and a sentence.

        In all that takes no more than ``timeout_s``.
        """
        deadline = self._clock() + timeout_s
        if not self._open:
            self._begin()
        began_at = self._clock()
        if problem := self._send(request(self._identifier, number), deadline):
            return None, problem
        pace = Pace()
        while True:
            found = self._receive()
            if found is not None:
                verdict = judge(
                    found[1], found[0], asked=self._address, identifier=self._identifier, sequence=number
                )
                duration_s = self._clock() - began_at
                if verdict.kind == "reply":
                    text = f"{PAYLOAD_BYTES} octets came back in {duration_s * 1000:.2f} ms"
                    return duration_s, text
                if verdict.kind != "other":
                    return None, verdict.text
                continue
            remaining_s = deadline - self._clock()
            if remaining_s <= 0:
                text = f"no answer within {timeout_s:g} s: it is there for ARP, but may answer no ping"
                return None, text
            self._hw.wait(remaining_s, pace)
            self._hw.look()

    def close(self) -> None:
        """CLOSE; raises OSError."""
        if self._open:
            self._open = False
            self._hw.shut()

    def _begin(self) -> None:
        hw = self._hw
        hw.transfer([write(hw.at(reg.Sn_PROTO), bytes((socket.IPPROTO_ICMP,)))])
        self._open = True
        if not hw.open_as(SocketMode.IPRAW, 0, Status.IPRAW):
            raise ChipTimeout(f"socket {hw.number}: Sn_SR is {status_name(hw.status)} after OPEN, not IPRAW")
        self._tx = self._rx = 0  # OPEN sets all pointers to 0

    def _send(self, message: bytes, deadline: float) -> str | None:
        """SEND ``message``; return None once it is on the wire, else why it is not."""
        hw = self._hw
        end = advance(self._tx, len(message))
        hw.events &= ~SocketInterrupt.TIMEOUT
        there = write(hw.at(reg.Sn_DIPR), self._address.packed)
        point = write(hw.at(reg.Sn_TX_WR), end.to_bytes(2, "big"))
        hw.send(there, *hw.tx.write(self._tx, message), point, room=False)
        self._tx = end
        pace = Pace()
        while not hw.events & SocketInterrupt.SEND_OK:
            if hw.events & SocketInterrupt.TIMEOUT:
                return "no answer to ARP: is the address right, or the gateway, and the cable in?"
            remaining_s = deadline - self._clock()
            if remaining_s <= 0:
                self.close()  # a SEND that never ends is cured by CLOSE and OPEN (erratum 1)
                return "the chip did not send it in time, and does not say why; the socket is opened anew"
            hw.wait(remaining_s, pace)
            hw.look()
        return None

    def _receive(self) -> tuple[IPv4Address, bytes] | None:
        """Return the next datagram and its sender; None if there is none."""
        hw = self._hw
        high, low = hw.look(*hw.pair(reg.Sn_RX_RSR))
        waiting = hw.agree(reg.Sn_RX_RSR, high, low, hw.rx.size_bytes)
        if waiting < HEADER_BYTES:
            return None
        header = b"".join(hw.transfer(hw.rx.read(self._rx, HEADER_BYTES)))
        size = int.from_bytes(header[4:], "big")
        if size > waiting - HEADER_BYTES:
            raise W5100Error(
                f"socket {hw.number}: a datagram of {size} octets is announced and {waiting - HEADER_BYTES} are "
                "there: the ring is out of step, or the bus flips bits"
            )
        start = advance(self._rx, HEADER_BYTES)
        self._rx = advance(start, size)
        found = hw.release(self._rx, *hw.rx.read(start, size))
        return IPv4Address(header[:4]), b"".join(found)
