"""``benchmarks/smtp.py``: every figure is there, every mail has arrived, Hardwire waits no longer than others."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from benchmarks.smtp_report import BEGIN, END, write_docs
from benchmarks.smtp_servers import read_target

ROOT = Path(__file__).parents[2]
LIMIT_S = 110
MOODS = ("chunking", "pipelining", "lockstep")
RTTS_S = (0.0, 0.02)
CASES = ("first", "first_auth", "first_tls_auth", "next", "burst")
FULL = ("smtplib", "aiosmtplib", "Hardwire")
EAGER = "Hardwire, eager"
MEASURED = {
    *product(MOODS, RTTS_S, FULL, CASES),
    *product(MOODS, RTTS_S, [EAGER], ["first_auth", "first_tls_auth"]),
}
# What a client that sends one command at a time must wait for: the handshake, in TLS a second one, banner, EHLO,
# AUTH PLAIN, MAIL, RCPT, DATA, content. In TLS the banner comes with the end of the handshake.
LOCKSTEP = {"first": 7, "first_auth": 8, "first_tls_auth": 9, "next": 4}
MAILS = 2 * (3 * (3 + 1 + 3 + 5) + 2)  # two delays: three clients with 3 first mails, 1 + 3 + 5 on one connection


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    page = tmp_path_factory.mktemp("docs") / "performance.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    run = subprocess.run(
        [sys.executable, "benchmarks/smtp.py", "--quick", "--json", "--write-docs", str(page)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout), page.read_text()


def test_every_figure_is_there(done: tuple[dict[str, Any], str]) -> None:
    figures = done[0]["figures"]
    assert {(one["server"], one["rtt_s"], one["client"], one["case"]) for one in figures} == MEASURED
    assert len(figures) == len(MEASURED)
    for one in figures:
        assert one["seconds"] > 0
        assert one["times_as_fast"] > 0
        assert (one["round_trips"] is None) == (one["rtt_s"] == 0)
        assert (one["flights"] is None) == (one["case"] == "burst")


def test_every_mail_was_accepted(done: tuple[dict[str, Any], str]) -> None:
    assert done[0]["mails"] == dict.fromkeys(MOODS, MAILS)


def test_the_delay_is_there(done: tuple[dict[str, Any], str]) -> None:
    # Each counted round trip took at least the RTT; how much longer is the machine's business.
    for one in done[0]["figures"]:
        if one["rtt_s"] and one["flights"]:
            assert one["round_trips"] >= one["flights"], one


@pytest.mark.parametrize("mood", MOODS)
def test_hardwire_waits_no_longer_than_smtplib(done: tuple[dict[str, Any], str], mood: str) -> None:
    flights = {
        (one["client"], one["rtt_s"], one["case"]): one["flights"]
        for one in done[0]["figures"]
        if one["server"] == mood and one["case"] in LOCKSTEP
    }
    for (client, rtt_s, case), counted in flights.items():
        if client in {"smtplib", "aiosmtplib"} or mood == "lockstep":
            assert counted == LOCKSTEP[case], (client, rtt_s, case)
        else:
            assert counted < LOCKSTEP[case], (client, rtt_s, case)


def test_the_page_has_every_row_and_keeps_the_rest(done: tuple[dict[str, Any], str]) -> None:
    page = done[1]
    assert page.startswith(f"before\n{BEGIN}\n")
    assert page.endswith(f"{END}\nafter\n")
    assert "old" not in page
    for mood in MOODS:
        table = next(part for part in page.split("\n\n") if part.startswith(f"| {mood} |"))
        lines = table.splitlines()
        assert len(lines) == 2 + len(RTTS_S) * len(CASES)
        assert all(line.count("|") == 3 + len(FULL) + 1 for line in lines)
        assert sum(line.split("|")[-2].strip() == "-" for line in lines) == len(RTTS_S) * 3


@pytest.mark.parametrize("text", ["nothing", f"{END}\n{BEGIN}", f"{BEGIN}\n{END}\n{END}"])
def test_a_page_without_its_marks_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="needs the lines"):
        write_docs(page, "table")
    assert page.read_text() == text


def test_a_target_with_everything() -> None:
    text = "mine=mail.example.net:25,tls=mail.example.net:465,user=me,password=a=b c,ca=x.pem,to=a@b.example"
    server = read_target(text)
    assert (server.name, server.clear, server.tls) == ("mine", ("mail.example.net", 25), ("mail.example.net", 465))
    assert (server.username, server.password, server.ca_file) == ("me", "a=b c", "x.pem")
    assert (server.sender, server.recipient) == ("a@b.example", "a@b.example")
    assert "a=b c" not in repr(server)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mail.example.net:25,to=a@b.example", "NAME=HOST:PORT"),
        ("mine=mail.example.net,to=a@b.example", "not HOST:PORT"),
        ("mine=mail.example.net:70000,to=a@b.example", "not HOST:PORT"),
        ("mine=mail.example.net:25,password=secret", "to=ADDRESS"),
        ("mine=mail.example.net:25,to=a@b.example,password=secret", "user= and password="),
        ("mine=mail.example.net:25,to=a@b.example,user=me,password=one,secret", "1 keys that are none of"),
    ],
)
def test_a_wrong_target_is_told_without_its_password(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as raised:
        read_target(text)
    assert "secret" not in str(raised.value)
