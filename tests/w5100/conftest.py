"""What the tests of the driver share: a scripted chip, once polled, once with /INT, and once a W5100S."""

from __future__ import annotations

import pytest

from tests.w5100.scripted import InterruptChip, LongFrameChip, ScriptedChip


@pytest.fixture(params=[ScriptedChip, InterruptChip, LongFrameChip], ids=["polled", "interrupt", "w5100s"])
def bus(request: pytest.FixtureRequest) -> ScriptedChip:
    chip = request.param()
    assert isinstance(chip, ScriptedChip)
    return chip
