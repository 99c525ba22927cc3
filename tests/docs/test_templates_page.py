"""docs/templates.md against the templates' variables and blocks, and every example on it made."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, nodes

from plugin.alert import Alert
from plugin.compose import Composer
from plugin.compose.sandbox import MAX_OUTPUT_CHARS, MAX_STEPS, CountingEnvironment
from plugin.compose.variables import variables
from plugin.route import Directions

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "templates.md").read_text()
TEMPLATES = ROOT / "plugin" / "templates"
ALERT = Alert(
    id="i",
    topic="alerts/email/water_leak",
    name="water_leak",
    title="T",
    message="one\ntwo",
    data={"moisture": "93 %"},
    received_at=datetime(2026, 11, 23, 10, 0, tzinfo=UTC),
)


def rows() -> dict[str, str]:
    """Return the table of variables: what is told of each cell's names."""
    table = PAGE.split("| variable | what |")[1].split("\n\n")[0]
    lines = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    return {name: cells[2] for cells in lines for name in re.findall(r"`(\w+)`", cells[1])}


def rendered(folder: Path, name: str) -> tuple[str, str, str]:
    composer = Composer(
        sender="a@example.net", templates_dir=folder, max_attachment_bytes=1, product_version="1", zone=UTC
    )
    directions = Directions(route="#", template=name, severity="critical", to=("a@example.net",))
    mail = composer.render(ALERT, directions)
    assert mail.notes == ()
    return mail.subject, mail.text, mail.html or ""


def test_every_variable_is_explained_and_no_other() -> None:
    made = variables(ALERT, severity="info", received_at=ALERT.received_at, product="1")
    assert set(rows()) == set(made) - {"moisture"}


def test_all_that_mail_holds_is_named_and_nothing_else() -> None:
    made = variables(ALERT, severity="info", received_at=ALERT.received_at, product="1")
    assert set(re.findall(r"`(\w+)`", rows()["mail"])) == set(made["mail"])


def test_every_block_is_named_and_no_other() -> None:
    (sentence,) = re.findall(r"The blocks are (.*)\.", PAGE)
    parsed = Environment(autoescape=True).parse((TEMPLATES / "alert.html.j2").read_text())
    assert set(re.findall(r"`(\w+)`", sentence)) == {one.name for one in parsed.find_all(nodes.Block)}


def test_every_template_of_the_product_is_named() -> None:
    names = {path.name.split(".")[0] for path in TEMPLATES.glob("*.j2")}
    assert names == {"alert"}
    assert "The product brings one template, `alert`" in PAGE
    assert set(re.findall(r"`leak(\.\w+\.j2)`", PAGE)) == {
        path.name.removeprefix("alert") for path in TEMPLATES.glob("alert.*")
    }


def test_the_filter_of_our_own_is_told() -> None:
    ours = set(CountingEnvironment(Environment().loader).filters) - set(Environment().filters)  # type: ignore[arg-type]
    assert ours == {"breaks"}
    assert "`{{ message | breaks }}`" in PAGE


def test_the_bounds_are_those_of_the_code() -> None:
    assert f"at most {MAX_OUTPUT_CHARS // 2**20} MiB and {MAX_STEPS:,} loop passes" in PAGE


def test_the_example_that_extends_the_product_works(tmp_path: Path) -> None:
    (example,) = re.findall(r"```jinja\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "leak.html.j2").write_text(example)
    _, _, html = rendered(tmp_path, "leak")
    assert '<p style="font-size: 20px">one\ntwo</p>' in html


def test_the_expressions_on_the_page_work(tmp_path: Path) -> None:
    expressions = re.findall(r"`(\{\{.*?\}\})`", PAGE)
    assert len(expressions) == 4
    (tmp_path / "leak.txt.j2").write_text("\n".join(expressions))
    assert rendered(tmp_path, "leak")[1].splitlines() == ["10:00", "93 %", "one<br>two", "somewhere"]
