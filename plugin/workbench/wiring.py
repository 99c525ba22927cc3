"""What the octets on MISO tell about the wires. Pure.

In each frame the chip sends 00 01 02 while it hears opcode and address (WIZnet, SPI Guide, part 2); a W5100S may
begin at 01. What comes instead is mostly a known picture of one fault.
"""

from __future__ import annotations

from typing import Final

from plugin.w5100.bus import ECHO, FRAME_BYTES
from plugin.w5100.model import ECHOES

ECHO_BITS: Final = 8 * len(ECHO)
MAX_SHIFT_BITS: Final = 7
_REVERSED: Final = bytes(int(f"{one:08b}"[::-1], 2) for one in range(0x100))
_INVERTED: Final = bytes(0xFF - one for one in range(0x100))


def diagnosis(sent: bytes, received: bytes) -> str | None:
    """Return what is wrong with frames of four octets and the answer to them, with the remedy; None: nothing.

    The picture must be the same in all frames that are wrong; else it is noise.
    """
    if len(received) != len(sent):
        return f"{len(sent)} octets were sent and {len(received)} came back: the bus adapter is at fault"
    frames = [received[at : at + FRAME_BYTES] for at in range(0, len(received), FRAME_BYTES)]
    echoes = [frame[: len(ECHO)] for frame in frames]
    right = next((echo for echo in echoes if echo in ECHOES), ECHO)  # of one chip it is always the same
    wrong = [frame for frame, echo in zip(frames, echoes, strict=True) if echo != right]
    if not wrong:
        return None
    if received == sent and len(set(frames)) > 1:
        return "MISO carries what MOSI does: the two are connected; the chip's MISO is not"
    if len(wrong) == len(frames):
        for picture, text in _PICTURES:
            if all(picture(frame) for frame in frames):
                return f"{text} ({frames[0].hex(' ')} came instead of 00 01 02 ..)"
    if echoes[0] == right and len(wrong) == len(frames) - 1:
        return (
            "the first frame is answered and those behind it are not: /CS must go high after each four octets; "
            "is the chip's /SCS on the chip select of this bus?"
        )
    return (
        f"{len(wrong)} of {len(frames)} frames are answered wrongly, the first with {wrong[0].hex(' ')} instead "
        "of 00 01 02 ..: lower chip.speed_hz, shorten the wires, give the chip a good ground and a bus of its own"
    )


def _constant(octet: int) -> bytes:
    return bytes((octet,)) * FRAME_BYTES


def _shifted(frame: bytes, bits: int) -> bool:
    """Tell whether the echo comes ``bits`` later than it should; earlier if less than 0."""
    seen = int.from_bytes(frame[: len(ECHO)], "big")
    whole = int.from_bytes(ECHO, "big")
    kept = (1 << (ECHO_BITS - abs(bits))) - 1
    return (seen & kept) == whole >> bits if bits > 0 else seen >> -bits == whole & kept


def _late(frame: bytes) -> bool:
    return any(_shifted(frame, bits) for bits in range(1, MAX_SHIFT_BITS + 1))


def _early(frame: bytes) -> bool:
    return any(_shifted(frame, -bits) for bits in range(1, MAX_SHIFT_BITS + 1))


_PICTURES: Final = (
    (
        lambda frame: frame == _constant(0x00),
        "MISO is stuck at 0: check wiring and power, and that SEN (SPI_EN) is high while /CS is low",
    ),
    (
        lambda frame: frame == _constant(0xFF),
        "MISO is stuck at 1: check wiring, power and /RESET, and that nothing else drives this bus",
    ),
    (
        lambda frame: bytes((frame[1], frame[0], frame[3])) == ECHO,
        "the octets are swapped in pairs: the bus adapter sends words of 16 bits; it must send octets",
    ),
    (
        lambda frame: frame[:0:-1] == ECHO,
        "the octets come in reverse order: the bus adapter sends words of 32 bits; it must send octets",
    ),
    (
        lambda frame: frame.translate(_REVERSED)[: len(ECHO)] == ECHO,
        "the bits come in reverse order: set the SPI device to the highest bit first",
    ),
    (
        lambda frame: frame.translate(_INVERTED)[: len(ECHO)] == ECHO,
        "all bits are inverted: is there an inverter in MISO that belongs between /CS and SEN?",
    ),
    (
        _late,
        "the echo comes bits too late: set the SPI device to mode 0, lower chip.speed_hz, shorten the wires",
    ),
    (
        _early,
        "the echo comes bits too early: set the SPI device to mode 0, and look at the clock's edges",
    ),
)
