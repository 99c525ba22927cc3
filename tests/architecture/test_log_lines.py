"""Every log line is one event: ``event=name key=value …``, where a value that may hold anything is quoted."""

from __future__ import annotations

import ast
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugin.cli.running import OneLine

PLUGIN = Path(__file__).parents[2] / "plugin"
LEVELS = {"info", "warning", "error", "exception", "critical"}
# %d, %.3f and %s are for numbers, addresses and words of our own; %r quotes, and lets no line end through.
PAIR = r"[a-z][a-z0-9_]*=(?:%(?:\.\d+)?[rdsgf](?::%d)?|'[^'%]+'|[\w.]+)"
LINE = re.compile(rf"event=(?:[a-z][a-z0-9_]*|%s)(?: {PAIR})*")
ANYTHING = ("error", "problem", "reason", "fault", "text", "told", "topic", "payload", "title", "subject")


def lines() -> Iterator[tuple[str, ast.Call]]:
    """Yield every call that writes a line to a log, with its place."""
    for path in sorted(PLUGIN.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
                and re.search(r"\blog$|_log$|getLogger", ast.unparse(node.func.value).split("(")[0])
            ):
                yield f"{path.relative_to(PLUGIN)}:{node.lineno}", node


@pytest.mark.parametrize(("place", "call"), [pytest.param(*one, id=one[0]) for one in lines()])
def test_every_line_is_an_event_with_its_keys(place: str, call: ast.Call) -> None:
    (template, *_) = call.args
    assert isinstance(template, ast.Constant), f"{place}: the event's name must stand there"
    text = template.value
    assert isinstance(text, str), place
    assert LINE.fullmatch(text), f"{place}: {text}"
    for key in re.findall(r"(\w+)=%s", text):
        assert key not in ANYTHING, f"{place}: {key} may hold anything, so it is %r"


def test_there_are_lines() -> None:
    assert len(list(lines())) > 50


def test_a_traceback_and_a_line_end_make_no_second_line() -> None:
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        record = logging.LogRecord("hardwire", logging.ERROR, "", 0, "event=x\ny", None, sys.exc_info())
    (line,) = OneLine("%(message)s").format(record).splitlines()
    assert line.startswith("event=x y trace=")
    assert "ValueError" in line
