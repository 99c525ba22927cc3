"""What the tests of the driver share: a scripted chip, once polled and once with /INT."""

from __future__ import annotations

import pytest

from tests.w5100.scripted import InterruptChip, ScriptedChip


@pytest.fixture(params=[ScriptedChip, InterruptChip], ids=["polled", "interrupt"])
def bus(request: pytest.FixtureRequest) -> ScriptedChip:
    chip = request.param()
    assert isinstance(chip, ScriptedChip)
    return chip
