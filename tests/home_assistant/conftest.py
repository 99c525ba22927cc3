"""Houses for each version of Home Assistant, up for many tests; their logs stay free of warnings and errors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.home_assistant.household import Household, household
from tests.home_assistant.installation import VERSIONS, Installation, installed


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test with each version."""
    metafunc.parametrize("installation", list(VERSIONS), indirect=True, scope="session")


class _ByHouse(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    def _split_scope(self, nodeid: str) -> str:
        version = next(name for name in VERSIONS if name in nodeid)
        return f"{version}, the package" if "test_package" in nodeid else f"{version}, all else"


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Two houses for each version, which take about as long: most of it is waiting."""
    return _ByHouse(config, log)


@pytest.fixture(scope="session")
def installation(request: pytest.FixtureRequest) -> Installation:
    """Each version in turn."""
    return installed(request.param)


@pytest.fixture(scope="session")
def house(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    """One house for all tests with this version that this process has."""
    with household(installation, tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture(autouse=True)
def quiet(house: Household) -> Iterator[None]:
    """Home Assistant must not have logged a warning or an error that the test did not foresee."""
    yield
    assert house.home.complaints() == []
