"""The table of remedies, cell by cell."""

from __future__ import annotations

import pytest

from plugin.uplink.recovery import PATIENCE, Kind, Remedy, kind_of, remedy_for
from plugin.w5100 import errors


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.ConnectRefused("RST"), "network"),
        (errors.ConnectionLost("RST"), "network"),
        (errors.PeerTimeout("ARP"), "network"),
        (errors.SocketTimeout("late"), "network"),
        (errors.NoSocketError("all in use"), "network"),
        (errors.W5100Error("no host can have this address"), "network"),
        (errors.ChipLost("addresses gone"), "forgotten"),
        (errors.ChipNotFound("silence"), "bus"),
        (errors.ChipTimeout("no SEND_OK"), "socket"),
        (errors.BusError("MISO stuck"), "bus"),
        (OSError(5, "Input/output error"), "bus"),
        (RuntimeError("a foreign adapter"), "bus"),
    ],
)
def test_faults_are_told_apart(error: Exception, kind: Kind) -> None:
    assert kind_of(error) == kind


# kind, other lanes connected: what is done about the 1st, 2nd, 3rd ... fault in a row
LADDERS: list[tuple[Kind, bool, list[Remedy]]] = [
    ("network", False, ["none"] * 8),
    ("network", True, ["none"] * 8),
    ("forgotten", False, ["reset", "reset", "reset", "line", "line"]),
    ("forgotten", True, ["reset", "reset", "reset", "line", "line"]),
    ("socket", False, ["reopen", "reset", "line", "line"]),
    ("bus", False, ["reopen", "reset", "line", "line"]),
    ("socket", True, ["reopen", *["none"] * (PATIENCE - 2), "line", "line"]),  # type: ignore[list-item]
    ("bus", True, ["reopen", *["none"] * (PATIENCE - 2), "line", "line"]),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("kind", "others", "remedies"), LADDERS)
def test_remedies_grow_and_spare_other_lanes_for_a_while(kind: Kind, others: bool, remedies: list[Remedy]) -> None:
    assert [remedy_for(kind, strikes=n, others=others) for n in range(1, len(remedies) + 1)] == remedies
