"""The brokers of the tests and of the demo: found quickly, honest about what is missing, restartable."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from plugin.demo.broker import LOOPBACK, Broker, BrokerError, BrokerKind
from tests import brokers
from tests.brokers import Brokers, Kind, docker_hindrance, kinds, required
from tests.mqtt.support import eventually, peer


def test_an_engine_that_is_not_there_is_noticed_quickly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokers, "ENGINE_TIMEOUT_S", 0.2)
    before = time.monotonic()
    assert "no Docker engine answers" in str(docker_hindrance(f"unix://{tmp_path}/no.sock"))
    assert "no Docker engine answers" in str(docker_hindrance("ssh://somewhere"))
    with socket.create_server((LOOPBACK, 0)) as silent:
        assert "no Docker engine answers" in str(docker_hindrance(f"tcp://{LOOPBACK}:{silent.getsockname()[1]}"))
    assert time.monotonic() - before < 2.0


def test_required_brokers() -> None:
    assert required({}) == ()
    assert required({"HARDWIRE_REQUIRE": " mosquitto,docker "}) == ("docker", "mosquitto")
    with pytest.raises(ValueError, match="rabbit"):
        required({"HARDWIRE_REQUIRE": "rabbit"})


def test_a_missing_broker_is_left_out_unless_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    def hindrance(kind: Kind) -> str | None:
        return None if kind == "embedded" else f"no {kind} here"

    monkeypatch.setattr(brokers, "hindrance", hindrance)
    monkeypatch.delenv("HARDWIRE_REQUIRE", raising=False)
    assert kinds(hindrance) == ("embedded",)
    monkeypatch.setenv("HARDWIRE_REQUIRE", "docker")
    assert kinds(hindrance) == ("docker", "embedded")
    with pytest.raises(BrokerError, match="no docker here"):
        Brokers().best()
    with pytest.raises(BrokerError, match="no docker here"):
        Brokers().get("docker")


@pytest.mark.parametrize("kind", [one for one in kinds() if one != "docker"])
def test_the_demo_has_a_broker(kind: BrokerKind) -> None:
    with Broker(kind) as broker:
        assert (broker.kind, broker.host, broker.protocol) == (kind, LOOPBACK, "5")
        with peer(broker, broker.protocol, "#") as client:
            client.publish("a", b"1", CorrelationData=b"x")
            assert eventually(lambda: client.payloads("a") == [b"1"])
        port = broker.port
        broker.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, port), timeout=1.0)
        broker.start()
        socket.create_connection((LOOPBACK, port), timeout=1.0).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, port), timeout=1.0)


def test_without_mosquitto_the_demo_embeds_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.demo.broker.mosquitto_binary", lambda: None)
    with Broker() as broker:
        assert broker.kind == "embedded"
    with pytest.raises(BrokerError, match="no mosquitto"):
        Broker("mosquitto")


def test_a_broker_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "mosquitto"
    binary.write_text("#!/bin/sh\necho 'out of luck'\nexit 3\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(BrokerError, match="out of luck"):
        Broker("mosquitto")
