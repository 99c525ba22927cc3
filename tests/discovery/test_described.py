"""What a configuration has Home Assistant be told."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from plugin.build import description_of
from plugin.config import load

CONFIGURATION: Final = """\
mqtt: {{host: 127.0.0.1, protocol: "{protocol}"}}
chip: {{bus: emulator}}
relays: [{{host: 127.0.0.1, security: none}}]
sender: house@example.net
recipients: {{alice: alice@example.net}}
routes: [{{topic: "#", to: [alice]}}]
outbox: {{max_age: 2d}}
"""


@pytest.mark.parametrize(("protocol", "expiry_s"), [("5", 2 * 86400), ("3.1.1", None)])
def test_what_is_sent_expires_as_letters_do_where_the_broker_can_be_told(
    tmp_path: Path, protocol: str, expiry_s: int | None
) -> None:
    path = tmp_path / "hardwire.yaml"
    path.write_text(CONFIGURATION.format(protocol=protocol))
    assert description_of(load(path)).expiry_s == expiry_s
