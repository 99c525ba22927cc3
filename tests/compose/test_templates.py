"""Templates: which one is taken, what it sees, and what happens when it fails."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from plugin.compose import TemplateFailed, TemplateUnknown
from tests.compose.mails import ALERT, alert, composer, directions, html_of, read, seal, shape, text_of

BOILER = directions(template="boiler")


def write(folder: Path, **files: str) -> Path:
    """Write template files: ``boiler_txt="…"`` becomes boiler.txt.j2."""
    for name, source in files.items():
        (folder / (name.replace("_", ".") + ".j2")).write_text(source, encoding="utf-8")
    return folder


def test_the_product_has_one_template() -> None:
    assert composer().names() == ["alert"]
    assert composer().check() == []


def test_a_full_set_of_the_user_is_taken(tmp_path: Path) -> None:
    write(
        tmp_path,
        boiler_subject="Boiler: {{ temperature }} °C",
        boiler_txt="{{ message }} ({{ temperature }})",
        boiler_html="<b>{{ message }}</b>",
    )
    assert composer(tmp_path).names() == ["alert", "boiler"]
    sealed = seal(alert(message="<hot>", data={"temperature": 91}), templates_dir=tmp_path, way=BOILER)
    mail = read(sealed)
    assert sealed.subject == mail["Subject"] == "Boiler: 91 °C"
    assert text_of(mail) == "<hot> (91)\n"
    assert html_of(mail) == "<b>&lt;hot&gt;</b>\n"
    assert sealed.notes == ()


def test_the_parts_that_a_set_lacks_are_the_products(tmp_path: Path) -> None:
    write(tmp_path, boiler_subject="Boiler")
    mail = read(seal(ALERT, templates_dir=tmp_path, way=BOILER))
    plain = read(seal(ALERT))
    assert mail["Subject"] == "Boiler"
    assert (text_of(mail), html_of(mail)) == (text_of(plain), html_of(plain))


@pytest.mark.parametrize("name", ["boiler", "alert"])
def test_a_text_alone_is_what_the_html_says_too(tmp_path: Path, name: str) -> None:
    write(tmp_path, **{f"{name}_txt": "Only this.\n\n  indented <x>\n"})
    mail = read(seal(ALERT, templates_dir=tmp_path, way=directions(template=name)))
    assert text_of(mail) == "Only this.\n\n  indented <x>\n"
    html = html_of(mail)
    assert "Only this.<br><br>&nbsp;&nbsp;indented &lt;x&gt;" in html
    assert "Water in the cellar." not in html.partition("</div>")[2]
    assert "#b91c1c" in html


def test_the_users_alert_goes_before_the_products_and_may_build_on_it(tmp_path: Path) -> None:
    source = (
        '{% extends "hardwire/alert.html.j2" %}{% block footer %}Footer of the house {{ accent }}{% endblock %}'
    )
    write(tmp_path, alert_html=source)
    html = html_of(read(seal(ALERT, templates_dir=tmp_path)))
    assert "Footer of the house #b91c1c" in html
    assert "Hardwire 1.2.3, alert" not in html
    assert "Water in the cellar." in html
    assert composer(tmp_path).names() == ["alert"]


def test_templates_see_fields_then_data_and_never_the_other_way_round(tmp_path: Path) -> None:
    write(
        tmp_path,
        boiler_txt="{{ title }}|{{ name }}|{{ topic }}|{{ severity }}|{{ state }}|{{ id }}|{{ labels.room }}|"
        "{{ received_at }}|{{ zone }}|{{ data['not-a-name'] }}|{{ data.title }}|{{ mail.version }}|{{ range }}",
    )
    data = {"title": "evil", "mail": {"version": "evil"}, "zone": "cellar", "not-a-name": 1, "range": "5 m"}
    given = alert(data=data, labels=(("room", "cellar"),))
    mail = read(seal(given, templates_dir=tmp_path, way=BOILER))
    assert text_of(mail) == (
        "Water leak|cellar/water_leak|alerts/email/cellar/water_leak|critical|firing|7f3a|cellar|"
        "2026-11-23 18:26:05+01:00|cellar|1|evil|1.2.3|5 m\n"
    )


def test_preview_renders_without_sealing(tmp_path: Path) -> None:
    write(tmp_path, boiler_subject=" a\n b ", boiler_txt="text", boiler_html="<p>html</p>")
    rendered = composer(tmp_path).render(ALERT, BOILER)
    assert (rendered.subject, rendered.text, rendered.html) == ("a b", "text\n", "<p>html</p>")
    write(tmp_path, boiler_txt="{{ nothing }}")
    with pytest.raises(TemplateFailed, match=r"boiler\.txt\.j2, line 1: 'nothing' is undefined"):
        composer(tmp_path).render(ALERT, BOILER)


@pytest.mark.parametrize(
    "name",
    [
        "nope",
        "",
        "../alert",
        "/etc/passwd",
        "hardwire/alert",
        "alert.txt.j2",
        ".hidden",
        "a\0b",
        "alert\n",
        "x" * 500,
    ],
)
def test_a_name_that_is_no_template_is_refused_and_the_alert_still_mailed(tmp_path: Path, name: str) -> None:
    (tmp_path / "inner").mkdir()
    write(tmp_path / "inner", secret_txt="secret")
    one = composer(tmp_path / "inner")
    with pytest.raises(TemplateUnknown, match="there are: alert, secret"):
        one.render(ALERT, directions(template=name))
    sealed = seal(ALERT, templates_dir=tmp_path / "inner", way=directions(template=name))
    assert sealed.notes[0].startswith("there is no template")
    text = text_of(read(sealed))
    assert "Water in the cellar." in text
    assert "there is no template" in text


def test_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    write(tmp_path, outside_txt="outside")
    with pytest.raises(TemplateUnknown):
        composer(tmp_path / "inner").render(ALERT, directions(template="../outside"))
    write(tmp_path / "inner", boiler_txt="{% include '../outside.txt.j2' %}")
    with pytest.raises(TemplateFailed, match=r"outside\.txt\.j2"):
        composer(tmp_path / "inner").render(ALERT, BOILER)


FAILING: list[tuple[str, str]] = [
    (
        "{{ message }}\n\n{{ temprature }}",
        (
            "template boiler.txt.j2, line 3: 'temprature' is undefined (is 'temperature' meant?); "
            "give it in the payload, or write {{ temprature | default('') }}"
        ),
    ),
    (
        "{{ data.missing }}",
        "template boiler.txt.j2, line 1: 'dict object' has no attribute 'missing'; give 'missing'",
    ),
    ("{% if %}", "template boiler.txt.j2, line 1: Expected an expression"),
    ("a\n{% for x in %}", "template boiler.txt.j2, line 2: "),
    ("{{ 1 / 0 }}", "template boiler.txt.j2, line 1: ZeroDivisionError: division by zero"),
    ("{{ message | nofilter }}", "template boiler.txt.j2, line 1: No filter named 'nofilter'."),
    ("{% include 'gone.j2' %}", "template boiler.txt.j2, line 1: it refers to 'gone.j2', which is not there"),
    ("{% include 'boiler.txt.j2' %}", "it includes or calls itself without end"),
    ("{{ ''.__class__.__mro__ }}", "template boiler.txt.j2, line 1: access to attribute '__class__'"),
    ("{{ data.update({'a': 1}) }}", "template boiler.txt.j2, line 1: access to attribute 'update'"),
    ("{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "it puts out more than 1,048,576 characters"),
    (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "it takes more than 200,000 loop passes and calls",
    ),
    (
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}",
        "it takes more than 200,000 loop passes and calls",
    ),
    ("{{ 'x' * 100000000 }}", "the result of '*' is too large"),
    ("{{ 100000000 * [1] }}", "the result of '*' is too large"),
    ("{{ 9 ** 99999999 }}", "the result of '**' is too large"),
    ("{{ '%099999999d' % 1 }}", "the result of '%' is too large"),
    ("{{ range(10 ** 9) }}", "Range too big"),
]


@pytest.mark.parametrize(("source", "said"), FAILING, ids=[source[:40] for source, _ in FAILING])
def test_a_template_that_fails_is_replaced_by_a_plain_mail_that_says_why(
    tmp_path: Path, source: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, boiler_txt=source, boiler_subject="never seen")
    given = alert(data={"temperature": 91, "list": [1, 2]})
    with caplog.at_level(logging.WARNING, "hardwire.compose"):
        sealed = seal(given, templates_dir=tmp_path, way=BOILER)
    mail = read(sealed)
    assert shape(mail) == ["text/plain"]
    assert mail["Subject"] == "Water leak"
    (note,) = sealed.notes
    assert said in note
    assert note.endswith("This mail was made without it.")
    assert text_of(mail) == (
        "Water leak\n\nWater in the cellar.\n\nstate: firing\ntime: 2026-11-23 18:26:05 CET\n"
        f"topic: alerts/email/cellar/water_leak\ntemperature: 91\nlist: [1, 2]\n\nNote: {note}\n"
    )
    assert "mailed without its template" in caplog.text
    assert "Water in the cellar." not in caplog.text


@pytest.mark.parametrize("part", ["subject", "html"])
def test_any_part_that_fails_means_the_plain_mail(tmp_path: Path, part: str) -> None:
    write(tmp_path, **{f"boiler_{part}": "{{ nothing }}"})
    sealed = seal(ALERT, templates_dir=tmp_path, way=BOILER)
    assert shape(read(sealed)) == ["text/plain"]
    assert f"template boiler.{part}.j2, line 1: 'nothing' is undefined" in sealed.notes[0]


def test_own_html_stays_when_the_template_fails(tmp_path: Path) -> None:
    write(tmp_path, boiler_txt="{{ nothing }}")
    mail = read(seal(alert(html="<BODY><p>own</p></BODY>"), templates_dir=tmp_path, way=BOILER))
    html = html_of(mail)
    assert html.startswith("<BODY><p>own</p><div ")
    assert "&#x27;nothing&#x27; is undefined" in html
    assert html.endswith("</div></BODY>\n")


def test_the_fault_is_placed_in_the_file_it_is_in(tmp_path: Path) -> None:
    write(tmp_path, boiler_txt="\n{% include 'part.j2' %}", part="one\ntwo\n{{ three }}")
    sealed = seal(ALERT, templates_dir=tmp_path, way=BOILER)
    assert "template part.j2, line 3: 'three' is undefined" in sealed.notes[0]


def test_a_subject_from_a_template_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, boiler_subject="a\r\nBcc: x@example.net\n{{ '\\n' }}b")
    mail = read(seal(ALERT, templates_dir=tmp_path, way=BOILER))
    assert mail["Subject"] == "a Bcc: x@example.net b"
    assert mail["Bcc"] is None
    write(tmp_path, boiler_subject=" {# nothing #} ")
    assert read(seal(ALERT, templates_dir=tmp_path, way=BOILER))["Subject"] == "Water leak"


def test_data_and_messages_are_no_templates() -> None:
    text = text_of(read(seal(alert(title="{{ 7 * 7 }}", message="{% if %}", data={"a": "{{ title }}"}))))
    assert "{{ 7 * 7 }}" in text
    assert "{% if %}" in text
    assert "a: {{ title }}" in text


def test_a_template_is_read_anew_when_it_changed(tmp_path: Path) -> None:
    one = composer(write(tmp_path, boiler_txt="old"))
    assert one.render(ALERT, BOILER).text == "old\n"
    write(tmp_path, boiler_txt="new")
    os.utime(tmp_path / "boiler.txt.j2", (1, 1))
    assert one.render(ALERT, BOILER).text == "new\n"


def test_check_names_every_template_that_cannot_work(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_txt="fine {{ whatever }}",
        b_html="<p>\n{% if %}",
        c_txt="{{ x | nofilter }}",
        d_txt="{% include 'gone.j2' %}",
        e_html='{% extends "hardwire/alert.html.j2" %}',
    )
    (tmp_path / "f.txt.j2").write_bytes(b"\xff\xfe\xfd")
    (tmp_path / "g.txt.j2").mkdir()
    faults = dict(composer(tmp_path).check())
    assert sorted(faults) == ["b.html.j2", "c.txt.j2", "d.txt.j2", "f.txt.j2", "g.txt.j2"]
    assert "line 2" in faults["b.html.j2"]
    assert "nofilter" in faults["c.txt.j2"]
    assert "'gone.j2'" in faults["d.txt.j2"]
    assert "not UTF-8" in faults["f.txt.j2"]
    assert "not UTF-8" in seal(ALERT, templates_dir=tmp_path, way=directions(template="f")).notes[0]


def test_check_says_when_the_folder_is_missing(tmp_path: Path) -> None:
    ((place, text),) = composer(tmp_path / "gone").check()
    assert place == str(tmp_path / "gone")
    assert "templates_dir" in text
    assert seal(ALERT, templates_dir=tmp_path / "gone").notes == ()


def test_steps_are_counted_anew_for_each_mail(tmp_path: Path) -> None:
    write(tmp_path, boiler_txt="{% for a in range(99000) %}{% endfor %}done")
    one = composer(tmp_path)
    for _ in range(3):
        assert one.render(ALERT, BOILER).text == "done\n"


def test_ordinary_arithmetic_and_formats_work(tmp_path: Path) -> None:
    source = "{{ 6 * 7 }} {{ 2 ** 10 }} {{ 7 % 4 }} {{ '%.1f' % 3.14159 }} {{ '-' * 5 }} {{ '%d'|format(5) }}"
    write(tmp_path, boiler_txt=source + "{% for a in [1, 2] %}{{ loop.index }}{{ a }}{% else %}none{% endfor %}")
    assert composer(tmp_path).render(ALERT, BOILER).text == "42 1024 3 3.1 ----- 51122\n"


def test_loops_keep_their_meaning_though_they_are_counted(tmp_path: Path) -> None:
    source = (
        "{% for a in tree recursive %}{{ a.n }}{% if a.c %}({{ loop(a.c) }}){% endif %}{% endfor %}"
        "{% for a in [1, 2, 3, 4] if a is odd %}{{ a }}{{ ',' if not loop.last }}{% endfor %}"
    )
    write(tmp_path, boiler_txt=source)
    data: dict[str, Any] = {"tree": [{"n": 1, "c": [{"n": 2, "c": []}]}, {"n": 3, "c": []}]}
    assert composer(tmp_path).render(alert(data=data), BOILER).text == "1(2)31,3\n"


def test_notes_of_the_mail_are_kept_when_the_template_fails(tmp_path: Path) -> None:
    write(tmp_path, boiler_txt="{{ nothing }}")
    sealed = composer(tmp_path).seal(alert(message="x" * 100_001), BOILER, date=ALERT.received_at)
    assert len(sealed.notes) == 2
    assert text_of(read(sealed)).count("\nNote: ") == 2
