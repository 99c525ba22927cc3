"""Each known picture on MISO is told with its own remedy."""

from __future__ import annotations

import pytest

from plugin.w5100.bus import read
from plugin.workbench.wiring import diagnosis

SENT = read(0x0001, 4).frames
GOOD = bytes.fromhex("000102c0 000102a8 00010201 00010207")


def each(frame: str) -> bytes:
    return bytes.fromhex(frame) * 4


def shifted(bits: int) -> bytes:
    """Return the good answer with each frame's bits so much later; earlier if less than 0."""
    frames = [int.from_bytes(GOOD[at : at + 4], "big") for at in range(0, 16, 4)]
    moved = [one >> bits if bits > 0 else (one << -bits) & 0xFFFFFFFF for one in frames]
    return b"".join(one.to_bytes(4, "big") for one in moved)


def swapped(width: int) -> bytes:
    return b"".join(GOOD[at : at + width][::-1] for at in range(0, len(GOOD), width))


REVERSED = bytes(int(f"{one:08b}"[::-1], 2) for one in GOOD)
INVERTED = bytes(one ^ 0xFF for one in GOOD)


@pytest.mark.parametrize(
    ("received", "words"),
    [
        (bytes(16), "stuck at 0: check wiring and power, and that SEN"),
        (b"\xff" * 16, "stuck at 1"),
        (SENT, "MISO carries what MOSI does"),
        (swapped(2), "words of 16 bits"),
        (swapped(4), "words of 32 bits"),
        (REVERSED, "bits come in reverse order"),
        (INVERTED, "all bits are inverted"),
        *[(shifted(bits), "too late: set the SPI device to mode 0") for bits in (1, 2, 7)],
        *[(shifted(-bits), "too early") for bits in (1, 2, 7)],
        (GOOD[:4] + bytes.fromhex("c0a80107" * 3), "/CS must go high after each four octets"),
        (
            GOOD[:4] + b"\x00\x41\x02\xa8" + GOOD[8:],
            "1 of 4 frames are answered wrongly, the first with 00 41 02 a8",
        ),
        (bytes.fromhex("12345678 9abcdef0 00010203 00010203"), "2 of 4 frames are answered wrongly"),
        (GOOD[:8], "16 octets were sent and 8 came back: the bus adapter"),
    ],
)
def test_each_picture_has_its_remedy(received: bytes, words: str) -> None:
    found = diagnosis(SENT, received)
    assert found is not None
    assert words in found


@pytest.mark.parametrize("received", [GOOD, each("01020300")], ids=["W5100", "W5100S that begins at 1"])
def test_what_is_well_is_no_finding(received: bytes) -> None:
    assert diagnosis(SENT, received) is None


def test_an_echo_that_changes_is_noise() -> None:
    assert "frames are answered wrongly" in str(diagnosis(SENT, GOOD[:12] + bytes.fromhex("01020304")))
