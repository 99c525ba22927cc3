"""``hardwire demo`` as a newcomer runs it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from plugin.demo.broker import mosquitto_binary

LIMIT_S = 60


def demo(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "plugin", "demo", "--output", str(output), *options],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


KINDS = ["embedded", "mosquitto"] if mosquitto_binary() else ["embedded"]


@pytest.mark.parametrize("kind", KINDS)
def test_four_alerts_four_outcomes(tmp_path: Path, kind: str) -> None:
    done = demo(tmp_path / "out", "--broker", kind)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout
    assert kind in shown
    assert "4 outcomes: 3 success, 1 failure" in shown
    assert len(re.findall(r"outcome +alerts/success/", shown)) == 3
    assert re.search(r"outcome +alerts/failure/stranger .*refused 550 5\.1\.1", shown)
    assert "C: HELO" in shown
    assert "502 5.5.1" in shown
    assert "ESTABLISHED" in shown
    assert "\x1b[" not in shown  # no colour into a pipe
    password = re.search(r"password: (\S+)", (tmp_path / "out" / "hardwire.yaml").read_text())
    assert password is not None
    assert password[1] not in shown + done.stderr


def test_mails_are_saved_to_be_looked_at(tmp_path: Path) -> None:
    assert demo(tmp_path).returncode == 0
    mails = sorted(tmp_path.glob("*.eml"))
    assert [path.name for path in mails] == ["1-garage_door.eml", "2-front_door.eml", "3-water_leak.eml"]
    for path in mails:
        mail = message_from_bytes(path.read_bytes(), policy=policy.default)
        assert mail["To"] == "alice@demo.test"
        assert mail["Message-ID"]
        assert path.with_suffix(".html").read_text().startswith("<!")
    assert "data:image/png;base64," in (tmp_path / "2-front_door.html").read_text()
    assert demo(tmp_path).returncode == 0  # again in the same place


def test_stay_runs_until_it_is_asked_to_end(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "plugin", "demo", "--stay", "--output", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "mosquitto_sub" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
