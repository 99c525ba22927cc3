"""Templates: which there are, how they are rendered, and what is said when one fails.

A template NAME is a set of files NAME.subject.j2, NAME.txt.j2 and NAME.html.j2. Each may be missing: the
product's ``alert`` stands in, and where a set has a text alone, the product's HTML frames that very text. The
user's folder goes before the product's, file by file; ``hardwire/FILE`` names the product's own, to extend it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from jinja2 import (
    ChoiceLoader,
    FileSystemLoader,
    PrefixLoader,
    Template,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
    meta,
)

from plugin.compose.sandbox import MAX_OUTPUT_CHARS, BoundExceeded, CountingEnvironment
from plugin.compose.text import clean, single_line

PRODUCT_TEMPLATES: Final = Path(__file__).parent.parent / "templates"
DEFAULT_TEMPLATE: Final = "alert"
PARTS: Final = ("subject", "txt", "html")
MAX_ERROR_CHARS: Final = 300

_NAME: Final = re.compile(r"\w[\w.-]{0,63}")
_FILE: Final = re.compile(rf"(?P<name>{_NAME.pattern})\.(?:{'|'.join(PARTS)})\.j2")
_UNDEFINED: Final = re.compile(r"'(?P<name>[^']+)' is undefined")
_NO_ATTRIBUTE: Final = re.compile(r"has no (?:attribute|element) '?(?P<name>[^']+?)'?$")


class TemplateUnknown(LookupError):
    """There is no template of that name; the text lists those that there are."""


class TemplateFailed(Exception):
    """A template could not be rendered; the text names file, line, fault and remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """What a mail says: LF line ends, no control characters. ``html`` None: the mail is text alone."""

    subject: str
    text: str
    html: str | None
    notes: tuple[str, ...] = ()


class Templates:
    """The product's templates and the user's; may be used by several threads."""

    def __init__(self, templates_dir: Path | None) -> None:
        self._dir = templates_dir
        folders = [FileSystemLoader(one) for one in (templates_dir, PRODUCT_TEMPLATES) if one is not None]
        own = PrefixLoader({"hardwire": FileSystemLoader(PRODUCT_TEMPLATES)})
        self._environment = CountingEnvironment(ChoiceLoader([*folders, own]))

    def names(self) -> list[str]:
        """Return the names of all templates, sorted; a folder that cannot be read has none."""
        return sorted({found["name"] for path in self._files() if (found := _FILE.fullmatch(path.name))})

    def check(self) -> list[tuple[str, str]]:
        """Return (file name, error text) for every template of the user that cannot work, whatever the alert."""
        if self._dir is not None and not self._dir.is_dir():
            return [
                (str(self._dir), "templates_dir is no folder that can be read; create it, or leave the key out")
            ]
        faults = []
        for path in self._files():
            try:
                source = path.read_text(encoding="utf-8")
                parsed = self._environment.parse(source, path.name, str(path))
                self._environment.compile(parsed, path.name, str(path))
                for needed in meta.find_referenced_templates(parsed):
                    if needed is not None:
                        self._environment.get_template(needed)
            except Exception as error:  # noqa: BLE001 -- whatever a file may hold, it must not end the check
                faults.append((path.name, _explain(error, path.name, ())))
        return faults

    def render(self, name: str, variables: Mapping[str, Any]) -> tuple[str, str, str]:
        """Return subject, text and HTML of template ``name``; TemplateUnknown or TemplateFailed."""
        if not self._has(name):
            known = ", ".join(self.names())
            raise TemplateUnknown(f"there is no template {single_line(name, 64)!r}; there are: {known}")
        subject = self._render(self._load(name, "subject"), variables)
        text_part, html_part = self._load(name, "txt"), self._load(name, "html")
        text = self._render(text_part, variables)
        same_set = str(text_part.name).split(".txt.")[0] == str(html_part.name).split(".html.")[0]
        if not _is_own(text_part) and (_is_own(html_part) or not same_set):
            # The user wrote a text alone: the HTML that stands in has to say that text, not its own.
            variables = {**variables, "mail": {**variables["mail"], "text": text.strip("\n")}}
        return subject, text, self._render(html_part, variables)

    def _has(self, name: str) -> bool:
        """Tell whether ``names`` has ``name``, without a look through whole folders for each mail."""
        files = [file for part in PARTS if _FILE.fullmatch(file := f"{name}.{part}.j2")]
        return any((folder / file).exists() for folder in self._folders() for file in files)

    def _files(self) -> list[Path]:
        return sorted(path for folder in self._folders() for path in folder.glob("*.j2"))

    def _folders(self) -> list[Path]:
        return [one for one in (self._dir, PRODUCT_TEMPLATES) if one is not None and one.is_dir()]

    def _load(self, name: str, part: str) -> Template:
        """Load a part of the set ``name``, or the default's where the set has none."""
        wanted = f"{name}.{part}.j2"
        try:
            return self._environment.select_template([wanted, f"{DEFAULT_TEMPLATE}.{part}.j2"])
        except Exception as error:
            raise TemplateFailed(_explain(error, wanted, ())) from error

    def _render(self, template: Template, variables: Mapping[str, Any]) -> str:
        chunks, room = [], MAX_OUTPUT_CHARS
        try:
            with self._environment.bounded():
                for chunk in template.generate(variables):
                    room -= len(chunk)
                    if room < 0:
                        raise BoundExceeded(f"it puts out more than {MAX_OUTPUT_CHARS:,} characters")
                    chunks.append(chunk)
        except Exception as error:
            raise TemplateFailed(_explain(error, template.name or "", tuple(variables))) from error
        return clean("".join(chunks))


