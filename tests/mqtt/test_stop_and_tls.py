"""Taking leave of the broker whatever it does, and TLS to it."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path
from typing import Final

import pytest

from plugin.mqtt import Mqtt, Settings, TlsSettings
from tests.mqtt.scripted import Wire, babble, scripted, settings_for, welcome
from tests.mqtt.support import Subject, eventually, running, started

PEM: Final = str(Path(__file__).with_name("loopback.pem"))


def test_stop_is_bounded_while_the_broker_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = int(nobody.getsockname()[1])
    with started(Settings(host="127.0.0.1", port=port)) as subject:
        reason = subject.wait_reason("nobody listens", str(port))
        assert "is the broker running?" in reason
        subject.mqtt.publish("a", b"a", token=1)
        before = time.monotonic()
        subject.mqtt.stop(timeout_s=2.0)
        assert time.monotonic() - before < 0.5
        assert not subject.thread.is_alive() or eventually(lambda: not subject.thread.is_alive())
    assert subject.published == []


def test_stop_is_bounded_while_the_broker_acknowledges_nothing() -> None:
    heads: list[int] = []

    def deaf(wire: Wire) -> None:
        wire.accept()
        while True:
            heads.append(wire.take()[0])

    with scripted(deaf) as broker, running(settings_for(broker)) as subject:
        before = time.monotonic()
        subject.mqtt.stop(timeout_s=0.6)
        assert 0.2 < time.monotonic() - before < 0.9
        assert eventually(lambda: not subject.thread.is_alive())
    # online, offline, and no DISCONNECT: the Last Will speaks for us.
    assert heads == [0x33, 0x33]


def test_stop_from_a_callback_does_not_wait_for_itself() -> None:
    with scripted(welcome) as broker:
        subject = Subject(settings_for(broker))
        subject.mqtt = Mqtt(
            settings_for(broker),
            on_message=lambda _message: None,
            on_published=lambda _token: None,
            on_session=lambda _present: subject.mqtt.stop(timeout_s=30.0),
            on_connection=lambda _connected, _reason: None,
        )
        before = time.monotonic()
        subject.start()
        subject.thread.join(5.0)
        assert not subject.thread.is_alive()
        assert time.monotonic() - before < 5.0
        assert not subject.failures


def test_run_is_for_one_call() -> None:
    with (
        scripted(welcome) as broker,
        running(settings_for(broker)) as subject,
        pytest.raises(RuntimeError, match="once"),
    ):
        subject.mqtt.run()


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


@pytest.mark.parametrize("tls", [TlsSettings(ca_file=PEM), TlsSettings(verify=False)])
def test_tls(tls: TlsSettings, caplog: pytest.LogCaptureFixture) -> None:
    with (
        scripted(welcome, context=server_context()) as broker,
        running(settings_for(broker, tls=tls, answer_timeout_s=5.0)) as subject,
    ):
        for token in range(50):
            subject.mqtt.publish("a", b"x" * 5000, token=token)
        subject.wait_published(*range(50))
    assert ("event=tls_not_verified" in caplog.text) is not tls.verify


def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    with (
        scripted(welcome, context=server_context()) as broker,
        started(settings_for(broker, tls=TlsSettings())) as subject,
    ):
        assert "is not trusted: self" in subject.wait_reason("certificate", str(broker.port))


def test_tls_against_a_port_without_it() -> None:
    with scripted(babble) as broker, started(settings_for(broker, tls=TlsSettings(ca_file=PEM))) as subject:
        assert subject.wait_reason("TLS", "is this its TLS port?")
