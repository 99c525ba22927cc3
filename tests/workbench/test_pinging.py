"""A ping by the chip, against an emulated chip whose network is played."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from plugin.config import Config
from plugin.probe.target import alone, relay_of
from plugin.w5100.emulator import Emulator, LinkDown, UnansweredSend
from plugin.workbench import pinging
from plugin.workbench.echo import checksum, judge, request
from plugin.workbench.pinging import Ping
from plugin.workbench.reach import Hands

PEER = IPv4Address("192.0.2.7")
ROUTER = IPv4Address("192.0.2.1")
IP_HEADER = b"\x45" + bytes(19)
Answer = Callable[[bytes], list[tuple[IPv4Address, bytes]]]


def reply(message: bytes) -> bytes:
    """Return the echo reply to an echo request."""
    blank = bytes(4) + message[4:]
    return bytes(2) + checksum(blank).to_bytes(2, "big") + message[4:]


def unreachable(message: bytes, kind: int = 3, code: int = 1) -> bytes:
    return bytes((kind, code)) + bytes(6) + IP_HEADER + message[:8]


class PlayedKernel:
    """In place of the kernel's raw socket: whoever pings gets what ``answer`` says."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._waiting: list[tuple[IPv4Address, bytes]] = []
        self._ends = socket.socketpair()

    def fileno(self) -> int:
        return self._ends[0].fileno()

    def sendto(self, message: bytes, _address: Any) -> None:
        for one in self._answer(message):
            self._waiting.append(one)
            self._ends[1].send(b"x")

    def recvfrom(self, _size: int) -> tuple[bytes, tuple[str, int]]:
        if not self._waiting:
            raise BlockingIOError
        self._ends[0].recv(1)
        source, message = self._waiting.pop(0)
        return IP_HEADER + message, (str(source), 0)

    def close(self) -> None:
        for end in self._ends:
            end.close()


class House:
    """An emulated chip without /INT, so that waiting is the clock's alone; its time passes by sleeping."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
        self.now = 0.0
        self.emulator = Emulator(clock=lambda: self.now)
        self.config: Config = alone(relay_of("127.0.0.1:25", username=None, password=None))
        bus = type("Polled", (), {"exchange": lambda _self, frames: self.emulator.exchange(frames)})()
        monkeypatch.setattr("plugin.workbench.reach.bus_of", lambda _config: bus)
        monkeypatch.setattr("plugin.workbench.pinging.host_refuses", lambda _config: None)
        monkeypatch.setattr(
            "plugin.w5100.emulator.network.Network.open_raw", lambda *_: (PlayedKernel(answer), True)
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def pings(self, count: int = 1) -> Iterator[Ping]:
        hands = Hands(clock=lambda: self.now, sleep=self.sleep)
        return pinging.ping_by(self.config, PEER, hands, count=count, timeout_s=3.0)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], House]]:
    made: list[House] = []

    def make(answer: Answer) -> House:
        made.append(House(monkeypatch, answer))
        return made[-1]

    yield make
    for one in made:
        one.emulator.close()


def test_each_request_has_its_reply(house: Callable[[Answer], House]) -> None:
    requests: list[bytes] = []

    def answer(message: bytes) -> list[tuple[IPv4Address, bytes]]:
        requests.append(message)
        return [(PEER, reply(message))]

    # The ring of 8 KiB is gone round more than once.
    pings = list(house(answer).pings(count=300))
    assert [one.number for one in pings if one.duration_s is not None] == list(range(1, 301))
    assert "32 octets came back" in pings[0].text
    assert all(checksum(one) == 0 and len(one) == 40 for one in requests)
    assert [int.from_bytes(one[6:8], "big") for one in requests] == list(range(1, 301))
    assert len({one[4:6] for one in requests}) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda _: [], "no answer within 3 s"),
        (lambda message: [(ROUTER, reply(message))], "no answer within 3 s"),
        (lambda message: [(PEER, reply(message[:7] + b"\x7f" + message[8:]))], "no answer within 3 s"),
        (lambda _: [(PEER, b"\x00")], "no answer within 3 s"),
        (lambda message: [(PEER, reply(message)[:-1] + b"!")], "corrupt"),
        (lambda message: [(PEER, reply(message)[:20])], "corrupt"),
        (lambda message: [(ROUTER, unreachable(message))], "192.0.2.1 says that it cannot be reached (host)"),
        (lambda message: [(ROUTER, unreachable(message, 11, 0))], "too far away"),
    ],
)
def test_what_is_no_reply_is_told(house: Callable[[Answer], House], answer: Answer, words: str) -> None:
    place = house(answer)
    (found,) = place.pings()
    assert found.duration_s is None
    assert words in found.text
    assert place.now < 5  # bounded, by the clock that is played


def test_strangers_do_not_hide_the_reply(house: Callable[[Answer], House]) -> None:
    (found,) = house(lambda message: [(ROUTER, b"\x08" + bytes(20)), (PEER, reply(message))]).pings()
    assert found.duration_s is not None


def test_no_answer_to_arp(house: Callable[[Answer], House]) -> None:
    place = house(lambda _: [])
    place.emulator.inject(LinkDown())
    (found,) = place.pings()
    assert "no answer to ARP" in found.text
    assert 1.7 < place.now < 3  # RTR x (RCR + 1), not our own deadline


def test_a_send_that_never_ends_is_cured(house: Callable[[Answer], House]) -> None:
    place = house(lambda message: [(PEER, reply(message))])
    place.emulator.inject(UnansweredSend(socket=0))
    pings = place.pings(count=2)
    first = next(pings)
    place.emulator.clear_faults()
    (second,) = pings
    assert "opened anew" in first.text
    assert second.duration_s is not None


def test_without_a_gateway_there_is_nobody_to_ping(house: Callable[[Answer], House]) -> None:
    place = house(lambda _: [])
    hands = Hands(clock=lambda: place.now, sleep=place.sleep)
    with pytest.raises(pinging.NoTarget, match="give an ADDRESS"):
        list(pinging.ping_by(place.config, None, hands, count=1, timeout_s=1.0))


@pytest.mark.parametrize(
    ("allowed", "told"), [((), True), ((socket.SOCK_RAW,), False), ((socket.SOCK_DGRAM,), False)]
)
def test_a_host_that_forbids_it_is_told(
    monkeypatch: pytest.MonkeyPatch, allowed: tuple[int, ...], told: bool
) -> None:
    class Socket:
        def __init__(self, _family: int, kind: int, _protocol: int) -> None:
            if kind not in allowed:
                raise PermissionError(1, "Operation not permitted")

        def close(self) -> None:
            pass

    config = alone(relay_of("127.0.0.1:25", username=None, password=None))
    monkeypatch.setattr("plugin.workbench.pinging.socket.socket", Socket)
    text = pinging.host_refuses(config)
    assert (text is not None) is told
    if told:
        assert "Operation not permitted" in str(text)
        with pytest.raises(OSError, match="ping_group_range"):
            next(pinging.ping_by(config, PEER, Hands(clock=float, sleep=print), count=1, timeout_s=1.0))


def test_a_reply_is_for_its_own_request_alone() -> None:
    message = reply(request(7, 1))
    assert judge(message, PEER, asked=PEER, identifier=7, sequence=1).kind == "reply"
    for identifier, sequence in ((7, 2), (8, 1)):
        assert judge(message, PEER, asked=PEER, identifier=identifier, sequence=sequence).kind == "other"
