"""SPI frames as the signals of a logic analyser, in the Value Change Dump of IEEE 1364, chapter 18. Pure.

PulseView (sigrok) and GTKWave read it. Four wires of one bit each, because sigrok's SPI decoder takes such wires
and no buses; the clock is a nominal one, since nobody measures when a bit was on the wire: what is true is the
order, the value of each bit, and when an exchange began. A bus that is faster than the nominal clock runs late in
the dump, and is on time again after the next pause. SPI mode 0: a bit is taken at the rising edge, highest first.
"""

from __future__ import annotations

from typing import Final

TICK_S: Final = 100e-9
"""One step of time: half a bit, so the nominal clock is 5 MHz. A finer one costs sigrok memory for every pause."""

_CS, _SCK, _MOSI, _MISO = b"c", b"k", b"o", b"i"
_LEAD_TICKS: Final = 1  # from the last falling edge of the clock to /CS high
_GAP_TICKS: Final = 2  # /CS high between two frames

HEADER: Final = b"""$timescale 100 ns $end
$scope module spi $end
$var wire 1 c cs_n $end
$var wire 1 k sck $end
$var wire 1 o mosi $end
$var wire 1 i miso $end
$upscope $end
$enddefinitions $end
#0
1c
0k
0o
0i
"""


class Waveform:
    """The four wires over time. One frame after the other; nothing is kept but the levels and the time."""

    def __init__(self) -> None:
        self._tick = _GAP_TICKS
        self._levels = {_MOSI: 0, _MISO: 0}

    def frame(self, began_s: float, mosi: bytes, miso: bytes) -> bytes:
        """Return the changes of one frame, at ``began_s`` or as soon as the one before has ended."""
        tick = max(self._tick, round(began_s / TICK_S))
        lines: list[bytes] = []
        for index in range(8 * min(len(mosi), len(miso))):
            octet, mask = index >> 3, 0x80 >> (index & 7)
            lines.append(b"#%d" % (tick + 2 * index))
            lines.append(b"0k" if index else b"0c")
            self._set(lines, _MOSI, int(bool(mosi[octet] & mask)))
            self._set(lines, _MISO, int(bool(miso[octet] & mask)))
            lines.append(b"#%d\n1k" % (tick + 2 * index + 1))
        end = tick + 16 * min(len(mosi), len(miso))
        lines.append(b"#%d\n0k\n#%d\n1c\n" % (end, end + _LEAD_TICKS))
        self._tick = end + _LEAD_TICKS + _GAP_TICKS
        return b"\n".join(lines)

    def _set(self, lines: list[bytes], wire: bytes, level: int) -> None:
        if self._levels[wire] != level:
            self._levels[wire] = level
            lines.append(b"%d%s" % (level, wire))


def comment(text: str) -> bytes:
    """Return ``text`` as a comment, which may stand anywhere between two frames."""
    return b"$comment %s $end\n" % text.replace("$", "").encode()
