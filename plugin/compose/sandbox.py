"""Jinja2 in a sandbox that also counts: a template can neither reach out, nor run or grow without end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from jinja2 import BaseLoader, StrictUndefined, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup, escape

MAX_OUTPUT_CHARS: Final = 1024 * 1024
MAX_STEPS: Final = 200_000
MAX_NUMBER_BITS: Final = 4096

_LONG_FIELD: Final = re.compile(r"\d{5}")

# Steps left for the template being rendered in this thread: loop passes and calls.
_steps: ContextVar[list[int]] = ContextVar("steps")


class BoundExceeded(Exception):
    """A template ran too long or put out too much."""


class CountingGenerator(CodeGenerator):
    """Compiles loops so that every pass is a call, and so is counted."""

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802 -- Jinja2's visitor names
        """Put ``environment.loop_pass()`` in front of the loop's body."""
        loop_pass = nodes.Call(nodes.EnvironmentAttribute("loop_pass"), [], [], None, None)
        node.body = [nodes.ExprStmt(loop_pass).set_lineno(node.lineno), *node.body]
        super().visit_For(node, frame)


class CountingEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox: immutable values, strict about undefined variables, HTML escaped by the file's name."""

    code_generator_class = CountingGenerator
    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, loader: BaseLoader) -> None:
        super().__init__(
            loader=loader,
            undefined=StrictUndefined,
            autoescape=lambda name: name is not None and ".html" in name,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        del self.globals["lipsum"]  # endless filler text is for designers
        self.filters["breaks"] = breaks

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Give what is rendered inside a fresh allowance of steps."""
        token = _steps.set([MAX_STEPS])
        try:
            yield
        finally:
            _steps.reset(token)

    def loop_pass(self) -> None:
        """Do nothing: what counts is that the sandbox is asked to call it."""

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call from a template: counted, and checked by the sandbox; BoundExceeded when all steps are used up."""
        left = _steps.get()
        left[0] -= 1
        if left[0] < 0:
            raise BoundExceeded(f"it takes more than {MAX_STEPS:,} loop passes and calls")
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse the operators' uses that make something huge out of something small."""
        if operator == "%" and isinstance(left, str):
            huge = _LONG_FIELD.search(left) is not None
        elif isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * (right if operator == "**" else 1) + right.bit_length()
            huge = operator != "%" and bits > MAX_NUMBER_BITS
        elif operator == "*" and isinstance(right, int) and hasattr(left, "__len__"):
            huge = len(left) * right > MAX_OUTPUT_CHARS
        elif operator == "*" and isinstance(left, int) and hasattr(right, "__len__"):
            huge = len(right) * left > MAX_OUTPUT_CHARS
        else:
            huge = False
        if huge:
            raise SecurityError(f"the result of {operator!r} is too large")
        return super().call_binop(context, operator, left, right)


def breaks(value: object) -> Markup:
    """Return text for HTML with its line breaks and indentation kept, which not all mail programs do by CSS."""
    lines = (value.__html__() if hasattr(value, "__html__") else str(escape(value))).split("\n")
    indented = ("&nbsp;" * (len(line) - len(line.lstrip(" "))) + line.lstrip(" ") for line in lines)
    return Markup("<br>").join(Markup(line) for line in indented)  # noqa: S704 -- each line is escaped above
