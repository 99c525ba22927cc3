"""``benchmarks/bridge.py``: statistics, bars and tables; and Hardwire itself with a few alerts, alone."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bridge import FULL, QUICK, amounts_of, arguments
from benchmarks.bridge_figures import (
    CHUNKING,
    PEER,
    PIPELINING,
    Burst,
    Flood,
    Found,
    Idle,
    Loss,
    Memory,
    Singles,
    bars,
    bounded,
    paces,
    percentile,
    times_as_fast,
)
from benchmarks.bridge_house import wait_for
from benchmarks.bridge_measure import Amounts, Measurement, Tally
from benchmarks.bridge_report import BEGIN, END, as_json, conditions, markdown, sheets, write_docs
from benchmarks.bridge_subjects import (
    OURS,
    BridgeError,
    PeerMissingError,
    Place,
    Running,
    Subject,
    installed_peer,
    peer,
)
from tests.brokers import hindrance, required

OTHER = "<!-- to here -->"  # the end of another benchmark's section of the page


def burst(subject: str, delay_s: float, per_s: float, **changes: Any) -> Burst:
    made = Burst(subject=subject, delay_s=delay_s, alerts=100, seconds=100 / per_s, cpu_s=0.2, connections=3)
    return replace(made, **changes)


def singles(subject: str, delay_s: float, *seconds: float) -> Singles:
    return Singles(subject=subject, delay_s=delay_s, seconds=seconds, connections=0)


def memory(subject: str, peak_bytes: int) -> Memory:
    return Memory(subject=subject, first_bytes=peak_bytes // 2, peak_bytes=peak_bytes)


def loss(subject: str, arrived: int, mails: int) -> Loss:
    return Loss(subject=subject, trouble="kill -9", alerts=100, arrived=arrived, mails=mails)


EVERYTHING = Found(
    bursts=(
        burst(PEER, 0.0, 400),
        burst(PIPELINING, 0.0, 200),
        burst(CHUNKING, 0.0, 400),
        burst(PEER, 0.1, 1.5),
        burst(PIPELINING, 0.1, 25.4),
        burst(CHUNKING, 0.1, 90),
    ),
    singles=(
        singles(PEER, 0.1, 0.5),
        singles(PIPELINING, 0.1, 0.2, 0.1379, 0.1),
        singles(CHUNKING, 0.1, 0.1, 0.139, 0.2),
    ),
    memories=(memory(CHUNKING, 50_000_000), memory(CHUNKING, 60_000_001), memory(PEER, 30_000_000)),
    idles=(Idle(subject=CHUNKING, seconds=30, cpu_s=0.06),),
    floods=(Flood(subject=CHUNKING, alerts=20_000, published_s=4.0, accepted_s=10.0, peak_bytes=70_000_000),),
    losses=(loss(PEER, 20, 20), loss(CHUNKING, 100, 107), loss(PIPELINING, 99, 99)),
)


# --- statistics -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [
        ([7.0], 0.5, 7.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 201)], 0.99, 198.0),
        ([1.0, 2.0, 3.0], 0.99, 3.0),
        ([1.0, 2.0], 0.0, 1.0),
    ],
)
def test_a_percentile_is_one_of_the_values(values: list[float], share: float, found: float) -> None:
    assert percentile(values, share) == found


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="needs values"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("wanted", "each_s", "count"), [(500, 0.01, 500), (500, 0.7, 28), (500, 50.0, 1), (3, 0.7, 3)]
)
def test_what_is_slow_is_done_less_often(wanted: int, each_s: float, count: int) -> None:
    assert bounded(wanted, each_s=each_s, budget_s=20.0) == count


def test_a_pace_is_the_median_of_its_runs() -> None:
    runs = (burst(CHUNKING, 0.0, 100), burst(PEER, 0.0, 50), burst(CHUNKING, 0.0, 400), burst(CHUNKING, 0.0, 200))
    ours, theirs = paces(runs)
    assert (ours.subject, ours.runs, theirs.subject, theirs.runs) == (CHUNKING, 3, PEER, 1)
    rates = (ours.slowest_per_s, ours.per_s, ours.fastest_per_s)
    assert rates == pytest.approx((100, 200, 400))
    assert ours.cpu_s == pytest.approx(0.002)
    assert times_as_fast(ours, [ours, theirs]) == pytest.approx(4)
    assert times_as_fast(ours, [ours]) is None


def test_paces_stand_by_delay() -> None:
    order = [(0.0, PEER), (0.0, CHUNKING), (0.1, PEER), (0.1, CHUNKING)]
    runs = [burst(subject, delay_s, 10) for subject in (PEER, CHUNKING) for delay_s in (0.1, 0.0)]
    assert [(one.delay_s, one.subject) for one in paces(runs)] == order


# --- bars -----------------------------------------------------------------------------------------------------


def test_each_bar_is_met_or_missed() -> None:
    assert [(one.what, one.found, one.met) for one in bars(EVERYTHING)] == [
        (f"{PIPELINING}: mails/s at 0 ms, to {PEER}", "0.50", False),
        (f"{CHUNKING}: mails/s at 0 ms, to {PEER}", "1.00", True),
        (f"{PIPELINING}: mails/s at 100 ms, to {PEER}", "16.93", False),
        (f"{CHUNKING}: mails/s at 100 ms, to {PEER}", "60.00", True),
        (f"{PIPELINING}: p50 of a single alert at 100 ms", "137.9 ms", True),
        (f"{CHUNKING}: p50 of a single alert at 100 ms", "139.0 ms", False),
        (f"{PIPELINING}: resident memory", "-", None),
        (f"{CHUNKING}: resident memory", "60.0 MB", False),
        (f"{CHUNKING}: intake of 20000 alerts at once", "2000/s", True),
        (f"{CHUNKING}: kill -9", "100 of 100", True),
        (f"{PIPELINING}: kill -9", "99 of 100", False),
    ]


def test_without_the_peer_no_bar_says_how_much_faster() -> None:
    alone = Found(bursts=(burst(CHUNKING, 0.1, 90),), peer_missing="no index")
    assert [(one.found, one.met) for one in bars(alone) if PEER in one.what] == [("-", None)]


# --- tables ---------------------------------------------------------------------------------------------------


def test_every_table_is_even_and_every_figure_is_in_it() -> None:
    shown = {one.title: one for one in sheets(EVERYTHING)}
    assert all(len(row) == len(one.head) for one in shown.values() for row in one.rows)
    speed = {row[:2]: row[2:] for row in shown["Bursts and single alerts"].rows}
    assert speed["100 ms", CHUNKING][0] == "90.0"
    assert speed["100 ms", CHUNKING][2] == "\N{MULTIPLICATION SIGN}60.00"
    assert speed["100 ms", CHUNKING][-3:] == ("139.0", "200.0", "3")
    assert speed["0 ms", PEER][2] == "-"
    assert (CHUNKING, "30.0", "60.0", "0.20", "30") in shown["Memory and idling"].rows
    assert shown["Flood"].rows == ((CHUNKING, "20000", "5000", "2000", "70.0"),)
    assert (CHUNKING, "kill -9", "100", "100", "0", "7") in shown["What arrives in spite of it"].rows
    assert (PEER, "kill -9", "100", "20", "80", "0") in shown["What arrives in spite of it"].rows


def test_what_was_not_measured_has_no_table() -> None:
    assert [one.title for one in sheets(Found(bursts=(burst(CHUNKING, 0.0, 9),)))] == [
        "Bursts and single alerts",
        "Bars",
    ]


def test_the_page_says_why_there_are_no_rows_of_the_peer(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"{OTHER}\n{BEGIN}\nbefore this run\n{END}\nafter\n")
    alone = replace(EVERYTHING, peer_missing="there was no index")
    write_docs(page, markdown(alone, conditions(QUICK, quick=True)))
    text = page.read_text()
    assert text.startswith(f"{OTHER}\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "before this run" not in text
    assert f"no rows of {PEER}: there was no index" in text
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("| ")]
    assert len(tables) == 5
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)


@pytest.mark.parametrize("text", [f"{BEGIN}\n{OTHER}", f"{END}\n{BEGIN}", f"{BEGIN}\n{END}\n{END}"])
def test_a_page_without_its_marks_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="needs the lines"):
        write_docs(page, "table")
    assert page.read_text() == text


def test_json_has_every_run() -> None:
    told = json.loads(json.dumps(as_json(EVERYTHING, conditions(FULL, quick=False))))
    assert len(told["bursts"]) == len(EVERYTHING.bursts)
    assert told["singles"][1]["seconds"] == [0.2, 0.1379, 0.1]
    assert {one["met"] for one in told["bars"]} == {True, False, None}


def test_quick_is_a_smaller_run_with_all_delays() -> None:
    quick = amounts_of(arguments(["--quick", "--losses"]))
    assert quick == replace(QUICK, losses=True)
    assert quick.delays_s == FULL.delays_s
    assert amounts_of(arguments(["--runs", "7"])) == replace(FULL, runs=7)


# --- processes ------------------------------------------------------------------------------------------------


def test_a_peer_that_cannot_be_installed_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PeerMissingError, match="could not be installed"):
        installed_peer(tmp_path / "file")


def test_mqttwarn_has_one_worker_and_a_session(tmp_path: Path) -> None:
    command = peer(Path("/x/python")).prepare(Place(folder=tmp_path, broker_port=1, mail_port=2))
    assert command == ("/x/python", "-m", "mqttwarn", f"--config-file={tmp_path / 'mqttwarn.ini'}")
    lines = (tmp_path / "mqttwarn.ini").read_text().splitlines()
    assert {"num_workers = 1", "cleansession = False", "qos = 1", "port = 1", "server = '127.0.0.1:2'"} <= set(
        lines
    )


def test_all_processes_of_a_bridge_are_counted_and_killed(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    child = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(60)"
    script = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    two = Subject(
        name="two",
        offers=(),
        round_trips=1,
        slow=False,
        prepare=lambda _place: (sys.executable, "-c", script),
        accepted=None,
    )
    with Running(two, Place(folder=tmp_path, broker_port=1, mail_port=2)) as running:
        # Before it is begun, a child has its parent's memory, which is counted for both.
        wait_for(lambda: begun.exists() and len(running.members()) == 2, lambda: f"{running.members()}", 20.0)
        assert 0 < running.memory_bytes() <= running.peak_bytes()
        assert running.cpu_s() >= 0
        running.check()
    wait_for(lambda: not running.members(), lambda: f"{running.members()}", 20.0)
    with pytest.raises(BridgeError, match="two has ended"):
        running.check()


def test_a_tally_counts_whole_lines_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"event=accepted before\n")
    tally = Tally(log, b"event=accepted ")
    counts = []
    for more in (b"event=accepted 1\nevent=acc", b"epted 2\nevent=other\n", b"", b"event=accepted 3\n"):
        with log.open("ab") as file:
            file.write(more)
        counts.append(tally.count())
    assert counts == [1, 2, 2, 3]


def test_a_wait_says_what_was_there_in_the_end() -> None:
    with pytest.raises(BridgeError, match="2 of 3"):
        wait_for(lambda: False, lambda: "2 of 3", 0.01)


# --- a few alerts ---------------------------------------------------------------------------------------------


@pytest.fixture
def mosquitto() -> None:
    reason = hindrance("mosquitto")
    if reason and "mosquitto" in required():
        pytest.fail(f"HARDWIRE_REQUIRE: mosquitto: {reason}")
    if reason:
        pytest.skip(f"the whole bridge is measured with mosquitto alone: {reason}")


@pytest.mark.usefixtures("mosquitto")
def test_the_bridge_alone_with_a_few_alerts() -> None:
    amounts = Amounts(
        delays_s=(0.0,), alerts=10, singles=2, runs=1, idle_s=0.1, flood=30, losses=False, budget_s=20.0
    )
    told: list[str] = []
    begun = time.monotonic()
    found = Measurement(amounts, told.append).all([OURS[1]], "it was not asked for")
    took_s = time.monotonic() - begun
    (one,) = found.bursts
    assert (one.subject, one.alerts) == (CHUNKING, 10)
    assert 0 < one.seconds < took_s
    assert len(found.singles[0].seconds) == 2
    assert all(0 < seconds < took_s for seconds in found.singles[0].seconds)
    assert 0 < found.memories[0].first_bytes <= found.memories[0].peak_bytes
    assert found.idles[0].seconds >= amounts.idle_s
    assert found.floods[0].alerts == 30
    assert len(told) == 2
