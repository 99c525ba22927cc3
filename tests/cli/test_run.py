"""``run`` at its beginning and its end: what keeps it from starting, and the signals that end it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plugin.compose import template_names
from plugin.config import load
from plugin.service import Service
from tests.brokers import AnyBroker
from tests.journey.house import configuration

LIMIT_S = 60


@pytest.mark.parametrize(
    ("place", "words"),
    [("missing/x.db", "create its folder"), ("diary.txt", "give another outbox.path"), (".", "cannot be opened")],
)
def test_an_outbox_that_cannot_be_keeps_it_from_starting(
    any_broker: AnyBroker, tmp_path: Path, place: str, words: str
) -> None:
    (tmp_path / "diary.txt").write_text("Dear diary, " * 500)
    config = configuration(tmp_path, any_broker, 25, outbox=f"{{path: {place}}}")
    done = subprocess.run(
        [sys.executable, "-m", "plugin", "run", "--config", str(config)],
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("hardwire: ")
    assert "outbox" in last
    assert words in last


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("broker_is_there", [True, False])
def test_it_ends_with_0_when_it_is_asked_to(
    any_broker: AnyBroker, tmp_path: Path, number: signal.Signals, *, broker_is_there: bool
) -> None:
    changes = {} if broker_is_there else {"mqtt": "{host: 127.0.0.1, port: 9}"}
    config = configuration(tmp_path, any_broker, 25, **changes)
    with subprocess.Popen(
        [sys.executable, "-m", "plugin", "run", "--config", str(config)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        told = ""
        for line in process.stderr:
            told += line
            if "event=started" in line:
                break
        process.send_signal(number)
        told += process.communicate(timeout=LIMIT_S)[1]
    assert process.returncode == 0, told
    assert "event=stopped" in told
    assert "Traceback" not in told


def test_a_signal_in_the_middle_of_a_wait_is_no_deadlock(any_broker: AnyBroker, tmp_path: Path) -> None:
    """The handler runs in the thread that it interrupts, maybe while that holds the lock of what it waits for."""
    service = Service(load(configuration(tmp_path, any_broker, 25), template_names=template_names))
    with service._stopping._cond:  # type: ignore[attr-defined]  # what Event.wait holds
        service.request_stop()
    service.supervise()
    service.stop()
