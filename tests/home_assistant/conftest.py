"""A house for each version of Home Assistant, up for all tests; its log must stay free of warnings and errors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.home_assistant.household import Household, household
from tests.home_assistant.installation import VERSIONS, Installation, installed


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test with each version."""
    metafunc.parametrize("installation", list(VERSIONS), indirect=True, scope="session")


class _ByVersion(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    def _split_scope(self, nodeid: str) -> str:
        return next(name for name in VERSIONS if name in nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Give all tests with one version to the same process, so that one house does."""
    return _ByVersion(config, log)


@pytest.fixture(scope="session")
def installation(request: pytest.FixtureRequest) -> Installation:
    """Each version in turn."""
    return installed(request.param)


@pytest.fixture(scope="session")
def house(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    """One house for all tests with this version."""
    with household(installation, tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture(autouse=True)
def quiet(house: Household) -> Iterator[None]:
    """Home Assistant must not have logged a warning or an error that the test did not foresee."""
    yield
    assert house.home.complaints() == []
