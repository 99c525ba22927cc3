"""What docker-compose.yml says, up once for all tests that need it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.containers import Project, brought_up, hindrance, required


@pytest.fixture(scope="session")
def project() -> Iterator[Project]:
    """Broker, bridge and mail catcher in containers; left out where there is no engine, unless it is required."""
    if reason := hindrance():
        if required():
            pytest.fail(f"HARDWIRE_REQUIRE: compose: {reason}")
        pytest.skip(reason)
    with brought_up() as project:
        yield project
