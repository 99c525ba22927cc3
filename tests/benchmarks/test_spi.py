"""``benchmarks/spi.py``: what a mail costs on the bus is counted right, and stays within its bars."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from benchmarks.spi import arguments
from benchmarks.spi_count import Exchange, tally
from benchmarks.spi_report import BEGIN, END, write_docs

ROOT = Path(__file__).parents[2]
LIMIT_S = 100
MAILS_BYTES = (1024, 102_400)
MOODS = ("pipelining", "chunking")
LANES = (1, 2, 3)
# Greeting, EHLO, envelope, QUIT and the replies; more than this was said twice.
DIALOGUE_BYTES = 400
OTHER = "<!-- to here -->"  # the end of the other benchmark's section of the page


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    page = tmp_path_factory.mktemp("docs") / "performance.md"
    page.write_text(f"{OTHER}\n{BEGIN}\nbefore this run\n{END}\nafter\n")
    run = subprocess.run(
        [sys.executable, "benchmarks/spi.py", "--json", "--write-docs", str(page)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout), page.read_text()


def one_lane(done: tuple[dict[str, Any], str], mail_bytes: int) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = done[0]["figures"]
    return [one for one in figures if (one["lanes"], one["mail_bytes"]) == (1, mail_bytes)]


def test_every_figure_is_there(done: tuple[dict[str, Any], str]) -> None:
    seen = [(one["lanes"], one["server"], one["mail_bytes"]) for one in done[0]["figures"]]
    assert sorted(seen) == sorted(product(LANES, MOODS, MAILS_BYTES))


def test_each_octet_of_payload_crosses_the_bus_once(done: tuple[dict[str, Any], str]) -> None:
    for one in done[0]["figures"]:
        assert one["data_frames"] == one["payload_bytes"], one
        assert one["mail_bytes"] < one["payload_bytes"] < one["mail_bytes"] + DIALOGUE_BYTES, one


@pytest.mark.parametrize(
    ("mail_bytes", "most"),
    [
        (1024, 1.08),
        (102_400, 1.0025),
    ],
)
def test_octets_on_the_bus(done: tuple[dict[str, Any], str], mail_bytes: int, most: float) -> None:
    for one in one_lane(done, mail_bytes):
        assert one["ratio"] <= most, one


@pytest.mark.parametrize(
    ("mail_bytes", "most"),
    [(1024, {"exchanges": 60, "511": 60, "32": 70}), (102_400, {"exchanges": 60, "511": 300, "32": 3400})],
)
def test_exchanges_and_system_calls(
    done: tuple[dict[str, Any], str], mail_bytes: int, most: dict[str, int]
) -> None:
    for one in one_lane(done, mail_bytes):
        seen = {"exchanges": one["exchanges"], **one["calls"]}
        assert seen.keys() == most.keys()
        assert all(seen[what] <= most[what] for what in most), one


def test_every_split_of_the_memory_costs_less_than_any_peer(done: tuple[dict[str, Any], str]) -> None:
    for one in done[0]["figures"]:
        peers = [peer["ratio"] for peer in done[0]["peers"] if peer["mail_bytes"] == one["mail_bytes"]]
        assert len(peers) == 3
        assert one["ratio"] < min(peers), one


def test_the_page_has_every_row_and_keeps_the_rest(done: tuple[dict[str, Any], str]) -> None:
    page = done[1]
    assert page.startswith(f"{OTHER}\n{BEGIN}\n")
    assert page.endswith(f"{END}\nafter\n")
    assert "before this run" not in page
    table = next(part for part in page.split("\n\n") if part.startswith("| mail |")).splitlines()
    assert len(table) == 2 + len(MAILS_BYTES) * (len(LANES) * len(MOODS) + 3)
    assert len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize("text", [f"{BEGIN}\n{OTHER}", f"{END}\n{BEGIN}", f"{BEGIN}\n{END}\n{END}"])
def test_a_page_without_its_marks_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="needs the lines"):
        write_docs(page, "table")
    assert page.read_text() == text


@pytest.mark.parametrize("lanes", ["0", "1,4", "two"])
def test_lanes_that_no_chip_has_are_refused(lanes: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        arguments(["--lanes", lanes])


# --- what counts as what --------------------------------------------------------------------------------------


def exchange(frames: str) -> Exchange:
    """``0f0403 17``: a read that brings 0x17; ``f00401 20``: a write of 0x20."""
    words = frames.split()
    pairs = [
        (bytes.fromhex(head), bytes.fromhex(octet)) for head, octet in zip(words[::2], words[1::2], strict=True)
    ]
    return Exchange(
        sent=b"".join(head + (octet if head[0] == 0xF0 else b"\0") for head, octet in pairs),
        received=b"".join(b"\0\1\2" + (octet if head[0] == 0x0F else b"\3") for head, octet in pairs),
    )


@pytest.mark.parametrize(
    ("frames", "name", "data", "other"),
    [
        ("0f0009 02 0f001a 03", "check", 0, 2),
        ("0f001a 03 f00400 21 f00401 01 0f0401 00", "OPEN", 0, 4),
        ("f00402 10 f04000 41 f05fff 42 f00401 20 0f0401 00", "SEND", 2, 3),
        ("0f6000 41 f00401 40", "RECV", 1, 1),
        ("0f6000 41 0f7fff 42", "read data", 2, 0),
        ("f00402 10", "clear", 0, 1),
        ("f00016 01", "clear", 0, 1),
        ("f00402 04 0f0403 17 0f0402 00", "look", 0, 3),
        ("0f0015 01", "look", 0, 1),
        ("f00701 10", "CLOSE", 0, 1),  # of socket 3
    ],
)
def test_an_exchange_tells_what_it_is_for(frames: str, name: str, data: int, other: int) -> None:
    counted = tally([exchange(frames)])
    assert list(counted.operations) == [name]
    assert counted.total == counted.operations[name]
    assert (counted.total.exchanges, counted.total.data_frames, counted.total.other_frames) == (1, data, other)
    assert counted.octets == 4 * (data + other)


@pytest.mark.parametrize(
    ("frames", "vain"),
    [
        (["0f0403 17 0f0402 00", "0f0403 17 0f0402 00"], 1),
        (["0f0403 17 0f0402 00", "0f0403 1c 0f0402 00"], 0),
        (["0f0403 17 0f0402 00", "0f0403 17 0f0402 04"], 0),
        # An event that was cleared and is there again is a new one; one that is gone since is none.
        (["0f0402 04", "f00402 04 0f0402 04"], 0),
        (["0f0402 04", "f00402 04", "0f0402 04"], 0),
        (["0f0402 04", "f00402 04", "0f0402 00"], 1),
        (["0f0402 14", "f00402 10", "0f0402 04"], 1),
        # A counter that was torn has moved; another socket's is another one.
        (["0f0426 00 0f0427 05", "0f0426 00 0f0427 05 0f0426 00 0f0427 06"], 0),
        (["0f0403 17", "0f0503 17"], 0),
        # What is not there to be waited for is never in vain.
        (["0f001a 03", "0f001a 03"], 0),
        (["f00401 20 0f0401 00", "f00401 20 0f0401 00"], 0),
        (["0f6000 41", "0f6000 41"], 0),
    ],
)
def test_a_look_that_finds_nothing_new_is_in_vain(frames: list[str], vain: int) -> None:
    counted = tally([exchange(one) for one in frames])
    assert counted.looks_in_vain == vain
    assert counted.total.exchanges == len(frames) - vain
    assert sum(counted.calls.values()) == 2 * (len(frames) - vain)


@pytest.mark.parametrize(
    ("frames", "calls"),
    [
        (1, {511: 1, 32: 1}),
        (32, {511: 1, 32: 1}),
        (33, {511: 1, 32: 2}),
        (511, {511: 1, 32: 16}),
        (512, {511: 2, 32: 16}),
    ],
)
def test_an_exchange_is_as_many_system_calls_as_its_frames_need(frames: int, calls: dict[int, int]) -> None:
    assert tally([exchange("0f6000 41 " * frames)]).calls == calls
    assert tally([exchange("0f6000 41 " * frames)] * 2).calls == {
        limit: 2 * count for limit, count in calls.items()
    }
