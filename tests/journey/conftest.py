"""What every test of the whole journey needs: an automation at the best broker, and a mail server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plugin.demo.mailserver import MailServer
from tests.brokers import AnyBroker
from tests.journey.house import Automation, base_of, mail_server


@pytest.fixture
def mail() -> Iterator[MailServer]:
    """A mail server with the mailboxes of Alice and Bob."""
    with mail_server() as server:
        yield server


@pytest.fixture
def automation(any_broker: AnyBroker, tmp_path: Path) -> Iterator[Automation]:
    """A client that publishes alerts and reads outcomes, below a topic base of this test's own."""
    client = Automation(any_broker, base_of(tmp_path))
    yield client
    client.close()
