"""The chips as data: which one answers, and whether it is the one that was asked for."""

from __future__ import annotations

import pytest

from plugin.w5100.model import MODELS, W5100, W5100S, Model, held_to, is_back, mismatch, model_named, recognised


@pytest.mark.parametrize(
    ("mode", "rtr", "back"),
    [
        (0x00, "07d0", True),
        (0x03, "07d0", True),
        (0x80, "07d0", False),
        (0x83, "07d0", False),
        (0x00, "0000", False),
        (0xFF, "ffff", False),
        (0x00, "d007", False),
    ],
)
def test_a_reset_is_over_when_rst_is_clear_and_rtr_has_its_value(mode: int, rtr: str, *, back: bool) -> None:
    assert is_back(mode, bytes.fromhex(rtr)) is back


@pytest.mark.parametrize(
    ("verr", "model"), [(0x51, W5100S), (0x00, W5100), (0x50, W5100), (0xFF, W5100), (None, W5100)]
)
def test_verr_tells_the_w5100s(verr: int | None, model: Model) -> None:
    assert recognised(verr) is model


@pytest.mark.parametrize(
    ("model", "seen", "held"),
    [
        (W5100, "000102", True),
        (W5100, "010203", False),
        (W5100S, "000102", True),
        (W5100S, "010203", True),
        (W5100S, "000000", False),
        (W5100S, "ffffff", False),
        (W5100S, "", False),
    ],
)
def test_only_an_echo_that_counts_is_held_against_later_frames(model: Model, seen: str, *, held: bool) -> None:
    echo = bytes.fromhex(seen)
    assert held_to(model, echo) == (echo if held else None)
    assert held_to(model, None) is None


@pytest.mark.parametrize(
    ("wanted", "found", "verr", "words"),
    [
        (None, W5100, 0x00, None),
        (None, W5100S, 0x51, None),
        (W5100, W5100, None, None),
        (W5100S, W5100S, 0x51, None),
        (W5100, W5100S, 0x51, "VERR (0x0080) reads 0x51, so this is a W5100S; set chip.model to w5100s or auto"),
        (W5100S, W5100, 0x00, "VERR (0x0080) reads 0x00, so this is a W5100; set chip.model to w5100 or auto"),
        (W5100S, W5100, None, "VERR (0x0080) cannot be read, so this is a W5100; set chip.model to w5100 or auto"),
    ],
)
def test_another_chip_than_configured_is_told_with_the_remedy(
    wanted: Model | None, found: Model, verr: int | None, words: str | None
) -> None:
    assert mismatch(wanted, found, verr) == words


def test_models_are_known_by_the_names_of_the_configuration() -> None:
    assert [model_named(name).title for name in MODELS] == ["W5100", "W5100S"]
    with pytest.raises(ValueError, match="'w5500' is not known; there are w5100, w5100s"):
        model_named("w5500")
