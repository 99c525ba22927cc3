"""The chips that the driver knows, as data: what tells them apart, and what each of them can do.

They share the register map in ``registers``; what differs between them stands here and nowhere else. Sources:
WIZnet's ioLibrary (w5100.c, w5100s.c, w5100s.h), MAME's w5100, which was compared with both, and for VERR, and for
MR after a reset, the libraries that tell them apart (Adafruit_CircuitPython_Wiznet5k, Ethernet_Generic).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plugin.w5100 import registers as reg

AUTO: Final = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One chip.

    ``name`` is the configuration's, ``title`` WIZnet's. ``verr`` is what VERR reads, ``physr`` the address of
    PHYSR; None where there is no such register. ``burst``: a frame may carry any number of data octets, the
    address counts up. ``echoes``: what MISO is known to carry during opcode and address of such a chip.
    """

    name: str
    title: str
    mr_after_reset: int
    verr: int | None
    physr: int | None
    burst: bool
    echoes: tuple[bytes, ...]
    shows_arp: bool  # Sn_SR is ARP while it asks for the hardware address
    mirrors_sockets: bool  # pages between 0x0800 and 0x3FFF show all four sockets, else socket 3
    mirrors_sizes: bool  # RMSR and TMSR follow Sn_RXBUF_SIZE and Sn_TXBUF_SIZE


W5100: Final = Model(
    name="w5100",
    title="W5100",
    mr_after_reset=0x00,
    verr=None,
    physr=None,
    burst=False,
    echoes=(b"\x00\x01\x02",),
    shows_arp=True,
    mirrors_sockets=False,
    mirrors_sizes=False,
)
# WIZnet prints nothing about MISO before the data of a W5100S. The W5100 counts 00 01 02 and the W5500 01 02 03:
# so a W5100S that is seen to count is held to it, and one that does not is believed.
W5100S: Final = Model(
    name="w5100s",
    title="W5100S",
    mr_after_reset=int(reg.Mode.AI | reg.Mode.IND),
    verr=0x51,
    physr=reg.PHYSR,
    burst=True,
    echoes=(b"\x00\x01\x02", b"\x01\x02\x03"),
    shows_arp=False,
    mirrors_sockets=True,
    mirrors_sizes=True,
)
MODELS: Final[dict[str, Model]] = {model.name: model for model in (W5100, W5100S)}
ECHOES: Final = frozenset(echo for model in MODELS.values() for echo in model.echoes)
"""What any of them is known to answer to opcode and address."""


def model_named(name: str) -> Model:
    """Return the model of this name; ValueError for one that is not known."""
    try:
        return MODELS[name]
    except KeyError:
        raise ValueError(f"chip model {name!r} is not known; there are {', '.join(MODELS)}") from None


def is_back(mode: int, rtr: bytes) -> bool:
    """Return True if MR and RTR read as they do once a soft reset is over."""
    return not mode & reg.Mode.RST and rtr == reg.RESET_COMMON[reg.RTR]


def recognised(verr: int | None) -> Model:
    """Return the model that answered after a reset, of which 0x0080 read ``verr``; None: it could not be read.

    On a W5100 that address shows a common register that is not used.
    """
    return W5100S if verr == W5100S.verr else W5100


def held_to(model: Model, seen: bytes | None) -> bytes | None:
    """Return the echo that every frame must carry if ``seen`` is what frames carried; None: nothing is checked."""
    return seen if seen in model.echoes else None


def mismatch(wanted: Model | None, found: Model, verr: int | None) -> str | None:
    """Return in a sentence that ``found`` is not the model that was configured; None if it is, or for ``auto``."""
    if wanted is None or wanted is found:
        return None
    reads = "cannot be read" if verr is None else f"reads 0x{verr:02X}"
    return f"VERR (0x{reg.VERR:04X}) {reads}, so this is a {found.title}; set chip.model to {found.name} or {AUTO}"