def _is_own(template: Template) -> bool:
    """Tell whether a loaded template is the product's."""
    return template.filename is not None and Path(template.filename).parent == PRODUCT_TEMPLATES


def _explain(error: Exception, name: str, known: tuple[str, ...]) -> str:
    """Return one sentence or two on ``error``: file, line, what is wrong, and the remedy."""
    name, line = _place(error, name)
    if isinstance(error, TemplateSyntaxError):
        name, line = error.name or name, error.lineno
    place = f"template {name}" + (f", line {line}" if line else "")
    if isinstance(error, TemplateNotFound):
        fault = f"it refers to {error.name!r}, which is not there; the product's own are hardwire/alert.html.j2 …"
    elif isinstance(error, UndefinedError):
        fault = _undefined(str(error), known)
    elif isinstance(error, UnicodeDecodeError):
        fault = "it is not UTF-8; save it in UTF-8"
    elif isinstance(error, RecursionError):
        fault = "it includes or calls itself without end"
    elif isinstance(error, TemplateError | BoundExceeded | OSError):
        fault = str(error)
    else:
        fault = f"{type(error).__name__}: {error}"
    return single_line(f"{place}: {fault}", MAX_ERROR_CHARS)


def _undefined(text: str, known: tuple[str, ...]) -> str:
    """Explain an undefined variable or key, and propose one that is spelt alike."""
    found = _UNDEFINED.search(text)
    if found is None:
        missing = _NO_ATTRIBUTE.search(text)
        name = missing["name"] if missing else "it"
        return f"{text}; give {name!r} in the payload, or write | default('') behind it"
    name = found["name"]
    alike = get_close_matches(name, known, n=1)
    hint = f" (is {alike[0]!r} meant?)" if alike else ""
    return f"{name!r} is undefined{hint}; give it in the payload, or write {{{{ {name} | default('') }}}}"


def _place(error: BaseException, name: str) -> tuple[str, int | None]:
    """Return the innermost template file and line in the traceback, which Jinja2 has rewritten to templates'."""
    place: tuple[str, int | None] = (name, None)
    trace = error.__traceback__
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if path.suffix not in {".py", ""}:
            place = (path.name, trace.tb_lineno)
        trace = trace.tb_next
    return place


def template_names(templates_dir: Path | None) -> list[str]:
    """Return the names of all templates, the product's and those in ``templates_dir``, sorted."""
    return Templates(templates_dir).names()
